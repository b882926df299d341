"""Arithmetic that every room needs, without a library: a worker process need not import one for it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def ceil_div(number: int, by: int) -> int:
    """How many boxes of `by` things hold `number` of them."""
    return -(-number // by)


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """The items in lists of `size`; the last may be shorter."""
    left = iter(items)
    while batch := list(itertools.islice(left, size)):
        yield batch
