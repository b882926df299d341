"""Scratch files where finished pictures wait for their place in a tar."""

from __future__ import annotations

import os
from dataclasses import dataclass

from wit.store import fs

SPOOL_BYTES = 4_000_000  # a spool that has reached this is left for the next


@dataclass(slots=True)
class Spool:
    """A file that the decode process writes and its supervisor reads back."""

    path: str
    loan: int = 0  # how often it was emptied: when this changes, the decode process writes from `end` again
    end: int = 0  # where the last finished picture ends, as far as is known
    waiting: int = 0  # pictures in it, or on their way to it
    _fd: int = -1

    @property
    def fd(self) -> int:
        if self._fd < 0:
            self._fd = fs.open_spool(self.path)
        return self._fd

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Spools:
    """Small spools, each written over once all its pictures are gone. So there are only as many as pictures out of order need,
    and their pages are in memory already: a fresh page costs as much as the copy itself, and several times that where a
    hypervisor has to find it first (docs/log.md)."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self._all: list[Spool] = []
        self._free: list[Spool] = []
        self._current: Spool | None = None

    def hold(self) -> Spool:
        """The spool for the next picture; call `release` once that is read, or was never written."""
        if self._current is None or self._current.end >= SPOOL_BYTES:
            left, self._current = self._current, self._free.pop() if self._free else self._new()
            if left is not None and not left.waiting:
                self._empty(left)
        self._current.waiting += 1
        return self._current

    def release(self, spool: Spool) -> None:
        spool.waiting -= 1
        if not spool.waiting and spool is not self._current:
            self._empty(spool)

    def adopt(self, path: str, waiting: int) -> Spool:
        """A spool of an existing file, with `waiting` pictures in it."""
        self._all.append(Spool(path, waiting=waiting))
        return self._all[-1]

    def close(self) -> None:
        for spool in self._all:
            spool.close()

    def _new(self) -> Spool:
        self._all.append(Spool(fs.join(self.directory, f"{len(self._all)}.spool")))
        return self._all[-1]

    def _empty(self, spool: Spool) -> None:
        spool.loan, spool.end = spool.loan + 1, 0
        self._free.append(spool)
