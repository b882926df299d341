"""Rows of tables, format by format. Each reader yields the rows of one format as dicts, and None for a lost row, which it has
counted."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any

import orjson
import pyarrow as pa

from wit.sources.batch import SourceFile, SourceReport
from wit.sources.delimited import Lines, csv_rows, tsv_rows
from wit.sources.pages import BATCH_PAIRS
from wit.sources.text import LOOKED_AT_BYTES, MARKED, UNDECODED, encoding_of, lines, pieces, read_up_to
from wit.store import parquet

URL_NAMES = ("url", "image_url", "img_url", "imageurl", "image", "img", "src", "link")
MAX_GROUP_ROWS = 1 << 24  # the footer of a damaged file may claim any number of rows
MAX_JSON_BYTES = 1 << 30  # a json file is one value and must be held whole; jsonl has no limit

NO_VALUE = "a value that cannot be had"
OPEN_QUOTE = "a quote is left open"

Row = dict[str, Any]


def read_rows(form: str, stream: IO[bytes], file: SourceFile, report: SourceReport) -> Iterator[Row | None]:
    """The rows of an uncompressed file in one of `FORMATS`. If the user named an encoding, rows with bytes that it does not have
    are lost."""
    rows = READERS[form](stream, file, report)
    return _decodable(rows, file.encoding, report) if file.encoding and form != "parquet" else rows


def _decodable(rows: Iterator[Row | None], encoding: str, report: SourceReport) -> Iterator[Row | None]:
    for row in rows:
        if row is not None and _has_undecoded(row):
            report.lose_row("bad_row", f"bytes that {encoding} does not have")
            row = None
        yield row


def _has_undecoded(value: Any) -> bool:
    if isinstance(value, str):
        return UNDECODED in value
    if isinstance(value, dict):
        return any(_has_undecoded(item) for pair in value.items() for item in pair)
    return isinstance(value, list) and any(map(_has_undecoded, value))


def _read_parquet(stream: IO[bytes], file: SourceFile, report: SourceReport) -> Iterator[Row | None]:
    if not stream.seekable():
        stream = io.BytesIO(stream.read())
    table = parquet.of_stream(stream)
    for group in range(table.num_row_groups):
        done = 0
        try:
            for batch in table.iter_batches(batch_size=BATCH_PAIRS, row_groups=[group]):
                yield from _rows_of(batch.rename_columns(distinct(batch.schema.names)), report)
                done += batch.num_rows
        except (pa.ArrowException, OSError) as error:
            missing = min(max(table.metadata.row_group(group).num_rows - done, 1), MAX_GROUP_ROWS)
            report.lose_row("corrupt_row_group", f"row group {group} is damaged from here on", missing)
            report.error = f"row group {group} is damaged: {error}".splitlines()[0]
            yield from itertools.repeat(None, missing)


def _rows_of(batch: pa.RecordBatch, report: SourceReport) -> list[Row | None]:
    try:
        return batch.to_pylist()  # type: ignore[no-any-return]
    except (ValueError, OverflowError):  # text that is no UTF-8; dates beyond Python's
        return [_row_of(batch, number, report) for number in range(batch.num_rows)]


def _row_of(rows: pa.RecordBatch, number: int, report: SourceReport) -> Row | None:
    """One row of a batch, text that is no UTF-8 repaired; None where Python cannot hold a value."""
    batch = rows.slice(number, 1)
    try:
        return batch.to_pylist()[0]  # type: ignore[no-any-return]
    except UnicodeDecodeError:
        report.repair("bad_encoding")
    except (ValueError, OverflowError):
        report.lose_row("bad_row", NO_VALUE, ahead=number)
        return None
    try:
        return {name: _repaired(column) for name, column in zip(batch.schema.names, batch.columns, strict=True)}
    except (ValueError, OverflowError, pa.ArrowException):
        report.lose_row("bad_row", NO_VALUE, ahead=number)
        return None


def _repaired(column: pa.Array) -> Any:
    """The only value of a column; bytes that are no UTF-8 are replaced."""
    try:
        return column[0].as_py()
    except UnicodeDecodeError:
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        return _decoded(column.cast(_of_bytes(column.type))[0].as_py())


def _of_bytes(kind: pa.DataType) -> pa.DataType:
    """The type with bytes in place of text."""
    if pa.types.is_string(kind):
        return pa.binary()
    if pa.types.is_large_string(kind):
        return pa.large_binary()
    if pa.types.is_list(kind):
        return pa.list_(_of_bytes(kind.value_type))
    if pa.types.is_large_list(kind):
        return pa.large_list(_of_bytes(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([(field.name, _of_bytes(field.type)) for field in kind])
    return kind


def _decoded(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, list):
        return [_decoded(item) for item in value]
    return {name: _decoded(item) for name, item in value.items()} if isinstance(value, dict) else value


def _read_txt(stream: IO[bytes], file: SourceFile, report: SourceReport) -> Iterator[Row | None]:
    for number, line in enumerate(lines(stream, report, file.encoding), 1):
        report.line = number
        if line.strip():
            yield {"url": line.strip()}


def _read_jsonl(stream: IO[bytes], file: SourceFile, report: SourceReport) -> Iterator[Row | None]:
    for number, line in enumerate(lines(stream, report, file.encoding), 1):
        report.line = number
        if not line.strip():
            continue
        row = _parse_json(line)
        if not isinstance(row, dict):
            report.lose_row("bad_json", "no JSON object")
            row = None
        yield row


def _parse_json(text: str | bytes) -> Any:
    """The value, or None. The standard library may take what orjson refuses: NaN, lone surrogates."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        pass
    try:
        return json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return None


def _read_json(stream: IO[bytes], file: SourceFile, report: SourceReport) -> Iterator[Row | None]:
    """The rows of one JSON value: a list of objects, or an object of columns (lists, or objects by row number, as pandas writes
    them). Some files of one object a line are named .json too."""
    data, failed = read_up_to(pieces(stream), MAX_JSON_BYTES + 1)
    if len(data) > MAX_JSON_BYTES:
        report.error = f"is larger than {MAX_JSON_BYTES:,} bytes: convert it to jsonl or parquet"
        return
    encoding = file.encoding or encoding_of(data[:LOOKED_AT_BYTES])
    text = data.decode(encoding, MARKED if file.encoding else "replace").removeprefix("\ufeff") if encoding else None
    value = _parse_json(data.removeprefix(b"\xef\xbb\xbf") if text is None else text)
    if failed is not None:
        whole = data[: data.rfind(b"\n") + 1]  # lines, if it is one object a line
        yield from () if data.lstrip()[:1] == b"[" else _read_jsonl(io.BytesIO(whole), file, report)
        raise failed
    if not isinstance(value, list) and not _is_columns(value):
        yield from _read_jsonl(io.BytesIO(data), file, report)
        return
    rows = value if isinstance(value, list) else _rows_of_columns(value)
    for row in rows:
        if not isinstance(row, dict):
            report.lose_row("bad_row", "no JSON object")
        yield row if isinstance(row, dict) else None


def _is_columns(value: Any) -> bool:
    return isinstance(value, dict) and bool(value) and all(isinstance(column, list | dict) for column in value.values())


def _rows_of_columns(columns: Row) -> Iterator[Row]:
    if all(isinstance(column, dict) for column in columns.values()):  # by the number of the row, which some may lack
        for number in dict.fromkeys(key for column in columns.values() for key in column):
            yield {name: column.get(number) for name, column in columns.items()}
        return
    values = [list(column.values()) if isinstance(column, dict) else column for column in columns.values()]
    for row in itertools.zip_longest(*values):
        yield dict(zip(columns, row, strict=True))


def _read_csv(stream: IO[bytes], file: SourceFile, report: SourceReport) -> Iterator[Row | None]:
    source = Lines(lines(stream, report, file.encoding))
    return _with_header(csv_rows(source, looks_like_url, _place_of(file)), source, report)


def _read_tsv(stream: IO[bytes], file: SourceFile, report: SourceReport) -> Iterator[Row | None]:
    source = Lines(lines(stream, report, file.encoding))
    return _with_header(tsv_rows(source, looks_like_url, _place_of(file)), source, report)


def _place_of(file: SourceFile) -> Callable[[list[str]], int]:
    """A function that finds the URL's column among names of columns; it returns -1 where there is none."""
    names = (file.url_col.strip().lower(),) if file.url_col else URL_NAMES

    def place(cells: list[str]) -> int:
        folded = [cell.strip().lower() for cell in cells]
        return next((folded.index(name) for name in names if name in folded), -1)

    return place


def _with_header(rows: Iterator[list[str] | None], source: Lines, report: SourceReport) -> Iterator[Row | None]:
    """Rows as {column name: cell}. The first row has the names; if it holds a URL, it is no header, and its cells give names."""
    first = next(rows, None)
    if first is None:
        return
    names = distinct(cell.strip() for cell in first)
    if any(map(looks_like_url, first)):
        names = _names_by_content(first)
        rows = itertools.chain([first], rows)
    report.delimiter = source.delimiter
    for cells in rows:
        report.line = source.row
        if cells is None or len(cells) != len(names):
            report.lose_row("bad_row", OPEN_QUOTE if cells is None else f"{_cells(len(cells))}, not {len(names):,}")
            yield None
        else:
            yield dict(zip(names, cells, strict=True))


def _cells(count: int) -> str:
    return f"{count:,} cell" + "s" * (count != 1)


def distinct(names: Iterable[str]) -> list[str]:
    """The names of columns, made distinct: the first keeps its name, further ones alike get a number."""
    taken: dict[str, None] = {}
    last: dict[str, int] = {}
    for name in names:
        free = name
        while free in taken:
            last[name] = last.get(name, 1) + 1
            free = f"{name}_{last[name]}"
        taken[free] = None
    return list(taken)


def looks_like_url(cell: str) -> bool:
    return cell.strip().lower().startswith(("http://", "https://", "//"))


def _names_by_content(cells: list[str]) -> list[str]:
    """`url` for the first URL, `caption` for the first other cell, `column_3` and so on for the rest."""
    names = [f"column_{place}" for place in range(1, len(cells) + 1)]
    url = next(place for place, cell in enumerate(cells) if looks_like_url(cell))
    names[url] = "url"
    others = [place for place in range(len(cells)) if place != url]
    if others:
        names[others[0]] = "caption"
    return names


READERS: dict[str, Callable[[IO[bytes], SourceFile, SourceReport], Iterator[Row | None]]] = {
    "parquet": _read_parquet,
    "csv": _read_csv,
    "tsv": _read_tsv,
    "txt": _read_txt,
    "jsonl": _read_jsonl,
    "ndjson": _read_jsonl,
    "json": _read_json,
}
FORMATS = tuple(READERS)
FREE_FORMATS = ("json", "jsonl", "ndjson")  # each row may have other names
