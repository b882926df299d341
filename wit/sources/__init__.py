"""Where pairs come from: WAT and WARC files of web crawls, and tables of URLs and captions.

`list_sources` turns what the user wrote into files; `read_pairs` reads one file, in batches, and says in its report what
could not be read. Nothing in a file can make it raise.
"""

from __future__ import annotations

from collections.abc import Iterator

from wit.records import InputError
from wit.sources.batch import PairBatch, SourceFile, SourceReport
from wit.sources.wat import read_wat

__all__ = ["PairBatch", "SourceFile", "SourceReport", "list_sources", "read_pairs"]


def list_sources(spec: str) -> list[SourceFile]:
    """The files that a `--source` means, sorted."""
    from wit import storage

    kind, _, rest = spec.partition(":")
    if kind != "wat":
        raise InputError(f"not a source: {spec}")
    files = storage.glob(rest)
    if not files:
        raise InputError(f"no file matches {rest}: check the path of --source {spec}")
    return [SourceFile("wat", path, size=storage.size(path)) for path in files]


def read_pairs(file: SourceFile, report: SourceReport) -> Iterator[PairBatch]:
    """The pairs of one file."""
    return read_wat(file, report)
