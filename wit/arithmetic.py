"""Sums that every room makes and that need no library: worker processes are spared those they do not use."""

from __future__ import annotations


def ceil_div(number: int, by: int) -> int:
    """How many boxes of `by` things hold `number` of them."""
    return -(-number // by)
