"""Several requests in flight: a store takes 30 ms for an answer, and many answers take no longer than one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")
IN_FLIGHT = 32


def side_by_side(work: Callable[[T], R], items: Iterable[T], *, at_once: int = IN_FLIGHT) -> Iterator[R]:
    """What `work` gives for each item, in their order; up to `at_once` are at work or wait to be taken, so that memory does not
    grow with their number. Raises what `work` raises, at that item's turn."""
    with ThreadPoolExecutor(at_once) as pool:
        ahead: deque[Future[R]] = deque()
        try:
            for item in items:
                ahead.append(pool.submit(work, item))
                if len(ahead) == at_once:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for one in ahead:
                one.cancel()
