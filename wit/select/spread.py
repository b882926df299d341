"""Which bucket a picture goes to. A bucket that many raw shards have the same picture for is cut, so that nobody gets it whole.

All pictures that may be the same share a bucket, and a raw shard sends one a cluster. One that every raw shard has is 80,000
rows of a bucket at full size, each with as many captions as it may have: fifteen times what the bucket has otherwise. So the
captions that each bucket gets are counted first. A bucket that gets CUT_ABOVE times the average is cut into as many *pieces* as
it has times the average, twice. First by raw shard, in turn: such a piece joins what is the same in it
(`wit.select.cut.join_piece`) and sends on one row with captions for each cluster, and of all others what their verdicts need.
Then by hash: such a piece has whole clusters, as a bucket that is not cut, and is judged alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wit.arrays import Hashes, Ints
from wit.select.dedup import bucket_of, identities

# Buckets of 27,777 pictures with three captions each differ by 1 %: what is so far above the average is one picture.
CUT_ABOVE = 1.25


@dataclass(frozen=True, slots=True)
class Spread:
    """The numbers [0, `buckets`) are buckets, those in `cut` without rows. Behind them, [first[n], first[n + 1]) are the pieces
    of the n-th that is cut."""

    buckets: int
    cut: Ints  # ascending
    first: Ints  # [cut + 1]

    @classmethod
    def of(cls, captions: Ints) -> Spread:
        """By the captions [buckets] that each would get."""
        average = max(1.0, captions.sum() / len(captions))
        cut = np.flatnonzero(captions > CUT_ABOVE * average)
        pieces = np.ceil(captions[cut] / average).astype(np.int64)
        return cls(len(captions), cut, len(captions) + np.concatenate([[0], np.cumsum(pieces)]).astype(np.int64))

    def by_raw(self, pictures: pa.Table) -> Ints:
        """The bucket of each picture, or the piece of the raw shard that it is in."""
        return self._numbers(bucket_of(pictures, self.buckets), pictures["raw"].to_numpy().astype(np.int64))

    def by_hash(self, pictures: pa.Table) -> Ints:
        """The bucket of each picture, or the piece of its hash: all pictures that may be the same share one."""
        names, buckets = identities(pictures), np.uint64(self.buckets)
        return self._numbers((names % buckets).astype(np.int64), (names // buckets).view(np.int64))

    def _numbers(self, bucket: Ints, turn: Ints) -> Ints:
        if not len(self.cut):
            return bucket
        at = np.minimum(np.searchsorted(self.cut, bucket), len(self.cut) - 1)
        return np.where(self.cut[at] == bucket, self.first[at] + turn % np.diff(self.first)[at], bucket)


def most_numbers(buckets: int) -> int:
    """How many numbers a spread over so many buckets has at most: fewer buckets than all are cut, and no more averages than there
    are buckets are rounded up."""
    return 3 * buckets


def captions_of_buckets(pictures: pa.Table, buckets: int, *, max_captions: int) -> Ints:
    """[buckets] the captions that a raw shard with these pictures sends to each; equal texts of a cluster count twice."""
    names: Hashes = identities(pictures)
    each, cluster = np.unique(names, return_inverse=True)
    captions = np.bincount(cluster, pc.list_value_length(pictures["captions"]).to_numpy(), len(each))
    bucket = (each % np.uint64(buckets)).astype(np.int64)
    return np.bincount(bucket, np.minimum(captions, max_captions), buckets).astype(np.int64)
