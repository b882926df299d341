"""Which pairs stay, so that no query floods the set (CLIP section 2.2; design section 7).

Every (pair, query) has one draw u in [0, 1), fixed by the build's seed. A pair's *critical t* is the smallest cap at which
it stays: min over its queries of u x count(query). A pair is kept if its critical t is below the cap t, so a query with more
than t pairs contributes t of them on average, and a query with fewer contributes all. A pair kept for one query also counts for
every other query it contains, as in MetaCLIP.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from wit.arrays import Floats, Hashes, Ids, Ints
from wit.hashing import fraction, keyed_hashes, mixed


def pair_draws(seed: int, keys: Sequence[str], offsets: Ints, ids: Ids, hashes: Hashes) -> Floats:
    """u of every (pair, query): keys [n], offsets [n + 1] into ids [m] of query numbers, hashes [queries] -> [m] in [0, 1)."""
    per_pair = np.repeat(keyed_hashes(seed, "balance", keys), np.diff(offsets))
    return fraction(mixed(per_pair ^ mixed(hashes[ids])))


def critical_t(draws: Floats, counts: Floats | Ints, offsets: Ints, ids: Ids) -> Floats:
    """[n] critical t: the smallest cap at which each pair stays; infinite for a pair without any query."""
    n = len(offsets) - 1
    result = np.full(n, np.inf)
    filled = np.flatnonzero(np.diff(offsets) > 0)
    if len(filled):
        result[filled] = np.minimum.reduceat(draws * counts[ids], offsets[filled])
    return result


def count_queries(ids: Ids, queries: int) -> Ints:
    """[queries] (pair, query) memberships of each query; arrays of several parts add up."""
    return np.bincount(ids, minlength=queries).astype(np.int64)


CELL_BITS = 18  # 2 MB of counts; a cell spans 1/64 of its values


def cells_of(values: Floats) -> Ints:
    """The cell of each value: its leading CELL_BITS bits. Values must not be negative: such floats order like their bits."""
    return (values.view(np.uint64) >> np.uint64(64 - CELL_BITS)).astype(np.int64)


def cell_counts(values: Floats) -> Ints:
    """[2 ** CELL_BITS] how many values each cell holds; arrays of several parts add up."""
    return np.bincount(cells_of(values), minlength=1 << CELL_BITS).astype(np.int64)
