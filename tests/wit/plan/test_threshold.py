"""The cap for a target, and how many rows it plans."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wit.plan import balance, ranks
from wit.plan.config import PlanConfig
from wit.plan.ranks import Search
from wit.plan.threshold import begin, effective_counts, hard_count, solve

VALUES = np.array([0.5, 1.0, 1.5, 3.0, 3.0, 7.0, 100.0, np.inf])
CELLS = balance.cell_counts(VALUES)


def found_in(values: np.ndarray, config: PlanConfig, parts: int = 3) -> Search:
    """The search for the cap, through its rounds."""
    search = begin(config)
    for _ in range(ranks.ROUNDS):
        slabs = [
            cells
            for part in np.array_split(values, parts)
            for _, cells in ranks.count(search, np.zeros(len(part), int), part)
        ]
        search = ranks.narrow(ranks.add_cells(slabs), search) if slabs else ranks.joined([])
    return search


@pytest.mark.parametrize(
    "target, cap", [(1, 1.0), (2, 1.5), (5, 7.0), (6, 100.0), (7, np.inf), (8, np.inf), (9, np.inf)]
)
def test_the_cap_for_a_target_is_what_so_many_are_below(target: int, cap: float) -> None:
    config = PlanConfig(target=target, oversample=1.0)
    found = solve(CELLS, found_in(VALUES, config), config=config)
    assert found.cap == found.t == cap
    assert found.cap == np.inf or (found.cap > VALUES).sum() == target


def test_nothing_is_searched_for_where_the_cap_is_given() -> None:
    assert len(begin(PlanConfig()).groups) == 0 and len(begin(PlanConfig(target=5)).groups) == 1


def test_a_cap_that_is_given_is_the_cap_and_more_is_planned() -> None:
    found = solve(CELLS, begin(PlanConfig()), config=PlanConfig(max_per_query=3, oversample=2.0))
    assert (found.cap, found.t) == (3.0, 6.0)
    assert found.rows == 5  # below 6 there are five, and in the cell of 6 no more


def test_rows_are_counted_to_the_end_of_the_cell_that_the_threshold_is_in() -> None:
    """A cell is a 64th of a power of two wide here: that of 6 ends at 6.0625."""
    values = np.array([1.0, 5.99, 6.0, 6.06, 6.07, 9.0])
    found = solve(balance.cell_counts(values), begin(PlanConfig()), config=PlanConfig(max_per_query=3, oversample=2.0))
    assert found.rows == 4


@given(
    st.lists(st.floats(0, 1e9), min_size=1, max_size=60),
    st.none() | st.integers(1, 70),
    st.sampled_from([1.0, 1.5, 4.0]),
)
def test_as_many_rows_are_announced_as_are_planned_and_those_of_one_cell(
    values: list[float], target: int | None, oversample: float
) -> None:
    found = np.array(values, np.float64)
    cells, config = balance.cell_counts(found), PlanConfig(max_per_query=50, target=target, oversample=oversample)
    threshold = solve(cells, found_in(found, config), config=config)
    planned = int((found < threshold.t).sum())
    same = int((balance.cells_of(found) == balance.cells_of(np.array([threshold.t]))[0]).sum())
    assert threshold.t == threshold.cap * oversample
    assert planned <= threshold.rows <= planned + same
    if target is None:
        assert threshold.cap == 50
    elif target < len(values):
        assert threshold.cap == sorted(values)[target]
    elif target >= len(values):
        assert threshold.cap == np.inf and threshold.rows == len(values) == planned


DRAW = st.integers(1, 2**53 - 1).map(lambda n: n * 2.0**-53)
NEAR = st.integers(2**53 - 9, 2**53 - 1).map(lambda n: n * 2.0**-53)  # where draws lie closer than floats


@given(st.lists(DRAW | NEAR, min_size=2, max_size=60), st.data())
def test_a_hard_cap_never_lets_one_more_pass_and_leaves_none_out_but_ties(
    draws: list[float], data: st.DataObject
) -> None:
    cap = data.draw(st.integers(1, len(draws) - 1))
    first_out = sorted(draws)[cap]
    count = hard_count(np.array_split(np.array(draws), 3), cap)
    passed = [u for u in draws if u * count < cap]
    assert len(passed) <= cap and first_out * count >= cap
    assert set(passed) >= {u for u in draws if u <= first_out * (1 - 2.0**-51)}


def test_one_more_than_the_cap_passed_where_the_quotient_was_rounded_down() -> None:
    """Of 25 smallest draws up to 28 passed, since 25 / u x u is below 25 for some u."""
    rng = np.random.default_rng(0)
    draws = [rng.random(60) for _ in range(200)]
    assert any((u * (25 / np.sort(u)[25]) < 25).sum() == 26 for u in draws)
    assert all((u * hard_count([u], 25) < 25).sum() == 25 for u in draws)


def test_counts_of_hard_caps_replace_those_of_their_queries_alone() -> None:
    counts = np.array([5, 6, 7])
    found = effective_counts(counts, [(1, 2.5)])
    assert found.tolist() == [5.0, 2.5, 7.0] and counts.tolist() == [5, 6, 7] and found.dtype == np.float64
    assert effective_counts(counts, []).tolist() == [5.0, 6.0, 7.0]
