"""Sums that every room needs."""

from wit.arithmetic import batches, ceil_div


def test_batches_are_all_items_in_order() -> None:
    assert list(batches(range(7), 3)) == [[0, 1, 2], [3, 4, 5], [6]]
    assert list(batches(iter(range(2)), 3)) == [[0, 1]] and list(batches([], 3)) == []


def test_boxes_hold_everything() -> None:
    assert [ceil_div(number, 3) for number in (0, 1, 3, 4)] == [0, 1, 1, 2]
