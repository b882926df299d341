"""Places at hosts, domains and addresses, counted over all fetch processes of a job on this machine.

A server does not see workers, it sees one machine. A place is a lock on one byte of a file, so the kernel frees the places of a
killed process. The same file, mapped by all processes, holds the time of the next request to each name, and outlives them.

Each name has a slot in a table by open addressing. The slot's tag is a hash keyed by a secret in the file, so nobody can choose a
name that shares another's slot. A slot whose name has nothing to keep goes to the next name that needs one.
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

SLOTS = 1 << 19  # for names with a request in flight or a time to wait for: hosts, domains, addresses of all workers
PROBES = 32  # slots that a name may have
# The words of a slot. Times are nanoseconds of the monotonic clock, which all processes of a machine share.
TAG, NEXT, CLOSED, WORDS = range(4)
HEAD = 4  # words before the table: the secret, and the boot that the times count from
PLACES = 1 << 12  # places of a slot: more in flight at one host would not be polite
BEYOND = (HEAD + SLOTS * WORDS) * 8  # locks on places lie behind the table; the file itself need not reach so far
ALONE = 0  # the byte that is locked while the table changes


MAX_INTERVAL_S = 86_400.0  # whatever the rate: a longer one, by a fault, would block lanes for good


@dataclass(frozen=True, slots=True)
class Claim:
    """What one request takes at a name: one of the first `limit` places, and a turn; the next turn is `interval_s` later."""

    name: str
    limit: int
    interval_s: float


class Places:
    """The table of one job, in a file that all its fetch processes open. A process must open it only once: closing any descriptor
    of the file gives up all the process's locks in it (fcntl(2))."""

    def __init__(self, path: str) -> None:
        self._fd, boot = fs.open_spool(path), this_boot()
        fcntl.lockf(self._fd, fcntl.LOCK_EX, 1, ALONE)
        if os.pread(self._fd, 8, 8) != boot.to_bytes(8, sys.byteorder):  # the file is new, or of an earlier boot
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, os.urandom(8) + boot.to_bytes(8, sys.byteorder), 0)
        os.ftruncate(self._fd, BEYOND)  # a file that was cut off keeps the rest
        fcntl.lockf(self._fd, fcntl.LOCK_UN, 1, ALONE)
        self._table = memoryview(mmap.mmap(self._fd, BEYOND)).cast("Q")
        self._secret = self._table[0]
        self._mine: set[int] = set()  # places held here: a process's own locks never exclude it
        self._tried: dict[int, int] = {}  # by slot: the place taken last, behind which most are free

    def due(self, claims: Sequence[Claim]) -> float:
        """When the interval of all these names is over, and none is closed (monotonic seconds)."""
        latest = 0
        for claim in claims:
            if (at := self._find(self._tag(claim.name))) is not None:
                latest = max(latest, self._table[at + NEXT], self._table[at + CLOSED])
        return latest / 1e9

    def closed_until(self, name: str) -> float:
        """Until when the name is closed (monotonic seconds); 0 if it never was."""
        at = self._find(self._tag(name))
        return 0.0 if at is None else self._table[at + CLOSED] / 1e9

    def take(self, claims: Sequence[Claim]) -> tuple[int, ...] | int:
        """A place and a turn at every name, all or none: the places, or the number of the first claim that cannot be met."""
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
        """Closes the name for all processes until `until` (monotonic seconds)."""
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
        """The slot with this tag; None where there is none. It may be read without the lock: its times are at worst a moment
        old."""
        at = HEAD + tag % SLOTS * WORDS
        if self._table[at] == tag:
            return at
        return next((at for at in _probes(tag) if self._table[at] == tag), None) if self._table[at] else None

    def _tag(self, name: str) -> int:
        return xxhash.xxh3_64_intdigest(name.encode(), self._secret) or 1

    def _slot(self, name: str, now: int) -> int:
        """The slot of a name; the lock must be held. It is the name's own, else the first that is free or idle. If all slots that
        the name may have are in use, it shares the first, which only makes us more polite."""
        tag = self._tag(name)
        if (slot := self._find(tag)) is not None:
            return slot
        for at in (probes := _probes(tag)):
            if not self._table[at + TAG] or self._is_idle(at, now):
                self._table[at + TAG], self._table[at + NEXT], self._table[at + CLOSED] = tag, 0, 0
                return at
        return probes[0]

    def _is_idle(self, at: int, now: int) -> bool:
        """Whether the slot's times have passed, and no process holds a place of it."""
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
    """A number for the boot since which the monotonic clock runs; 1 where the system has no id for it."""
    path = "/proc/sys/kernel/random/boot_id"
    return xxhash.xxh3_64_intdigest(fs.read_bytes(path)) or 1 if fs.exists(path) else 1
