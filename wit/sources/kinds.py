"""The kinds of source files: to add one, a reader in a file of its own and a row here."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from wit.errors import InputError
from wit.sources.batch import PairBatch, SourceFile, SourceReport
from wit.sources.reading import RequestBudget
from wit.sources.tables import format_of, read_table
from wit.sources.warc import read_warc
from wit.sources.wat import read_wat

Reader = Callable[[SourceFile, SourceReport, RequestBudget | None], Iterator[PairBatch]]


@dataclass(frozen=True, slots=True)
class SourceKind:
    """`name` is what stands before the colon of a `--source`; `ours` whether a file in a directory is of the kind."""

    name: str
    read: Reader
    ours: Callable[[str], bool]
    listed: bool = True
    """Whether a path that ends as lists do (.txt, .paths) is a list of files, and not one itself."""


def is_table(path: str) -> bool:
    """Whether a file's name says that it is a table."""
    try:
        format_of(path)
    except InputError:
        return False
    return True


def ends_in(kind: str) -> Callable[[str], bool]:
    """Whether a file's name ends as files of a crawl do."""
    ending = re.compile(rf"\.{kind}(\.gz|\.zst)?$", re.IGNORECASE)
    return lambda path: bool(ending.search(path))


KINDS = {
    kind.name: kind
    for kind in (
        SourceKind("wat", read_wat, ends_in("wat")),
        SourceKind("warc", read_warc, ends_in("warc")),
        SourceKind("table", read_table, is_table, listed=False),
    )
}
