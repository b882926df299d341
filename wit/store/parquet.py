"""The only code that reads parquet files, since one of the library's readers crashes short processes as they end.

`pyarrow.parquet.read_table` of a Python file object leaves threads that still want the interpreter when it goes: 24 of 40
short processes ended in SIGABRT after their last line (pyarrow 25.0.1; docs/log.md has the program). A native file or
`ParquetFile` leaves none: 0 of 40. A test holds everybody to this module.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from wit.damage import damaged
from wit.store import fs
from wit.store.scratch import scratch_dir


def read_table(path: str, columns: Sequence[str] | None = None) -> pa.Table:
    """The rows of a file: these columns in this order, or all; one request for a remote file. Raises DamagedFile where the file
    is damaged or lacks a column, OSError where it is missing."""
    if fs.is_local(path):
        with open_file(path) as file:
            return _read(path, file, columns)
    return _read(path, File(path, pa.BufferReader(fs.read_bytes(path))), columns)


def _read(path: str, file: File, columns: Sequence[str] | None) -> pa.Table:
    if columns is None:
        return file.read()
    if missing := set(columns) - set(file.schema_arrow.names):
        raise damaged(path, f"it has no column {', '.join(sorted(missing))}")
    return file.read(columns=list(columns)).select(list(columns))  # `read` has them in the order of the file


@contextlib.contextmanager
def naming(path: str) -> Iterator[None]:
    """Turns an Arrow error of the block into DamagedFile, with this path. An OSError with an errno passes unchanged."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise damaged(path, error) from error


class File(pq.ParquetFile):  # type: ignore[misc]
    """A parquet file that a build wrote. The methods below read as the library's do, and raise DamagedFile if it is damaged."""

    def __init__(self, path: str, source: Any) -> None:
        self._path = path
        with naming(path):
            super().__init__(source)

    def read(self, *args: Any, **kwargs: Any) -> pa.Table:
        with naming(self._path):
            return super().read(*args, **kwargs)

    def read_row_group(self, *args: Any, **kwargs: Any) -> pa.Table:
        with naming(self._path):
            return super().read_row_group(*args, **kwargs)

    def read_row_groups(self, *args: Any, **kwargs: Any) -> pa.Table:
        with naming(self._path):
            return super().read_row_groups(*args, **kwargs)

    def iter_batches(self, *args: Any, **kwargs: Any) -> Iterator[pa.RecordBatch]:
        batches = super().iter_batches(*args, **kwargs)
        while True:
            with naming(self._path):
                batch = next(batches, None)
            if batch is None:
                return
            yield batch


@contextlib.contextmanager
def open_file(path: str) -> Iterator[File]:
    """A file to read in pieces: its row groups or batches."""
    if fs.is_local(path):
        with pa.OSFile(fs.local_path(path)) as file:
            yield File(path, file)
        return
    with fs.open_read(path) as stream:
        yield File(path, stream)


def of_stream(stream: IO[bytes]) -> pq.ParquetFile:
    """Somebody else's parquet file, to read in pieces from a seekable stream; errors are the library's own."""
    return pq.ParquetFile(stream)


ROW_GROUP = 1 << 17
WRITTEN: dict[str, Any] = {"compression": "zstd", "compression_level": 3, "store_schema": True}


def write_parquet(table: pa.Table, path: str, *, row_group_size: int = ROW_GROUP) -> None:
    """Writes a local file, the same bytes for the same rows: fixed codec and row groups, no metadata but the schema."""
    pq.write_table(table, path, row_group_size=row_group_size, **WRITTEN)


def publish_tables(tables: Iterable[pa.Table], schema: pa.Schema, path: str, *, out: str) -> None:
    """As `publish_table` of all these tables behind one another, the same bytes; holds one row group and one table."""
    with scratch_dir(out) as scratch:
        local = f"{scratch}/table.parquet"
        with pq.ParquetWriter(local, schema, **WRITTEN) as writer:
            for group in _row_groups(tables, schema):
                writer.write_table(group, row_group_size=ROW_GROUP)
        fs.publish(local, path)


def _row_groups(tables: Iterable[pa.Table], schema: pa.Schema) -> Iterator[pa.Table]:
    held = schema.empty_table()
    for table in tables:
        held = pa.concat_tables([held, table])
        while len(held) >= ROW_GROUP:
            yield held.slice(0, ROW_GROUP).combine_chunks()
            held = held.slice(ROW_GROUP)
    yield held.combine_chunks()


def publish_table(table: pa.Table, path: str, *, out: str, row_group_size: int = ROW_GROUP) -> None:
    """Writes the table to `path`, whole or not at all; replaces what was there. It is made in OUT's scratch directory first."""
    with scratch_dir(out) as scratch:
        local = f"{scratch}/table.parquet"
        write_parquet(table, local, row_group_size=row_group_size)
        fs.publish(local, path)
