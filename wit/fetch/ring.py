"""Shared memory as a ring of regions: bodies go from the fetch process to the decode process without a copy in between."""

from __future__ import annotations

import mmap
import os
import tempfile
from collections import deque

PROGRESS_BYTES = 16
USUAL_BYTES = 8_000_000  # of the ring that bodies of up to half of this use: some 30 pictures ahead


def create_segment(size: int) -> int:
    """A file descriptor of anonymous shared memory for `size` bytes of regions (a multiple of 8). Nothing is left of it when its
    owners die."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("wit", 0)
    else:
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    os.ftruncate(fd, size + PROGRESS_BYTES)
    os.set_inheritable(fd, True)
    return fd


def map_segment(fd: int, size: int) -> mmap.mmap:
    return mmap.mmap(fd, size + PROGRESS_BYTES)


def progress_of(memory: mmap.mmap) -> memoryview:
    """Two numbers behind the regions, which all processes see at once: [DECODED], how many pictures the decode process has begun;
    [FETCHING], the id of the request that the fetch process is at, plus 1; 0 before the first, WAITING while it waits."""
    return memoryview(memory)[-PROGRESS_BYTES:].cast("Q")


DECODED, FETCHING = 0, 1  # their places
WAITING = 2**64 - 1


class Ring:
    """Hands out regions of a segment in order. A freed region can be used again once all regions before it are freed too. Regions
    of at most half of `usual` bytes stay within the first `usual` bytes, and so in the processor's cache (docs/log.md), unless
    a larger one has gone beyond them."""

    def __init__(self, size: int, usual: int) -> None:
        self.size, self.usual = size, usual
        self.used: deque[list[int]] = deque()  # [offset, length, freed]

    def allocate(self, length: int) -> int | None:
        """The offset of `length` free bytes in one piece, or None while there is no such room."""
        if not self.used:
            return self._take(0, length) if length <= self.size else None
        first, newest = self.used[0][0], self.used[-1]
        head = newest[0] + newest[1]
        if newest[0] >= first:  # the used part does not wrap
            small = 2 * length <= self.usual and head <= self.usual
            if head + length <= (self.usual if small else self.size):
                return self._take(head, length)
            return self._take(0, length) if length < first else None
        return self._take(head, length) if head + length < first else None

    def free(self, offset: int) -> None:
        for region in self.used:
            if region[0] == offset:
                region[2] = 1
                break
        while self.used and self.used[0][2]:
            self.used.popleft()

    def _take(self, offset: int, length: int) -> int:
        self.used.append([offset, max(length, 1), 0])
        return offset
