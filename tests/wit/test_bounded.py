"""A cache with a size in bytes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from wit.bounded import Bounded


def test_what_was_not_used_longest_goes_first() -> None:
    cache: Bounded[str, bytes] = Bounded(10, len)
    for name in "abc":
        cache.put(name, b"1234" if name != "c" else b"12")
    assert cache.get("a") is not None
    cache.put("d", b"123")
    assert [name for name, _ in cache.items()] == ["c", "a", "d"]


@given(st.lists(st.tuples(st.integers(0, 5), st.binary(max_size=30))))
def test_its_bytes_are_those_of_its_values_and_bounded(puts: list[tuple[int, bytes]]) -> None:
    cache: Bounded[int, bytes] = Bounded(40, len)
    for key, value in puts:
        cache.put(key, value)
        assert cache.bytes == sum(len(v) for _, v in cache.items()) <= 40
        assert cache.get(key) == value
