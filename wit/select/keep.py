"""Which samples are kept, on tables: filters, new weights, and a raw shard with the verdicts on its pictures.

Plan sampled more pairs of a query than the cap, since the web loses some. Here count(query) is multiplied with the measured
survival of the query's sampled pairs, and a pair has a new critical t, from the same draws (design section 7). A pair survives if
its picture was fetched and passed the filters. A duplicate survives in its cluster, whose representative carries its captions and
queries. What is balanced out among all clusters is told by wit/select/cut.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from wit.arrays import Floats, Hashes, Ids, Ints, Mask, as_schema, list_of, offsets_of, owners_of
from wit.download.published import FetchedShard
from wit.plan import balance
from wit.records import CAPTION, DROPPED, KEEP
from wit.select.config import SelectConfig
from wit.select.dedup import PICTURE, expand
from wit.select.filters import first_reasons


def absent(reasons: npt.NDArray[Any]) -> Mask:
    """True where there is no reason."""
    return np.fromiter((reason is None for reason in reasons.tolist()), bool, len(reasons))


def select_reasons(raw: pa.Table, config: SelectConfig) -> npt.NDArray[np.object_]:
    """Per row of a RAW table: why its picture is dropped (a Reason of download or of a filter), or None."""
    reasons = np.array(raw["reason"].to_pylist(), dtype=object)
    fetched = np.flatnonzero(absent(reasons))
    reasons[fetched] = first_reasons(raw.take(pa.array(fetched)), config)
    return reasons


def survivors(raw: pa.Table, config: SelectConfig) -> tuple[pa.Table, Ints]:
    """(rows that were fetched and pass the filters, their positions in the raw table)."""
    rows = np.flatnonzero(absent(select_reasons(raw, config)))
    return raw.take(pa.array(rows)), rows


def query_ids(rows: pa.Table) -> tuple[pa.Array, Ints, Ints, Ids]:
    """(all captions of the rows, row of each, offsets [captions + 1] into ids, query ids)."""
    lists, captions = offsets_of(rows["captions"])
    offsets, ids = offsets_of(captions.field("query_ids"))
    return captions, owners_of(lists), offsets, ids.to_numpy()


def weigh(rows: pa.Table, weights: Floats, hashes: Hashes, *, seed: int) -> pa.Table:
    """The rows under new weights: captions by new critical t, then key; a row's key and critical t are the first caption's."""
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
    alone = pa.array(np.ones(len(rows), np.int32))
    return as_schema(PICTURE, weighed, raw=shard, row=pa.array(places, pa.int32()), pictures=alone)


def keep_list(
    raw: pa.Table, shard: FetchedShard, verdicts: pa.Table, config: SelectConfig
) -> tuple[pa.Table, pa.Table]:
    """(KEEP rows in the order of the raw tar, DROPPED rows) of one raw shard; `verdicts` are those on its representatives.

    Every fetched picture is in exactly one of the two; a row that download lost is in neither. Raises ValueError where the
    verdicts do not match the survivors."""
    reasons = select_reasons(raw, config)
    judged = np.flatnonzero(absent(reasons))
    verdicts = expand(verdicts, raw.select(["phash", "original_sha256"]).take(pa.array(judged)), judged, shard.parquet)
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
    scored = pc.equal(raw["key"], verdicts["key"])  # the score belongs to plan's caption: another caption has none
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
    """The rows as records.DROPPED, each with its first caption, which plan chose."""
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
