"""Where pairs come from: WAT and WARC files of web crawls, and tables of URLs and captions.

`list_sources` turns a `--source` into files. `read_pairs` reads one file in batches, and counts in its report the records that
it could not read; nothing in a file can make it raise.
"""

from __future__ import annotations

from collections.abc import Iterator

from wit import notes
from wit.sources.batch import PairBatch, SourceFile, SourceReport
from wit.sources.config import SourceConfig
from wit.sources.kinds import READERS, list_sources, made_here
from wit.sources.listing import version_of
from wit.sources.reading import RequestBudget

__all__ = [
    "PairBatch",
    "RequestBudget",
    "SourceConfig",
    "SourceFile",
    "SourceReport",
    "list_sources",
    "made_here",
    "read_pairs",
    "version_of",
]


def read_pairs(file: SourceFile, report: SourceReport, budget: RequestBudget | None = None) -> Iterator[PairBatch]:
    """The pairs of one file in its order, some thousands at a time. Lost records are counted in the report, which also says why
    reading ended early, if it did."""
    if not notes.begin(report.path, notes.READ, 0):
        report.error = "cannot be read: it ended the process that read it"
        return
    try:
        yield from READERS[file.kind](file, report, budget)
    except OSError as error:
        report.error = f"cannot be read: {error}"
