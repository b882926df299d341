"""The only code that reads parquet files. Beside it the library has a reader that lies in wait for a process's end.

`pyarrow.parquet.read_table` of a Python file object leaves threads that still want the interpreter when it goes: 24 of 40
short processes ended in SIGABRT after their last line (pyarrow 25.0.1; docs/log.md has the program). A native file or
`ParquetFile` leaves none: 0 of 40. A test holds everybody to this module.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from wit import storage


def read_table(path: str, columns: Sequence[str] | None = None) -> pa.Table:
    """The rows of a file, of these columns in this order; one request where it is remote. Raises OSError or ArrowException
    where the file is missing, damaged or without one of them."""
    if storage.is_local(path):
        with open_file(path) as file:
            return _read(file, columns)
    return parse(storage.read_bytes(path), columns)


def parse(data: bytes, columns: Sequence[str] | None = None) -> pa.Table:
    """As `read_table`, of a file that is in memory."""
    return _read(pq.ParquetFile(pa.BufferReader(data)), columns)


def _read(file: pq.ParquetFile, columns: Sequence[str] | None) -> pa.Table:
    if columns is None:
        return file.read()
    if missing := set(columns) - set(file.schema_arrow.names):
        raise pa.ArrowInvalid(f"has no column {', '.join(sorted(missing))}")
    return file.read(columns=list(columns)).select(list(columns))  # `read` has them in the order of the file


@contextlib.contextmanager
def open_file(path: str) -> Iterator[pq.ParquetFile]:
    """A file to read in pieces: its row groups or batches."""
    if storage.is_local(path):
        with pa.OSFile(storage.local_path(path)) as file:
            yield pq.ParquetFile(file)
        return
    with storage.open_read(path) as stream:
        yield of_stream(stream)


def of_stream(stream: IO[bytes]) -> pq.ParquetFile:
    """A file to read in pieces, from a seekable stream."""
    return pq.ParquetFile(stream)
