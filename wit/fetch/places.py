"""Places at hosts, domains and addresses, counted over all fetch processes of a job on this machine.

A server does not see workers, it sees one machine. A place is the lock of one byte of a file, so the kernel gives back what a
killed process held; when the next request may go stands in the same file, mapped by all, and outlives them.

A name has a slot of a table by open addressing: its tag is a hash under a secret of the file, so that nobody can choose a name
that shares another's, and a slot whose name has nothing to keep is given to the next one that needs it.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import xxhash

from wit.store import fs

SLOTS = 1 << 19  # of names with a request in flight or a time to come: hosts, domains and addresses of all workers
PROBES = 32  # slots that a name may have
# The words of a slot; times in nanoseconds of the monotonic clock, which is one for the machine.
TAG, NEXT, CLOSED, WORDS = range(4)
HEAD = 4  # words before the table: a secret, and which boot the times are of
PLACES = 1 << 12  # that a slot has room for: more in flight at one host is no politeness
BEYOND = (HEAD + SLOTS * WORDS) * 8  # locks of places lie behind the table, where the file need not reach
ALONE = 0  # the byte that is locked while the table changes


MAX_INTERVAL_S = 86_400.0  # whatever a rate says: a fault here would hold all lanes


@dataclass(frozen=True, slots=True)
class Claim:
    """What one request wants at a name: one of its first `limit` places, and its turn, the next one `interval_s` later."""

    name: str
    limit: int
    interval_s: float


class Places:
    """The table of one job, in a file that all its fetch processes name. No process may open it twice: closing a descriptor of a
    file gives up all locks that the process holds in it (fcntl(2))."""

    def __init__(self, path: str) -> None:
        self._fd, boot = fs.open_spool(path), this_boot()
        fcntl.lockf(self._fd, fcntl.LOCK_EX, 1, ALONE)
        if os.pread(self._fd, 8, 8) != boot.to_bytes(8, sys.byteorder):  # new, or its clock has begun anew
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, os.urandom(8) + boot.to_bytes(8, sys.byteorder), 0)
        os.ftruncate(self._fd, BEYOND)  # one that was cut off keeps what it has
        fcntl.lockf(self._fd, fcntl.LOCK_UN, 1, ALONE)
        self._table = memoryview(mmap.mmap(self._fd, BEYOND)).cast("Q")
        self._secret = self._table[0]
        self._mine: set[int] = set()  # one's own locks never exclude oneself
        self._tried: dict[int, int] = {}  # by slot: the place that was taken last, behind which most are free

    def due(self, claims: Sequence[Claim]) -> float:
        """When all of these names have had their last turn's interval, and none is closed (monotonic seconds)."""
        latest = 0
        for claim in claims:
            if (at := self._find(self._tag(claim.name))) is not None:
                latest = max(latest, self._table[at + NEXT], self._table[at + CLOSED])
        return latest / 1e9

    def closed_until(self, name: str) -> float:
        """Until when nobody is to ask (monotonic seconds); 0 where nobody has said so."""
        at = self._find(self._tag(name))
        return 0.0 if at is None else self._table[at + CLOSED] / 1e9

    def take(self, claims: Sequence[Claim]) -> tuple[int, ...] | int:
        """A place at every name and its turn, all or nothing; the number of the claim where another process was first."""
        fcntl.lockf(self._fd, fcntl.LOCK_EX, 1, ALONE)
        try:
            return self._take(claims, time.monotonic_ns())
        finally:
            fcntl.lockf(self._fd, fcntl.LOCK_UN, 1, ALONE)

    def give_back(self, places: Iterable[int]) -> None:
        for place in places:
            self._mine.discard(place)
            if not self._mine:
                self._tried.clear()
            fcntl.lockf(self._fd, fcntl.LOCK_UN, 1, place)

    def close(self, name: str, until: float) -> None:
        """Nobody asks before `until` (monotonic seconds)."""
        fcntl.lockf(self._fd, fcntl.LOCK_EX, 1, ALONE)
        try:
            at = self._slot(name, time.monotonic_ns())
            self._table[at + CLOSED] = max(self._table[at + CLOSED], int(until * 1e9))
        finally:
            fcntl.lockf(self._fd, fcntl.LOCK_UN, 1, ALONE)

    def _take(self, claims: Sequence[Claim], now: int) -> tuple[int, ...] | int:
        taken: list[int] = []
        slots: list[int] = []
        for number, claim in enumerate(claims):
            at = self._slot(claim.name, now)
            ready = max(self._table[at + NEXT], self._table[at + CLOSED]) <= now
            place = self._free_place(at, claim.limit) if ready else None
            if place is None:
                self.give_back(taken)
                return number
            taken.append(place)
            slots.append(at)
        for claim, at in zip(claims, slots, strict=True):
            if claim.interval_s:
                self._table[at + NEXT] = now + int(min(claim.interval_s, MAX_INTERVAL_S) * 1e9)
        return tuple(taken)

    def _find(self, tag: int) -> int | None:
        """The slot that bears a tag. Without the lock too, since its times only ever say too little for a moment."""
        at = HEAD + tag % SLOTS * WORDS
        if self._table[at] == tag:
            return at
        return next((at for at in _probes(tag) if self._table[at] == tag), None) if self._table[at] else None

    def _tag(self, name: str) -> int:
        return xxhash.xxh3_64_intdigest(name.encode(), self._secret) or 1

    def _slot(self, name: str, now: int) -> int:
        """The slot of a name, under the lock: its own, else the first that is free, or whose name has nothing to keep. Where all
        that it may have are in use it shares the first, which is stricter than it need be."""
        tag = self._tag(name)
        if (slot := self._find(tag)) is not None:
            return slot
        for at in (probes := _probes(tag)):
            if not self._table[at + TAG] or self._is_idle(at, now):
                self._table[at + TAG], self._table[at + NEXT], self._table[at + CLOSED] = tag, 0, 0
                return at
        return probes[0]

    def _is_idle(self, at: int, now: int) -> bool:
        """Whether nobody waits for a time of the slot or holds a place of it."""
        if max(self._table[at + NEXT], self._table[at + CLOSED]) > now:
            return False
        first = _first_place(at)
        if any(first <= place < first + PLACES for place in self._mine):
            return False
        if not self._lock(first, PLACES):
            return False
        fcntl.lockf(self._fd, fcntl.LOCK_UN, PLACES, first)
        return True

    def _free_place(self, at: int, limit: int) -> int | None:
        first, limit = _first_place(at), min(limit, PLACES)
        last = self._tried.get(at, 0)
        for number in range(last + 1, last + 1 + limit):
            place = first + number % limit
            if place not in self._mine and self._lock(place, 1):
                self._mine.add(place)
                self._tried[at] = number % limit
                return place
        return None

    def _lock(self, at: int, length: int) -> bool:
        try:
            fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB, length, at)
        except OSError:
            return False
        return True


def _probes(tag: int) -> list[int]:
    return [HEAD + (tag + step) % SLOTS * WORDS for step in range(PROBES)]


def _first_place(at: int) -> int:
    return BEYOND + at * PLACES


def this_boot() -> int:
    """A number of the time since which the monotonic clock runs; 1 where the system has no name for it."""
    path = "/proc/sys/kernel/random/boot_id"
    return xxhash.xxh3_64_intdigest(fs.read_bytes(path)) or 1 if fs.exists(path) else 1
