"""Arrow streams in files: a whole table, or batch by batch."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pyarrow as pa

from wit.store import fs, parquet

# Beside lz4, two thirds of the size for more CPU: of plan's rows 79 B in place of 126, and 0.3 us a row to write, 0.25 to read.
OPTIONS = pa.ipc.IpcWriteOptions(compression=pa.Codec("zstd", compression_level=1))


def write_stream(table: pa.Table, path: str, *, rows: int | None = None) -> None:
    """Writes a local file that `parse` reads, in batches of at most that many rows."""
    with fs.open_write(path) as sink, pa.ipc.new_stream(sink, table.schema, options=OPTIONS) as writer:
        writer.write_table(table, max_chunksize=rows)


@contextlib.contextmanager
def streamed(path: str) -> Iterator[Iterator[pa.RecordBatch]]:
    """The batches of a local file that `write_stream` wrote; none of them is empty."""
    with fs.open_read(path) as stream, parquet.naming(path), pa.ipc.open_stream(stream) as batches:
        yield (batch for batch in batches if len(batch))


def parse(path: str, data: bytes) -> pa.Table:
    """The rows of an Arrow stream whose bytes were read from `path`; raises DamagedFile where they are no such stream."""
    with parquet.naming(path):
        return pa.ipc.open_stream(pa.BufferReader(data)).read_all()


def read_stream(path: str) -> pa.Table:
    """The rows of a file that `write_stream` wrote; raises DamagedFile where it holds something else."""
    return parse(path, fs.read_bytes(path))
