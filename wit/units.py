"""One unit of work per pass: read the inputs, call the domain, publish the part and its marker.

A unit is a function of its arguments and of published files, may run anywhere and any number of times, and returns its
marker at once when it was published before. In a marker `in` and `out` count pairs of the whole stage, so that only the
first pass of a stage has `in` and only the last has `out`: the manifest is their plain sum.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from wit import balance, ledger, notes, owners, parquet, plan, slices, storage
from wit.arrays import Floats, Ints, ceil_div
from wit.candidates import CandidatesConfig, extract_group
from wit.layout import DROPPED as DROPPED_FILE
from wit.owners import KeptRates, Owners, Rates, Routing
from wit.parts import NOTHING, Marker, StageDir, Tally, Unit, add_counts, with_digest, write_parquet, write_tables
from wit.plan import Heavy, PlanConfig
from wit.querylist import hashes_of, load_queries
from wit.records import DROPPED, PLAN
from wit.slices import OPTIONS, SliceRef, read_slices, slice_refs
from wit.sources import RequestBudget, SourceFile
from wit.typed import Rest, to_json


@dataclass(frozen=True, slots=True)
class Extracted:
    """What candidates say of a group: the reports of its source files."""

    sources: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Pairs:
    """What a pass of plan says of a bucket."""

    pairs: int


NO_GIANT_SAID = -2  # version 0.1 did not say whether a partition is a piece of a giant


@dataclass(frozen=True, slots=True)
class Partition:
    """What plan says of a host partition: its raw shards to be, and the number of the giant that it is a piece of."""

    shards: int
    giant: int | None = NO_GIANT_SAID


@dataclass(frozen=True, slots=True)
class Solved:
    """What plan says of the whole set: what critical t was compared with; None where every row is planned."""

    threshold: float | None


@dataclass(frozen=True, slots=True)
class RatesKept:
    rates: KeptRates


def extract(
    stage: StageDir,
    unit: Unit,
    files: Sequence[SourceFile],
    *,
    queries: str,
    config: CandidatesConfig,
    seed: int,
    one_in: int,
    limit: int | None,
    budget: RequestBudget,
) -> Marker:
    """candidates: one group of source files -> one part. One in `one_in` rejected pairs is written down, all are counted."""

    def work() -> Marker:
        with notes.kept(notes_path(stage, unit)):
            group = extract_group(
                files,
                queries=load_queries(queries),
                config=config,
                seed=seed,
                limit=limit,
                dropped_one_in=one_in,
                budget=budget,
            )
        tally = Tally(into=group.pairs_in, out=len(group.table), dropped=add_counts([group.dropped_counts]))
        facts = Extracted(tuple(report.facts() for report in group.sources))
        return stage.publish_tables(unit, {"rows": group.table, DROPPED_FILE: group.dropped}, tally, facts=facts)

    return stage.once(unit, work)


def notes_path(stage: StageDir, unit: Unit) -> str:
    """Where the unit's reader writes down what it is at, on this machine."""
    return storage.join(storage.local_scratch(stage.out), f"{unit}{notes.NOTES_FILE}")


# The passes of plan. Between passes pairs are Arrow files that the stage's manifest no longer names and its janitor removes.


def _publish_pass(stage: StageDir, unit: Unit, files: dict[str, str], dropped: pa.Table, **more: Any) -> Marker:
    """`more`: `into`, the pairs that the unit takes in, and facts."""
    tally = Tally(into=more.pop("into", 0), out=0, dropped=ledger.reason_counts(dropped))
    with storage.scratch_dir(stage.out) as scratch:
        return stage.publish(unit, files | write_tables(scratch, {DROPPED_FILE: dropped}), tally, **more)


def _publish_pairs(stage: StageDir, unit: Unit, pairs: pa.Table, dropped: pa.Table) -> Marker:
    with storage.scratch_dir(stage.out) as scratch:
        path = f"{scratch}/pairs.arrow"
        with pa.OSFile(path, "wb") as sink, pa.ipc.new_stream(sink, pairs.schema, options=OPTIONS) as writer:
            writer.write_table(pairs)
        return _publish_pass(stage, unit, {"pairs": path}, dropped, facts=Pairs(len(pairs)))


def read_pairs(stage: StageDir, marker: Marker) -> pa.Table:
    path = stage.file(marker, "pairs")
    return slices.parse(path, storage.read_bytes(path)).combine_chunks()


Chunk = tuple[pa.Table, Ints, pa.Table]  # rows ordered by bucket, the bucket of each, dropped


def _publish_slices(stage: StageDir, unit: Unit, chunks: Iterable[Chunk], *, rows_in: int) -> Marker:
    dropped = [DROPPED.empty_table()]

    def kept() -> Iterator[tuple[pa.Table, Ints]]:
        for rows, bucket, lost in chunks:
            dropped.append(lost)
            yield rows, bucket

    with storage.scratch_dir(stage.out) as scratch:
        files = slices.scatter_to(scratch, kept())
        return _publish_pass(stage, unit, files, pa.concat_tables(dropped), into=rows_in)


RATES, QUERIES = Unit("rates"), Unit("queries")  # the units of plan that speak of the whole set


SLICE_ROWS = 1_000  # rows of a slice at least: below, headers and requests cost more than rows


def scatter(stage: StageDir, unit: Unit, part: str, *, seed: int, buckets: int, config: PlanConfig) -> Marker:
    """Pass 1: one candidates part -> slices by URL bucket."""
    captions, chunk_rows = config.max_captions_per_url, max(config.rows_per_bucket, SLICE_ROWS * buckets)

    def work() -> Marker:
        with parquet.open_file(part) as file:
            tables = _tables(file, chunk_rows)
            chunks = (plan.scatter(table, seed=seed, buckets=buckets, captions=captions) for table in tables)
            return _publish_slices(stage, unit, chunks, rows_in=file.metadata.num_rows)

    return stage.once(unit, work)


def _tables(file: parquet.File, rows: int) -> Iterator[pa.Table]:
    """The file in tables of at least `rows` rows, the last one less."""
    held: list[pa.RecordBatch] = []
    for batch in file.iter_batches(batch_size=min(rows, 1 << 16), columns=plan.SCATTERED.names):
        held.append(batch)
        if sum(map(len, held)) >= rows:
            yield pa.Table.from_batches(held, plan.SCATTERED)
            held = []
    if held:
        yield pa.Table.from_batches(held, plan.SCATTERED)


def merge(stage: StageDir, unit: Unit, refs: Iterable[SliceRef], *, seed: int, config: PlanConfig) -> Marker:
    """Pass 2: the slices of one bucket -> its pairs, the captions of a URL together."""

    def work() -> Marker:
        pairs, dropped = plan.merge(refs, seed=seed, captions=config.max_captions_per_url)
        return _publish_pairs(stage, unit, pairs, dropped)

    return stage.once(unit, work)


def sketch(stage: StageDir, merged: Marker, *, cells: int) -> Ints:
    return plan.sketch(read_pairs(stage, merged), cells)


def rates(stage: StageDir, asked: Rates) -> Rates:
    """The rates that the whole plan goes by: those asked for when it began, since politeness may change at any time."""
    if (kept := stage.marker(RATES)) is None:
        kept = stage.publish(RATES, {}, facts=RatesKept(asked.kept()))
    return stage.facts(kept, RatesKept).rates.rates()


def count_heavy(stage: StageDir, merged: Marker, counts: Ints, *, rates: Rates, config: PlanConfig) -> Heavy:
    """Pass 3: this bucket's exact counts of captions and domains that may be above a cap."""
    return plan.count_heavy(
        read_pairs(stage, merged),
        counts,
        caption_cap=config.max_urls_per_caption,
        domain_cap=owners.suspicious_from(config, rates),
        named=owners.named_domains(rates),
    )


def thin(stage: StageDir, unit: Unit, merged: Marker, heavy: Heavy, *, seed: int, config: PlanConfig) -> Marker:
    """Pass 4: captions and domains above their caps are thinned."""

    def work() -> Marker:
        pairs, dropped = plan.thin(
            read_pairs(stage, merged),
            heavy,
            seed=seed,
            caption_cap=config.max_urls_per_caption,
            domain_cap=config.max_urls_per_domain,
        )
        return _publish_pairs(stage, unit, pairs, dropped)

    return stage.once(unit, work)


def count_queries(stage: StageDir, thinned: Marker, *, queries: int) -> Ints:
    return balance.count_queries(plan.memberships(read_pairs(stage, thinned))[1], queries)


def smallest_draws(
    stage: StageDir, thinned: Marker, counts: Ints, *, queries: str, seed: int, config: PlanConfig
) -> list[tuple[int, Floats]]:
    """For `--cap hard`: (query, draws that may be among its smallest)."""
    pairs, hashes = read_pairs(stage, thinned), hashes_of(queries)
    return list(plan.smallest_draws(pairs, counts, hashes, seed=seed, cap=config.max_per_query))


def weigh(stage: StageDir, unit: Unit, thinned: Marker, counts: Floats, *, queries: str, seed: int) -> Marker:
    """Pass 5: every pair's critical t."""

    def work() -> Marker:
        hashes = hashes_of(queries)
        pairs = plan.weigh(read_pairs(stage, thinned), counts, hashes, seed=seed)
        return _publish_pairs(stage, unit, pairs, DROPPED.empty_table())

    return stage.once(unit, work)


def cells(stage: StageDir, weighed: Marker) -> Ints:
    """Histogram of the rows' critical t, to find the cap that keeps `target` rows."""
    return balance.cell_counts(plan.critical_of_rows(read_pairs(stage, weighed)))


def values_of_cell(stage: StageDir, weighed: Marker, cell: int) -> Floats:
    values = plan.critical_of_rows(read_pairs(stage, weighed))
    found: Floats = values[balance.cells_of(values) == cell]
    return found


def count_owners(stage: StageDir, weighed: Marker, heavy: Heavy, threshold: float, *, rates: Rates) -> Owners:
    """Planned rows of the domains whose exact count matters."""
    return owners.count_owners(read_pairs(stage, weighed), threshold, heavy.domains[0], rates)


def admit(stage: StageDir, unit: Unit, weighed: Marker, threshold: float, routing: Routing, *, seed: int) -> Marker:
    """Pass 6: URLs below the threshold, those of slow domains thinned -> slices by host partition."""

    def work() -> Marker:
        pairs, slow = owners.thin(read_pairs(stage, weighed), threshold, routing, seed=seed)
        rows, dropped = plan.admit(pairs, threshold)
        rows, partition = owners.route(rows, routing, seed=seed)
        return _publish_slices(stage, unit, [(rows, partition, pa.concat_tables([slow, dropped]))], rows_in=0)

    return stage.once(unit, work)


def arrange(
    stage: StageDir, unit: Unit, refs: Iterable[SliceRef], *, giant: int | None, seed: int, config: PlanConfig
) -> Marker:
    """Pass 7: one host partition -> its shard lists, a row group each. `giant` numbers the domain that it is a piece of."""

    def work() -> Marker:
        rows = plan.arrange(read_slices(refs, PLAN), seed)
        with storage.scratch_dir(stage.out) as scratch:
            path = f"{scratch}/rows.parquet"
            write_parquet(rows, path, row_group_size=config.rows_per_raw_shard)
            shards = ceil_div(len(rows), config.rows_per_raw_shard)
            tally = Tally(into=0, out=len(rows), dropped={})
            return stage.publish(unit, {"rows": path}, tally, facts=Partition(shards, giant))

    return stage.once(unit, work)


def publish_facts(stage: StageDir, queries: str, t: float, counts: Ints, weights: Floats) -> Marker:
    """What plan learned about the whole set: per query its memberships and the weight its draws were multiplied with,
    and the cap, in the marker, that critical t was compared with."""

    def work() -> Marker:
        entries = load_queries(queries).entries
        table = pa.table({"query": pa.array(entries), "pairs": pa.array(counts), "weight": pa.array(weights)})
        facts = Solved(t if np.isfinite(t) else None)
        return stage.publish_tables(QUERIES, {"rows": table}, NOTHING, facts=facts)

    return stage.once(QUERIES, work)


def wanted_of_plan(stage: StageDir, scattered: Sequence[Unit], markers: Sequence[Marker]) -> set[Unit]:
    """The units of a whole plan: the first pass is given, every further one follows from what the one before it wrote."""
    by_unit = {marker.unit: marker for marker in markers}

    def buckets_of(units: Iterable[Unit]) -> list[int]:
        there = (by_unit[unit] for unit in units if unit in by_unit)
        return sorted({bucket for marker in there for bucket, _ in slice_refs(stage, marker)})

    passes = {
        kind: [Unit.numbered(kind, bucket) for bucket in buckets_of(scattered)]
        for kind in ("merge", "thin", "weigh", "admit")
    }
    partitions = [Unit.numbered("part", number) for number in buckets_of(passes["admit"])]
    return {*scattered, *itertools.chain(*passes.values()), *partitions, QUERIES}


def without_work(marker: Marker) -> Marker:
    """The marker of a plan unit once the stage is finished: files between passes are no longer its own. Digest and size of
    the marker as it lies on disk, which still names them, take their place."""
    files = {label: file for label, file in marker.files.items() if label in ("rows", DROPPED_FILE)}
    # Up to version 0.3 slices stood in the marker itself.
    facts = Rest({name: value for name, value in marker.facts.items() if name != "slices"})
    return with_digest(replace(marker, files=files, facts=facts), to_json(marker))
