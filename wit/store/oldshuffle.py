"""A shuffle that moves descriptors: each task writes its rows once, ordered by bucket, and hands on byte ranges.

Beam's local runner holds 4 to 7 times the payload of a GroupByKey in memory (a native GroupByKey of rows takes about 720 B
a row). Here each task writes one file, with one Arrow IPC stream a bucket, and a second file that says where each stream begins.
Only `SliceRef`s cross the GroupByKey, on a laptop and on a cluster alike. Reading a bucket is one ranged read a task.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa

from wit.arrays import Ints, run_starts
from wit.damage import damaged
from wit.store import fs, parquet
from wit.store.manifests import Marker
from wit.store.parts import StageDir
from wit.typed import load

OPTIONS = pa.ipc.IpcWriteOptions(compression="lz4")


@dataclass(frozen=True, slots=True, order=True)
class SliceRef:
    """The rows of one bucket in one task's file: bytes [start, start + length)."""

    path: str
    start: int
    length: int
    rows: int


def write_slices(chunks: Iterable[tuple[pa.Table, Ints]], path: str) -> list[tuple[int, SliceRef]]:
    """Writes the local file `path`; returns (bucket, reference) of every slice. A chunk is (rows, bucket of each row), its rows
    ordered by bucket. Chunks are written as they come, so a task holds one at a time."""
    refs = []
    with fs.open_write(path) as sink:
        for table, buckets in chunks:
            for start, end in itertools.pairwise([*run_starts(buckets).tolist(), len(buckets)]):
                position = sink.tell()
                with pa.ipc.new_stream(sink, table.schema, options=OPTIONS) as writer:
                    writer.write_table(table.slice(start, end - start))
                ref = SliceRef(path, position, sink.tell() - position, int(end - start))
                refs.append((int(buckets[start]), ref))
    return refs


SLICES, INDEX = "slices", "index"  # labels of a scattered unit's files


def scatter_to(scratch: str, chunks: Iterable[tuple[pa.Table, Ints]]) -> dict[str, str]:
    """Writes the slices of a unit and their index to local files, for `StageDir.publish`."""
    files = {SLICES: fs.join(scratch, "slices.arrow"), INDEX: fs.join(scratch, "index.json")}
    written = [[bucket, ref.start, ref.length, ref.rows] for bucket, ref in write_slices(chunks, files[SLICES])]
    fs.write_bytes(files[INDEX], json.dumps(written).encode())
    return files


def slice_refs(stage: StageDir, marker: Marker) -> list[tuple[int, SliceRef]]:
    """What crosses the shuffle: (bucket, reference) of every slice of the unit."""
    path = stage.file(marker, SLICES)
    # Up to version 0.3 the index stood in the marker itself.
    index = _index(stage.file(marker, INDEX)) if INDEX in marker.files else stage.facts(marker, Scattered).slices
    return [(bucket, SliceRef(path, start, length, rows)) for bucket, start, length, rows in index]


Index = tuple[tuple[int, ...], ...]  # (bucket, start, length, rows) of each slice


@dataclass(frozen=True, slots=True)
class Scattered:
    """The index of a scattered unit, as markers held it up to version 0.3."""

    slices: Index


def _index(path: str) -> Index:
    try:
        return load(Index, json.loads(fs.read_bytes(path)))
    except ValueError as error:
        raise damaged(path, error) from error


def read_slices(refs: Iterable[SliceRef], schema: pa.Schema) -> pa.Table:
    """The rows of all references, sorted by path and offset, whatever order the references came in."""
    tables = [parse(ref.path, fs.read_range(ref.path, ref.start, ref.length)) for ref in sorted(refs)]
    return pa.concat_tables(tables).combine_chunks() if tables else schema.empty_table()


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
