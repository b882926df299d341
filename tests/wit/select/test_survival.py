"""What survives of a query's pairs, and what it lacks for want of more."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from wit.records import RAW
from wit.select.config import SelectConfig
from wit.select.survival import Memberships, Shortfall, membership_counts, shortfall, still_lacking, surviving_counts


@pytest.mark.parametrize(
    "planned, surviving, queries, missing, oversample",
    [
        (2_000, 1_200, 0, 0, 0.0),  # 1 / 0.6 is below 2
        (2_000, 500, 1, 500, 4.0),  # a quarter survives: 500 of the 1,000 wanted
        (2_000, 0, 0, 0, 0.0),  # nothing survives: no oversample would help
    ],
)
def test_an_oversample_below_one_over_survival_is_reported(
    planned: int, surviving: int, queries: int, missing: int, oversample: float
) -> None:
    memberships = Memberships(np.array([planned, 5]), np.array([surviving, 1]))
    short = shortfall(np.array([8_000, 5]), memberships, t=1_000, oversample=2.0)
    assert (int((short.missing > 0).sum()), short.missing.sum(), short.oversample.max()) == (
        queries,
        missing,
        oversample,
    )
    assert ("--oversample 4.00 would have been enough, it was 2" in short.describe(2.0)) == bool(queries)


def test_without_a_cap_nothing_lacks() -> None:
    """A target that the plan could not fill has no threshold."""
    memberships = Memberships(np.array([10, 0]), np.array([0, 0]))
    short = shortfall(np.array([10.0, 0.0]), memberships, t=np.inf, oversample=1.5)
    assert short.missing.tolist() == short.oversample.tolist() == [0, 0] and not short.describe(1.5)


def test_a_query_lacks_nothing_that_it_has_by_way_of_others() -> None:
    short = Shortfall(np.array([2.0, 5.0, 3.0]), np.array([1.25, 2.0, 1.5]))
    left = still_lacking(short, np.array([8, 6, 0]), 8.0)
    assert left.missing.tolist() == [0, 2, 3] and left.oversample.tolist() == [0, 2, 1.5]
    assert still_lacking(short, np.zeros(3, np.int64), np.inf).missing.tolist() == [2, 5, 3]


def test_shards_add_up_and_a_query_without_pairs_survives_as_nothing() -> None:
    one = Memberships(np.array([4, 0, 2]), np.array([1, 0, 2]))
    both = one + Memberships(np.array([4, 0, 0]), np.array([3, 0, 0]))
    assert both.planned.tolist() == [8, 0, 2] and both.surviving.tolist() == [4, 0, 2]
    assert surviving_counts(np.array([100, 50, 10]), both).tolist() == [50.0, 0.0, 10.0]


def raw_table(*rows: tuple[list[list[int]], str | None, int]) -> pa.Table:
    """Rows of (query ids of each caption, why it was lost, shorter side)."""
    return pa.Table.from_pylist(
        [
            {
                "captions": [{"query_ids": ids, "text": "x"} for ids in captions],
                "reason": reason,
                "original_width": side,
                "original_height": side,
            }
            for captions, reason, side in rows
        ],
        schema=RAW,
    )


def test_a_membership_survives_where_its_picture_was_fetched_and_no_filter_objects() -> None:
    raw = raw_table(([[0, 1], [1]], None, 64), ([[1]], "timeout", 64), ([[2]], None, 31), ([[3]], None, 32))
    found = membership_counts(raw, queries=5, config=SelectConfig(min_image_side_px=32))
    assert found.planned.tolist() == [1, 3, 1, 1, 0]
    assert found.surviving.tolist() == [1, 2, 0, 1, 0]


@pytest.mark.parametrize(
    "count, planned, surviving, t, oversample, missing, enough",
    [
        (8_000, 2_000, 500, 1_000, 2.0, 500, 4.0),
        (2_001, 2_000, 500, 1_000, 2.0, 0.25, 4.0),  # of all there are a quarter survives: 500.25
        (2_000, 2_000, 500, 1_000, 2.0, 0, 0),  # all that there are were planned
        (8_000, 2_000, 1_000, 1_000, 2.0, 0, 0),  # just enough
        (8_000, 2_000, 999, 1_000, 2.0, 1, 2_000 / 999),
        (8_000, 0, 0, 1_000, 2.0, 0, 0),
        (8_000, 2_000, 0, 1_000, 2.0, 0, 0),
        (8_000, 2_000, 500, 1_000, 4.0, 0, 0),
        (8_000, 2_000, 500, 1_000, 1.0, 750, 4.0),
    ],
)
def test_what_a_query_lacks_is_what_more_oversampling_would_have_brought(
    count: int, planned: int, surviving: int, t: float, oversample: float, missing: float, enough: float
) -> None:
    memberships = Memberships(np.array([planned, 5]), np.array([surviving, 5]))
    short = shortfall(np.array([count, 5]), memberships, t=t, oversample=oversample)
    assert short.missing == pytest.approx([missing, 0])
    assert short.oversample == pytest.approx([enough, 0])


def test_half_a_pair_is_not_lacking() -> None:
    short = Shortfall(np.array([0.5, 0.4]), np.array([4.0, 2.0]))
    assert short.describe(2.0) == ""
    assert still_lacking(short, np.zeros(2, np.int64), 9.0).oversample.tolist() == [0, 0]


def test_what_lacks_is_said_in_one_sentence() -> None:
    short = Shortfall(np.array([1_000.6, 0.51, 0.0]), np.array([2.0, 3.14159, 0.0]))
    assert short.describe(1.5) == (
        "2 queries end below their cap although the web has enough of them: they lack 1,001 pairs in all. "
        "--oversample 3.14 would have been enough, it was 1.5."
    )
