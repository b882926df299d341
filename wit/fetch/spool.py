"""Scratch files that finished pictures wait in until their shard is written, lent to one shard after the other."""

from __future__ import annotations

from dataclasses import dataclass

from wit import storage


@dataclass(slots=True)
class Spool:
    """A file that the decode process writes and its supervisor reads back."""

    path: str
    loan: int = 0  # how often it was lent before: the decode process starts over when this changes
    end: int = 0  # bytes that the pictures known to be finished reach to


class Spools:
    """Spools are written over, not removed: the pages of a file that is written again are in memory already, while fresh ones
    cost as much as the copy itself, and several times that where a hypervisor has to find them first."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self._free: list[Spool] = []
        self._made = 0

    def lend(self) -> Spool:
        if self._free:
            return self._free.pop()
        self._made += 1
        return Spool(storage.join(self.directory, f"{self._made}.spool"))

    def take_back(self, spool: Spool) -> None:
        spool.loan, spool.end = spool.loan + 1, 0
        self._free.append(spool)
