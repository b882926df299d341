"""The passes of plan, each named once: a unit of work reads its inputs, calls the maths, publishes its part and its marker.

    scatter -> merge -> (sketch, count_heavy) -> thin -> (count_queries) -> weigh -> (histogram, count_owners) -> admit -> arrange

A unit depends only on its arguments and on published files. It may run anywhere and any number of times, and returns its marker
at once if it was published before. Only the first pass counts pairs in, and only the last counts them out, so that the manifest
is the plain sum. Between passes pairs are Arrow files; the manifest does not name them, and `StageDir.tidy` removes them. Passes
in brackets publish nothing: their results add up over buckets.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from wit import ledger
from wit.arithmetic import ceil_div
from wit.arrays import Floats, Ints
from wit.layout import DROPPED as DROPPED_LABEL
from wit.plan import balance, owners
from wit.plan import pairs as maths
from wit.plan.config import PlanConfig
from wit.plan.facts import QUERIES, RATES, Pairs, Partition, RatesKept, Solved
from wit.plan.owners import Owners, Rates, Routing
from wit.plan.pairs import Heavy, bucket_count, sketch_cells
from wit.plan.threshold import Threshold, hard_count
from wit.querylist import hashes_of, load_queries
from wit.records import DROPPED, PLAN
from wit.store import fs, parquet, shuffle
from wit.store.manifests import Marker, Unit, with_digest
from wit.store.parquet import write_parquet
from wit.store.parts import StageDir, check_complete, write_tables
from wit.store.scratch import scratch_dir
from wit.store.shuffle import SliceRef, read_slices, slice_refs
from wit.tally import NOTHING, Tally
from wit.typed import Rest

SLICE_ROWS = 1_000  # rows of a slice, at least: in smaller ones headers and requests cost more than rows
Chunk = tuple[pa.Table, Ints, pa.Table]  # rows ordered by bucket, the bucket of each, dropped


@dataclass(frozen=True, slots=True)
class CandidatesPart:
    """A part of candidates: the unit that scatters it, and the path of its pairs."""

    unit: Unit
    path: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """The numbers of the buckets that follow from slices: each is a unit of these passes."""

    kinds: tuple[str, ...]
    numbers: tuple[int, ...]

    @classmethod
    def of(cls, numbers: Iterable[int], *, kinds: tuple[str, ...]) -> Wanted:
        """These numbers, in any order."""
        return cls(kinds, tuple(sorted(numbers)))

    @property
    def units(self) -> list[Unit]:
        """All of these units."""
        return [Unit.numbered(kind, number) for kind in self.kinds for number in self.numbers]


OF_BUCKETS, OF_PARTITIONS = ("merge", "thin", "weigh", "admit"), ("part",)  # passes that follow from slices


@dataclass(frozen=True, slots=True)
class Passes:
    """What all passes need: the settings, how many buckets and cells of a sketch there are, and the rates of hosts."""

    stage: StageDir
    config: PlanConfig
    queries: str
    query_count: int
    seed: int
    buckets: int
    cells: int
    rates: Rates

    def scatter(self, part: CandidatesPart) -> Marker:
        """One candidates part -> slices by URL bucket."""
        unit, path = part.unit, part.path
        config, buckets = self.config, self.buckets
        chunk_rows = max(config.rows_per_bucket, SLICE_ROWS * buckets)

        def work() -> Marker:
            with parquet.open_file(path) as file:
                chunks = (
                    maths.scatter(table, seed=self.seed, buckets=buckets, captions=config.max_captions_per_url)
                    for table in _tables(file, chunk_rows)
                )
                return self._publish_slices(unit, chunks, into=file.metadata.num_rows)

        return self.stage.once(unit, work)

    def slices(self, marker: Marker) -> list[tuple[int, SliceRef]]:
        """(bucket or partition, reference) of every slice of a scattered unit: all that crosses the shuffle."""
        return slice_refs(self.stage, marker)

    def merge(self, bucket: tuple[int, Iterable[SliceRef]]) -> Marker:
        """The slices of one bucket -> its pairs, the captions of each URL adjacent."""
        unit, refs = Unit.numbered("merge", bucket[0]), bucket[1]

        def work() -> Marker:
            captions = self.config.max_captions_per_url
            return self._publish_pairs(unit, *maths.merge(refs, seed=self.seed, captions=captions))

        return self.stage.once(unit, work)

    def sketch(self, merged: Marker) -> Ints:
        """[2, cells] counts of a bucket's captions and domains by hash cell."""
        return maths.sketch(self.pairs_of(merged), self.cells)

    def count_heavy(self, merged: Marker, counts: Ints) -> Heavy:
        """This bucket's exact counts of captions and domains that may be above a cap, as the summed sketch (`counts`) tells."""
        return maths.count_heavy(
            self.pairs_of(merged),
            counts,
            caption_cap=self.config.max_urls_per_caption,
            domain_cap=owners.suspicious_from(self.config, self.rates),
            named=owners.named_domains(self.rates),
        )

    def thin(self, merged: Marker, heavy: Heavy) -> Marker:
        """The bucket's pairs -> those that stay once captions and domains above their caps are thinned."""
        unit, config = merged.unit.as_("thin"), self.config

        def work() -> Marker:
            pairs, dropped = maths.thin(
                self.pairs_of(merged),
                heavy,
                seed=self.seed,
                caption_cap=config.max_urls_per_caption,
                domain_cap=config.max_urls_per_domain,
            )
            return self._publish_pairs(unit, pairs, dropped)

        return self.stage.once(unit, work)

    def count_queries(self, thinned: Marker) -> Ints:
        """[queries] memberships of a bucket."""
        return balance.count_queries(maths.memberships(self.pairs_of(thinned))[1], self.query_count)

    def smallest_draws(self, thinned: Marker, counts: Ints) -> list[tuple[int, Floats]]:
        """For `--cap hard`: (query, draws that may be among its smallest)."""
        pairs, hashes = self.pairs_of(thinned), hashes_of(self.queries)
        return list(maths.smallest_draws(pairs, counts, hashes, seed=self.seed, cap=self.config.max_per_query))

    def hard_count(self, draws: tuple[int, Iterable[Floats]]) -> tuple[int, float]:
        """(query, the count that makes its hard cap exact)."""
        return draws[0], hard_count(draws[1], self.config.max_per_query)

    def weigh(self, thinned: Marker, weights: Floats) -> Marker:
        """The bucket's pairs -> the same with their critical t."""
        unit = thinned.unit.as_("weigh")

        def work() -> Marker:
            pairs = maths.weigh(self.pairs_of(thinned), weights, hashes_of(self.queries), seed=self.seed)
            return self._publish_pairs(unit, pairs, DROPPED.empty_table())

        return self.stage.once(unit, work)

    def histogram(self, weighed: Marker) -> Ints:
        """[cells] counts of the rows' critical t, to find the cap that keeps `target` rows."""
        return balance.cell_counts(maths.critical_of_rows(self.pairs_of(weighed)))

    def values_of_cell(self, weighed: Marker, cell: int) -> Floats:
        """Those rows' critical t that lie in one cell of the histogram; none for cell -1."""
        if cell < 0:
            return np.zeros(0)
        values = maths.critical_of_rows(self.pairs_of(weighed))
        inside: Floats = values[balance.cells_of(values) == cell]
        return inside

    def count_owners(self, weighed: Marker, heavy: Heavy, threshold: Threshold) -> Owners:
        """Exact counts of planned rows at suspicious domains and their hosts."""
        return owners.count_owners(self.pairs_of(weighed), threshold.t, heavy.domains[0], self.rates)

    def routing(self, counted: Owners, threshold: Threshold) -> Routing:
        """Which partitions there are, and which of them are giants'."""
        return owners.plan_routing(counted, threshold.rows, self.config)

    def admit(self, weighed: Marker, threshold: Threshold, routing: Routing) -> Marker:
        """The bucket's pairs -> planned rows, those of slow domains thinned, in slices by host partition."""
        unit = weighed.unit.as_("admit")

        def work() -> Marker:
            pairs, slow = owners.thin(self.pairs_of(weighed), threshold.t, routing, seed=self.seed)
            rows, dropped = maths.admit(pairs, threshold.t)
            rows, partition = owners.route(rows, routing, seed=self.seed)
            return self._publish_slices(unit, [(rows, partition, pa.concat_tables([slow, dropped]))])

        return self.stage.once(unit, work)

    def arrange(self, partition: tuple[int, Iterable[SliceRef]], routing: Routing) -> Marker:
        """One host partition -> its shard lists, a row group each."""
        number, refs = partition
        unit, shard_rows = Unit.numbered("part", number), self.config.rows_per_raw_shard

        def work() -> Marker:
            rows = maths.arrange(read_slices(refs, PLAN), self.seed)
            facts = Partition(ceil_div(len(rows), shard_rows), routing.giant_of(number))
            with scratch_dir(self.stage.out) as scratch:
                path = fs.join(scratch, "rows.parquet")
                write_parquet(rows, path, row_group_size=shard_rows)
                return self.stage.publish(unit, {"rows": path}, Tally(into=0, out=len(rows), dropped={}), facts=facts)

        return self.stage.once(unit, work)

    def publish_facts(self, threshold: Threshold, counts: Ints, weights: Floats) -> Marker:
        """Publishes the memberships and the weight of each query, and the cap with its threshold (see `wit.plan.facts`)."""

        def work() -> Marker:
            entries = load_queries(self.queries).entries
            table = pa.table({"query": pa.array(entries), "pairs": pa.array(counts), "weight": pa.array(weights)})
            solved = Solved(threshold.t, threshold.cap) if np.isfinite(threshold.t) else Solved(None)
            return self.stage.publish_tables(QUERIES, {"rows": table}, NOTHING, facts=solved)

        return self.stage.once(QUERIES, work)

    def pairs_of(self, marker: Marker) -> pa.Table:
        """The pairs that a pass published for a bucket."""
        path = self.stage.file(marker, "pairs")
        return shuffle.parse(path, fs.read_bytes(path)).combine_chunks()

    def _publish_pairs(self, unit: Unit, pairs: pa.Table, dropped: pa.Table) -> Marker:
        with scratch_dir(self.stage.out) as scratch:
            path = fs.join(scratch, "pairs.arrow")
            shuffle.write_stream(pairs, path)
            files = {"pairs": path} | write_tables(scratch, {DROPPED_LABEL: dropped})
            return self.stage.publish(unit, files, _lost(dropped), facts=Pairs(len(pairs)))

    def _publish_slices(self, unit: Unit, chunks: Iterable[Chunk], *, into: int = 0) -> Marker:
        lost = [DROPPED.empty_table()]

        def kept() -> Iterator[tuple[pa.Table, Ints]]:
            for rows, bucket, dropped in chunks:
                lost.append(dropped)
                yield rows, bucket

        with scratch_dir(self.stage.out) as scratch:
            files = shuffle.scatter_to(scratch, kept())
            dropped = pa.concat_tables(lost)
            files |= write_tables(scratch, {DROPPED_LABEL: dropped})
            return self.stage.publish(unit, files, _lost(dropped, into=into))


def _lost(dropped: pa.Table, *, into: int = 0) -> Tally:
    return Tally(into=into, out=0, dropped=ledger.reason_counts(dropped))


def _tables(file: parquet.File, rows: int) -> Iterator[pa.Table]:
    """The file as tables of at least `rows` rows; the last may have fewer."""
    held: list[pa.RecordBatch] = []
    for batch in file.iter_batches(batch_size=min(rows, 1 << 16), columns=maths.SCATTERED.names):
        held.append(batch)
        if sum(map(len, held)) >= rows:
            yield pa.Table.from_batches(held, maths.SCATTERED)
            held = []
    if held:
        yield pa.Table.from_batches(held, maths.SCATTERED)


def passes(stage: StageDir, config: PlanConfig, *, queries: str, seed: int, rows: int, rates: Rates) -> Passes:
    """The passes over `rows` candidate rows, at the rates of the plan's first start."""
    buckets, cells = bucket_count(rows, config.rows_per_bucket), sketch_cells(rows)
    return Passes(stage, config, queries, len(load_queries(queries)), seed, buckets, cells, first_rates(stage, rates))


def first_rates(stage: StageDir, asked: Rates) -> Rates:
    """The rates that the whole plan goes by: those asked for at its first start, though politeness may have changed since."""
    kept = stage.marker(RATES) or stage.publish(RATES, {}, facts=RatesKept(asked.kept()))
    return stage.facts(kept, RatesKept).rates.rates()


def wanted_units(scattered: Iterable[Unit], wanted: Iterable[Wanted]) -> set[Unit]:
    """All units of a plan: those of the first pass, which are given, and those that follow from the slices that passes wrote.
    Raises Stopped where it did not come back which those are."""
    followed = {some.kinds: some for some in wanted}
    check_complete("plan", [OF_BUCKETS[0], OF_PARTITIONS[0]], (kinds[0] for kinds in followed))
    return {*scattered, *(unit for some in followed.values() for unit in some.units), QUERIES}


def without_work(marker: Marker) -> Marker:
    """The marker of a plan unit for the manifest, without files between passes. The marker on disk still names those, so its
    digest and size are added."""
    files = {label: file for label, file in marker.files.items() if label in ("rows", DROPPED_LABEL)}
    # Up to version 0.3 slices stood in the marker itself.
    facts = Rest({name: value for name, value in marker.facts.items() if name != "slices"})
    return with_digest(replace(marker, files=files, facts=facts), marker)
