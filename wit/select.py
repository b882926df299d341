"""select: raw tables, no pixels -> the samples to keep. Filters, duplicates, and the balance again with what survived.

Plan sampled more pairs of a query than the cap, since the web loses some. Here count(query) is replaced by count x the
measured survival of the query's sampled pairs, and a pair stays if its critical t, from the same draws, is below the cap
(design section 7). A pair survives if its picture was fetched and passed the filters; duplicates survive in their
cluster, which carries their captions and queries.

Passes, each a function of published files: `membership_counts` of every raw shard add up; `scatter` writes what decides
a picture's fate to buckets by perceptual hash; `cluster` judges a bucket and writes verdicts to buckets by raw shard;
`keep` joins a raw shard with its verdicts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from wit import ledger, parquet, storage
from wit.arrays import Floats, Hashes, Ids, Ints, Mask, as_schema, ceil_div, list_of, offsets_of, one_array, owners_of
from wit.damage import damaged
from wit.dedup import PICTURE, VERDICT, bucket_of, cluster_bucket
from wit.download.published import FetchedShard
from wit.filters import first_reasons, image_filters
from wit.layout import DROPPED as DROPPED_FILE
from wit.parts import Marker, StageDir, Tally, Unit, write_tables
from wit.plan import balance
from wit.querylist import hashes_of
from wit.ranges import Range, check_ranges
from wit.records import CAPTION, DROPPED, KEEP, SCORES, Reason
from wit.slices import SliceRef, read_slices, scatter_to

KEEP_ROW_GROUP = 512  # publish reads runs of about 100 rows: a run should not cost the whole table


RANGES = {
    "min_image_side_px": Range(0, 100_000),
    "max_aspect_ratio": Range(1, 100_000),
    "min_clip_score": Range(-1, 1),
    "max_captions_per_sample": Range(1, 10_000),
    "rows_per_dedup_bucket": Range(1, 1e9),
}


@dataclass(frozen=True, slots=True)
class SelectConfig:
    min_image_side_px: int = 32
    """pictures whose shorter side, as fetched, is below this are dropped"""
    max_aspect_ratio: float = 3.0
    """pictures whose longer side is more than this times the shorter are dropped (DataComp's bound)"""
    min_clip_score: float | None = None
    """pairs whose cosine similarity (-1 to 1) is below this are dropped (needs scores; useful values depend on the model)"""
    max_captions_per_sample: int = 16
    """captions that a cluster of duplicates carries, the one that is written included"""
    rows_per_dedup_bucket: int = 500_000
    """pictures that one worker compares"""

    def __post_init__(self) -> None:
        check_ranges(self, RANGES)


@dataclass(frozen=True, slots=True)
class Memberships:
    """Per query id, over the rows of some raw shards: (pair, query) memberships planned and surviving; they add up."""

    planned: Ints
    surviving: Ints

    def __add__(self, other: Memberships) -> Memberships:
        return Memberships(self.planned + other.planned, self.surviving + other.surviving)


# On tables.


def absent(reasons: npt.NDArray[Any]) -> Mask:
    """True where there is no reason."""
    return np.fromiter((reason is None for reason in reasons.tolist()), bool, len(reasons))


def select_reasons(raw: pa.Table, config: SelectConfig) -> npt.NDArray[np.object_]:
    """Per row of a RAW table: why its picture is dropped (a Reason of download or of a filter), or None."""
    reasons = np.array(raw["reason"].to_pylist(), dtype=object)
    fetched = np.flatnonzero(absent(reasons))
    filters = image_filters(
        min_side_px=config.min_image_side_px,
        max_aspect_ratio=config.max_aspect_ratio,
        min_clip_score=config.min_clip_score,
    )
    reasons[fetched] = first_reasons(raw.take(pa.array(fetched)), filters)
    return reasons


def survivors(raw: pa.Table, config: SelectConfig) -> tuple[pa.Table, Ints]:
    """(rows that were fetched and pass the filters, their positions in the raw table)."""
    rows = np.flatnonzero(absent(select_reasons(raw, config)))
    return raw.take(pa.array(rows)), rows


def query_ids(rows: pa.Table) -> tuple[pa.Array, Ints, Ints, Ids]:
    """All captions of the rows: (the captions, row of each, offsets [captions + 1] into ids, ids)."""
    lists, captions = offsets_of(rows["captions"])
    offsets, ids = offsets_of(captions.field("query_ids"))
    return captions, owners_of(lists), offsets, ids.to_numpy()


def membership_counts(raw: pa.Table, *, queries: int, config: SelectConfig) -> Memberships:
    """What one raw shard adds to the measured survival of every query."""
    planned, surviving = (query_ids(rows)[3] for rows in (raw, survivors(raw, config)[0]))
    return Memberships(balance.count_queries(planned, queries), balance.count_queries(surviving, queries))


def surviving_counts(counts: npt.NDArray[Any], memberships: Memberships) -> Floats:
    """count(query) x measured survival of the query's sampled pairs [queries]."""
    survival = memberships.surviving / np.maximum(memberships.planned, 1)
    return np.asarray(counts * survival, np.float64)


@dataclass(frozen=True, slots=True)
class Shortfall:
    """What queries lack that were sampled too thinly to fill their cap although the web has enough of them: plan's oversample
    was below 1 / survival."""

    missing: Floats  # [queries] pairs that a query lacks; 0 where nothing does
    oversample: Floats  # [queries] what would have been enough for it; 0 where nothing lacks, or nothing survives

    def describe(self, given: float) -> str:
        """One sentence for the owner of the build; empty where nothing lacks."""
        short = int((self.missing > 0.5).sum())
        if not short:
            return ""
        return (
            f"{short:,} queries end below their cap although the web has enough of them: they lack {self.missing.sum():,.0f} "
            f"pairs in all. --oversample {self.oversample.max():.2f} would have been enough, it was {given:g}."
        )


def still_lacking(short: Shortfall, kept: Ints, t: float) -> Shortfall:
    """The shortfall without what queries have all the same: a pair that was kept for another query counts for all it has."""
    missing = np.minimum(short.missing, np.maximum(t - kept, 0))
    return Shortfall(missing, np.where(missing > 0.5, short.oversample, 0))


def shortfall(counts: npt.NDArray[Any], memberships: Memberships, *, t: float, oversample: float) -> Shortfall:
    """By the counts before balancing [queries], what was planned and survived of each, the cap and plan's oversample."""
    survival = memberships.surviving / np.maximum(memberships.planned, 1)
    short = (counts > t * oversample) & (memberships.planned > 0) & (survival * oversample < 1)
    missing = np.zeros(len(counts))
    missing[short] = np.minimum(t, counts[short] * survival[short]) - t * oversample * survival[short]
    enough = np.divide(1, survival, out=np.zeros_like(survival), where=short & (survival > 0))
    return Shortfall(np.maximum(missing, 0), enough)


def weigh(rows: pa.Table, weights: Floats, hashes: Hashes, *, seed: int) -> pa.Table:
    """The rows with their critical t under new counts: captions by it, then by key; key and critical t of the first."""
    captions, owner, offsets, ids = query_ids(rows)
    keys = captions.field("key")
    draws = balance.pair_draws(seed, keys.to_pylist(), offsets, ids, hashes)
    critical = balance.critical_t(draws, weights, offsets, ids)
    order = np.lexsort((np.array(keys.to_pylist(), "S32"), critical, owner))
    fields = {f.name: captions.field(f.name) for f in CAPTION} | {"critical_t": pa.array(critical)}
    weighed = pa.StructArray.from_arrays(list(fields.values()), fields=list(CAPTION)).take(pa.array(order))
    lists = list_of(weighed, offsets_of(rows["captions"])[0])
    first = weighed.take(lists.offsets[:-1])
    return as_schema(rows.schema, rows, captions=lists, key=first.field("key"), critical_t=first.field("critical_t"))


def pictures(
    raw: pa.Table, number: int, weights: Floats, hashes: Hashes, *, seed: int, config: SelectConfig
) -> pa.Table:
    """The survivors of raw shard `number` as dedup.PICTURE."""
    rows, places = survivors(raw, config)
    weighed = weigh(rows, weights, hashes, seed=seed)
    shard = pa.repeat(pa.scalar(number, pa.int32()), len(rows))
    return as_schema(PICTURE, weighed, raw=shard, row=pa.array(places, pa.int32()))


def judge(found: pa.Table, *, t: float, config: SelectConfig) -> pa.Table:
    """The verdict over every picture of a bucket, ordered by place: its duplicates go, then clusters at or above the cap."""
    best, dropped = cluster_bucket(found, max_captions=config.max_captions_per_sample)
    over = pc.greater_equal(best["critical_t"], t)
    reason = pc.if_else(over, str(Reason.REBALANCED_OUT), pa.scalar(None, pa.string()))
    best = best.set_column(best.schema.get_field_index("reason"), VERDICT.field("reason"), reason)
    return pa.concat_tables([best, dropped]).sort_by([("raw", "ascending"), ("row", "ascending")])


def keep_list(
    raw: pa.Table, shard: FetchedShard, verdicts: pa.Table, config: SelectConfig
) -> tuple[pa.Table, pa.Table]:
    """(KEEP rows in the order of the raw tar, DROPPED rows) of one raw shard; `verdicts` are those on its survivors.

    Every fetched picture is in exactly one of the two; what download lost is in neither."""
    reasons = select_reasons(raw, config)
    judged = verdicts["row"].to_numpy()
    if not np.array_equal(judged, np.flatnonzero(absent(reasons))):
        raise ValueError(f"{shard.parquet}: verdicts do not match its survivors")
    details = np.full(len(raw), "", dtype=object)
    reasons[judged] = verdicts["reason"].to_pylist()
    details[judged] = [detail or "" for detail in verdicts["detail"].to_pylist()]
    fetched = absent(np.array(raw["reason"].to_pylist(), dtype=object))
    lost = np.flatnonzero(fetched & ~absent(reasons))
    kept = np.flatnonzero(absent(reasons[judged]))
    rows = _keep_rows(raw.take(pa.array(judged[kept])), shard, verdicts.take(pa.array(kept)))
    return rows, _dropped_rows(raw.take(pa.array(lost)), reasons[lost].tolist(), details[lost].tolist())


def _keep_rows(raw: pa.Table, shard: FetchedShard, verdicts: pa.Table) -> pa.Table:
    judged = {name: verdicts[name] for name in ("key", "captions", "critical_t", "cluster_size")}
    scored = pc.equal(raw["key"], verdicts["key"])  # the score is of plan's caption: another one has none
    return as_schema(
        KEEP,
        raw,
        **judged,
        caption=first_captions(verdicts).field("text"),
        raw_shard=shard.tar,
        clip_score=pc.if_else(scored, raw["clip_score"], pa.scalar(None, pa.float32())),
    )


def first_captions(rows: pa.Table) -> pa.Array:
    """The first of each row's captions: the one that is written."""
    offsets, captions = offsets_of(rows["captions"])
    return captions.take(pa.array(offsets[:-1]))


def _dropped_rows(raw: pa.Table, reasons: list[str], details: list[str]) -> pa.Table:
    """The rows as records.DROPPED, with the caption that plan chose for them."""
    first = first_captions(raw)
    return as_schema(
        DROPPED,
        raw,
        stage="select",
        reason=pa.array(reasons, pa.string()),
        detail=pa.array(details, pa.string()),
        caption=first.field("text"),
        page_url=first.field("page_url"),
    )


# As units of work: each reads and writes published files, may run anywhere and any number of times.


def read_raw(out: str, shard: FetchedShard) -> pa.Table:
    """The RAW table of the shard with a further column `clip_score`, null where there is none."""
    raw = parquet.read_table(storage.join(out, shard.parquet))
    found = pa.nulls(len(raw), pa.float32())
    if shard.scores is not None:
        scores = parquet.read_table(storage.join(out, shard.scores)).cast(SCORES)
        if not raw["key"].take(scores["row"]).equals(scores["key"]):
            raise damaged(storage.join(out, shard.scores), f"not the scores of {shard.parquet}")
        found = one_array(scores["clip_score"]).take(pc.index_in(pa.array(range(len(raw)), pa.int32()), scores["row"]))
    return raw.append_column(KEEP.field("clip_score"), found)


def count(out: str, shard: FetchedShard, *, queries: int, config: SelectConfig) -> Memberships:
    """Pass 1: what one raw shard adds to the survival of every query. The pairs of a retry were planned once, before."""
    found = membership_counts(read_raw(out, shard), queries=queries, config=config)
    return Memberships(np.zeros_like(found.planned), found.surviving) if shard.unit.is_retry else found


def buckets_for(pictures: int, config: SelectConfig) -> int:
    return max(1, ceil_div(pictures, config.rows_per_dedup_bucket))


def scatter(
    stage: StageDir,
    number: int,
    shard: FetchedShard,
    weights: Floats,
    *,
    queries: str,
    seed: int,
    buckets: int,
    config: SelectConfig,
) -> Marker:
    """Pass 2: raw shard `number` -> its pictures in slices by dedup bucket."""
    unit = shard.unit.as_("scatter")

    def work() -> Marker:
        found = pictures(read_raw(stage.out, shard), number, weights, hashes_of(queries), seed=seed, config=config)
        return _publish_slices(stage, unit, found, bucket_of(found, buckets))

    return stage.once(unit, work)


def cluster(stage: StageDir, bucket: int, refs: Iterable[SliceRef], *, t: float, config: SelectConfig) -> Marker:
    """Pass 3: the pictures of one bucket -> verdicts in slices by raw shard."""
    unit = Unit.numbered("cluster", bucket)

    def work() -> Marker:
        verdicts = judge(read_slices(refs, PICTURE), t=t, config=config)
        return _publish_slices(stage, unit, verdicts, verdicts["raw"].to_numpy().astype(np.int64))

    return stage.once(unit, work)


def keep(stage: StageDir, shard: FetchedShard, refs: Iterable[SliceRef], *, config: SelectConfig) -> Marker:
    """Pass 4: one raw shard and the verdicts on its pictures -> its part of the keep list, and its dropped rows."""
    unit = shard.unit.as_("part")

    def work() -> Marker:
        verdicts = read_slices(refs, VERDICT).sort_by("row")
        rows, dropped = keep_list(read_raw(stage.out, shard), shard, verdicts, config)
        tally = Tally(into=len(rows) + len(dropped), out=len(rows), dropped=ledger.reason_counts(dropped))
        with storage.scratch_dir(stage.out) as scratch:
            files = write_tables(scratch, {"rows": rows}, row_group_size=KEEP_ROW_GROUP)
            files |= write_tables(scratch, {DROPPED_FILE: dropped})
            return stage.publish(unit, files, tally)

    return stage.once(unit, work)


def _publish_slices(stage: StageDir, unit: Unit, rows: pa.Table, bucket: Ints) -> Marker:
    order = np.argsort(bucket, kind="stable")
    with storage.scratch_dir(stage.out) as scratch:
        return stage.publish(unit, scatter_to(scratch, [(rows.take(pa.array(order)), bucket[order])]))


def keep_parts(markers: Iterable[Marker]) -> list[Marker]:
    """The markers of the finished keep list: what the stage's manifest names once the slices are no longer needed."""
    return [marker for marker in markers if marker.unit.kind == "part"]
