"""What a configuration declares of each knob: the range of a number, and the schema that brought the knob. A test checks it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from wit.errors import InputError

MANY = 10**12  # pairs, rows, bytes: more than the web has, so that it is no limit
WHOLE = 2**63  # of a seed: beyond it no table holds the number


class Range(NamedTuple):
    """From `least` to `most`, both allowed. `zero`, if given, allows 0 below `least` and says what 0 means."""

    least: float
    most: float
    zero: str = ""

    def holds(self, value: float) -> bool:
        return self.least <= value <= self.most or (value == 0 and bool(self.zero))  # nan is in none

    def __str__(self) -> str:
        return f"a number from {self.least:.15g} to {self.most:.15g}" + (f", or 0 for {self.zero}" if self.zero else "")


@dataclass(frozen=True, slots=True)
class Added:
    """A knob that came with schema `since` of its stage; at the value `before` all is as it was without the knob."""

    since: int
    before: Any


def added(since: int, before: Any) -> dict[str, Added]:
    """Field metadata for such a knob (wit/fingerprints.py says what depends on it)."""
    return {ADDED: Added(since, before)}


ADDED = "added"


def flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def check_ranges(config: object, ranges: Mapping[str, Range]) -> None:
    """Raises InputError, with the range, for the first knob outside its range; None is always allowed."""
    for name, range_ in ranges.items():
        value: Any = getattr(config, name)
        if value is not None and not range_.holds(value):
            raise InputError(f"{flag(name)} is {value}: give {range_}")
