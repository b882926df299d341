"""A list that workers look into by number, without carrying it: one file, which each process reads once.

What a pipeline closes over, and what it begins with, travels inside the job's graph, which an engine may refuse above 10 MB:
80,000 raw shards with their names are 17 MB. Of a roster only its path and its length travel.
"""

from __future__ import annotations

import contextlib
import functools
import json
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar, cast, overload

import pyarrow as pa

from wit.errors import Stopped
from wit.layout import SCRATCH
from wit.store import fs
from wit.store.scratch import scratch_dir
from wit.store.streams import parse, write_stream
from wit.typed import json_text, load

T = TypeVar("T")
KEPT = 4  # rosters that a process holds: one stage needs two


@dataclass(frozen=True, slots=True)
class Roster(Sequence[T], Generic[T]):
    """A list of dataclasses of one kind, in a file at `path`."""

    path: str
    kind: type[T]
    length: int

    def __len__(self) -> int:
        return self.length

    @overload
    def __getitem__(self, number: int) -> T: ...
    @overload
    def __getitem__(self, number: slice) -> list[T]: ...
    def __getitem__(self, number: int | slice) -> T | list[T]:
        if isinstance(number, slice):
            return [self[one] for one in range(self.length)[number]]
        return load(self.kind, json.loads(_rows(self.path)[range(self.length)[number]].as_py()))


@functools.lru_cache(KEPT)
def _rows(path: str) -> pa.ChunkedArray:
    return parse(path, fs.read_bytes(path))["row"]


@contextlib.contextmanager
def roster(items: Sequence[T], kind: type[T], *, out: str) -> Iterator[Roster[T]]:
    """Writes the list below OUT for the block. A start that finds one left by a killed build removes it."""
    path = fs.join(out, SCRATCH, f"roster-{secrets.token_hex(8)}")
    rows = pa.array(map(json_text, items), pa.string())
    with scratch_dir(out) as scratch:
        local = fs.join(scratch, "rows.arrow")
        write_stream(pa.table({"row": rows}), local)
        fs.publish(local, path)
    try:
        yield cast(Roster[T], Roster(path, kind, len(items)))
    finally:
        with contextlib.suppress(OSError, Stopped):  # the next start removes what is left
            fs.remove(path)
