"""Arithmetic that every room needs, without a library: a worker process need not import one for it."""

from __future__ import annotations


def ceil_div(number: int, by: int) -> int:
    """How many boxes of `by` things hold `number` of them."""
    return -(-number // by)
