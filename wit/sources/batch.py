"""What every source yields: batches of pairs, and a report on the file they came from."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

MOST_BAD = 20  # lost rows of a file whose places are kept
MOST_BAD_CHARS = 1_000  # for the places of one file: a manifest holds those of all files


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of a source. Only tables have the columns; at None they are found by their usual names."""

    kind: str  # a name in kinds.READERS
    path: str
    url_col: str | None = None
    caption_col: str | None = None
    encoding: str | None = None  # of a table of text; None: guessed from its bytes
    label: str = ""  # what tables call the file, if not by its path
    size: int | None = None  # bytes, where they are cheap to know
    version: str | None = None  # changes with the content: see listing.version_of

    @property
    def name(self) -> str:
        return self.label or self.path


@dataclass(frozen=True, slots=True)
class Served:
    """A source that was made here: its files, and (host, address, port) of each server of its pictures."""

    files: list[SourceFile]
    endpoints: tuple[tuple[str, str, int], ...]


@dataclass(slots=True)
class PairBatch:
    """Some thousands of pairs as parallel lists, in the order of the file.

    `url` is absolute http(s), not yet canonical and perhaps invalid; None where `src` names no such URL
    (`wit.urls.reason_for(src)` says why). `alt` is None where there is no such attribute. `offset` is the byte offset of the
    record, or of the gzip member that holds it; in a table, the row number. `index` counts the images of that record. `extra`
    is a table's further columns as one JSON object."""

    src: list[str | None] = field(default_factory=list)
    url: list[str | None] = field(default_factory=list)
    alt: list[str | None] = field(default_factory=list)
    page_url: list[str | None] = field(default_factory=list)
    offset: list[int] = field(default_factory=list)
    index: list[int] = field(default_factory=list)
    extra: list[str | None] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.url)

    def add_page(
        self,
        page_url: str,
        offset: int,
        first: int,
        src: list[str | None],
        url: list[str | None],
        alt: list[str | None],
    ) -> None:
        """Appends the images of one page, numbered from `first`."""
        count = len(src)
        self.src += src
        self.url += url
        self.alt += alt
        self.page_url += [page_url] * count
        self.offset += [offset] * count
        self.index += range(first, first + count)
        self.extra += [None] * count

    def add_row(
        self, number: int, pairs: list[tuple[str | None, str | None, str | None]], page_url: str, extra: str | None
    ) -> None:
        """Appends the pairs (source, URL, alt) of one row of a table; they get the indexes 0, 1, ..."""
        for index, (src, url, alt) in enumerate(pairs):
            self.src.append(src)
            self.url.append(url)
            self.alt.append(alt)
            self.page_url.append(page_url)
            self.offset.append(number)
            self.index.append(index)
            self.extra.append(extra)

    def part(self, first: int, last: int) -> PairBatch:
        """The pairs [first, last)."""
        return PairBatch(*(getattr(self, column.name)[first:last] for column in fields(self)))


@dataclass(slots=True)
class SourceReport:
    """The fate of one source file. `lost` counts records (rows of a table) that gave no pair, by the name of the defect;
    `first_bad` holds the places and faults of the first of them. `repaired` counts records that were used in spite of a
    defect. `error` says why the file was not read to its end."""

    path: str
    records: int = 0
    pages: int = 0
    pairs: int = 0
    bytes: int = 0
    bytes_skipped: int = 0  # compressed bytes that were lost
    lost: dict[str, int] = field(default_factory=dict)
    repaired: dict[str, int] = field(default_factory=dict)
    error: str | None = None
    unit: str = "records"
    first_bad: list[str] = field(default_factory=list)
    # The line on which the current row begins; 0 in formats without lines.
    line: int = field(default=0, init=False)
    delimiter: str = field(default="", init=False)  # of a table of text

    def facts(self) -> dict[str, Any]:
        """The fields that are kept of the report."""
        return {column.name: getattr(self, column.name) for column in fields(self) if column.init}

    def lose(self, defect: str, count: int = 1, place: str = "") -> None:
        """Counts records that gave no pair; `place` says where the first one stands and what is wrong with it."""
        self.lost[defect] = self.lost.get(defect, 0) + count
        if place and len(self.first_bad) < MOST_BAD:
            left = MOST_BAD_CHARS - sum(map(len, self.first_bad))
            self.first_bad += [place] if len(place) <= left else []

    def lose_row(self, defect: str, why: str, count: int = 1, *, ahead: int = 0) -> None:
        """Counts the current row as lost, or the row that is `ahead` rows after it; the place is a line or a row, from 1."""
        place = f"line {self.line}" if self.line else f"row {self.records + ahead + 1:,}"
        self.lose(defect, count, f"{place}: {why}")

    def repair(self, defect: str, count: int = 1) -> None:
        self.repaired[defect] = self.repaired.get(defect, 0) + count
