"""The passes of select, each named once. A pass depends on published files alone; it may run anywhere, any number of times.

    count -> weights -> scatter (-> join) -> cluster -> (begin -> cells, ROUNDS times) -> cut -> keep

`count` gives numbers that add up over raw shards; `scatter` joins the duplicates inside a raw shard, and deals one picture of
each, as dedup.PICTURE, to buckets by perceptual hash; `join` joins those of some raw shards where a bucket is cut
(`wit.select.spread`); `cluster` joins those of a bucket, and its verdicts are dealt to raw shards; `keep` tells them to the
pictures of a raw shard, and drops what the cut leaves out. Where the cut is solved (`--target`, `--cap hard`), `cluster` writes
beside its verdicts what it is solved from, and the passes in brackets behind it find it among all clusters (`wit.plan.ranks`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wit import ledger
from wit.arrays import Floats, Ids, Ints, one_array
from wit.damage import damaged
from wit.download.published import FetchedShard
from wit.layout import DROPPED as DROPPED_LABEL
from wit.plan import ranks
from wit.plan.ranks import Cells, Search
from wit.querylist import hashes_of
from wit.select.config import SelectConfig
from wit.select.cut import EVERY_CLUSTER, Balance, Cut, Target, cluster, join_piece, join_shard, judge, sampled_to
from wit.select.dedup import PICTURE, VERDICT
from wit.select.filters import scores_read
from wit.select.keep import keep_list, pictures, survivors
from wit.select.spread import Spread, captions_of_buckets, most_numbers
from wit.select.survival import Memberships, membership_counts, surviving_counts
from wit.store import fs, parquet
from wit.store.manifests import Manifest, Marker, Unit
from wit.store.parts import StageDir, write_tables
from wit.store.scratch import scratch_dir
from wit.store.shuffle import Batch, Dealt, Shuffle, Slice, Task, buckets_for, read_rows
from wit.tally import Tally

Pieces = Iterable[Slice | Batch]  # of a bucket's rows
PICTURE_BYTES = 900  # about, of a picture with its captions in a shuffle
KEEP_ROW_GROUP = 512  # publish reads runs of about 100 rows: a run should not cost the whole table


@dataclass(frozen=True, slots=True)
class Numbered:
    """A raw shard and its place in the list of all of them: verdicts name it by that."""

    number: int
    shard: FetchedShard


@dataclass(frozen=True, slots=True)
class Clustered:
    """A bucket of pictures, and the marker of what `cluster` handed on: verdicts, and what the cut is solved from."""

    number: int
    work: Marker


@dataclass(frozen=True, slots=True)
class Passes:
    """What all passes need: the settings, and plan's facts about queries."""

    stage: StageDir
    config: SelectConfig
    facts: str
    """The path of plan's table of queries, with the weight of each."""
    balance: Balance
    queries: str
    query_count: int
    seed: int
    buckets: int
    pictures: int = 0
    shards: int = 1

    @property
    def by_picture(self) -> Shuffle:
        """Pictures to buckets, out of raw shards; where a bucket is cut, to its pieces by raw shard. Its units bear the number
        of buckets: with another they are others. (Units called picture, merge and verdict had rows of all pictures; for those
        called local, merged and told no bucket was cut.)"""
        name = f"sent{self.buckets}"
        return Shuffle.of(self.stage, name, PICTURE, most_numbers(self.buckets), rows=self.pictures, tasks=self.shards)

    @property
    def by_hash(self) -> Shuffle:
        """Pictures to the pieces by hash of a bucket that is cut, out of those by raw shard. These are few, so one level will
        do."""
        return Shuffle(self.stage, f"joined{self.buckets}", PICTURE, most_numbers(self.buckets))

    @property
    def by_shard(self) -> Shuffle:
        """Verdicts to raw shards, out of buckets."""
        name = f"answer{self.buckets}"
        return Shuffle.of(self.stage, name, VERDICT, self.shards, rows=self.pictures, tasks=self.buckets)

    @property
    def sums(self) -> int:
        """How many numbers `count` gives."""
        return 2 * self.query_count + self.buckets

    def count(self, raw: Numbered) -> Ints:
        """[sums] of one raw shard: the memberships of each query, planned, then surviving, and the captions for each bucket."""
        table = read_raw(self.stage.out, raw.shard, self.config)
        counted = count(table, raw.shard, queries=self.query_count, config=self.config)
        most, (rows, _) = self.config.max_captions_per_sample, survivors(table, self.config)
        captions = captions_of_buckets(rows, self.buckets, max_captions=most)
        return np.concatenate([counted.planned, counted.surviving, captions])

    def memberships(self, sums: Ints) -> Ints:
        """[2, queries] memberships in all raw shards: planned, and surviving."""
        return sums[: 2 * self.query_count].reshape(2, self.query_count)

    def spread(self, sums: Ints) -> Spread:
        """Which buckets are cut, by the captions for each of all raw shards."""
        return Spread.of(sums[2 * self.query_count :])

    def weights(self, memberships: Ints) -> Floats:
        """[queries] the new factor of the draws: plan's weight x measured survival."""
        return surviving_counts(self._planned_weights(), Memberships(*memberships))

    def capped(self, memberships: Ints) -> Ids:
        """The queries that a hard cap may bound; none where there is no such cap."""
        return self.balance.capped(Memberships(*memberships))

    def scatter(self, raw: Numbered, weights: Floats, spread: Spread) -> Task:
        """One raw shard -> its pictures, those that are the same as one, by dedup bucket."""

        def chunks() -> list[Dealt]:
            table, hashes = read_raw(self.stage.out, raw.shard, self.config), hashes_of(self.queries)
            found = pictures(table, raw.number, weights, hashes, seed=self.seed, config=self.config)
            captions = self.config.max_captions_per_sample
            joined = join_shard(found, self.balance, hashes, seed=self.seed, max_captions=captions)
            return [Dealt.ordered(joined, spread.by_raw(joined))]

        return Task(raw.number, chunks)

    def is_whole(self, bucket: tuple[int, Pieces]) -> bool:
        """Whether a bucket is not cut."""
        return bucket[0] < self.buckets

    def is_piece(self, bucket: tuple[int, Pieces]) -> bool:
        """Whether it is a piece of one that is."""
        return bucket[0] >= self.buckets

    def join(self, piece: tuple[int, Pieces], spread: Spread) -> Task:
        """The pictures of a piece by raw shard, those that are the same joined -> the pieces by hash of that bucket."""

        def chunks() -> list[Dealt]:
            found, hashes = read_rows(piece[1], PICTURE), hashes_of(self.queries)
            captions = self.config.max_captions_per_sample
            joined = join_piece(found, self.balance, hashes, seed=self.seed, max_captions=captions)
            return [Dealt.ordered(joined, spread.by_hash(joined))]

        return Task(piece[0], chunks)

    def cluster(self, bucket: tuple[int, Pieces], capped: Ids) -> Clustered:
        """The pictures of one bucket -> verdicts on them, without duplicates, and what the cut is solved from."""
        number, pieces = bucket

        def work() -> Marker:
            found, hashes = read_rows(pieces, PICTURE), hashes_of(self.queries)
            captions = self.config.max_captions_per_sample
            verdicts, ranked = cluster(found, self.balance, capped, hashes, seed=self.seed, max_captions=captions)
            tables = {"verdicts": verdicts} | ({"ranked": ranked} if self.balance.is_solved else {})
            return self.stage.at_work.publish_streams(unit, tables)

        unit = Unit.numbered(f"cluster{self.buckets}", number)
        return Clustered(number, self.stage.at_work.once(unit, work))

    def verdicts(self, clustered: Clustered) -> Task:
        """The verdicts of a bucket by raw shard."""

        def chunks() -> list[Dealt]:
            verdicts = self.stage.at_work.read(clustered.work, "verdicts")
            return [Dealt.ordered(verdicts, verdicts["raw"].to_numpy().astype(np.int64))]

        return Task(clustered.number, chunks)

    def begin(self, capped: Ids) -> Search:
        """The search for the cut: one value for a target, or one for each query that a hard cap bounds."""
        return ranks.begin(capped if self.balance.hard else EVERY_CLUSTER, self.balance.rank)

    def cells(self, clustered: Clustered, search: Search) -> list[tuple[int, Cells]]:
        """(slab, counts) of a bucket's clusters in one round of the search."""
        ranked = self.stage.at_work.read(clustered.work, "ranked")
        return list(ranks.count(search, ranked["group"].to_numpy(), ranked["value"].to_numpy()))

    def cut(self, search: Search, memberships: Ints) -> Cut:
        """The cut, after the last round."""
        if self.balance.target is None:
            return Cut(math.inf, search.groups, search.values)
        end = sampled_to(self._planned_weights(), Memberships(*memberships), self.balance.sampled)
        at = float(search.values[0]) if len(search.groups) else math.inf
        target = Target(self.balance.target, *(t if math.isfinite(t) else None for t in (at, end)))
        return Cut(target.t, target=target)

    def by_number(self, raw: Numbered) -> tuple[int, FetchedShard]:
        """(number, raw shard): `keep` sees the shard together with its verdicts, and even if none of its pictures survives."""
        return raw.number, raw.shard

    def keep(self, shard: FetchedShard, verdicts: Pieces, cut: Cut) -> Marker:
        """One raw shard and the verdicts on its pictures -> its part of the keep list, and its dropped rows."""
        unit = shard.unit.as_("part")

        def work() -> Marker:
            judged = judge(read_rows(verdicts, VERDICT).sort_by("row"), cut)
            rows, dropped = keep_list(read_raw(self.stage.out, shard, self.config), shard, judged, self.config)
            tally = Tally(into=len(rows) + len(dropped), out=len(rows), dropped=ledger.reason_counts(dropped))
            with scratch_dir(self.stage.out) as scratch:
                files = write_tables(scratch, {"rows": rows}, row_group_size=KEEP_ROW_GROUP)
                files |= write_tables(scratch, {DROPPED_LABEL: dropped})
                return self.stage.publish(unit, files, tally, facts=cut.target)

        return self.stage.once(unit, work)

    def _planned_weights(self) -> Floats:
        """[queries] the factor that plan weighed the draws with."""
        weights: Floats = parquet.read_table(self.facts, ["weight"])["weight"].to_numpy()
        return weights


def read_raw(out: str, shard: FetchedShard, config: SelectConfig) -> pa.Table:
    """The RAW table of the shard, with a column for each score that is kept or that filters read; null where a row has no score.
    Raises DamagedFile where the scores are of another shard, or lack a column."""
    raw = parquet.read_table(fs.join(out, shard.parquet))
    columns = list(dict.fromkeys(["clip_score", *scores_read(config)]))
    added = {name: pa.nulls(len(raw), pa.float32()) for name in columns}
    if shard.scores is not None:
        scores = parquet.read_table(fs.join(out, shard.scores), ["key", "row", *columns])
        if not raw["key"].take(scores["row"]).equals(scores["key"]):
            raise damaged(fs.join(out, shard.scores), f"not the scores of {shard.parquet}")
        places = pc.index_in(pa.array(range(len(raw)), pa.int32()), scores["row"])
        added = {name: one_array(scores[name]).cast(pa.float32()).take(places) for name in columns}
    for name, values in added.items():
        raw = raw.append_column(name, values)
    return raw


def count(raw: pa.Table, shard: FetchedShard, *, queries: int, config: SelectConfig) -> Memberships:
    """The memberships of one raw shard, as `read_raw` reads it. A retry's shard adds none to `planned`: its pairs were counted in
    the first attempt."""
    counted = membership_counts(raw, queries=queries, config=config)
    return Memberships(np.zeros_like(counted.planned), counted.surviving) if shard.unit.is_retry else counted


def dedup_buckets(pictures: int, *, rows_a_key: int) -> int:
    """How many buckets this many pictures are spread over for comparison."""
    return buckets_for(pictures, bytes_a_row=PICTURE_BYTES, rows_a_key=rows_a_key)


def keep_parts(markers: Iterable[Marker]) -> list[Marker]:
    """The markers of the keep list's parts: those that the stage's manifest names, once slices are no longer needed."""
    return [marker for marker in markers if marker.unit.kind == "part"]


def lacking(stage: StageDir, select: Manifest, *, oversample: float) -> str:
    """What a finished select lacks of its target, in one sentence; empty where it lacks nothing, or was not given one."""
    part = next(select.of("part"), None)  # each part tells the same
    if part is None or "target" not in part.facts:  # version 0.1.0 had other facts there
        return ""
    return stage.facts(part, Target).describe(select.out, oversample=oversample)
