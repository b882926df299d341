"""Where the second balance cuts (design section 7): at plan's cap; under --target where so many samples are below; under --cap
hard at a draw of its own for each query.

A sample contributes once to each query that any caption of its cluster contains, with the smallest draw for it. It stays if some
query keeps it. To the other queries that it contains it is no contribution.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wit.arrays import Floats, Hashes, Ids, Ints, Mask, as_schema, changes, list_of, offsets_of, owners_of
from wit.plan.balance import pair_draws
from wit.plan.config import PlanConfig
from wit.plan.facts import PlanFacts
from wit.reasons import Reason
from wit.select.dedup import DRAW, PICTURE, VERDICT, cluster_bucket, in_clusters, represent
from wit.select.keep import query_ids
from wit.select.survival import Memberships

# What a cut is solved from: under --target the critical t of every cluster, all in group 0; under --cap hard the draws of its
# queries, each query a group.
RANKED = pa.schema([("group", pa.int32()), ("value", pa.float64())])
EVERY_CLUSTER: Ids = np.zeros(1, np.int32)  # the one group of a target


@dataclass(frozen=True, slots=True)
class Balance:
    """What is asked of select, and what plan sampled for it."""

    cap: float
    """The cap that plan solved for; infinite where every row is planned."""
    target: int | None = None
    """So many samples are wanted in all: the cap follows from it."""
    hard: bool = False
    """Whether no query may contribute more than the cap: without it that is so on average."""
    sampled: float = math.inf
    """Plan took all pairs with a critical t below this: the cap times the oversample."""

    @property
    def is_solved(self) -> bool:
        """Whether the cut follows from all clusters together, and not from the cap alone."""
        return self.hard or self.target is not None

    @property
    def rank(self) -> int:
        """How many samples, or contributions of a query, lie below a cut that is solved."""
        return int(self.cap) if self.target is None else self.target

    def capped(self, memberships: Memberships) -> Ids:
        """The queries that a hard cap may bound: a query has at least as many surviving pairs as contributions."""
        over = memberships.surviving > self.cap if self.hard else np.zeros(0, bool)
        return np.flatnonzero(over).astype(np.int32)


SOLVED_SINCE = 3  # schema of select


def balance_under(schema: int, plan: PlanConfig, facts: PlanFacts) -> Balance:
    """What these settings ask of a select of that schema. Earlier ones cut at plan's cap, whatever was asked."""
    if schema < SOLVED_SINCE:
        return Balance(facts.cap)
    if plan.cap == "hard":
        return Balance(float(plan.max_per_query), hard=True)
    return Balance(facts.cap, plan.target, sampled=facts.sampled)


@dataclass(frozen=True, slots=True)
class Target:
    """The facts of a part of the keep list under --target: the critical t that exactly so many samples are below, and the one
    beyond which plan did not sample the queries that it cut. None stands for infinite: there are no more samples; plan cut no
    query."""

    target: int
    reached_at: float | None
    sampled_to: float | None

    @property
    def t(self) -> float:
        """Samples with a critical t below this are kept."""
        return min(t for t in (self.reached_at, self.sampled_to, math.inf) if t is not None)

    def describe(self, samples: int, *, oversample: float) -> str:
        """One sentence for the owner of a build that kept so many samples; empty where it has as many as were wanted."""
        lacking, stops = self.target - samples, self.sampled_to is not None and self.t == self.sampled_to
        if lacking <= 0:
            return ""
        sentence = f"--target {self.target:,} was not reached: {lacking:,} samples are lacking. "
        if not stops or self.sampled_to is None:
            none = "All that arrived are kept: no --oversample would bring more, only other sources."
            return sentence + (none if self.reached_at is None else "Samples that tie at the border stay out together.")
        sentence += "Beyond those that are kept plan has not sampled frequent queries: "
        if self.reached_at is None:  # so many samples are kept at most in proportion to t
            needed = oversample * self.target / max(samples, 1)
            return sentence + f"it takes an --oversample of {_up(needed):.2f} at least, it was {oversample:g}."
        enough = oversample * self.reached_at / self.sampled_to
        return sentence + f"--oversample {_up(enough):.2f} would have been enough, it was {oversample:g}."


def _up(number: float) -> float:
    return math.ceil(number * 100) / 100


def sampled_to(weights: Floats, memberships: Memberships, sampled: float) -> float:
    """The new critical t up to which the survivors are all that there would be of a larger sample: `sampled` x survival of the
    queries that plan cut, whose weight is above `sampled`, all their pairs together; infinite if it cut none of which anything
    survives. What single queries lack below it, the report tells: one whose pictures are lost stops no target."""
    cut = weights > sampled
    surviving, planned = int(memberships.surviving[cut].sum()), int(memberships.planned[cut].sum())
    return sampled * (surviving / planned) if surviving else math.inf


@dataclass(frozen=True, slots=True)
class Cut:
    """What stays: a cluster whose critical t is below `t` and, if it has none but queries in `queries`, whose draw for one of
    these is below the draw given there."""

    t: float
    queries: Ids = field(default_factory=lambda: np.zeros(0, np.int32))
    """Ascending."""
    draws: Floats = field(default_factory=lambda: np.zeros(0))
    target: Target | None = None

    def leaves_out(self, verdicts: pa.Table) -> Mask:
        """Which representatives do not stay; what is told of duplicates means nothing."""
        out: Mask = ~(verdicts["critical_t"].to_numpy() < self.t)
        offsets, draws = offsets_of(verdicts["draws"])
        query, draw = draws.field("query").to_numpy(), draws.field("draw").to_numpy()
        within = np.ones(len(query), bool)
        if len(self.queries):
            at = np.minimum(np.searchsorted(self.queries, query), len(self.queries) - 1)
            within = (self.queries[at] != query) | (draw < self.draws[at])
        kept = np.bincount(owners_of(offsets)[within], minlength=len(verdicts)) > 0
        return out | ((np.diff(offsets) > 0) & ~kept)


@dataclass(frozen=True, slots=True)
class Contributions:
    """What clusters contribute to capped queries, once each: [n] cluster, query and smallest draw, by cluster and query."""

    cluster: Ints
    query: Ids
    draw: Floats
    free: Mask
    """[clusters] whether a cluster stays whatever it contributes, since it has a query that no cap bounds."""

    @property
    def ranked(self) -> pa.Table:
        """All of them, as RANKED."""
        return pa.table([pa.array(self.query), pa.array(self.draw)], schema=RANKED)

    @property
    def lists(self) -> pa.Array:
        """[clusters] lists of (query, draw); empty where the cluster is free."""
        bound = ~self.free[self.cluster]
        return draw_lists(self.cluster[bound], self.query[bound], self.draw[bound], len(self.free))


Draws = tuple[Ints, Ids, Floats]  # [n] cluster, query and draw


def draws_of(pictures: pa.Table, cluster: Ints, hashes: Hashes, *, seed: int) -> Draws:
    """Every draw of the captions of each cluster, and the smallest of those that its pictures left out before; `cluster`
    [pictures] ascends from 0 without gaps."""
    captions, owner, offsets, ids = query_ids(pictures)
    carried, before = offsets_of(pictures["draws"])
    of = cluster[np.concatenate([owner[owners_of(offsets)], owners_of(carried)])]
    draws = pair_draws(seed, captions.field("key").to_pylist(), offsets, ids, hashes)
    together = (
        np.concatenate([ids, before.field("query").to_numpy()]),
        np.concatenate([draws, before.field("draw").to_numpy()]),
    )
    return of, *together


def smallest(of: Ints, ids: Ids, draws: Floats) -> Draws:
    """The smallest draw of each cluster for each query, by cluster and query."""
    order = np.lexsort((draws, ids, of))
    first = order[changes(np.stack([of, ids], axis=1)[order])]
    return of[first], ids[first], draws[first]


def contributions(pictures: pa.Table, cluster: Ints, capped: Ids, hashes: Hashes, *, seed: int) -> Contributions:
    """The contributions of each cluster to the queries in `capped`, which ascend; `cluster` is as for `draws_of`."""
    of, ids, draws = draws_of(pictures, cluster, hashes, seed=seed)
    bounded = np.isin(ids, capped)
    free = np.zeros(int(cluster[-1]) + 1 if len(cluster) else 0, bool)
    free[of[~bounded]] = True
    return Contributions(*smallest(of[bounded], ids[bounded], draws[bounded]), free)


def draw_lists(of: Ints, queries: Ids, draws: Floats, clusters: int) -> pa.Array:
    """[clusters] lists of (query, draw), by the cluster `of` each, which ascends."""
    values = pa.StructArray.from_arrays([queries, draws], fields=list(DRAW))
    return list_of(values, np.searchsorted(of, np.arange(clusters + 1)))


def join_shard(pictures: pa.Table, balance: Balance, hashes: Hashes, *, seed: int, max_captions: int) -> pa.Table:
    """The survivors of one raw shard as PICTURE -> one for each cluster among them. Under a hard cap one that leaves captions out
    carries its draws: they count whichever captions the union keeps."""
    return _joined(*in_clusters(pictures), balance, hashes, seed=seed, max_captions=max_captions)


def join_piece(pictures: pa.Table, balance: Balance, hashes: Hashes, *, seed: int, max_captions: int) -> pa.Table:
    """The PICTURE of some raw shards, joined as by `join_shard`, and behind them, without captions, those that others stand for
    now: each has a verdict of its own."""
    pictures, of = in_clusters(pictures)
    joined = _joined(pictures, of, balance, hashes, seed=seed, max_captions=max_captions)
    others = pictures.filter(pa.array(~changes(of)))
    none = {name: pa.nulls(len(others), PICTURE.field(name).type).fill_null([]) for name in ("captions", "draws")}
    return pa.concat_tables(
        [joined, as_schema(PICTURE, others, pictures=pa.array(np.zeros(len(others), np.int32)), **none)]
    )


def _joined(
    pictures: pa.Table, of: Ints, balance: Balance, hashes: Hashes, *, seed: int, max_captions: int
) -> pa.Table:
    """The representatives of the pictures that `in_clusters` gave, with their draws where one needs them."""
    joined = represent(pictures, of, max_captions=max_captions)
    if not balance.hard:
        return joined
    before, after = (pc.list_value_length(table["captions"]).to_numpy() for table in (pictures, joined))
    carried = np.diff(offsets_of(pictures["draws"])[0])
    lacks = (np.bincount(of, before, len(joined)) > after) | (np.bincount(of, carried, len(joined)) > 0)
    behind = pa.array(lacks[of])
    draws = smallest(*draws_of(pictures.filter(behind), of[lacks[of]], hashes, seed=seed))
    return as_schema(PICTURE, joined, draws=draw_lists(*draws, len(joined)))


def cluster(
    bucket: pa.Table, balance: Balance, capped: Ids, hashes: Hashes, *, seed: int, max_captions: int
) -> tuple[pa.Table, pa.Table]:
    """(VERDICT of each picture in a bucket, by (raw, row), RANKED of its clusters). Duplicates go here; `judge` tells which
    clusters go, once the cut is known."""
    pictures, of = in_clusters(bucket)
    found = contributions(pictures, of, capped, hashes, seed=seed) if balance.hard else None
    best, dropped = cluster_bucket(pictures, of, max_captions=max_captions, draws=found and found.lists)
    ranked = found.ranked if found else pa.table([np.zeros(len(best), np.int32), best["critical_t"]], schema=RANKED)
    return pa.concat_tables([best, dropped]).sort_by([("raw", "ascending"), ("row", "ascending")]), ranked


def judge(verdicts: pa.Table, cut: Cut) -> pa.Table:
    """The verdicts, with a reason for each cluster that the cut leaves out."""
    over = pc.and_(pc.is_null(verdicts["reason"]), pa.array(cut.leaves_out(verdicts)))
    reason = pc.if_else(over, str(Reason.REBALANCED_OUT), verdicts["reason"])
    return verdicts.set_column(verdicts.schema.get_field_index("reason"), VERDICT.field("reason"), reason)
