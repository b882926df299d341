"""The passes of plan, each named once: a unit of work reads its inputs, calls the maths, publishes its part and its marker.

    scatter -> merge -> (count -> find_frequent) -> thin -> (count_queries) -> weigh -> (histogram, rank; own -> add_hosts
            -> find_hosts, find_domains)
            -> admit -> arrange

Arrows that change the key go through a shuffle: by URL, by the hash of a name and back, by host, by domain, by host partition.
Rows are read and written whole four times: by scatter, merge, admit and arrange. The passes between read NARROW, under half of
their bytes, and write what changes: which pairs are thinned, and their critical t.

A unit depends only on its arguments and on published files. It may run anywhere and any number of times, and returns at once
what was published before. Only the first pass counts pairs in, and only the last counts them out, so that the manifest is the
plain sum. What passes hand on stands apart (`StageDir.at_work`): rows in files are removed as soon as all of the next pass are
there (`pipelines.spent`), the rest when the plan is finished.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from wit import ledger
from wit.arithmetic import ceil_div
from wit.arrays import Floats, Ints, Mask
from wit.layout import DROPPED as DROPPED_LABEL
from wit.plan import balance, counts, owners, ranks
from wit.plan import pairs as maths
from wit.plan.config import PlanConfig
from wit.plan.facts import COUNTED, QUERIES, RATES, SPENT, Begun, Below, Pairs, Partition, Shape, Solved
from wit.plan.owners import Owners, Rates, Routing
from wit.plan.ranks import Cells, Search
from wit.plan.threshold import Threshold, hard_count
from wit.querylist import hashes_of, load_queries
from wit.records import DROPPED, PLAN
from wit.store import fs, parquet, shuffle
from wit.store.awaited import check_complete
from wit.store.manifests import Marker, Unit, with_digest
from wit.store.parquet import write_parquet
from wit.store.parts import StageDir, write_tables
from wit.store.scratch import scratch_dir
from wit.store.shuffle import Batch, Dealt, Shuffle, Slice, Task, read_rows
from wit.tally import NOTHING, Tally
from wit.typed import Rest

Pieces = Iterable[Slice | Batch]  # of a bucket's rows
# A name that all buckets have costs its range so many batches: four times what a range takes otherwise (a batch for each of
# 80,000 buckets: 43 times). A block is of 16 buckets at full size, whose names, if all are too frequent, take 24 MB.
TOLD_BLOCKS = 5_000
ROW_BYTES, COUNT_BYTES = 200, 24  # about, in a shuffle: of a pair, and of a count


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
    def units(self) -> Iterator[Unit]:
        """All of these units."""
        return (Unit.numbered(kind, number) for kind in self.kinds for number in self.numbers)


OF_BUCKETS, OF_PARTITIONS = ("merge", "thin", "admit"), ("part",)  # units that follow from the two large shuffles
HANDED_ON = ("narrow", "wide", "kept", "weighed")  # labels of what a bucket's passes leave to later ones


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket of pairs by URL: the markers of what passes have made of it so far, and of what they have counted."""

    number: int
    counted: tuple[Marker, ...]
    pairs: Marker
    kept: Marker | None = None
    """Where pairs were thinned: which of them stay."""
    weighed: Marker | None = None

    @property
    def handed_on(self) -> tuple[Marker, ...]:
        """The markers of what passes have made of it."""
        return tuple(marker for marker in (self.pairs, self.kept, self.weighed) if marker is not None)


@dataclass(frozen=True, slots=True)
class Passes:
    """What all passes need: the settings, the rates of hosts, the shuffles between passes, and how far an earlier start came."""

    stage: StageDir
    config: PlanConfig
    queries: str
    query_count: int
    seed: int
    rates: Rates
    shape: Shape
    rows: int
    parts: int
    facts: Marker | None = None
    """Where the whole set has been counted: the marker of its facts, and the threshold."""
    threshold: Threshold | None = None
    by_task: bool = True
    """Whether a task cuts the captions of a URL over all of its chunks."""
    is_spent: bool = False
    """Whether what buckets handed on is being removed, since all of it is dealt in files: then the plan goes on by files."""

    @property
    def work(self) -> StageDir:
        """Where passes leave what they hand on."""
        return self.stage.at_work

    # The shuffles. Tasks are parts of candidates, buckets, or ranges.

    @property
    def by_url(self) -> Shuffle:
        return self._shuffle("url", maths.SCATTERED, self.shape.buckets, tasks=self.parts)

    @property
    def by_name(self) -> Shuffle:
        return self._shuffle("name", counts.COUNT, self.shape.ranges, tasks=self.shape.buckets)

    @property
    def told(self) -> int:
        """How many buckets are told together what is too frequent in them."""
        return ceil_div(self.shape.buckets, TOLD_BLOCKS)

    @property
    def frequent(self) -> Shuffle:
        """(Units called frequent told each bucket alone.)"""
        blocks = ceil_div(self.shape.buckets, self.told)
        return self._shuffle("heavy", counts.COUNT, blocks, tasks=self.shape.ranges)

    def by_block(self, bucket: Bucket) -> tuple[int, Bucket]:
        """The bucket under the number of the block that it is told with."""
        return bucket.number // self.told, bucket

    @property
    def by_host(self) -> Shuffle:
        return self._shuffle("host", owners.OWNED, self.shape.ranges, tasks=self.shape.buckets)

    @property
    def by_domain(self) -> Shuffle:
        """(Units called domain had the rows of each host.)"""
        return self._shuffle("site", owners.OF_DOMAIN, self.shape.ranges, tasks=self.shape.ranges)

    @property
    def by_partition(self) -> Shuffle:
        return self._shuffle("partition", PLAN, self.shape.partitions, tasks=self.shape.buckets)

    def _shuffle(self, name: str, schema: pa.Schema, buckets: int, *, tasks: int) -> Shuffle:
        return Shuffle.of(self.stage, name, schema, buckets, rows=self.rows, tasks=tasks)

    # The passes.

    def scatter(self, part: CandidatesPart) -> Task:
        """One candidates part -> its rows by URL bucket."""

        def chunks() -> Iterator[Dealt]:
            with parquet.open_file(part.path) as file:
                yield from maths.scatter(
                    _tables(file, shuffle.CHUNK_ROWS),
                    seed=self.seed,
                    buckets=self.shape.buckets,
                    captions=self.config.max_captions_per_url,
                    by_task=self.by_task,
                )

        return Task(int(part.unit.place), chunks, part.unit)

    def merge(self, bucket: tuple[int, Pieces]) -> Bucket:
        """The rows of one bucket -> its pairs, the captions of each URL adjacent."""
        number, pieces = bucket
        unit = Unit.numbered("merge", number)
        if (work := self.work.done(unit)) and (counted := self.stage.done(unit)):
            return Bucket(number, (counted,), work)
        rows = read_rows(pieces, maths.SCATTERED)
        pairs, dropped = maths.merge(rows, seed=self.seed, captions=self.config.max_captions_per_url)
        narrow, wide = maths.split(pairs)
        work = self.work.publish_streams(unit, {"narrow": narrow, "wide": wide})
        return Bucket(number, (self._count(unit, dropped, Pairs(len(pairs))),), work)

    def count(self, merged: Bucket) -> Task:
        """The bucket's counts of captions and domains, by ranges of their hashes."""
        return Task(
            merged.number,
            lambda: [counts.count_names(self._narrow(merged), merged.number, self.shape.ranges, self.config)],
        )

    def find_frequent(self, counted: tuple[int, Pieces]) -> Task:
        """The names of one range that are above their caps, by block of buckets."""
        number, pieces = counted
        return Task(
            number, lambda: [counts.too_frequent(read_rows(pieces, counts.COUNT), self.config, block=self.told)]
        )

    def thin(self, merged: Bucket, frequent: Pieces) -> Bucket:
        """Which of the bucket's pairs stay once captions and domains above their caps are thinned."""
        unit = Unit.numbered("thin", merged.number)
        if counted := self.stage.done(unit):
            # What is kept is published before what is counted; it is there if anything was dropped.
            kept = self.work.done(unit) if counted.dropped else None
            if kept or not counted.dropped:
                return replace(merged, counted=(*merged.counted, counted), kept=kept)
        narrow, heavy = self._narrow(merged), counts.of_bucket(read_rows(frequent, counts.COUNT), merged.number)
        urls = self._wide(merged)["canonical_url"] if counts.has_domains(heavy) else None
        lost = counts.over_caps(narrow, heavy, urls, seed=self.seed, config=self.config)
        kept, dropped = None, DROPPED.empty_table()
        if lost.any():
            kept = self.work.publish_streams(unit, {"kept": pa.table({"kept": lost == 0})})
            dropped = maths.drop_over_caps(maths.joined(narrow, self._wide(merged)), lost)
        return replace(merged, counted=(*merged.counted, self._count(unit, dropped)), kept=kept)

    def count_queries(self, thinned: Bucket) -> Ints:
        """[queries] memberships of a bucket."""
        return balance.count_queries(maths.memberships(self._left(thinned))[1], self.query_count)

    def smallest_draws(self, thinned: Bucket, memberships: Ints) -> list[tuple[int, Floats]]:
        """For `--cap hard`: (query, draws that may be among its smallest)."""
        hashes, cap = hashes_of(self.queries), self.config.max_per_query
        return list(maths.smallest_draws(self._left(thinned), memberships, hashes, seed=self.seed, cap=cap))

    def hard_count(self, draws: tuple[int, Iterable[Floats]]) -> tuple[int, float]:
        """(query, the count that makes its hard cap exact)."""
        return draws[0], hard_count(draws[1], self.config.max_per_query)

    def weigh(self, thinned: Bucket, weights: Floats) -> Bucket:
        """The bucket's pairs in their final order, with their critical t."""
        unit = Unit.numbered("weigh", thinned.number)

        def work() -> Marker:
            narrow, hashes = self._narrow(thinned), hashes_of(self.queries)
            weighed = maths.weigh(narrow, self._kept(thinned), weights, hashes, seed=self.seed)
            return self.work.publish_streams(unit, {"weighed": weighed})

        return replace(thinned, weighed=self.work.once(unit, work))

    def histogram(self, weighed: Bucket) -> Ints:
        """[cells] counts of the rows' critical t: about how many rows a threshold plans."""
        return balance.cell_counts(maths.critical_of_rows(self._weighed(weighed)))

    def rank(self, weighed: Bucket, search: Search) -> list[tuple[int, Cells]]:
        """(slab, counts) of the rows' critical t in one round of the search for a target's cap."""
        if not len(search.groups):
            return []
        values = maths.critical_of_rows(self._weighed(weighed))
        return list(ranks.count(search, np.zeros(len(values), np.int32), values))

    def own(self, weighed: Bucket, threshold: Threshold) -> Task:
        """The bucket's counts of planned rows by host, by ranges of their hashes."""

        def chunks() -> list[Dealt]:
            places = owners.planned_places(self._weighed(weighed), threshold.t)
            first = self._narrow(weighed).take(places)
            names = self._wide(weighed).take(places) if self.rates.limits.entries else None
            return [owners.count_owned(first, self.rates, self.shape.ranges, names)]

        return Task(weighed.number, chunks)

    def find_hosts(self, owned: tuple[int, Pieces]) -> Owners:
        """The hosts of one range that have too many planned rows."""
        return owners.hosts_above(read_rows(owned[1], owners.OWNED))

    def add_hosts(self, owned: tuple[int, Pieces]) -> Task:
        """The counts of one range of hosts, added up by domain, by ranges of their hashes."""
        number, pieces = owned
        return Task(number, lambda: [owners.count_domains(read_rows(pieces, owners.OWNED), self.shape.ranges)])

    def find_domains(self, counted: tuple[int, Pieces]) -> Owners:
        """The domains of one range that have too many planned rows."""
        return owners.domains_above(read_rows(counted[1], owners.OF_DOMAIN), self.config)

    def routing(self, found: Owners, threshold: Threshold) -> Routing:
        """Which partitions there are, and which of them are giants'."""
        return owners.plan_routing(found, threshold.rows, self.config)

    def admit(self, weighed: Bucket, threshold: Threshold, routing: Routing) -> Task:
        """The bucket's pairs -> planned rows, those of slow domains thinned, by host partition."""

        def chunks() -> list[Dealt]:
            pairs = maths.joined(self._narrow(weighed), self._wide(weighed), self._weighed(weighed))
            pairs, slow = owners.thin(pairs, threshold.t, routing, seed=self.seed)
            rows, dropped = maths.admit(pairs, threshold.t)
            rows, partition = owners.route(rows, routing, seed=self.seed)
            return [Dealt(rows, partition, pa.concat_tables([slow, dropped]))]

        return Task(weighed.number, chunks, Unit.numbered("admit", weighed.number))

    def arrange(self, partition: tuple[int, Pieces], routing: Routing) -> Marker:
        """One host partition -> its shard lists, a row group each."""
        number, pieces = partition
        unit, shard_rows = Unit.numbered("part", number), self.config.rows_per_raw_shard

        def work() -> Marker:
            rows = maths.arrange(read_rows(pieces, PLAN), self.seed)
            facts = Partition(ceil_div(len(rows), shard_rows), routing.giant_of(number))
            with scratch_dir(self.stage.out) as scratch:
                path = fs.join(scratch, "rows.parquet")
                write_parquet(rows, path, row_group_size=shard_rows)
                return self.stage.publish(unit, {"rows": path}, Tally(into=0, out=len(rows), dropped={}), facts=facts)

        return self.stage.once(unit, work)

    def publish_facts(self, threshold: Threshold, memberships: Ints, weights: Floats) -> Marker:
        """Publishes the memberships and the weight of each query, and the cap with its threshold (see `wit.plan.facts`): no start
        counts them again."""

        def work() -> Marker:
            entries = load_queries(self.queries).entries
            table = pa.table({"query": pa.array(entries), "pairs": pa.array(memberships), "weight": pa.array(weights)})
            solved = Solved(threshold.t, threshold.cap) if np.isfinite(threshold.t) else Solved(None)
            return self.stage.publish_tables(QUERIES, {"rows": table}, NOTHING, facts=solved)

        facts = self.stage.once(QUERIES, work)
        self.work.once(COUNTED, lambda: self.work.publish(COUNTED, {}, facts=Below(threshold.rows)))
        return facts

    def weights_before(self, facts: Marker) -> Floats:
        """[queries] the weights that an earlier start has published."""
        weights: Floats = parquet.read_table(self.stage.file(facts, "rows"), ["weight"])["weight"].to_numpy()
        return weights

    # What passes hand on.

    def _narrow(self, bucket: Bucket) -> pa.Table:
        return self.work.read(bucket.pairs, "narrow")

    def _wide(self, bucket: Bucket) -> pa.Table:
        return self.work.read(bucket.pairs, "wide")

    def _kept(self, bucket: Bucket) -> Mask | None:
        """Which pairs stay; None where all do."""
        if bucket.kept is None:
            return None
        kept: Mask = self.work.read(bucket.kept, "kept")["kept"].to_numpy()
        return kept

    def _left(self, bucket: Bucket) -> pa.Table:
        """The pairs that stay, as NARROW."""
        kept, narrow = self._kept(bucket), self._narrow(bucket)
        return narrow if kept is None else narrow.filter(pa.array(kept))

    def _weighed(self, bucket: Bucket) -> pa.Table:
        assert bucket.weighed is not None
        return self.work.read(bucket.weighed, "weighed")

    def _count(self, unit: Unit, dropped: pa.Table, facts: object = None) -> Marker:
        tally = Tally(into=0, out=0, dropped=ledger.reason_counts(dropped))
        with scratch_dir(self.stage.out) as scratch:
            return self.stage.publish(unit, write_tables(scratch, {DROPPED_LABEL: dropped}), tally, facts=facts)


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


def shape_of(rows: int, config: PlanConfig, *, rows_a_key: int = shuffle.KEY_ROWS) -> Shape:
    """The shape of a plan of that many candidate rows, by what a key of a shuffle may hold."""
    partitions = 2 * ceil_div(rows, config.rows_per_partition) + ceil_div(rows, config.max_urls_per_domain_partition)
    return Shape(
        buckets=shuffle.buckets_for(rows, bytes_a_row=ROW_BYTES, rows_a_key=rows_a_key),
        ranges=shuffle.buckets_for(2 * rows, bytes_a_row=COUNT_BYTES, rows_a_key=8 * rows_a_key),
        partitions=max(1, partitions),
    )


def passes(
    stage: StageDir,
    config: PlanConfig,
    *,
    queries: str,
    seed: int,
    rows: int,
    rates: Rates,
    parts: int = 1,
    rows_a_key: int = shuffle.KEY_ROWS,
) -> Passes:
    """The passes over `rows` candidate rows in `parts` parts, at the rates and in the shape of the plan's first start."""
    begun = begin(stage, rates, shape_of(rows, config, rows_a_key=rows_a_key), by_task=rows > shuffle.CHUNK_ROWS)
    assert begun.shape is not None
    facts, threshold = counted_before(stage)
    return Passes(
        stage,
        config,
        queries,
        len(load_queries(queries)),
        seed,
        begun.rates.rates(),
        begun.shape,
        rows,
        parts,
        facts,
        threshold,
        begun.by_task,
        stage.at_work.done(SPENT) is not None,
    )


def counted_before(stage: StageDir) -> tuple[Marker | None, Threshold | None]:
    """The marker of the facts of the whole set, and the threshold, if an earlier start has counted it."""
    facts, counted = stage.done(QUERIES), stage.at_work.done(COUNTED)
    if facts is None or counted is None:
        return None, None
    solved, rows = stage.facts(facts, Solved), stage.at_work.facts(counted, Below).rows
    cap, t = (math.inf if value is None else value for value in (solved.cap, solved.threshold))
    return facts, Threshold(cap, t, rows)


def begin(stage: StageDir, rates: Rates, shape: Shape, *, by_task: bool) -> Begun:
    """What the plan's first start decided, or decides now; later ones go by it, though politeness may have changed since. A plan
    that an earlier version left half done has no shape: it is begun anew, since its passes cut the rows in other pieces."""
    kept = stage.marker(RATES)
    begun = stage.facts(kept, Begun) if kept else Begun(rates.kept())
    if begun.shape is not None:
        return begun
    fs.remove(
        stage.marker_path(RATES)
    )  # first: who is stopped here begins anew as well, and takes up nothing half removed
    fs.remove(stage.at_work.path)
    stage.forget()
    return stage.facts(stage.publish(RATES, {}, facts=replace(begun, shape=shape, by_task=by_task)), Begun)


def wanted_units(scattered: Iterable[Unit], wanted: Iterable[Wanted]) -> Iterator[Unit]:
    """All units of a plan: those of the first pass, which are given, and those that follow from the two large shuffles. Raises
    Stopped where it did not come back which those are."""
    followed = {some.kinds: some for some in wanted}
    check_complete("plan", [OF_BUCKETS[0], OF_PARTITIONS[0]], (kinds[0] for kinds in followed))
    return itertools.chain(scattered, (unit for some in followed.values() for unit in some.units), [QUERIES])


def without_work(marker: Marker) -> Marker:
    """The marker of a plan unit as manifests of versions up to 0.5 have it: without the files between passes, which the marker on
    disk still names; its digest and size are added."""
    files = {label: file for label, file in marker.files.items() if label in ("rows", DROPPED_LABEL)}
    # Up to version 0.3 slices stood in the marker itself.
    facts = Rest({name: value for name, value in marker.facts.items() if name != "slices"})
    return with_digest(replace(marker, files=files, facts=facts), marker)
