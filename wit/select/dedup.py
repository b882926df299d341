"""Clusters of the same picture: one representative stays, and takes over the captions of the others.

Two pictures are the same if their fetched bytes or their 64-bit perceptual hashes are equal. Equal bytes give equal hashes, so
a bucket by perceptual hash holds whole clusters, and each bucket is judged alone.

Joining is associative: a raw shard joins its own pictures first (`represent`) and sends one a cluster, buckets join these. So a
picture on a million pages fills no bucket; `wit.select.spread` has what becomes of one that is in every raw shard. The verdict on
a picture that was sent is told to those it stands for (`expand`).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from wit.arrays import Hashes, Ints, as_schema, list_of, offsets_of, rank_in_run, run_lengths, run_starts
from wit.hashing import name_hashes
from wit.reasons import Reason
from wit.records import CAPTION

DRAW = pa.struct([("query", pa.int32()), ("draw", pa.float64())])
# One surviving picture, or the representative of several: the columns that decide its place in a cluster.
PICTURE = pa.schema(
    [
        ("raw", pa.int32()),  # number of its raw shard
        ("row", pa.int32()),  # row in that shard's table
        ("key", pa.string()),  # of its caption with the smallest critical t
        ("critical_t", pa.float64()),
        ("original_sha256", pa.string()),
        ("phash", pa.uint64()),
        ("captions", pa.list_(CAPTION)),  # by critical t, then key
        # How many it stands for, itself included; 0 where another row stands for it, and has its captions.
        ("pictures", pa.int32()),
        # Under --cap hard, where captions are left out: the smallest of each query over all of them.
        ("draws", pa.list_(DRAW)),
    ]
)
# The verdict on it: a representative (no reason; with the union of captions) or a duplicate.
VERDICT = pa.schema(
    [
        *[PICTURE.field(name) for name in ("raw", "row", "key", "critical_t")],
        ("captions", pa.list_(CAPTION)),  # null where dropped
        ("cluster_size", pa.int32()),
        ("reason", pa.string()),
        ("detail", pa.string()),  # of a duplicate: the key of its representative
        ("original_sha256", pa.string()),  # the representative's
        ("draws", pa.list_(DRAW)),  # under --cap hard one of them must be small enough; null or empty: none has to be
    ]
)


def identities(pictures: pa.Table) -> Hashes:
    """A hash of the identity of each picture: equal for all that may be the same."""
    return name_hashes(_names(pictures))


def bucket_of(pictures: pa.Table, buckets: int) -> Ints:
    """The bucket of each picture: all pictures that may be the same share one."""
    return (identities(pictures) % np.uint64(buckets)).astype(np.int64)


def _names(pictures: pa.Table) -> list[bytes]:
    """The identity of each picture: its perceptual hash, or the digest of its bytes where it has no hash."""
    pairs = zip(pictures["phash"].to_pylist(), pictures["original_sha256"].to_pylist(), strict=True)
    return [b"sha256:%b" % digest.encode() if hashed is None else b"phash:%016x" % hashed for hashed, digest in pairs]


def _clusters(pictures: pa.Table) -> Ints:
    """The cluster of each picture, numbered from 0 on."""
    return np.unique(np.array(_names(pictures), dtype=bytes), return_inverse=True)[1]


def in_clusters(bucket: pa.Table) -> tuple[pa.Table, Ints]:
    """(the pictures of a bucket by cluster, the cluster of each, from 0 on), whatever the order of the input. First in each
    cluster is its representative: the picture with the smallest (critical t, key)."""
    pictures = bucket.combine_chunks()
    cluster = _clusters(pictures)
    order = np.lexsort((_ascii(pictures["key"]), pictures["critical_t"].to_numpy(), cluster))
    return pictures.take(pa.array(order)), cluster[order]


def represent(pictures: pa.Table, cluster: Ints, *, max_captions: int, draws: pa.Array | None = None) -> pa.Table:
    """The representatives of the pictures that `in_clusters` gave, as PICTURE by cluster, with their `draws` [clusters]. Each
    gets the captions of the whole cluster, each text once, the first `max_captions` by (critical t, key)."""
    first = run_starts(cluster)
    captions = union_captions(pictures, cluster, max_captions=max_captions)
    counts = pictures["pictures"].to_numpy()
    sizes = pa.array(np.add.reduceat(counts, first) if len(first) else counts, pa.int32())
    draws = pa.nulls(len(first), PICTURE.field("draws").type) if draws is None else draws
    return as_schema(PICTURE, pictures.take(pa.array(first)), captions=captions, pictures=sizes, draws=draws)


def cluster_bucket(
    pictures: pa.Table, cluster: Ints, *, max_captions: int, draws: pa.Array | None = None
) -> tuple[pa.Table, pa.Table]:
    """(representatives, dropped) of the pictures that `in_clusters` gave, as VERDICT ordered by (raw, row).

    Representatives are those of `represent`. A dropped picture is DUPLICATE_BYTES if its bytes are the representative's, else
    DUPLICATE_PICTURE."""
    first = run_starts(cluster)
    best = represent(pictures, cluster, max_captions=max_captions, draws=draws)
    others = np.delete(np.arange(len(cluster)), first)
    # With its captions and draws, once for each duplicate, a leader would be gigabytes.
    known = pictures.select(["raw", "row", "key", "critical_t", "original_sha256"])
    leader = known.take(pa.array(np.repeat(first, run_lengths(first, len(cluster)))[others]))
    dropped = known.take(pa.array(others))
    why = _duplicate_reasons(dropped, leader)
    return (
        _verdicts(best, captions=best["captions"], cluster_size=best["pictures"], draws=best["draws"]),
        _verdicts(dropped, reason=why, detail=leader["key"], original_sha256=leader["original_sha256"]),
    )


def expand(verdicts: pa.Table, survivors: pa.Table, rows: Ints, shard: str) -> pa.Table:
    """The verdict on each survivor of a raw shard, which stand in `rows` of its table, from those by row on the pictures that
    stand for them. What else is told of a duplicate means nothing. Raises ValueError where they are not one a cluster."""
    cluster = _clusters(survivors)
    judged = np.flatnonzero(np.isin(rows, verdicts["row"].to_numpy()))
    of = np.argsort(cluster[judged])
    if not np.array_equal(rows[judged], verdicts["row"]) or not np.array_equal(cluster[judged][of], np.unique(cluster)):
        raise ValueError(f"{shard}: verdicts do not match its survivors")
    each = verdicts.take(pa.array(of[cluster]))
    stands = pa.array(each["row"].to_numpy() == rows)
    return as_schema(
        VERDICT,
        each,
        row=pa.array(rows, pa.int32()),
        reason=pc.if_else(stands, each["reason"], _duplicate_reasons(survivors, each)),
        detail=pc.if_else(stands, each["detail"], pc.coalesce(each["detail"], each["key"])),
    )


def _ascii(keys: pa.ChunkedArray) -> npt.NDArray[np.bytes_]:
    return np.array(keys.to_pylist(), dtype="S32")


def _duplicate_reasons(pictures: pa.Table, leader: pa.Table) -> pa.Array:
    """Why each picture is none but a duplicate of the leader beside it."""
    same_bytes = pc.equal(pictures["original_sha256"], leader["original_sha256"]).to_numpy()
    return pa.array(np.where(same_bytes, str(Reason.DUPLICATE_BYTES), str(Reason.DUPLICATE_PICTURE)), pa.string())


def _verdicts(pictures: pa.Table, **given: pa.ChunkedArray | pa.Array) -> pa.Table:
    """The pictures as VERDICT, ordered by (raw, row); columns that neither they have nor `given` are null."""
    known = pictures.select(["raw", "row", "key", "critical_t", "original_sha256"])
    return as_schema(VERDICT, known, **given).sort_by([("raw", "ascending"), ("row", "ascending")])


def union_captions(pictures: pa.Table, cluster: Ints, *, max_captions: int) -> pa.Array:
    """[clusters] lists of each cluster's captions by (critical t, key), equal texts once; `cluster` [pictures] ascends."""
    if not len(pictures):
        return pa.array([], VERDICT.field("captions").type)
    offsets, captions = offsets_of(pictures["captions"])
    owner = np.repeat(cluster, np.diff(offsets))
    text, critical, key = (captions.field(name) for name in ("text", "critical_t", "key"))
    order = np.lexsort((_ascii(key), critical.to_numpy(), owner))
    codes = text.dictionary_encode().indices.to_numpy().astype(np.int64)
    first_said = np.unique(owner[order] * len(captions) + codes[order], return_index=True)[1]
    order, owner = order[np.sort(first_said)], owner[order][np.sort(first_said)]
    rank = rank_in_run(run_starts(owner), len(owner))
    order, owner = order[rank < max_captions], owner[rank < max_captions]
    return list_of(captions.take(pa.array(order)), np.append(run_starts(owner), len(owner)))
