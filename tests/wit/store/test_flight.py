"""Several requests in flight."""

import threading
import time
from collections.abc import Iterator

import pytest

from wit.store.flight import side_by_side


def test_what_comes_back_is_in_order_however_long_each_takes() -> None:
    def slow(number: int) -> int:
        time.sleep(0.002 * (number % 3))
        return number * 10

    assert list(side_by_side(slow, range(50), at_once=8)) == [number * 10 for number in range(50)]
    assert list(side_by_side(slow, [])) == []


def test_they_are_at_work_together_and_no_more_than_that_are_taken_ahead() -> None:
    together = threading.Barrier(4, timeout=20)
    taken = 0

    def numbers() -> Iterator[int]:
        nonlocal taken
        for number in range(1_000):
            taken += 1
            yield number

    def meet(number: int) -> int:
        if number < 4:
            together.wait()
        return number

    results = side_by_side(meet, numbers(), at_once=4)
    assert next(results) == 0 and taken <= 5
    results.close()  # type: ignore[attr-defined]
    assert taken <= 5


def test_what_one_raises_is_raised_in_its_turn_and_the_rest_is_left() -> None:
    worked = []

    def work(number: int) -> int:
        worked.append(number)
        if number == 3:
            raise RuntimeError("no 3")
        return number

    results = side_by_side(work, range(10_000), at_once=2)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(RuntimeError, match="no 3"):
        next(results)
    assert len(worked) < 10
