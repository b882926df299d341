"""What rounds of retries and their partitions are called, and which of them may hold the rows of a raw shard again.

The plan routed its rows by domain, so a round need not: each of its partitions takes over a run of the plan's, whole. The first
of a round is named `rNNNN`, any other `rNNNNPPPPP` after the partition of the plan that it begins with; it ends where the next of
its round begins. A round of few rows is one partition; so were all rounds up to version 0.5. Names sort by round, then by
partition.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable

from wit.store.manifests import Unit

ACCOUNTING = "retried"  # the kind of unit that accounts for a round


def partition_name(number: int, begins: int = 0) -> str:
    """The name of a partition of that round: of the first one, or of the one that begins with that partition of the plan."""
    return f"r{number:04d}" + (f"{begins:05d}" if begins else "")  # no set has 10,000 rounds


def accounting_unit(number: int) -> Unit:
    """The unit that accounts for a round."""
    return Unit(ACCOUNTING, f"{number:04d}")


def is_accounting(unit: Unit) -> bool:
    """Whether the unit has no files, and only takes the rows that a round retries out of earlier losses."""
    return unit.kind == ACCOUNTING


def partition_of(unit: Unit) -> str:
    """The name of the partition that a raw shard is of."""
    return unit.place.partition("-")[0]


def parsed(partition: str) -> tuple[int, int]:
    """(round, the partition of the plan that it begins with) of a partition's name; round 0 is the plan's own download."""
    if (several := re.fullmatch(r"r(\d{4})(\d{5,})", partition)) is not None:
        return int(several[1]), int(several[2])
    return (int(partition.removeprefix("r")), 0) if partition.startswith("r") else (0, int(partition))


def round_of(unit: Unit) -> int:
    """The round that a raw shard, or an accounting, is of; 0 for the plan's own download."""
    if is_accounting(unit):
        return int(unit.place)
    return parsed(partition_of(unit))[0] if unit.is_retry and not unit.kind else 0


class Rounds:
    """The partitions of some rounds, by name."""

    def __init__(self, names: Iterable[str]) -> None:
        self._begins: dict[int, list[int]] = {}
        for number, begins in sorted({parsed(name) for name in names if name.startswith("r")}):
            self._begins.setdefault(number, []).append(begins)

    def after(self, partition: str) -> list[str]:
        """The partitions of later rounds that may hold rows of this one again, those of earlier rounds first."""
        number, first = parsed(partition)
        last = first if number == 0 else self._last(number, first)
        return [
            partition_name(later, begins)
            for later, every in self._begins.items()
            if later > number
            for begins in every[
                max(bisect_right(every, first) - 1, 0) : None if last is None else bisect_right(every, last)
            ]
        ]

    def _last(self, number: int, first: int) -> int | None:
        """The last partition of the plan that a partition of a round takes over; None where it is the last of its round."""
        every = self._begins.get(number, [])
        place = bisect_left(every, first) + 1
        return every[place] - 1 if place < len(every) else None
