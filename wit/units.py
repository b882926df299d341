"""One unit of work per pass: read the inputs, call the domain, publish the part and its marker.

A unit is a function of its arguments and of published files, may run anywhere and any number of times, and returns its
marker at once when it was published before. In a marker `in` and `out` count pairs of the whole stage, so that only the
first pass of a stage has `in` and only the last has `out`: the manifest is their plain sum.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from wit import balance, ledger, notes, owners, parquet, plan, slices, storage
from wit.arrays import Floats, Ints, ceil_div
from wit.candidates import CandidatesConfig, extract_group
from wit.owners import Owners, Rates, Routing, rates_from_json
from wit.parts import Marker, StageDir, to_json, write_parquet
from wit.plan import Heavy, PlanConfig
from wit.querylist import hashes_of, load_queries
from wit.records import DROPPED, PLAN
from wit.slices import OPTIONS, SliceRef, read_slices, write_slices
from wit.sources import RequestBudget, SourceFile

Tables = Mapping[str, pa.Table]


def publish_tables(stage: StageDir, unit: str, tables: Tables, info: Mapping[str, Any]) -> Marker:
    """Writes each table (label -> table; empty rejects are left out) and claims the unit."""
    with storage.scratch_dir(stage.out) as scratch:
        files = {}
        for label, table in tables.items():
            if label == "dropped" and not len(table):
                continue
            files[label] = f"{scratch}/{label}.parquet"
            write_parquet(table, files[label])
        return stage.publish(unit, files, {"dropped": {}, **info})


def extract(
    stage: StageDir,
    unit: str,
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
    if (done := stage.done(unit)) is not None:
        return done
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
    info = {
        "in": group.pairs_in,
        "out": len(group.table),
        "dropped": {str(reason): n for reason, n in group.dropped_counts.items()},
        "sources": [report.facts() for report in group.sources],
    }
    return publish_tables(stage, unit, {"rows": group.table, "dropped": group.dropped}, info)


def notes_path(stage: StageDir, unit: str) -> str:
    """Where the unit's reader writes down what it is at, on this machine."""
    return storage.join(storage.local_scratch(stage.out), unit + notes.NOTES_FILE)


# The passes of plan. Between passes pairs are Arrow files that the stage's manifest no longer names and its janitor removes.


def _publish_pass(
    stage: StageDir, unit: str, files: dict[str, str], dropped: pa.Table, scratch: str, **info: Any
) -> Marker:
    if len(dropped):
        files["dropped"] = f"{scratch}/dropped.parquet"
        write_parquet(dropped, files["dropped"])
    return stage.publish(unit, files, {"in": 0, "out": 0, "dropped": ledger.reason_counts(dropped), **info})


def _publish_pairs(stage: StageDir, unit: str, pairs: pa.Table, dropped: pa.Table) -> Marker:
    with storage.scratch_dir(stage.out) as scratch:
        path = f"{scratch}/pairs.arrow"
        with pa.OSFile(path, "wb") as sink, pa.ipc.new_stream(sink, pairs.schema, options=OPTIONS) as writer:
            writer.write_table(pairs)
        return _publish_pass(stage, unit, {"pairs": path}, dropped, scratch, pairs=len(pairs))


def read_pairs(stage: StageDir, marker: Marker) -> pa.Table:
    path = stage.file(marker, "pairs")
    return slices.parse(path, storage.read_bytes(path)).combine_chunks()


Chunk = tuple[pa.Table, Ints, pa.Table]  # rows ordered by bucket, the bucket of each, dropped


def _publish_slices(stage: StageDir, unit: str, chunks: Iterable[Chunk], *, rows_in: int) -> Marker:
    dropped = [DROPPED.empty_table()]

    def kept() -> Iterator[tuple[pa.Table, Ints]]:
        for rows, bucket, lost in chunks:
            dropped.append(lost)
            yield rows, bucket

    with storage.scratch_dir(stage.out) as scratch:
        path = f"{scratch}/slices.arrow"
        written = [[bucket, ref.start, ref.length, ref.rows] for bucket, ref in write_slices(kept(), path)]
        lost = pa.concat_tables(dropped)
        return _publish_pass(stage, unit, {"slices": path}, lost, scratch, **{"in": rows_in, "slices": written})


RATES = "rates"  # the unit of plan that keeps them


def slice_refs(stage: StageDir, marker: Marker) -> list[tuple[int, SliceRef]]:
    """What crosses the shuffle: (bucket, reference) of every slice of the unit."""
    path = stage.file(marker, "slices")
    return [(bucket, SliceRef(path, start, length, rows)) for bucket, start, length, rows in marker["slices"]]


SLICE_ROWS = 1_000  # rows of a slice at least: below, headers and requests cost more than rows


def scatter(stage: StageDir, unit: str, part: str, *, seed: int, buckets: int, config: PlanConfig) -> Marker:
    """Pass 1: one candidates part -> slices by URL bucket."""
    if (done := stage.done(unit)) is not None:
        return done
    captions, chunk_rows = config.max_captions_per_url, max(config.rows_per_bucket, SLICE_ROWS * buckets)
    with parquet.open_file(part) as file:
        tables = _tables(file, chunk_rows)
        chunks = (plan.scatter(table, seed=seed, buckets=buckets, captions=captions) for table in tables)
        return _publish_slices(stage, unit, chunks, rows_in=file.metadata.num_rows)


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


def merge(stage: StageDir, unit: str, refs: Iterable[SliceRef], *, seed: int, config: PlanConfig) -> Marker:
    """Pass 2: the slices of one bucket -> its pairs, the captions of a URL together."""
    if (done := stage.done(unit)) is not None:
        return done
    pairs, dropped = plan.merge(refs, seed=seed, captions=config.max_captions_per_url)
    return _publish_pairs(stage, unit, pairs, dropped)


def sketch(stage: StageDir, merged: Marker, *, cells: int) -> Ints:
    return plan.sketch(read_pairs(stage, merged), cells)


def rates(stage: StageDir, asked: Rates) -> Rates:
    """The rates that the whole plan goes by: those asked for when it began, since politeness may change at any time."""
    if (kept := stage.marker(RATES)) is None:
        kept = stage.publish(RATES, {}, {"in": 0, "out": 0, "dropped": {}, "rates": asked.to_json()})
    return rates_from_json(kept["rates"])


def count_heavy(stage: StageDir, merged: Marker, counts: Ints, *, rates: Rates, config: PlanConfig) -> Heavy:
    """Pass 3: this bucket's exact counts of captions and domains that may be above a cap."""
    return plan.count_heavy(
        read_pairs(stage, merged),
        counts,
        caption_cap=config.max_urls_per_caption,
        domain_cap=owners.suspicious_from(config, rates),
        named=owners.named_domains(rates),
    )


def thin(stage: StageDir, unit: str, merged: Marker, heavy: Heavy, *, seed: int, config: PlanConfig) -> Marker:
    """Pass 4: captions and domains above their caps are thinned."""
    if (done := stage.done(unit)) is not None:
        return done
    pairs, dropped = plan.thin(
        read_pairs(stage, merged),
        heavy,
        seed=seed,
        caption_cap=config.max_urls_per_caption,
        domain_cap=config.max_urls_per_domain,
    )
    return _publish_pairs(stage, unit, pairs, dropped)


def count_queries(stage: StageDir, thinned: Marker, *, queries: int) -> Ints:
    return balance.count_queries(plan.memberships(read_pairs(stage, thinned))[1], queries)


def smallest_draws(
    stage: StageDir, thinned: Marker, counts: Ints, *, queries: str, seed: int, config: PlanConfig
) -> list[tuple[int, Floats]]:
    """For `--cap hard`: (query, draws that may be among its smallest)."""
    pairs, hashes = read_pairs(stage, thinned), hashes_of(queries)
    return list(plan.smallest_draws(pairs, counts, hashes, seed=seed, cap=config.max_per_query))


def weigh(stage: StageDir, unit: str, thinned: Marker, counts: Floats, *, queries: str, seed: int) -> Marker:
    """Pass 5: every pair's critical t."""
    if (done := stage.done(unit)) is not None:
        return done
    hashes = hashes_of(queries)
    pairs = plan.weigh(read_pairs(stage, thinned), counts, hashes, seed=seed)
    return _publish_pairs(stage, unit, pairs, DROPPED.empty_table())


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


def admit(stage: StageDir, unit: str, weighed: Marker, threshold: float, routing: Routing, *, seed: int) -> Marker:
    """Pass 6: URLs below the threshold, those of slow domains thinned -> slices by host partition."""
    if (done := stage.done(unit)) is not None:
        return done
    pairs, slow = owners.thin(read_pairs(stage, weighed), threshold, routing, seed=seed)
    rows, dropped = plan.admit(pairs, threshold)
    rows, partition = owners.route(rows, routing, seed=seed)
    return _publish_slices(stage, unit, [(rows, partition, pa.concat_tables([slow, dropped]))], rows_in=0)


def arrange(
    stage: StageDir, unit: str, refs: Iterable[SliceRef], *, giant: int | None, seed: int, config: PlanConfig
) -> Marker:
    """Pass 7: one host partition -> its shard lists, a row group each. `giant` numbers the domain that it is a piece of."""
    if (done := stage.done(unit)) is not None:
        return done
    rows = plan.arrange(read_slices(refs, PLAN), seed)
    with storage.scratch_dir(stage.out) as scratch:
        path = f"{scratch}/rows.parquet"
        write_parquet(rows, path, row_group_size=config.rows_per_raw_shard)
        shards = ceil_div(len(rows), config.rows_per_raw_shard)
        info = {"in": 0, "out": len(rows), "dropped": {}, "shards": shards, "giant": giant}
        return stage.publish(unit, {"rows": path}, info)


def publish_facts(stage: StageDir, queries: str, t: float, counts: Ints, weights: Floats) -> Marker:
    """What plan learned about the whole set: per query its memberships and the weight its draws were multiplied with,
    and the cap, in the marker, that critical t was compared with."""
    unit = "queries"
    if (done := stage.done(unit)) is not None:
        return done
    entries = load_queries(queries).entries
    table = pa.table({"query": pa.array(entries), "pairs": pa.array(counts), "weight": pa.array(weights)})
    cap = t if np.isfinite(t) else None
    return publish_tables(stage, unit, {"rows": table}, {"in": 0, "out": 0, "threshold": cap})


def wanted_of_plan(scattered: Sequence[str], markers: Sequence[Marker]) -> set[str]:
    """The units of a whole plan: the first pass is given, every further one follows from what the one before it wrote."""
    by_unit = {marker["unit"]: marker for marker in markers}
    buckets = _slices_of(by_unit, scattered)
    passes = [f"{name}-{bucket:05d}" for name in ("merge", "thin", "weigh", "admit") for bucket in buckets]
    partitions = _slices_of(by_unit, [unit for unit in passes if unit.startswith("admit-")])
    return {*scattered, *passes, *(f"part-{number:05d}" for number in partitions), "queries"}


def _slices_of(markers: Mapping[str, Marker], units: Iterable[str]) -> list[int]:
    """The buckets that the units' slices go to."""
    return sorted({bucket for unit in units if unit in markers for bucket, *_ in markers[unit]["slices"]})


def without_work(marker: Marker) -> Marker:
    """The marker of a plan unit once the stage is finished: files between passes are no longer its own. Digest and size of
    the marker as it lies on disk, which still names them, take their place."""
    files = {label: entry for label, entry in marker["files"].items() if label in ("rows", "dropped")}
    rest = {name: value for name, value in marker.items() if name != "slices"} | {"files": files}
    data = to_json(marker)
    known = {"marker_sha256": hashlib.sha256(data).hexdigest(), "marker_bytes": len(data)}
    return rest if rest == marker else rest | known
