"""Places at hosts, domains and addresses, counted over all fetch processes of a job on this machine.

A server does not see workers, it sees one machine. A place is the lock of one byte of a file, so the kernel gives back what a
killed process held; when the next request may go stands in the same file, mapped by all.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import xxhash

from wit import storage

SLOTS = 1 << 20  # of names by their hash; two that share one share its limits too
NEXT_BYTES = 8  # nanoseconds of the monotonic clock, which is one for the machine
PLACES = 1 << 12  # that a slot has room for: more in flight at one host is no politeness
BEYOND = SLOTS * NEXT_BYTES  # locks of places lie behind the times, where the file need not reach
ALONE = 0  # the byte that is locked while times change


@dataclass(frozen=True, slots=True)
class Claim:
    """What one request wants of a slot: one of its first `limit` places, and its turn, the next one `interval_s` later."""

    slot: int
    limit: int
    interval_s: float


def slot_of(kind: str, name: str) -> int:
    return xxhash.xxh3_64_intdigest(f"{kind} {name}".encode()) % SLOTS


class Places:
    """The slots of one job, in a file that all its fetch processes name. No process may open it twice: closing a descriptor of a
    file gives up all locks that the process holds in it (fcntl(2))."""

    def __init__(self, path: str) -> None:
        self._fd = storage.open_spool(path)
        if os.fstat(self._fd).st_size < BEYOND:
            os.ftruncate(self._fd, BEYOND)
        self._times = memoryview(mmap.mmap(self._fd, BEYOND)).cast("q")
        self._mine: set[int] = set()  # one's own locks never exclude oneself

    def due(self, claims: Sequence[Claim]) -> float:
        """When all of these slots have had their last turn's interval (monotonic seconds)."""
        return max(self._times[claim.slot] for claim in claims) / 1e9

    def take(self, claims: Sequence[Claim]) -> tuple[int, ...] | int:
        """A place of every slot and its turn, all or nothing; the number of the claim where another process was first."""
        with self._alone():
            now = time.monotonic()
            taken: list[int] = []
            for number, claim in enumerate(claims):
                place = self._free_place(claim) if self.due([claim]) <= now else None
                if place is None:
                    self.give_back(taken)
                    return number
                taken.append(place)
            for claim in claims:
                if claim.interval_s:
                    self._times[claim.slot] = int((now + claim.interval_s) * 1e9)
        return tuple(taken)

    def give_back(self, places: Iterable[int]) -> None:
        for place in places:
            self._mine.discard(place)
            fcntl.lockf(self._fd, fcntl.LOCK_UN, 1, place)

    def not_before(self, slot: int, when: float) -> None:
        """Nobody's next turn comes before `when` (monotonic seconds)."""
        with self._alone():
            self._times[slot] = max(self._times[slot], int(when * 1e9))

    def _free_place(self, claim: Claim) -> int | None:
        first = BEYOND + claim.slot * PLACES
        for place in range(first, first + min(claim.limit, PLACES)):
            if place not in self._mine and self._lock(place):
                self._mine.add(place)
                return place
        return None

    def _lock(self, at: int) -> bool:
        try:
            fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, at)
        except OSError:
            return False
        return True

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        fcntl.lockf(self._fd, fcntl.LOCK_EX, 1, ALONE)
        try:
            yield
        finally:
            fcntl.lockf(self._fd, fcntl.LOCK_UN, 1, ALONE)
