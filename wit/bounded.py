"""A cache with a size in bytes: strangers fill it, so it must not grow with their number."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, ItemsView
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Bounded(Generic[K, V]):
    """Values by key that cost at most `max_bytes` together, as `cost` tells in bytes. The least recently used goes first; a value
    that alone costs more than `max_bytes` is not kept."""

    def __init__(self, max_bytes: int, cost: Callable[[V], int]) -> None:
        self.max_bytes, self._cost = max_bytes, cost
        self.bytes = 0
        self._values: OrderedDict[K, V] = OrderedDict()

    def get(self, key: K) -> V | None:
        value = self._values.get(key)
        if value is not None:
            self._values.move_to_end(key)
        return value

    def put(self, key: K, value: V) -> None:
        self.drop(key)
        self._values[key] = value
        self.bytes += self._cost(value)
        while self.bytes > self.max_bytes:
            self.drop(next(iter(self._values)))

    def drop(self, key: K) -> None:
        if key in self._values:
            self.bytes -= self._cost(self._values.pop(key))

    def items(self) -> ItemsView[K, V]:
        return self._values.items()

    def __len__(self) -> int:
        return len(self._values)
