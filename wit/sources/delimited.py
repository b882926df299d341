"""Rows of csv and tsv files, in which anybody may have left a quote open.

A quoted cell may hold line breaks, so one quote too many swallows the lines behind it. Here it swallows a few lines at most, and
none that is a row by itself. If no sound row comes of it, only its first line is given up, and reading goes on at the next.
"""

from __future__ import annotations

import contextlib
import csv
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from wit.sources.text import MAX_LINE_BYTES

MAX_LINES_PER_ROW = 64  # of a row whose quoted cells hold line breaks
DELIMITERS = (",", ";", "\t", "|")
_NAMED = re.compile(r"sep=(.)", re.IGNORECASE)  # the first line of a file that is made for Excel

RETURN = "\ufdd0"  # no character: within an unquoted cell the csv module takes a carriage return for the end of the row

Cells = list[str]
Test = Callable[[str], bool]
Place = Callable[[Cells], int]  # of the URL's column among names of columns; -1 where there is none


class Lines:
    """Lines of a file; lines taken may be given back. `row` is the number of the line on which the last row begins, `delimiter`
    what cuts rows into cells."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self._ahead: deque[str] = deque()
        self._taken = self.row = 0
        self.delimiter = "\t"

    def take(self) -> str | None:
        line = self._ahead.popleft() if self._ahead else next(self._lines, None)
        self._taken += line is not None
        return line

    def take_first(self) -> str | None:
        """The line that a row begins on."""
        line = self.take()
        self.row = self._taken
        return line

    def give_back(self, lines: list[str]) -> None:
        self._taken -= len(lines)
        self._ahead.extendleft(reversed(lines))

    def hide_returns(self) -> None:
        """Has `RETURN` stand for every carriage return within a line."""
        self._lines = (line.replace("\r", RETURN) for line in self._lines)


@dataclass(slots=True)
class _Form:
    """The shape of a file's rows, learnt from those read so far."""

    is_url: Test
    place: Place
    width: int = 0  # cells; 0 before the first row
    url: int = -1  # the place of the URL among them, -1 before one was seen

    def holds(self, cells: Cells) -> bool:
        """Whether a row is more than a blank line; learns width and URL column from it, if they are not known yet."""
        if not cells or cells == [""]:
            return False
        if self.url < 0:
            self.url = -1 if self.width else self.place(cells)
            self.width = self.width or len(cells)
            if self.url < 0:
                self.url = next((place for place, cell in enumerate(cells) if self.is_url(cell)), -1)
        return True

    def fits(self, line: str, cells: Cells | None) -> bool:
        """Whether a line looks like a row by itself, and so is no part of another row's cell. A line with an odd number of
        quotes may be the end of such a cell."""
        if cells is None or len(cells) != self.width or self.url < 0 or line.count('"') % 2:
            return False
        return self.is_url(cells[self.url])


class _Feed:
    """An iterator for one csv reader over many lines: it yields `line`, once each time that is set."""

    line: str | None = None

    def __iter__(self) -> _Feed:
        return self

    def __next__(self) -> str:
        if self.line is None:
            raise StopIteration
        line, self.line = self.line, None
        return line


def csv_rows(source: Lines, is_url: Test, place: Place) -> Iterator[Cells | None]:
    """The cells of each row; None for a line that is no row. The first line tells the delimiter (`delimiter_of`). `place` finds
    the URL's column among names, `is_url` knows a URL."""
    csv.field_size_limit(MAX_LINE_BYTES)
    source.hide_returns()
    form, feed = _Form(is_url, place), _Feed()
    delimiter = source.delimiter = _delimiter(source, is_url, place)
    rows = _reader(feed, delimiter, strict=True)
    while (line := source.take_first()) is not None:
        feed.line = line
        try:
            cells: Cells | None = next(rows, [])
        except csv.Error:  # the row goes on in the next line, or is none
            cells = _csv_row(line, source, delimiter, form)
        if cells is None and not form.width:
            cells = _loosely(line, delimiter)  # names, or the first row: all others are judged by it
        if cells is None or form.holds(cells):
            yield [cell.replace(RETURN, "\r") for cell in cells] if cells else cells


def tsv_rows(source: Lines, is_url: Test, place: Place) -> Iterator[Cells | None]:
    """As `csv_rows`. There are two kinds of tsv files: in one quotes are as in csv, in the other they mean nothing (CC3M's). So a
    cell is unquoted if it begins and ends with a quote, and only a row that lacks cells goes on in the next line."""
    form = _Form(is_url, place)
    while (line := source.take_first()) is not None:
        cells = _tsv_row(line, source, form) if '"' in line else line.split("\t")
        if cells is None or form.holds(cells):
            yield cells


def _delimiter(source: Lines, is_url: Test, place: Place) -> str:
    while (first := source.take()) is not None and not first.strip():
        pass
    if first is None:
        return ","
    if named := _NAMED.fullmatch(first.strip()):
        return named[1]
    source.give_back([first])
    return delimiter_of(first, is_url, place)


def delimiter_of(first: str, is_url: Test, place: Place) -> str:
    """The delimiter of a csv file, by its first line: the first of DELIMITERS that gives a cell with the name of a URL's column;
    in a file without names, the first that gives one URL among several cells; else the one that gives most cells."""
    cuts = [(delimiter, _cut(first, delimiter) or _loosely(first, delimiter)) for delimiter in DELIMITERS]
    for delimiter, cells in cuts:
        if place([cell.strip() for cell in cells]) >= 0:
            return delimiter
    for delimiter, cells in cuts:
        if len(cells) > 1 and sum(map(is_url, cells)) == 1:
            return delimiter
    return max(cuts, key=lambda cut: len(cut[1]))[0]


def _reader(lines: Iterable[str], delimiter: str, *, strict: bool) -> Any:
    return csv.reader(lines, delimiter=delimiter, strict=strict, skipinitialspace=True)


def _cut(line: str, delimiter: str) -> Cells | None:
    """The cells of a line; None where it leaves a quote open."""
    rows = _reader([f"{line}\n", "\n"], delimiter, strict=False)
    with contextlib.suppress(csv.Error):
        cells: Cells = next(rows, [])
        return cells if rows.line_num == 1 else None
    return None


def _loosely(line: str, delimiter: str) -> Cells:
    """The cells of a line that leaves a quote open, without quotes."""
    return [cell.strip().strip('"') for cell in line.split(delimiter)]


def _csv_row(first: str, source: Lines, delimiter: str, form: _Form) -> Cells | None:
    """The row that begins on this line and takes as many further lines as its quotes ask for; None for a line that is no row."""
    taken: list[str] = []

    def lines() -> Iterator[str]:
        yield f"{first}\n"
        while len(taken) < MAX_LINES_PER_ROW and (line := source.take()) is not None:
            taken.append(line)
            if form.fits(line, _cut(line, delimiter)):
                return
            yield f"{line}\n"

    with contextlib.suppress(csv.Error):
        cells: Cells = next(_reader(lines(), delimiter, strict=True), [])
        if not taken or form.width == len(cells):
            return cells
        if not form.width and not any(form.is_url(cell) for line in taken for cell in _loosely(line, delimiter)):
            return cells
    source.give_back(taken)
    return _cut(first, delimiter)  # for a quote inside of a quoted cell: "a 12" screen"


def _tsv_row(first: str, source: Lines, form: _Form) -> Cells | None:
    cells, taken = first.split("\t"), list[str]()
    while len(cells) < form.width and _open_quote(cells[-1]):
        following = source.take() if len(taken) < MAX_LINES_PER_ROW else None
        if following is not None:
            taken.append(following)
        more = (following or "").split("\t")
        if following is None or form.fits(following, more):
            source.give_back(taken)
            return None
        cells = [*cells[:-1], f"{cells[-1]}\n{more[0]}", *more[1:]]
    if taken and len(cells) != form.width:
        source.give_back(taken)
        return None
    return [_unquoted(cell) for cell in cells]


def _open_quote(cell: str) -> bool:
    return cell.startswith('"') and cell.count('"') % 2 == 1


def _unquoted(cell: str) -> str:
    if len(cell) >= 2 and cell[0] == cell[-1] == '"' and cell.count('"') % 2 == 0:
        return cell[1:-1].replace('""', '"')
    return cell
