"""Notes, in a file that outlives its process, of the step that a reader is at. Strangers' bytes may crash a native parser; at the
third try only that step is left out.

A step is named by its file, its kind and a number, so it has the same name in every attempt. A process that SIGTERM ends blames
no step: whoever sent it did not mean the record.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import signal
import threading
from collections.abc import Iterator
from typing import NoReturn

import xxhash

from wit.store import fs

READ, RECORD, BATCH = range(3)  # kinds of steps: reading on after so many records, one record, one batch of pairs
CRASHED = "extractor_crashed"
DEATHS = 2  # at one step, before it is given up: one alone may be a stray SIGKILL
NOTES_FILE = ".notes"
DEATHS_FILE = ".deaths.json"
STEP_BYTES = 24  # hash of the file's name, kind, number + 1


class Notes:
    """The steps of one unit of work."""

    def __init__(self, path: str) -> None:
        self._fd = fs.open_spool(path)
        os.ftruncate(self._fd, STEP_BYTES)
        self._memory = mmap.mmap(self._fd, STEP_BYTES)
        self._at = memoryview(self._memory).cast("Q")
        self._deaths_path = path + DEATHS_FILE
        self.deaths: dict[str, int] = {}
        if fs.exists(self._deaths_path):
            self.deaths = json.loads(fs.read_bytes(self._deaths_path))
        if self._at[2]:  # the last attempt died at this step
            place = ":".join(map(str, self._at))
            self.deaths[place] = self.deaths.get(place, 0) + 1
            fs.write_bytes(self._deaths_path, json.dumps(self.deaths).encode())
        self.forgive()
        self._deadly = {place for place, times in self.deaths.items() if times >= DEATHS}

    def begin(self, name: str, kind: int, number: int) -> bool:
        """Notes that the step begins; False where it is to be left out, since too many attempts died there."""
        self._at[0], self._at[1], self._at[2] = xxhash.xxh3_64_intdigest(name.encode()), kind, number + 1
        if self._deadly and ":".join(map(str, self._at)) in self._deadly:
            self.forgive()
            return False
        return True

    def forgive(self) -> None:
        """Clears the note: should the process end now, no step is blamed."""
        self._at[2] = 0

    def close(self) -> None:
        self.forgive()
        self._at.release()
        self._memory.close()
        os.close(self._fd)


class _Thread(threading.local):
    notes: Notes | None = None


_here = _Thread()


@contextlib.contextmanager
def kept(path: str) -> Iterator[Notes]:
    """Within the block `begin` of this thread writes into a file at `path`. An attempt that dies leaves the file behind."""
    _here.notes = notes = Notes(path)
    try:
        yield notes
    finally:
        _here.notes = None
        notes.close()


def begin(name: str, kind: int, number: int) -> bool:
    """Notes that a step of reading the file `name` begins; False where too many attempts died there."""
    return _here.notes is None or _here.notes.begin(name, kind, number)


def given_up(path: str) -> int:
    """How many steps the unit whose notes are at `path` has given up."""
    deaths = json.loads(fs.read_bytes(path + DEATHS_FILE)) if fs.exists(path + DEATHS_FILE) else {}
    return sum(times >= DEATHS for times in deaths.values())


def clear(folder: str) -> None:
    """Removes the notes of all units there: their stage is done."""
    for name in fs.list_dir(folder):
        if name.endswith((NOTES_FILE, DEATHS_FILE)):
            fs.remove(fs.join(folder, name))


def blame_nobody_on_sigterm() -> None:
    """Has SIGTERM end this process at once, with no step blamed."""
    signal.signal(signal.SIGTERM, _end)


def _end(*_: object) -> NoReturn:
    if _here.notes is not None:
        _here.notes.forgive()
    os._exit(1)
