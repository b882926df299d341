"""The kinds of sources. To add one: a function that finds its files, a reader if their form is new, and a row here."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial

from wit.errors import InputError
from wit.sources.batch import PairBatch, Served, SourceFile, SourceReport
from wit.sources.commoncrawl import list_crawl
from wit.sources.config import SourceConfig
from wit.sources.listing import FileKind, files_of
from wit.sources.reading import RequestBudget
from wit.sources.tables import check_tables, is_table, read_table
from wit.sources.warc import read_warc
from wit.sources.wat import read_wat

Reader = Callable[[SourceFile, SourceReport, RequestBudget | None], Iterator[PairBatch]]
Lister = Callable[[str, SourceConfig, RequestBudget | None], list[SourceFile]]

READERS: dict[str, Reader] = {"wat": read_wat, "warc": read_warc, "table": read_table}  # by `SourceFile.kind`


@dataclass(frozen=True, slots=True)
class SourceKind:
    """A kind of `--source` that names files; `files` finds them by the text behind the colon."""

    usage: str
    files: Lister


@dataclass(frozen=True, slots=True)
class MadeHere:
    """A kind of `--source` that is made here, in an output directory, and served by a web of its own while the build runs."""

    usage: str
    serve: Callable[[str], AbstractContextManager[Served]]
    note: str
    """The line to print when a build starts from it."""


def ends_in(kind: str) -> Callable[[str], bool]:
    """A test of a file's name: does it end as files of that kind do, packed or not?"""
    ending = re.compile(rf"\.{kind}(\.gz|\.zst)?$", re.IGNORECASE)
    return lambda path: bool(ending.search(path))


def _crawl(spec: str, config: SourceConfig, budget: RequestBudget | None) -> list[SourceFile]:
    return [SourceFile("wat", path) for path in list_crawl(spec, base=config.cc_base, budget=budget)]


def _demo(out: str) -> AbstractContextManager[Served]:
    from wit.demo.source import serve  # not above: no other build needs it

    return serve(out)


DEMO_NOTE = (
    "Building from the embedded demonstration web. For Common Crawl: "
    "--source commoncrawl:CC-MAIN-2026-43:files=10 --contact you@example.org"
)
KINDS: dict[str, SourceKind | MadeHere] = {
    kind.usage.partition(":")[0]: kind
    for kind in (
        MadeHere("demo", _demo, DEMO_NOTE),
        SourceKind("commoncrawl:CRAWL[:files=N]", _crawl),
        SourceKind("wat:GLOB", partial(files_of, FileKind("wat", ends_in("wat")))),
        SourceKind("warc:GLOB", partial(files_of, FileKind("warc", ends_in("warc")))),
        SourceKind("table:GLOB", partial(files_of, FileKind("table", is_table, check_tables, listed=False))),
    )
}
USAGE, USUAL = ", ".join(kind.usage for kind in KINDS.values()), SourceConfig()


def list_sources(spec: str, config: SourceConfig = USUAL, *, budget: RequestBudget | None = None) -> list[SourceFile]:
    """The files that a `--source` names; none if it is made here. Raises InputError with the fix where the text is no source, or
    names no files."""
    kind, rest = _parse(spec)
    return kind.files(rest, config, budget) if isinstance(kind, SourceKind) else []


def made_here(specs: Sequence[str]) -> list[MadeHere]:
    """The kinds among these `--source` that bring a web of their own, each once."""
    kinds = dict.fromkeys(kind for kind, _ in map(_parse, specs))
    return [kind for kind in kinds if isinstance(kind, MadeHere)]


def _parse(spec: str) -> tuple[SourceKind | MadeHere, str]:
    """(kind, what stands behind its colon)."""
    name, colon, rest = spec.partition(":")
    kind = KINDS.get(name)
    if kind is None or bool(colon) != (":" in kind.usage) or (colon and not rest):
        raise InputError(f"not a source: {spec!r}; write {USAGE}")
    return kind, rest
