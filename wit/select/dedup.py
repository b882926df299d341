"""Clusters of the same picture: one representative stays, and takes over the captions of the others.

Two pictures are the same if their fetched bytes or their 64-bit perceptual hashes are equal. Equal bytes give equal hashes, so
a bucket by perceptual hash holds whole clusters, and each bucket is judged alone.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from wit.arrays import Ints, as_schema, list_of, offsets_of, rank_in_run, run_lengths, run_starts
from wit.hashing import name_hashes
from wit.reasons import Reason
from wit.records import CAPTION

# One surviving picture: the columns that decide its place in a cluster.
PICTURE = pa.schema(
    [
        ("raw", pa.int32()),  # number of its raw shard
        ("row", pa.int32()),  # row in that shard's table
        ("key", pa.string()),  # of its caption with the smallest critical t
        ("critical_t", pa.float64()),
        ("original_sha256", pa.string()),
        ("phash", pa.uint64()),
        ("captions", pa.list_(CAPTION)),  # by critical t, then key
    ]
)
DRAW = pa.struct([("query", pa.int32()), ("draw", pa.float64())])
# The verdict on it: a representative (no reason; with the union of captions) or a duplicate.
VERDICT = pa.schema(
    [
        *[PICTURE.field(name) for name in ("raw", "row", "key", "critical_t")],
        ("captions", pa.list_(CAPTION)),  # null where dropped
        ("cluster_size", pa.int32()),
        ("reason", pa.string()),
        ("detail", pa.string()),  # of a duplicate: the key of its representative
        ("draws", pa.list_(DRAW)),  # under --cap hard one of them must be small enough; null or empty: none has to be
    ]
)


def bucket_of(pictures: pa.Table, buckets: int) -> Ints:
    """The bucket of each picture: all pictures that may be the same share one."""
    return (name_hashes(_names(pictures)) % np.uint64(buckets)).astype(np.int64)


def _names(pictures: pa.Table) -> list[bytes]:
    """The identity of each picture: its perceptual hash, or the digest of its bytes where it has no hash."""
    pairs = zip(pictures["phash"].to_pylist(), pictures["original_sha256"].to_pylist(), strict=True)
    return [b"sha256:%b" % digest.encode() if hashed is None else b"phash:%016x" % hashed for hashed, digest in pairs]


def in_clusters(bucket: pa.Table) -> tuple[pa.Table, Ints]:
    """(the pictures of a bucket by cluster, the cluster of each, from 0 on), whatever the order of the input. First in each
    cluster is its representative: the picture with the smallest (critical t, key)."""
    pictures = bucket.combine_chunks()
    cluster = np.unique(np.array(_names(pictures), dtype=bytes), return_inverse=True)[1]
    order = np.lexsort((_ascii(pictures["key"]), pictures["critical_t"].to_numpy(), cluster))
    return pictures.take(pa.array(order)), cluster[order]


def cluster_bucket(
    pictures: pa.Table, cluster: Ints, *, max_captions: int, draws: pa.Array | None = None
) -> tuple[pa.Table, pa.Table]:
    """(representatives, dropped) of the pictures that `in_clusters` gave, as VERDICT ordered by (raw, row).

    A representative gets the captions of the whole cluster, each text once, the first `max_captions` by (critical t, key), and
    its `draws` [clusters]. A dropped picture is DUPLICATE_BYTES if its bytes are the representative's, else DUPLICATE_PICTURE."""
    first = run_starts(cluster)
    sizes = run_lengths(first, len(cluster))
    leads = np.zeros(len(cluster), bool)
    leads[first] = True
    leader = np.repeat(first, sizes)
    best = pictures.filter(pa.array(leads))
    captions = union_captions(pictures, cluster, max_captions=max_captions)
    representatives = _verdicts(best, captions=captions, cluster_size=pa.array(sizes, pa.int32()), draws=draws)
    dropped = _verdicts(
        pictures.filter(pa.array(~leads)),
        reason=pa.array(_duplicate_reasons(pictures, leader)[~leads], pa.string()),
        detail=pictures["key"].take(pa.array(leader[~leads])),
    )
    return representatives, dropped


def _ascii(keys: pa.ChunkedArray) -> npt.NDArray[np.bytes_]:
    return np.array(keys.to_pylist(), dtype="S32")


def _duplicate_reasons(pictures: pa.Table, leader: Ints) -> npt.NDArray[np.object_]:
    digests = pictures["original_sha256"]
    same_bytes = pc.equal(digests, digests.take(pa.array(leader))).to_numpy()
    return np.where(same_bytes, str(Reason.DUPLICATE_BYTES), str(Reason.DUPLICATE_PICTURE)).astype(object)


def _verdicts(pictures: pa.Table, **given: pa.Array | None) -> pa.Table:
    """The pictures as VERDICT, ordered by (raw, row); columns that neither they have nor `given` are null."""
    known = pictures.select(["raw", "row", "key", "critical_t"])
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
