"""The value at a rank, against sorting."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wit.plan import ranks
from wit.plan.ranks import ROUNDS, Search, add_cells, begin, count, joined, narrow

Values = list[tuple[int, float]]


def searched(parts: list[Values], groups: list[int], rank: int, *, slab: int | None = None) -> dict[int, float]:
    """The rounds as an engine runs them: counts of parts, added up by slab, and all slabs together."""
    search = begin(np.array(groups, np.int32), rank)
    for _ in range(ROUNDS):
        if slab is not None:
            search = Search(search.groups, search.prefix, search.rank, search.bits, slab)
        of_slab = defaultdict(list)
        for part in parts:
            numbers, values = np.array([g for g, _ in part], np.int32), np.array([v for _, v in part], np.float64)
            for number, cells in count(search, numbers, values):
                of_slab[number].append(cells)
        search = joined(narrow(add_cells(some), search) for some in of_slab.values())
    return dict(zip(search.groups.tolist(), search.values.tolist(), strict=True))


def obvious(parts: list[Values], groups: list[int], rank: int) -> dict[int, float]:
    of_group = {group: sorted(v for part in parts for g, v in part if g == group) for group in groups}
    return {group: values[rank] for group, values in of_group.items() if len(values) > rank}


VALUE = st.one_of(
    st.floats(0, 1e12),
    st.sampled_from([0.0, 0.5, np.nextafter(0.5, 1), np.nextafter(0.5, 0), 2.0**-53, np.inf]),
)


@given(
    st.lists(st.lists(st.tuples(st.integers(0, 6), VALUE), max_size=30), max_size=4),
    st.sets(st.integers(0, 7), max_size=6),
    st.integers(0, 20),
    st.sampled_from([None, 1, 2]),
)
@example([[(0, 0.5), (1, 0.5)]], {0, 1}, 1, None)  # neither has so many, though both together have
def test_every_bit_of_the_value_at_a_rank_is_found_whatever_the_parts_and_slabs(
    parts: list[Values], groups: set[int], rank: int, slab: int | None
) -> None:
    assert searched(parts, sorted(groups), rank, slab=slab) == obvious(parts, sorted(groups), rank)


@pytest.mark.parametrize("rank", [0, 1, 49_999, 99_999, 100_000])
def test_values_that_share_all_but_their_last_bits_are_told_apart(rank: int) -> None:
    """One cell of the first three rounds holds them all."""
    values = np.arange(100_000, dtype=np.uint64) % 1_000 + np.float64(0.7).view(np.uint64)
    parts = [[(0, v) for v in piece] for piece in np.array_split(values.view(np.float64), 3)]
    assert searched(parts, [0], rank) == obvious(parts, [0], rank)


def test_what_travels_of_many_queries_is_bounded() -> None:
    """40,000 draws of each of 600 queries, as 20 buckets have them: the counts of a slab stay below 25 MB in every round."""
    rng, t, queries = np.random.default_rng(0), 20_000, 600
    search, largest = begin(np.arange(queries, dtype=np.int32), t), 0
    group = np.repeat(np.arange(queries, dtype=np.int32), 2_000)
    draws = [rng.random(len(group)) * 0.01 for _ in range(20)]
    for _ in range(ROUNDS):
        of_slab = defaultdict(list)
        for values in draws:
            for number, cells in count(search, group, values):
                of_slab[number].append(cells)
        summed = [add_cells(some) for some in of_slab.values()]
        largest = max(largest, *(at.nbytes + counts.nbytes for at, counts in summed))
        search = joined(narrow(cells, search) for cells in summed)
    every = np.sort(np.concatenate([values.reshape(queries, -1) for values in draws], axis=1), axis=1)
    assert (search.values == every[:, t]).all() and largest < 25_000_000


def test_a_slab_has_fewer_groups_where_more_values_of_each_may_travel() -> None:
    assert begin(np.zeros(0, np.int32), 10**8).slab == 1 < begin(np.zeros(0, np.int32), 20_000).slab
    assert ranks.SLAB_CELLS * 16 * 2 < 25_000_000
