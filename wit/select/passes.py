"""The passes of select, each named once. A pass depends on published files alone; it may run anywhere, any number of times.

    count -> weights -> scatter -> cluster -> (begin -> (cells -> narrow) x ROUNDS) -> cut -> keep

`count` gives numbers that add up over raw shards; `scatter` writes pictures, as dedup.PICTURE, to buckets by perceptual hash;
`cluster` merges the duplicates of a bucket and writes verdicts to buckets by raw shard; `keep` joins a raw shard with its
verdicts, and drops what the cut leaves out. Where the cut is solved (`--target`, `--cap hard`), `cluster` writes beside its
verdicts what it is solved from, and the passes in brackets find it among all clusters (`wit.plan.ranks`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wit import ledger
from wit.arithmetic import ceil_div
from wit.arrays import Floats, Ids, Ints, one_array
from wit.damage import damaged
from wit.download.published import FetchedShard
from wit.layout import DROPPED as DROPPED_LABEL
from wit.plan import ranks
from wit.plan.ranks import Cells, Search
from wit.querylist import hashes_of
from wit.select.config import SelectConfig
from wit.select.cut import EVERY_CLUSTER, Balance, Cut, Target, cluster, judge, sampled_to
from wit.select.dedup import PICTURE, VERDICT, bucket_of
from wit.select.filters import scores_read
from wit.select.keep import keep_list, pictures
from wit.select.survival import Memberships, membership_counts, surviving_counts
from wit.store import fs, parquet
from wit.store.manifests import Manifest, Marker, Unit
from wit.store.parts import StageDir, write_tables
from wit.store.scratch import scratch_dir
from wit.store.shuffle import SliceRef, parse, read_slices, scatter_to, slice_refs, write_stream
from wit.tally import Tally

RANKED_LABEL = "ranked"
KEEP_ROW_GROUP = 512  # publish reads runs of about 100 rows: a run should not cost the whole table


@dataclass(frozen=True, slots=True)
class Numbered:
    """A raw shard and its place in the list of all of them: slices name it by that."""

    number: int
    shard: FetchedShard


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

    def count(self, raw: Numbered) -> Ints:
        """[2, queries] memberships of one raw shard: planned, and surviving."""
        table = read_raw(self.stage.out, raw.shard, self.config)
        counted = count(table, raw.shard, queries=self.query_count, config=self.config)
        return np.stack([counted.planned, counted.surviving])

    def weights(self, memberships: Ints) -> Floats:
        """[queries] the new factor of the draws: plan's weight x measured survival."""
        return surviving_counts(self._planned_weights(), Memberships(*memberships))

    def capped(self, memberships: Ints) -> Ids:
        """The queries that a hard cap may bound; none where there is no such cap."""
        return self.balance.capped(Memberships(*memberships))

    def scatter(self, raw: Numbered, weights: Floats) -> Marker:
        """One raw shard -> its pictures in slices by dedup bucket."""
        unit = raw.shard.unit.as_("scatter")

        def work() -> Marker:
            table, hashes = read_raw(self.stage.out, raw.shard, self.config), hashes_of(self.queries)
            survivors = pictures(table, raw.number, weights, hashes, seed=self.seed, config=self.config)
            return self._publish_slices(unit, survivors, bucket_of(survivors, self.buckets))

        return self.stage.once(unit, work)

    def slices(self, marker: Marker) -> list[tuple[int, SliceRef]]:
        """(bucket or raw shard, reference) of every slice of a scattered unit: all that crosses the shuffle."""
        return slice_refs(self.stage, marker)

    def cluster(self, bucket: tuple[int, Iterable[SliceRef]], capped: Ids) -> Marker:
        """The pictures of one bucket -> verdicts in slices by raw shard, without duplicates, and what the cut is solved from."""
        unit, refs = Unit.numbered("merge", bucket[0]), bucket[1]

        def work() -> Marker:
            pictures, hashes = read_slices(refs, PICTURE), hashes_of(self.queries)
            captions = self.config.max_captions_per_sample
            verdicts, ranked = cluster(pictures, self.balance, capped, hashes, seed=self.seed, max_captions=captions)
            return self._publish_slices(
                unit,
                verdicts,
                verdicts["raw"].to_numpy().astype(np.int64),
                ranked=ranked if self.balance.is_solved else None,
            )

        return self.stage.once(unit, work)

    def begin(self, capped: Ids) -> Search:
        """The search for the cut: one value for a target, or one for each query that a hard cap bounds."""
        return ranks.begin(capped if self.balance.hard else EVERY_CLUSTER, self.balance.rank)

    def cells(self, clustered: Marker, search: Search) -> list[tuple[int, Cells]]:
        """(slab, counts) of a bucket's clusters in one round of the search."""
        path = self.stage.file(clustered, RANKED_LABEL)
        ranked = parse(path, fs.read_bytes(path))
        return list(ranks.count(search, ranked["group"].to_numpy(), ranked["value"].to_numpy()))

    def narrow(self, slab: tuple[int, Cells], search: Search) -> Search:
        """What the search knows of one slab after a round, by the counts of all buckets."""
        return ranks.narrow(slab[1], search)

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

    def keep(self, joined: tuple[int, Iterable[SliceRef | FetchedShard]], cut: Cut) -> Marker:
        """One raw shard and the verdicts on its pictures -> its part of the keep list, and its dropped rows."""
        both = list(joined[1])
        shard = next(one for one in both if isinstance(one, FetchedShard))
        refs = [one for one in both if isinstance(one, SliceRef)]
        unit = shard.unit.as_("part")

        def work() -> Marker:
            judged = judge(read_slices(refs, VERDICT).sort_by("row"), cut)
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

    def _publish_slices(self, unit: Unit, rows: pa.Table, bucket: Ints, ranked: pa.Table | None = None) -> Marker:
        order = np.argsort(bucket, kind="stable")
        with scratch_dir(self.stage.out) as scratch:
            files = scatter_to(scratch, [(rows.take(pa.array(order)), bucket[order])])
            if ranked is not None:
                files[RANKED_LABEL] = fs.join(scratch, "ranked.arrow")
                write_stream(ranked, files[RANKED_LABEL])
            return self.stage.publish(unit, files)


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


def buckets_for(pictures: int, config: SelectConfig) -> int:
    """How many buckets this many pictures are spread over for comparison."""
    return max(1, ceil_div(pictures, config.rows_per_dedup_bucket))


def keep_parts(markers: Iterable[Marker]) -> list[Marker]:
    """The markers of the keep list's parts: those that the stage's manifest names, once slices are no longer needed."""
    return [marker for marker in markers if marker.unit.kind == "part"]


def lacking(stage: StageDir, select: Manifest, *, oversample: float) -> str:
    """What a finished select lacks of its target, in one sentence; empty where it lacks nothing, or was not given one."""
    parts = keep_parts(select.parts)
    if not parts or "target" not in parts[0].facts:  # version 0.1.0 had other facts there
        return ""
    return stage.facts(parts[0], Target).describe(select.out, oversample=oversample)
