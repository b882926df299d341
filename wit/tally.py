"""The statistics of a unit, a stage or a set: what went in, what came out, and what was dropped by Reason."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from wit.typed import named


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """The statistics of a unit or a stage, in pairs of the whole stage: into = out + all of dropped, by Reason."""

    into: int = named("in")
    out: int
    dropped: Mapping[str, int]


# For a pass in the middle of a stage: only the first pass counts pairs in, only the last counts them out.
NOTHING = Tally(into=0, out=0, dropped={})


class Counts(Protocol):
    """What has statistics."""

    @property
    def into(self) -> int: ...
    @property
    def out(self) -> int: ...
    @property
    def dropped(self) -> Mapping[str, int]: ...


class Sum:
    """Statistics that are added up one by one."""

    def __init__(self) -> None:
        self._into, self._out, self._dropped = 0, 0, dict[str, int]()

    def add(self, part: Counts) -> None:
        self._into, self._out = self._into + part.into, self._out + part.out
        for name, count in part.dropped.items():
            self._dropped[name] = self._dropped.get(name, 0) + count

    @property
    def tally(self) -> Tally:
        """The sum so far."""
        return Tally(into=self._into, out=self._out, dropped=add_counts([self._dropped]))


def add_up(parts: Iterable[Counts]) -> Tally:
    """The sum of some statistics."""
    total = Sum()
    for part in parts:
        total.add(part)
    return total.tally


def add_counts(parts: Iterable[Mapping[Any, int]]) -> dict[str, int]:
    """Sums mappings of counts; zero counts vanish, keys are in order."""
    total: dict[str, int] = {}
    for part in parts:
        for name, count in part.items():
            total[str(name)] = total.get(str(name), 0) + int(count)
    return {name: total[name] for name in sorted(total) if total[name]}
