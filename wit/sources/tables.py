"""Pairs out of tables: parquet, csv, tsv, txt, json and jsonl files, each also .gz or .zst.

The files that img2dataset, LAION, DataComp and cc2dataset write or read work as they are: the columns are found by their
usual names, in tables without a header by what is in them. A txt file holds one URL a line. Further columns are carried
along as one JSON object a row.
"""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import json
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import IO, Any

import orjson
import pyarrow as pa
import zstandard

from wit import parquet
from wit.images.expected import expected_hash
from wit.records import InputError
from wit.sources.batch import PairBatch, SourceFile, SourceReport
from wit.sources.pages import BATCH_PAIRS, EXTRACTOR_ERROR
from wit.sources.reading import RequestBudget, open_source
from wit.urls import Resolver

URL_NAMES = ("url", "image_url", "img_url", "imageurl", "image", "img", "src", "link")
CAPTION_NAMES = ("caption", "text", "alt", "alt_text", "top_caption", "title", "description")
FORMATS = ("parquet", "csv", "tsv", "txt", "jsonl", "ndjson", "json")
MAX_CELL_CHARS = 32 << 20
MAX_LINES_PER_ROW = 64  # of a tsv row whose quoted cells hold line breaks; a stray quote swallows no more
MAX_GROUP_ROWS = 1 << 24  # what the footer of a damaged file says of its rows may be anything
MAX_JSON_BYTES = 1 << 30  # a json file is one value and must be held whole; jsonl has no limit

# What reading a damaged file raises.
DAMAGE = (OSError, EOFError, zlib.error, zstandard.ZstdError, pa.ArrowException, UnicodeDecodeError)

Row = dict[str, Any]


def format_of(path: str) -> tuple[str, str]:
    """(format, compression) by the name of a file; raises InputError for others."""
    name = path.lower()
    compression = next((suffix for suffix in (".gz", ".zst") if name.endswith(suffix)), "")
    form = name.removesuffix(compression).rpartition(".")[2]
    if form not in FORMATS:
        raise InputError(
            f"cannot tell the format of {path}: name it .{', .'.join(FORMATS)}, or one of these with .gz or .zst"
        )
    return form, compression


def read_table(file: SourceFile, report: SourceReport, budget: RequestBudget | None = None) -> Iterator[PairBatch]:
    """The pairs of a table, one a row."""
    form, compression = format_of(file.path)
    with open_source(file.path, report, budget) as stream:
        report.bytes = stream.seek(0, io.SEEK_END)
        stream.seek(0)
        yield from _batches(_READERS[form](_inflated(stream, compression), report), file, report)


class MissingColumn(InputError):
    """A table without the column it is asked for."""


def _inflated(stream: IO[bytes], compression: str) -> IO[bytes]:
    if compression == ".gz":
        return io.BufferedReader(gzip.GzipFile(fileobj=stream))
    if compression == ".zst":
        return io.BufferedReader(_ZstdStream(stream))
    return stream


class _ZstdStream(io.RawIOBase):
    """The content of all frames; raises EOFError where the last is cut off, which zstandard's own reader passes over."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._frame: zstandard.ZstdDecompressionObj | None = None
        self._pending = b""  # input behind the end of a frame
        self._content = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._content:
            piece = self._pending or self._stream.read(4 << 10)  # small: it may grow a thousandfold
            if not piece:
                if self._frame is not None:
                    raise EOFError("the last zstd frame is cut off")
                return 0
            self._frame = self._frame or zstandard.ZstdDecompressor().decompressobj()
            self._content, self._pending = self._frame.decompress(piece), b""
            if self._frame.eof:
                self._pending, self._frame = self._frame.unused_data, None
        size = min(len(buffer), len(self._content))
        buffer[:size] = self._content[:size]
        self._content = self._content[size:]
        return size


@dataclass(frozen=True, slots=True)
class _Columns:
    url: str
    caption: str | None


def columns_of(names: Iterable[str], file: SourceFile) -> _Columns:
    """The columns that hold URL and caption; raises MissingColumn where one that was asked for is not there. The name
    `url` asks for nothing: it is what the command line says when the user does not."""
    have = list(names)
    folded = {name.lower(): name for name in reversed(have)}
    url = file.url_col if file.url_col in have else None
    if url is None and file.url_col in (None, "url"):
        url = next((folded[name] for name in URL_NAMES if name in folded), None)
    if url is None:
        raise MissingColumn(
            f"{file.path} has no column {file.url_col or 'url'}: say which holds the URL with --url-col, of {', '.join(have)}"
        )
    if file.caption_col is not None and file.caption_col not in have:
        raise MissingColumn(
            f"{file.path} has no column {file.caption_col}: say which holds the text with --caption-col, of {', '.join(have)}"
        )
    return _Columns(url, file.caption_col or next((folded[name] for name in CAPTION_NAMES if name in folded), None))


def check_columns(file: SourceFile) -> None:
    """Raises MissingColumn if the first row of a local table lacks a column that is asked for; damage is left to be
    reported when the table is read."""
    row = _first_row(file)
    if row is not None:
        columns_of(row, file)


def _first_row(file: SourceFile) -> Row | None:
    form, compression = format_of(file.path)
    report = SourceReport(file.path)
    with open_source(file.path, report) as stream:
        try:
            return next((row for row in _READERS[form](_inflated(stream, compression), report) if row), None)
        except DAMAGE:
            return None


def check_hashes(files: Iterable[SourceFile], column: str) -> None:
    """Raises InputError unless the first row of one of these tables has a hash, or nothing, in this column."""
    rows = [row for file in files if file.kind == "table" and (row := _first_row(file))]
    have = sorted({name for row in rows for name in row})
    if column not in have:
        raise InputError(f"--verify-hash {column}: no table has such a column; have {', '.join(have) or 'no table'}")
    found = [row[column] for row in rows if column in row]
    if all(expected_hash(column, value) == "none:" for value in found):
        raise InputError(
            f"--verify-hash {column}: {found[0]!r} is no md5, sha256 or sha512, nor a PDQ with pdq in its name"
        )


def _batches(rows: Iterator[Row | None], file: SourceFile, report: SourceReport) -> Iterator[PairBatch]:
    """Batches of the rows; None stands for a row that was lost, which keeps its number. Where reading fails, the rows
    before are given out and the report says why there are no more."""
    batch, columns = PairBatch(), None
    while True:
        try:
            row = next(rows)
            columns = columns if row is None or (columns and columns.url in row) else columns_of(row, file)
        except StopIteration:
            break
        except (*DAMAGE, MissingColumn) as error:
            report.error = str(error).partition("\n")[0] or type(error).__name__
            break
        except Exception as error:  # likewise, of the file: the rows before are not lost with it
            report.error = f"cannot be read: {type(error).__name__}: {error}"
            break
        if row is not None and columns is not None:
            try:
                pair = _pair(row, columns)
            except Exception:  # strangers wrote the row: what we did not think of costs it, by name, and not the build
                report.lose(EXTRACTOR_ERROR)
            else:
                batch.add_row(report.records, *pair)
        report.records += 1
        if len(batch) >= BATCH_PAIRS:
            report.pairs += len(batch)
            yield batch
            batch = PairBatch()
    report.pairs += len(batch)
    if batch:
        yield batch


def _pair(row: Row, columns: _Columns) -> tuple[str | None, str | None, str | None, str, str | None]:
    """(source, URL, alt, page URL, further columns) of a row."""
    src = _cell_text(row.pop(columns.url))
    alt = _cell_text(row.pop(columns.caption, None)) if columns.caption else None
    page_url = row.get("page_url")
    url = _NO_PAGE.resolve(src) if src else None
    return src, url, alt, page_url if isinstance(page_url, str) else "", _json(row) if row else None


_NO_PAGE = Resolver("")


def _cell_text(value: Any) -> str | None:
    """A cell as text; the first of a list; None for what is empty by type (null, NaN)."""
    if isinstance(value, list):
        value = value[0] if value else None
    if value is None or (isinstance(value, float) and value != value):
        return None
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _json(row: Row) -> str:
    """Further columns as a JSON object in the order of the table; what JSON cannot hold, as text."""
    options = orjson.OPT_NON_STR_KEYS | orjson.OPT_PASSTHROUGH_SUBCLASS
    try:
        return orjson.dumps(row, default=_plain, option=options).decode()
    except (TypeError, ValueError):  # integers above 64 bits, lone surrogates
        value = json.loads(json.dumps(row, default=_plain), parse_constant=lambda word: None)  # JSON has no NaN
        return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace").decode()


def _plain(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else str(value)


# Readers: each yields the rows of one format, and None for a row that it had to give up and counted.


def _read_parquet(stream: IO[bytes], report: SourceReport) -> Iterator[Row | None]:
    if (
        not stream.seekable()
        or isinstance(stream, gzip.GzipFile | io.BufferedReader)
        and hasattr(stream, "raw") is False
    ):
        stream = io.BytesIO(stream.read())
    table = parquet.of_stream(stream)
    for group in range(table.num_row_groups):
        done = 0
        try:
            for batch in table.iter_batches(batch_size=BATCH_PAIRS, row_groups=[group]):
                yield from _rows_of(batch, report)
                done += batch.num_rows
        except (pa.ArrowException, OSError) as error:
            missing = min(max(table.metadata.row_group(group).num_rows - done, 1), MAX_GROUP_ROWS)
            report.lose("corrupt_row_group", missing)
            report.error = f"row group {group} is damaged: {error}".splitlines()[0]
            yield from itertools.repeat(None, missing)


def _rows_of(batch: pa.RecordBatch, report: SourceReport) -> list[Row | None]:
    try:
        return batch.to_pylist()  # type: ignore[no-any-return]
    except (ValueError, OverflowError):  # text that is no UTF-8; dates that Python has none for
        return [_row_of(batch.slice(number, 1), report) for number in range(batch.num_rows)]


def _row_of(batch: pa.RecordBatch, report: SourceReport) -> Row | None:
    """A row of its own batch: text that is no UTF-8 is repaired; None where a value cannot be had."""
    try:
        return batch.to_pylist()[0]  # type: ignore[no-any-return]
    except UnicodeDecodeError:
        report.repair("bad_encoding")
    except (ValueError, OverflowError):
        report.lose("bad_row")
        return None
    columns = [column.cast(pa.binary()) if pa.types.is_string(column.type) else column for column in batch.columns]
    row = pa.RecordBatch.from_arrays(columns, names=batch.schema.names).to_pylist()[0]
    return {name: v.decode("utf-8", "replace") if isinstance(v, bytes) else v for name, v in row.items()}


def _lines(stream: IO[bytes], report: SourceReport) -> Iterator[str]:
    """The lines of a file, without their ends; bytes that are no UTF-8 are replaced, and the line counted as repaired."""
    for number, line in enumerate(iter(lambda: stream.readline(MAX_CELL_CHARS), b"")):
        if number == 0:
            line = line.removeprefix(b"\xef\xbb\xbf")
        try:
            yield line.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError:
            report.repair("bad_encoding")
            yield line.decode("utf-8", "replace").rstrip("\r\n")


def _read_txt(stream: IO[bytes], report: SourceReport) -> Iterator[Row | None]:
    for line in _lines(stream, report):
        if line.strip():
            yield {"url": line.strip()}


def _read_jsonl(stream: IO[bytes], report: SourceReport) -> Iterator[Row | None]:
    for line in _lines(stream, report):
        if not line.strip():
            continue
        row = _parse_json(line)
        if not isinstance(row, dict):
            report.lose("bad_json")
            row = None
        yield row


def _parse_json(text: str | bytes) -> Any:
    """The value, or None: what orjson refuses (NaN, lone surrogates) the standard library may take."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        pass
    try:
        return json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return None


def _read_json(stream: IO[bytes], report: SourceReport) -> Iterator[Row | None]:
    """One JSON value: a list of objects, or an object of columns (lists, or objects by row number as pandas writes them);
    files of one object a line go by this name too."""
    data = stream.read(MAX_JSON_BYTES + 1)
    if len(data) > MAX_JSON_BYTES:
        report.error = f"is larger than {MAX_JSON_BYTES:,} bytes: convert it to jsonl or parquet"
        return
    value = _parse_json(data.removeprefix(b"\xef\xbb\xbf"))
    if not isinstance(value, list) and not _is_columns(value):
        yield from _read_jsonl(io.BytesIO(data), report)
        return
    rows = value if isinstance(value, list) else _rows_of_columns(value)
    for row in rows:
        if not isinstance(row, dict):
            report.lose("bad_row")
        yield row if isinstance(row, dict) else None


def _is_columns(value: Any) -> bool:
    return isinstance(value, dict) and bool(value) and all(isinstance(column, list | dict) for column in value.values())


def _rows_of_columns(columns: Row) -> Iterator[Row]:
    values = [list(column.values()) if isinstance(column, dict) else column for column in columns.values()]
    for row in itertools.zip_longest(*values):
        yield dict(zip(columns, row, strict=True))


def _read_csv(stream: IO[bytes], report: SourceReport) -> Iterator[Row | None]:
    csv.field_size_limit(MAX_CELL_CHARS)
    lines = (f"{line}\n" for line in _lines(stream, report))
    return _with_header(_csv_cells(lines, report), report)


def _csv_cells(lines: Iterator[str], report: SourceReport) -> Iterator[list[str] | None]:
    rows = csv.reader(lines)
    while True:
        try:
            cells = next(rows)
        except StopIteration:
            return
        except csv.Error:  # a cell above the limit
            yield None
            continue
        if cells:
            yield cells


def _read_tsv(stream: IO[bytes], report: SourceReport) -> Iterator[Row | None]:
    return _with_header(_tsv_cells(_lines(stream, report)), report)


def _tsv_cells(lines: Iterator[str]) -> Iterator[list[str] | None]:
    """Cells of a tsv file, of which there are two kinds: with quotes as csv has them, and without any meaning of quotes
    (CC3M's). A cell is unquoted if it begins and ends with a quote; a row that lacks cells and has a quote open goes on in
    the next line."""
    width = 0
    for line in lines:
        cells = line.split("\t")
        ahead: list[str] = []
        while len(cells) < width and _open_quote(cells[-1]) and len(ahead) < MAX_LINES_PER_ROW:
            following = next(lines, None)
            if following is None:
                break
            ahead.append(following)
            more = following.split("\t")
            cells = [*cells[:-1], f"{cells[-1]}\n{more[0]}", *more[1:]]
        width = width or len(cells)
        if line or len(cells) > 1:
            yield [_unquoted(cell) for cell in cells]


def _open_quote(cell: str) -> bool:
    return cell.startswith('"') and cell.count('"') % 2 == 1


def _unquoted(cell: str) -> str:
    if len(cell) >= 2 and cell[0] == cell[-1] == '"' and cell.count('"') % 2 == 0:
        return cell[1:-1].replace('""', '"')
    return cell


def _with_header(rows: Iterator[list[str] | None], report: SourceReport) -> Iterator[Row | None]:
    """Rows by column name: by the first row, or by what is in it where it is no header but holds a URL already."""
    first = next(rows, None)
    if first is None:
        return
    names = first
    if any(_looks_like_url(cell) for cell in first):
        names = _names_by_content(first)
        rows = itertools.chain([first], rows)
    for cells in rows:
        if cells is None or len(cells) != len(names):
            report.lose("bad_row")
            yield None
        else:
            yield dict(zip(names, cells, strict=True))


def _looks_like_url(cell: str) -> bool:
    return cell.strip().lower().startswith(("http://", "https://"))


def _names_by_content(cells: list[str]) -> list[str]:
    """`url` for the first URL, `caption` for the first other cell, `column_3` and so on for the rest."""
    names = [f"column_{place}" for place in range(1, len(cells) + 1)]
    url = next(place for place, cell in enumerate(cells) if _looks_like_url(cell))
    names[url] = "url"
    others = [place for place in range(len(cells)) if place != url]
    if others:
        names[others[0]] = "caption"
    return names


_READERS: dict[str, Callable[[IO[bytes], SourceReport], Iterator[Row | None]]] = {
    "parquet": _read_parquet,
    "csv": _read_csv,
    "tsv": _read_tsv,
    "txt": _read_txt,
    "json": _read_json,
    "jsonl": _read_jsonl,
    "ndjson": _read_jsonl,
}
