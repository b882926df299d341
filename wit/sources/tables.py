"""Pairs out of tables: parquet, csv, tsv, txt, json and jsonl files, each also .gz or .zst.

The files that img2dataset, LAION, DataComp and cc2dataset write or read work as they are. Columns are found by their usual
names; in tables without a header, by their cells. A txt file holds one URL a line. A cell with several URLs or captions gives a
pair for each. Further columns are carried along as one JSON object a row.
"""

from __future__ import annotations

import gzip
import io
import itertools
import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any

import orjson
import pyarrow as pa
import zstandard

from wit.errors import InputError
from wit.images.expected import expected_hash
from wit.sources.batch import PairBatch, SourceFile, SourceReport
from wit.sources.pages import BATCH_PAIRS, EXTRACTOR_ERROR
from wit.sources.reading import RequestBudget, open_source
from wit.sources.rows import FORMATS, FREE_FORMATS, URL_NAMES, Row, read_rows
from wit.sources.text import LOOKED_AT_BYTES, check_named, check_readable, pieces, read_up_to
from wit.sources.zstd import ZstdStream
from wit.urls import Resolver

CAPTION_NAMES = ("caption", "captions", "text", "texts", "alt", "alt_text", "top_caption", "title", "description")
NAMED_BY = 100  # rows that are read for names: in some formats a row leaves out empty columns
MAX_PAIRS_PER_ROW = 1_000  # each of its URLs with each of its captions: with more, the row is bad

# The errors of reading a damaged file.
DAMAGE = (OSError, EOFError, zlib.error, zstandard.ZstdError, pa.ArrowException, UnicodeDecodeError)

# What programs write for a missing value (pandas' list); nobody captions a picture with one.
NO_TEXT = frozenset(
    [
        "",
        "#N/A",
        "#N/A N/A",
        "#NA",
        "-1.#IND",
        "-1.#QNAN",
        "-NaN",
        "-nan",
        "1.#IND",
        "1.#QNAN",
        "<NA>",
        "N/A",
        "NA",
        "NULL",
    ]
    + ["NaN", "None", "n/a", "nan", "null"]
)


def format_of(path: str) -> tuple[str, str]:
    """(format, compression) by the name of a file; raises InputError for a name that tells none."""
    name = path.lower()
    compression = next((suffix for suffix in (".gz", ".zst") if name.endswith(suffix)), "")
    form = name.removesuffix(compression).rpartition(".")[2]
    if form not in FORMATS:
        raise InputError(
            f"cannot tell the format of {path}: name it .{', .'.join(FORMATS)}, or one of these with .gz or .zst"
        )
    return form, compression


def is_table(path: str) -> bool:
    """Whether a file's name says that it is a table."""
    try:
        format_of(path)
    except InputError:
        return False
    return True


def read_table(file: SourceFile, report: SourceReport, budget: RequestBudget | None = None) -> Iterator[PairBatch]:
    """The pairs of a table, row by row."""
    form, compression = format_of(file.path)
    report.unit = "rows"
    with open_source(file.path, report, budget) as stream:
        report.bytes = stream.seek(0, io.SEEK_END)
        stream.seek(0)
        yield from _batches(read_rows(form, _inflated(stream, compression), file, report), file, report)


class MissingColumn(InputError):
    """A table lacks the column `name`."""

    def __init__(self, name: str, sentence: str) -> None:
        super().__init__(sentence)
        self.name = name


def _inflated(stream: IO[bytes], compression: str) -> IO[bytes]:
    if compression == ".gz":
        return io.BufferedReader(_Gzip(fileobj=stream))
    if compression == ".zst":
        return io.BufferedReader(ZstdStream(stream))
    return stream


class _Gzip(gzip.GzipFile):
    """A gzip file whose reads return what can be had; a read raises only where nothing more can be had."""

    def readinto(self, buffer: Any) -> int:
        data = self.read1(len(buffer))
        buffer[: len(data)] = data
        return len(data)


Path = tuple[str, ...]  # a column, and the fields that lead to a value in it


@dataclass(frozen=True, slots=True)
class _Columns:
    url: Path
    caption: Path | None


def columns_of(names: Iterable[str], file: SourceFile, delimiter: str = "") -> _Columns:
    """The columns of URL and caption. Raises MissingColumn where there is no column of URLs, or none of the name asked for. The
    delimiter of a table of text only serves the error's sentence."""
    have = list(names)
    offer = f"cut by {delimiter!r} it has {', '.join(have)}" if delimiter else f"it has {', '.join(have)}"
    url = _named(file.url_col, have) if file.url_col else _usual(URL_NAMES, have)
    if url is None:
        name = file.url_col or "url"
        raise MissingColumn(name, f"{file.name} has no column {name}; {offer}: say which holds the URL with --url-col")
    caption = _named(file.caption_col, have) if file.caption_col else _usual(CAPTION_NAMES, have)
    if caption is None and file.caption_col:
        name = file.caption_col
        raise MissingColumn(
            name, f"{file.name} has no column {name}; {offer}: say which holds the text with --caption-col"
        )
    return _Columns(url, caption)


def _usual(names: Iterable[str], have: list[str]) -> Path | None:
    folded = {name.lower(): name for name in reversed(have)}
    return next(((folded[name],) for name in names if name in folded), None)


def _named(name: str, have: list[str]) -> Path | None:
    """The column of this name; else one that differs only by case; else, for `a.b`, the field `b` of column `a`."""
    if name in have:
        return (name,)
    column, _, field = name.partition(".")
    return _usual([name.lower()], have) or ((column, *field.split(".")) if field and column in have else None)


CHECKED = 16  # tables that are read before a build starts


def check_tables(files: Sequence[SourceFile]) -> None:
    """Raises InputError where a name is not that of a table, or where `check_table` does, for local ones of the first CHECKED."""
    for file in files:
        format_of(file.path)
    for file in files[:CHECKED]:
        if file.size is not None:
            check_table(file)


def check_table(file: SourceFile) -> None:
    """Raises InputError if a local table lacks a column that is needed, by its first rows, or is text of unknown encoding. Damage
    is reported later, when the table is read."""
    form, compression = format_of(file.path)
    if form != "parquet":
        head = _head(file, compression)
        check_named(file.encoding, head, file.name) if file.encoding else check_readable(head, file.name)
    report = SourceReport(file.path)
    row = _first_names(file, report)
    if row is None:
        return
    if columns_of(row, file, report.delimiter).caption is None:
        raise MissingColumn(
            "caption",
            f"{file.name} has no captions, and a pair needs one: say which column holds them with --caption-col, of "
            f"{', '.join(row)}",
        )


def _head(file: SourceFile, compression: str) -> bytes:
    with open_source(file.path, SourceReport(file.path)) as stream:
        return read_up_to(pieces(_inflated(stream, compression)), LOOKED_AT_BYTES)[0]


def _first_names(file: SourceFile, report: SourceReport) -> Row | None:
    """{name: value} of the first row; in FREE_FORMATS, of the first NAMED_BY rows together. None where there is no row."""
    rows = list(itertools.islice(_first_rows(file, report), NAMED_BY if format_of(file.path)[0] in FREE_FORMATS else 1))
    return {name: value for row in reversed(rows) for name, value in row.items()} or None


def _first_rows(file: SourceFile, report: SourceReport) -> Iterator[Row]:
    """The rows of a table up to its first damage."""
    form, compression = format_of(file.path)
    with open_source(file.path, report) as stream:
        try:
            yield from (row for row in read_rows(form, _inflated(stream, compression), file, report) if row)
        except DAMAGE:
            return


ROWS_LOOKED_AT = 10_000  # of a table, in search of a hash: most cells may be empty
CELLS_LOOKED_AT = 300  # that are not empty: in a column of hashes some are spoilt, in another all are none


def check_hashes(files: Iterable[SourceFile], column: str) -> None:
    """Raises InputError where none of these tables has the column, or where the first cells in it that are not empty hold no
    hash."""
    have, odd = set[str](), list[object]()
    for file in (file for file in files if file.kind == "table"):
        cells = 0
        for row in itertools.islice(_first_rows(file, SourceReport(file.path)), ROWS_LOOKED_AT):
            have |= row.keys()
            expected = expected_hash(column, row.get(column))
            if expected not in ("", "none:"):
                return
            if expected:
                odd.append(row[column])
                cells += 1
            if cells == CELLS_LOOKED_AT:
                break
    if column not in have:
        raise InputError(
            f"--verify-hash {column}: no table has such a column; have {', '.join(sorted(have)) or 'no table'}"
        )
    if odd:
        raise InputError(
            f"--verify-hash {column}: {odd[0]!r} is no md5, sha256 or sha512, nor a PDQ with pdq in its name"
        )


def _batches(rows: Iterator[Row | None], file: SourceFile, report: SourceReport) -> Iterator[PairBatch]:
    """Batches of the rows; None stands for a lost row, which still has a number. If reading fails, the rows before still come
    out, and the report says why there are no more."""
    batch, columns, missing = PairBatch(), None, None
    free = format_of(file.path)[0] in FREE_FORMATS
    while True:
        try:
            row = next(rows)
            if row is not None and (not columns or columns.url[0] not in row or (free and not columns.caption)):
                columns = columns_of(row, file, report.delimiter)
        except StopIteration:
            break
        except MissingColumn as error:
            missing = missing or str(error)
            if not free:
                break
            report.lose_row("bad_row", f"no column {error.name}")
            row = None
        except DAMAGE as error:
            why = str(error).partition("\n")[0] or type(error).__name__
            report.error = f"cut off or damaged after {report.records:,} rows: {why}"
            break
        except Exception as error:  # likewise for the file: rows read before are not lost with it
            report.error = f"cannot be read: {type(error).__name__}: {error}"
            break
        if row is not None and columns is not None:
            try:
                batch.add_row(report.records, *_pairs(row, columns))
            except _BadRow as error:
                report.lose_row("bad_row", str(error))
            except Exception as error:  # strangers wrote the row: what we did not foresee costs the row, not the build
                report.lose_row(EXTRACTOR_ERROR, type(error).__name__)
        report.records += 1
        if len(batch) >= BATCH_PAIRS:
            report.pairs += len(batch)
            yield batch
            batch = PairBatch()
    if columns is None and missing:
        report.error = missing
    report.pairs += len(batch)
    if batch:
        yield batch


class _BadRow(ValueError):
    """A row with a cell of the wrong kind, or too many pairs; the text says which."""


_TOO_MANY = f"more than {MAX_PAIRS_PER_ROW:,} pairs of a URL and a caption"
_OBJECT = "an object where a text should be"


def _pairs(row: Row, columns: _Columns) -> tuple[list[tuple[str | None, str | None, str | None]], str, str | None]:
    """((source, URL, alt) of each pair, page URL, further columns) of a row."""
    cell, text = _value(row, columns.url), _value(row, columns.caption) if columns.caption else None
    together = columns.caption is not None and columns.caption[0] == columns.url[0] and isinstance(cell, list)
    if together and isinstance(text, list):  # fields of the same objects
        if len(cell) > MAX_PAIRS_PER_ROW:
            raise _BadRow(_TOO_MANY)
        mentions = [
            (src, alt) for one, other in zip(cell, text, strict=True) for src in _texts(one) for alt in _texts(other)
        ]
    else:
        srcs, alts = _texts(cell), _texts(text)
        if len(srcs) * len(alts) > MAX_PAIRS_PER_ROW:
            raise _BadRow(_TOO_MANY)
        mentions = [(src, alt) for src in srcs for alt in alts]
    page_url = row.get("page_url")
    pairs = [(src, _NO_PAGE.resolve(src) if src else None, alt) for src, alt in mentions]
    return pairs, page_url if isinstance(page_url, str) else "", _json(row) if row else None


_NO_PAGE = Resolver("")


def _value(row: Row, path: Path) -> Any:
    """The value in a column, which is removed from the row; or in a field of the column's objects, which stay."""
    if len(path) == 1:
        return row.pop(path[0], None)
    return _field(row.get(path[0]), path[1:])


def _field(value: Any, path: Path) -> Any:
    if isinstance(value, list) and path and value and all(isinstance(item, tuple) for item in value):
        value = dict(value)  # a map
    if isinstance(value, list):
        return [_field(item, path) for item in value]
    if not path or value is None:
        return value
    if not isinstance(value, dict):
        raise _BadRow("a value where an object should be")
    return _field(value.get(path[0]), path[1:])


def _texts(value: Any) -> list[str | None]:
    """The texts in a cell, [None] if it is empty: null, NaN, or a text of NO_TEXT. A list gives all its texts, any other value
    one. Raises _BadRow for an object, since nobody named the field that is meant."""
    if type(value) is str:
        return [None if value in NO_TEXT else value]
    if isinstance(value, list):
        texts: list[str | None] = [text for item in value for text in _texts(item) if text is not None]
        return texts or [None]
    if value is None or (isinstance(value, float) and value != value):
        return [None]
    if isinstance(value, dict | tuple):  # a tuple is an entry of a map
        raise _BadRow(_OBJECT)
    return _texts(value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value))


def _json(row: Row) -> str:
    """Further columns as a JSON object, in the order of the table; a value that JSON cannot hold becomes text."""
    options = orjson.OPT_NON_STR_KEYS | orjson.OPT_PASSTHROUGH_SUBCLASS
    try:
        return orjson.dumps(row, default=_plain, option=options).decode()
    except (TypeError, ValueError):  # integers above 64 bits, lone surrogates
        value = json.loads(json.dumps(row, default=_plain), parse_constant=lambda word: None)  # JSON has no NaN
        return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace").decode()


def _plain(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else str(value)
