"""Regions of shared memory never overlap and always come back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from wit.fetch.ring import Ring


@given(st.lists(st.tuples(st.integers(0, 60), st.booleans(), st.integers(0, 9)), max_size=120), st.integers(1, 100))
def test_regions_never_overlap(steps: list[tuple[int, bool, int]], usual: int) -> None:
    ring, held = Ring(100, usual), []
    for length, give_back, which in steps:
        if give_back and held:
            offset, _ = held.pop(which % len(held))
            ring.free(offset)
            continue
        offset = ring.allocate(length)
        if offset is None:
            continue
        assert offset + length <= 100
        assert all(offset + length <= o or offset >= o + n for o, n in held if n and length)
        held.append((offset, max(length, 1)))
    for offset, _ in held:
        ring.free(offset)
    assert ring.allocate(100) == 0


def test_what_never_fits_is_none() -> None:
    assert Ring(10, 5).allocate(11) is None


def test_small_regions_stay_in_the_usual_part_and_large_ones_find_room_beyond() -> None:
    ring = Ring(1000, 80)
    assert [ring.allocate(20) for _ in range(5)] == [0, 20, 40, 60, None]
    assert ring.allocate(41) == 80  # more than half
    assert ring.allocate(20) == 121  # a small one does not wait for a large one to go
    for offset in (0, 20, 40, 60, 80, 121):
        ring.free(offset)
    assert ring.allocate(20) == 0
