"""Which pairs stay, so that no query floods the set (CLIP section 2.2; design section 7).

Every (pair, query) has one draw u in [0, 1), fixed by the build's seed. A pair's *critical t* is the smallest cap at which
it stays: min over its queries of u x count(query). It is kept if that is below t, so a query with more than t pairs
contributes t of them on average and a query with fewer contributes all. A pair kept for one query also counts for every
other query it contains, as in MetaCLIP.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import xxhash

Floats = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int32]
Offsets = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]
Counts = npt.NDArray[np.int64]


def query_hashes(queries: Sequence[str]) -> Hashes:
    """One 64-bit hash a query, of its text, so that a draw survives a reordered or extended query list."""
    return np.fromiter((xxhash.xxh3_64_intdigest(q.encode()) for q in queries), np.uint64, len(queries))


def key_hashes(seed: int, purpose: str, keys: Sequence[str]) -> Hashes:
    """`records.keyed_hash` of every key, as an array."""
    secret = hashlib.blake2b(f"{seed}:{purpose}".encode(), digest_size=16).digest()
    blake2b = hashlib.blake2b
    raw = b"".join([blake2b(k.encode(), digest_size=8, key=secret).digest() for k in keys])
    return np.frombuffer(raw, ">u8").astype(np.uint64)


def _mixed(x: Hashes) -> Hashes:
    """The finaliser of SplitMix64: every input bit moves every output bit."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def pair_draws(seed: int, keys: Sequence[str], offsets: Offsets, ids: Ids, hashes: Hashes) -> Floats:
    """u of every (pair, query): keys [n], offsets [n + 1] into ids [m] of query numbers, hashes [queries] -> [m] in [0, 1)."""
    per_pair = np.repeat(key_hashes(seed, "balance", keys), np.diff(offsets))
    return (_mixed(per_pair ^ _mixed(hashes[ids])) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def critical_t(draws: Floats, counts: npt.NDArray[np.float64] | Counts, offsets: Offsets, ids: Ids) -> Floats:
    """The smallest cap at which each pair stays [n]; a pair without any query never does (infinity)."""
    n = len(offsets) - 1
    result = np.full(n, np.inf)
    filled = np.flatnonzero(np.diff(offsets) > 0)
    if len(filled):
        result[filled] = np.minimum.reduceat(draws * counts[ids], offsets[filled])
    return result


def count_queries(ids: Ids, queries: int) -> Counts:
    """Memberships per query [queries]; arrays of several parts add up."""
    return np.bincount(ids, minlength=queries).astype(np.int64)


# The N-th smallest critical t of any number of parts, exactly, in two passes of bounded memory: a histogram over the
# leading bits of the float (non-negative floats order like their bits), then the values of one cell.
CELL_BITS = 18  # 2 MB of counts; a cell spans 1/64 of its values, so the second pass holds about that share


def cells_of(values: Floats) -> npt.NDArray[np.int64]:
    return (values.view(np.uint64) >> np.uint64(64 - CELL_BITS)).astype(np.int64)


def cell_counts(values: Floats) -> Counts:
    return np.bincount(cells_of(values), minlength=1 << CELL_BITS).astype(np.int64)


def cell_of_rank(counts: Counts, rank: int) -> tuple[int, int]:
    """(cell, rank within it) of the value of that 0-based rank."""
    ends = np.cumsum(counts)
    cell = int(np.searchsorted(ends, rank, side="right"))
    return cell, rank - (int(ends[cell - 1]) if cell else 0)


def threshold_for(target: int, counts: Counts, values_of_cell: Floats, rank: int) -> float:
    """The cap t that keeps exactly the `target` smallest critical t (all of them if there are fewer): keep below it."""
    total = int(counts.sum())
    if target >= total:
        return float("inf")
    return float(np.partition(values_of_cell, rank)[rank])
