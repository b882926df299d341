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
        assert offset + length <= (usual if length <= usual else 100)
        assert all(offset + length <= o or offset >= o + n for o, n in held if n and length)
        held.append((offset, max(length, 1)))
    for offset, _ in held:
        ring.free(offset)
    assert ring.allocate(100) == 0


def test_what_never_fits_is_none() -> None:
    assert Ring(10, 5).allocate(11) is None


def test_large_bodies_find_room_beyond_what_is_usual() -> None:
    ring = Ring(100, 20)
    assert [ring.allocate(length) for length in (15, 10, 60)] == [0, None, 15]
    ring.free(0)
    assert [ring.allocate(length) for length in (30, 10)] == [None, 0]
