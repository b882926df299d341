"""The part of `wit.verify` that reads many files: pieces of work that threads of this process, or workers of an engine, do.

Each piece is a few files; what comes of it is small: problems, and where the hashes of its keys are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from wit import layout
from wit.arithmetic import batches
from wit.errors import Stopped
from wit.keycheck import RANGES, Compared, Run, compare, read_runs, write_run
from wit.layout import directory_of
from wit.ledger import reason_counts
from wit.remedies import Problem, Problems
from wit.shardcheck import (
    LOOKS,
    READERS,
    Level,
    Shard,
    bytes_in,
    json_in,
    raw_problems,
    row_problems,
    table_in,
)
from wit.store import fs
from wit.store.flight import side_by_side
from wit.store.manifests import File, Marker
from wit.tally import add_counts
from wit.typed import dump, to_json

FILES = 32  # of a check


@dataclass(frozen=True, slots=True)
class Check:
    """A piece of work: which files of a stage to look at, by kind. `number` is its place among all of them."""

    number: int
    kind: str
    out: str
    stage: str
    folder: str
    """Where hashes of keys are written down."""
    level: Level = "metadata"
    thinned: bool = False
    """Whether only some of the rejected pairs were written down."""
    marked: bool = True
    """Whether markers have to be what the manifest says: while the stage is at work they need not be."""
    parts: tuple[Marker, ...] = ()
    shards: tuple[Shard, ...] = ()
    files: tuple[File, ...] = ()


@dataclass(frozen=True, slots=True)
class Seen:
    """What came of a check: problems of tables, and of the samples that were read; how many those were; where keys are; or how a
    range of all keys compares."""

    number: int
    kind: str
    stage: str
    problems: tuple[Problem, ...] = ()
    of_samples: tuple[Problem, ...] = ()
    read: int = 0
    keys: Run | None = None
    compared: Compared | None = None


Look = Callable[[Sequence[Check]], Iterable[Seen]]
"""Looks at all checks, in any order; what came of them is in theirs."""


@dataclass(frozen=True, slots=True)
class Checks:
    """Makes the checks of a set."""

    out: str
    folder: str
    level: Level

    def of_parts(self, stage: str, parts: Iterable[Marker], *, thinned: bool, marked: bool) -> Iterator[Check]:
        """Tables and markers of a stage's parts."""
        for some in batches(parts, FILES):
            yield replace(self._of("parts", stage), parts=tuple(some), thinned=thinned, marked=marked)

    def of_shards(self, shards: Iterable[Shard]) -> Iterator[Check]:
        """Published shards."""
        return (replace(self._of("shards"), shards=tuple(some)) for some in batches(shards, FILES))

    def of_keep_list(self, files: Iterable[File]) -> Iterator[Check]:
        """The keys that were selected."""
        return (replace(self._of("keep"), files=tuple(some)) for some in batches(files, FILES))

    def of_bytes(self, files: Iterable[File]) -> Iterator[Check]:
        """Digests of files."""
        return (replace(self._of("bytes"), files=tuple(some)) for some in batches(files, FILES))

    def of_raw(self, parts: Iterable[Marker]) -> Iterator[Check]:
        """Raw tars."""
        return (replace(self._of("raw"), parts=tuple(some)) for some in batches(parts, FILES))

    def of_keys(self) -> list[Check]:
        """All keys, range by range, once all others were looked at."""
        return [replace(self._of("keys"), number=number) for number in range(RANGES)]

    def _of(self, kind: str, stage: str = "") -> Check:
        return Check(0, kind, self.out, stage, self.folder, self.level)


def here(checks: Sequence[Check]) -> Iterator[Seen]:
    """Looks at all checks in threads of this process."""
    return side_by_side(look, checks, at_once=READERS)


def look_at_all(look: Look, checks: Sequence[Check]) -> list[Seen]:
    """What came of each check, in their order. Raises Stopped where any did not come back: an engine may lose some, and say
    DONE."""
    seen = {one.number: one for one in look(checks)}
    if lost := [check.number for check in checks if check.number not in seen]:
        raise Stopped(f"{len(lost)} of {len(checks)} checks did not come back from the engine: start verify again")
    return [seen[check.number] for check in checks]


def look(check: Check) -> Seen:
    """Looks at the files of a check."""
    return LOOKS_AT[check.kind](check, Seen(check.number, check.kind, check.stage))


def _look_at_parts(check: Check, seen: Seen) -> Seen:
    problems = [problem for part in check.parts for problem in _part_problems(check, part)]
    return replace(seen, problems=tuple(problems))


def _part_problems(check: Check, part: Marker) -> Problems:
    if check.marked:
        yield from marker_problems(check.out, check.stage, part)
    yield from part_problems(check.out, check.stage, part, thinned=check.thinned)


def _look_at_shards(check: Check, seen: Seen) -> Seen:
    keys, wrong = zip(*map(row_problems, check.shards), strict=True)
    read = LOOKS[check.level]
    looked = [read(shard) for shard in check.shards] if read else []
    return replace(
        seen,
        problems=tuple(chain.from_iterable(wrong)),
        of_samples=tuple(problem for problems, _ in looked for problem in problems),
        read=sum(count for _, count in looked),
        keys=_write_keys(check, keys),
    )


def _look_at_keep_list(check: Check, seen: Seen) -> Seen:
    tables = [table_in(fs.join(check.out, file.name), ["key"]) for file in check.files]
    return replace(
        seen, keys=_write_keys(check, [None if table is None else table["key"].to_pylist() for table in tables])
    )


def _write_keys(check: Check, keys: Sequence[Sequence[str] | None]) -> Run:
    readable = [some for some in keys if some is not None]
    path = fs.join(check.folder, f"{check.kind}-{check.number:05d}.keys")
    return write_run(readable, path, whole=len(readable) == len(keys))


def _look_at_bytes(check: Check, seen: Seen) -> Seen:
    problems = [problem for file in check.files if (problem := digest_problem(check.out, file)) is not None]
    return replace(seen, problems=tuple(problems))


def _look_at_raw(check: Check, seen: Seen) -> Seen:
    files = [(part.files["tar"].name, part.files["parquet"].name) for part in check.parts]
    return replace(seen, problems=tuple(p for tar, table in files for p in raw_problems(check.out, tar, table)))


def _compare_keys(check: Check, seen: Seen) -> Seen:
    return replace(seen, compared=compare(read_runs(check.folder), check.number))


# In the order in which what came of them is told.
LOOKS_AT: dict[str, Callable[[Check, Seen], Seen]] = {
    "parts": _look_at_parts,
    "shards": _look_at_shards,
    "keep": _look_at_keep_list,
    "keys": _compare_keys,
    "bytes": _look_at_bytes,
    "raw": _look_at_raw,
}


# Parts of stages against their markers.


def marker_problems(out: str, stage: str, part: Marker) -> Problems:
    """Problems if the marker of a part is missing, or differs from the manifest."""
    name = f"{directory_of(stage)}/{part.unit}.json"
    path = fs.join(out, name)
    if not fs.exists(path):
        yield Problem(name, f"the marker of {part.unit} is missing", lost=True)
    elif not _marker_stands(path, part):
        yield Problem(name, f"the marker of {part.unit} differs from the manifest")


def part_problems(out: str, stage: str, part: Marker, *, thinned: bool) -> Problems:
    """Problems if the tables of a part do not have the rows that its marker counts."""
    files = {label: file.name for label, file in part.files.items()}
    if part.unit.kind == "part" and "rows" in files:
        yield from _count_problems(out, files["rows"], part.out, "rows")
    if stage == "download" and "parquet" in files:
        yield from _reason_problems(out, files["parquet"], {**part.dropped, "": part.out})
    elif layout.DROPPED in files and not thinned:
        yield from _reason_problems(out, files[layout.DROPPED], part.dropped)


def _marker_stands(path: str, part: Marker) -> bool:
    """Whether a marker is, to the byte, what the manifest says. A marker of plan may also name files between passes, long
    removed: then the manifest has its digest, or in a set of version 0.1.0 nothing of it."""
    data, parsed = bytes_in(path), json_in(path)
    if data is None or parsed is None:
        return False
    if part.marker_sha256:
        return hashlib.sha256(data).hexdigest() == part.marker_sha256 or data == to_json(part.bare)
    return data == to_json(part.bare) or (data == to_json(parsed) and _within(dump(part), parsed))


def _within(part: Mapping[str, Any], marker: Mapping[str, Any]) -> bool:
    """Whether the marker says all that the manifest's part does; it may also name files between passes."""
    files = marker.get("files")
    if not isinstance(files, dict) or any(files.get(label) != entry for label, entry in part["files"].items()):
        return False
    return all(name == "files" or marker.get(name) == value for name, value in part.items())


def _count_problems(out: str, name: str, expected: int, what: str) -> Problems:
    table = table_in(fs.join(out, name), ["key"])
    if table is None:
        yield Problem(name, "not a readable parquet file")
    elif len(table) != expected:
        yield Problem(name, f"{len(table)} {what}, the manifest says {expected}")


def _reason_problems(out: str, name: str, expected: Mapping[str, int]) -> Problems:
    """Rows by reason ("" for none) against the marker's counts."""
    table = table_in(fs.join(out, name), ["reason"])
    if table is None:
        yield Problem(name, "not a readable parquet file")
        return
    counted = reason_counts(pa.table({"reason": pc.fill_null(table["reason"], "")}))
    if counted != add_counts([expected]):
        yield Problem(name, "its rows by reason are not those of its marker")


# Every byte.


def digest_problem(out: str, file: File) -> Problem | None:
    """The problem where a file has another digest than its manifest says."""
    path, digest = fs.join(out, file.name), file.digest
    if digest is None:
        return Problem(file.name, "the manifest has no digest of it")
    if fs.size_of_file(path) is None:
        return None  # reported before
    try:
        actual = fs.digest_of(path, digest.algorithm)
    except OSError as error:
        return Problem(file.name, f"cannot be read ({error})")
    return (
        None
        if actual == digest
        else Problem(file.name, f"its bytes are not those of the manifest's {digest.algorithm}")
    )
