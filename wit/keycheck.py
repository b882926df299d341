"""Is every key there once, and are the published keys those of the keep list? In bounded memory: 8 bytes a key on the disk.

Whoever reads the keys of some files writes their hashes down in order, a run. All runs are then compared range by range, by the
first byte of a hash; a range of 400 million keys is 1.6 million.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from wit.arrays import Hashes, Ints
from wit.hashing import name_hashes
from wit.store import fs
from wit.typed import load, to_json

RANGES = 256
WIDTH = 8  # bytes of a hash
HEAD = WIDTH * (RANGES + 1)  # of a run: where each range begins, in hashes


RUNS_FILE = "runs.json"


@dataclass(frozen=True, slots=True)
class Run:
    """A file of hashes of keys, in order; `whole` unless a file of keys could not be read."""

    path: str
    whole: bool


@dataclass(frozen=True, slots=True)
class Runs:
    """All runs of published keys, and of the keep list's."""

    published: tuple[Run, ...]
    kept: tuple[Run, ...] | None
    """None where there is nothing to compare with."""

    def write(self, folder: str) -> None:
        """Writes them where `read_runs` finds them: 256 ranges would carry them 256 times."""
        fs.write_bytes(fs.join(folder, RUNS_FILE), to_json(self))


@functools.lru_cache(1)
def read_runs(folder: str) -> Runs:
    """What `Runs.write` has written."""
    return load(Runs, json.loads(fs.read_bytes(fs.join(folder, RUNS_FILE))))


def write_run(keys: Iterable[Sequence[str]], path: str, *, whole: bool) -> Run:
    """Writes the hashes of the keys of some files."""
    return write_hashes(np.concatenate([np.zeros(0, np.uint64), *map(name_hashes, keys)]), path, whole=whole)


def write_hashes(hashes: Hashes, path: str, *, whole: bool) -> Run:
    """Writes a run of these hashes."""
    hashes = np.sort(hashes)
    starts = np.searchsorted(hashes >> np.uint64(56), np.arange(RANGES + 1, dtype=np.uint64))
    fs.write_bytes(path, starts.astype("<u8").tobytes() + hashes.astype("<u8").tobytes())
    return Run(path, whole)


def _read(run: Run, number: int) -> Hashes:
    """The hashes of one range of a run."""
    head = np.frombuffer(fs.read_range(run.path, WIDTH * number, 2 * WIDTH), "<u8").tolist()
    data = fs.read_range(run.path, HEAD + WIDTH * head[0], WIDTH * (head[1] - head[0]))
    return np.frombuffer(data, "<u8")


def hashes_in(runs: Iterable[Run], number: int) -> Hashes:
    """The hashes of one range of all runs, in order."""
    return np.sort(np.concatenate([np.zeros(0, np.uint64), *(_read(run, number) for run in runs)]))


@dataclass(frozen=True, slots=True)
class Compared:
    """What came of comparing a range: hashes that are there more than once; how many kept ones are missing, how many are there
    that are not kept; and whether the two differ at all."""

    again: tuple[int, ...]
    missing: int = 0
    extra: int = 0
    differ: bool = False


def compare(runs: Runs, number: int) -> Compared:
    """Compares one range of the published keys with itself, and with the keep list's."""
    there = hashes_in(runs.published, number)
    again = tuple(np.unique(there[1:][there[1:] == there[:-1]]).tolist())
    if runs.kept is None:
        return Compared(again)
    wanted = hashes_in(runs.kept, number)
    missing, extra = len(np.setdiff1d(wanted, there)), len(np.setdiff1d(there, wanted))
    return Compared(again, missing, extra, not np.array_equal(wanted, there))


def sum_of(ranges: Iterable[Compared]) -> Compared:
    """The comparison of all ranges."""
    every = list(ranges)
    again = tuple(one for compared in every for one in compared.again)
    counts: Ints = np.array([[one.missing, one.extra] for one in every] or [[0, 0]], np.int64).sum(axis=0)
    return Compared(again, int(counts[0]), int(counts[1]), any(one.differ for one in every))
