"""The value at a rank, exactly, of any number of parts: a search over the bits of floats, in rounds of bounded memory.

Non-negative floats order like their bits. A round counts, among the values that share the bits found so far, how many have which
next ROUND_BITS; ROUNDS of them find every bit. Many groups of values are searched at once, each for the value at its own rank;
their counts travel in slabs. Counts add up in any order, so the result does not depend on how values were cut into parts.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from wit.arrays import Floats, Hashes, Ids, Ints, run_starts

ROUND_BITS = 18  # at most 262,144 cells of one group; the first round tells values a 64th apart
ROUNDS = 4  # 18 + 18 + 18 + 10 bits
SLAB_CELLS = (
    700_000  # counts that are added up together, 16 bytes each; twice that while they are, below the 25 MB of design 11
)
FIRST_CELLS = 54 << 6  # draws are multiples of 2 ** -53, so the first round sees no more cells of a group than these

Cells = tuple[Ints, Ints]
"""(place of a group << ROUND_BITS | cell, ascending; how many values lie there)."""


@dataclass(frozen=True, slots=True)
class Search:
    """What is known of the values that are searched for. A group with fewer values than its rank leaves it."""

    groups: Ids
    """[g] numbers of the groups, ascending."""
    prefix: Hashes
    """[g] the leading `bits` bits of the value."""
    rank: Ints
    """[g] its rank, from 0 on, among the values with this prefix."""
    bits: int
    slab: int
    """Groups whose counts travel together."""

    @property
    def round_bits(self) -> int:
        """How many bits the next round finds."""
        return min(ROUND_BITS, 64 - self.bits)

    @property
    def values(self) -> Floats:
        """[g] what was found, after the last round."""
        return self.prefix.view(np.float64)


def begin(groups: Ids, rank: int) -> Search:
    """The search for the value at a rank, from 0 on, of each group; the numbers of the groups ascend."""
    # Of a group that is even below its rank, a cell of the second round has no more values than rank / 32.
    slab = max(1, SLAB_CELLS // (FIRST_CELLS + rank // 32))
    n = len(groups)
    return Search(groups.astype(np.int32), np.zeros(n, np.uint64), np.full(n, rank, np.int64), 0, slab)


def count(search: Search, groups: Ids, values: Floats) -> Iterator[tuple[int, Cells]]:
    """(slab, cells) of one part: `values` [n], none of them negative, and the group of each."""
    if not len(search.groups) or not len(values):
        return
    place = np.minimum(np.searchsorted(search.groups, groups), len(search.groups) - 1)
    bits = values.view(np.uint64)
    inside = search.groups[place] == groups
    if search.bits:
        inside &= bits >> np.uint64(64 - search.bits) == search.prefix[place]
    cell = bits[inside] >> np.uint64(64 - search.bits - search.round_bits)
    cell &= np.uint64((1 << search.round_bits) - 1)
    at, counts = np.unique(place[inside] << ROUND_BITS | cell.astype(np.int64), return_counts=True)
    slabs = (at >> ROUND_BITS) // search.slab
    for start, end in itertools.pairwise([*run_starts(slabs).tolist(), len(at)]):
        yield int(slabs[start]), (at[start:end], counts[start:end])


def add_cells(parts: Iterable[Cells]) -> Cells:
    """The counts of several parts of one slab together."""
    parts = list(parts)
    at = np.concatenate([np.zeros(0, np.int64), *(part[0] for part in parts)])
    counts = np.concatenate([np.zeros(0, np.int64), *(part[1] for part in parts)])
    if not len(at):
        return at, counts
    order = np.argsort(at, kind="stable")
    starts = run_starts(at[order])
    return at[order][starts], np.add.reduceat(counts[order], starts)


def narrow(cells: Cells, search: Search) -> Search:
    """The groups of one slab after a round, by the counts of all parts."""
    at, counts = cells
    places, ends = at >> ROUND_BITS, np.cumsum(counts)
    first = run_starts(places)
    before = ends[first] - counts[first]
    known = places[first]
    found = np.searchsorted(ends, before + search.rank[known], side="right")
    there = found < np.append(first[1:], len(at))
    known, found, before = known[there], found[there], before[there]
    cell = (at[found] & ((1 << ROUND_BITS) - 1)).astype(np.uint64)
    prefix = search.prefix[known] << np.uint64(search.round_bits) | cell
    rank = before + search.rank[known] - (ends[found] - counts[found])
    return Search(search.groups[known], prefix, rank, search.bits + search.round_bits, search.slab)


def joined(parts: Iterable[Search]) -> Search:
    """The groups of all slabs together; a search for nothing where there are none."""
    parts = list(parts)
    if not parts:
        return begin(np.zeros(0, np.int32), 0)
    groups = np.concatenate([part.groups for part in parts])
    order = np.argsort(groups)
    prefix, rank = (np.concatenate(arrays)[order] for arrays in zip(*((p.prefix, p.rank) for p in parts), strict=True))
    return Search(groups[order], prefix, rank, parts[0].bits, parts[0].slab)
