"""A shuffle that moves descriptors: each task writes its rows once, ordered by bucket, and hands on byte ranges.

Beam's local runner holds 4 to 7 times the payload of a GroupByKey in memory (a native GroupByKey of rows takes about 720 B
a row). Here one file a task holds one Arrow IPC stream a bucket, and only `SliceRef`s cross the GroupByKey, on a laptop
and on a cluster alike; reading a bucket is one ranged read a task.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa

from wit import parquet, storage
from wit.arrays import Ints, run_starts

OPTIONS = pa.ipc.IpcWriteOptions(compression="lz4")


@dataclass(frozen=True, slots=True, order=True)
class SliceRef:
    """The rows of one bucket in one task's file: bytes [start, start + length)."""

    path: str
    start: int
    length: int
    rows: int


def write_slices(chunks: Iterable[tuple[pa.Table, Ints]], path: str) -> list[tuple[int, SliceRef]]:
    """Writes the local file `path` and returns (bucket, reference) of every slice. In each chunk, (rows, bucket of each),
    rows must be ordered by bucket; chunks are written as they come, so a task holds one of them."""
    refs = []
    with storage.open_write(path) as sink:
        for table, buckets in chunks:
            for start, end in itertools.pairwise([*run_starts(buckets).tolist(), len(buckets)]):
                position = sink.tell()
                with pa.ipc.new_stream(sink, table.schema, options=OPTIONS) as writer:
                    writer.write_table(table.slice(start, end - start))
                ref = SliceRef(path, position, sink.tell() - position, int(end - start))
                refs.append((int(buckets[start]), ref))
    return refs


def read_slices(refs: Iterable[SliceRef], schema: pa.Schema) -> pa.Table:
    """The rows of all references, in the order of the references' paths and offsets, whatever order they came in."""
    tables = [parse(ref.path, storage.read_range(ref.path, ref.start, ref.length)) for ref in sorted(refs)]
    return pa.concat_tables(tables).combine_chunks() if tables else schema.empty_table()


def parse(path: str, data: bytes) -> pa.Table:
    """The rows of an Arrow stream that was read from a file; raises DamagedFile where it is none."""
    with parquet.naming(path):
        return pa.ipc.open_stream(pa.BufferReader(data)).read_all()
