"""The query list: what a build is asked to find."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass, field

from wit.arrays import Hashes
from wit.errors import InputError
from wit.hashing import name_hashes
from wit.queryfile import read_queries
from wit.store import fs

MAX_ENTRY_CHARS = 1_000  # a longer line is not a query: most likely another file was given by mistake


@dataclass(frozen=True, slots=True)
class QueryList:
    """The entries in the order of the file, blank and repeated lines left out; a query id is a position in `entries`.

    Two lists are equal if their digests are: a cache by list need not compare 500,000 strings.
    """

    entries: tuple[str, ...] = field(compare=False)
    digest: str  # SHA-256 of the entries: byte order marks, line ends and blank lines do not change it

    def __len__(self) -> int:
        return len(self.entries)


def query_list(lines: list[str]) -> QueryList:
    """The list of these lines in their order, stripped; empty lines and exact repetitions are left out.

    Entries that differ only by case are both kept, since `--matching metaclip` tells them apart; in the default matching
    both match the same captions.
    """
    entries = tuple(dict.fromkeys(stripped for line in lines if (stripped := line.strip())))
    return QueryList(entries, hashlib.sha256("\n".join(entries).encode()).hexdigest())


def load_queries(path: str) -> QueryList:
    """The query list of a file in one of the forms of `wit.queryfile`; raises InputError where it is missing, empty, or no
    list of queries."""
    return _parsed(read_file(path), path)


def read_file(path: str) -> bytes:
    """The bytes of a query list; raises InputError where there is none."""
    if fs.is_stream(path):
        raise InputError(f"--queries {path} is no file, and every worker reads it: write the list to one")
    try:
        return fs.read_bytes(path)
    except (FileNotFoundError, IsADirectoryError):
        raise InputError(f"no query list at {path}: give a text file of one query a line with --queries") from None


# Every unit of work asks for the list; parsing 500,000 lines costs 0.2 s, comparing bytes 1 ms.
@functools.lru_cache(maxsize=2)
def _parsed(data: bytes, path: str) -> QueryList:
    read = read_queries(data, path)
    for number, text in enumerate(read.texts, 1):
        if len(text) > MAX_ENTRY_CHARS:
            raise InputError(
                f"{path}, {read.unit} {number}, has {len(text)} characters, a query at most {MAX_ENTRY_CHARS}: "
                f"write one query a line"
            )
    queries = query_list(read.texts)
    if not queries.entries:
        raise InputError(f"the query list {path} is empty: write one query a line, or use queries/500k.txt")
    return queries


def hashes_of(path: str) -> Hashes:
    """One 64-bit hash a query, made once a worker. It is of the text, so draws survive a reordered or extended list."""
    return _hashes(load_queries(path).digest, path)


@functools.lru_cache(maxsize=1)
def _hashes(digest: str, path: str) -> Hashes:
    return name_hashes(load_queries(path).entries)
