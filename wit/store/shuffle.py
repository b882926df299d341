"""The shuffle: tasks deal rows to buckets, and each bucket gets its rows, in the order of the tasks.

It has two forms with the same outcome. On an engine rows travel through the engine's own GroupByKey, as one Arrow batch without
schema for each task and bucket (`Shuffle.batches`). Beam's local runner holds 4 to 7 times the payload of a GroupByKey in memory,
so on one machine rows go through files (`Shuffle.deal`): a task writes one file, its rows ordered by bucket, a record batch for
each, and an index of where each begins. Only `Extent`s cross the GroupByKey: which piece of a file belongs to a block of buckets.

Tasks times buckets grow with the square of the rows, while what one task has for one bucket shrinks to nothing. So there may be
two levels of files: tasks write a piece for a block of buckets; then, for each block and FAN_IN tasks, one unit puts these
pieces in the order of the buckets (`Shuffle.regroup`). A bucket then reads FAN_IN times fewer pieces.

A shuffle's files are work: they stand apart from the stage's own (`StageDir.at_work`), and no manifest names them. Once all
buckets are worked out their rows may be removed (`StageDir.spend`); the index stays, and tells a restart which buckets there are.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO

import numpy as np
import pyarrow as pa

from wit import layout, ledger
from wit.arithmetic import ceil_div
from wit.arrays import Ints, run_starts
from wit.damage import damaged
from wit.store import fs
from wit.store.flight import side_by_side
from wit.store.manifests import Marker, Unit
from wit.store.parts import StageDir, work_lost, write_tables
from wit.store.scratch import scratch_dir
from wit.store.streams import OPTIONS, read_stream, write_stream
from wit.tally import Tally

# What one key may hold: engines bring the values of a key to one worker, and some stop at 100 MB (design section 11).
KEY_ROWS, KEY_BYTES = 125_000, 25_000_000
# Whoever changes one of these four gives the units other names: what an earlier version left half done is cut by its own.
CHUNK_ROWS = 250_000  # that a task holds at a time
SLICE_ROWS = 256  # in a smaller batch the description of its columns weighs more than they do
SMALL_BYTES = 1_000  # of rows: a slice of fewer is not compressed, which takes 8 times as long and saves nothing
FAN_IN = 64  # pieces that one unit reads
BLOCKS = 512
SLICES, INDEX = "slices", "index"  # labels of a unit's files
BUCKET = "_bucket"  # the column that a piece for several buckets has beside its rows
INDEXED = pa.schema([("bucket", pa.int32()), ("start", pa.int64()), ("length", pa.int64())])


def buckets_for(rows: int, *, bytes_a_row: int, rows_a_key: int = KEY_ROWS) -> int:
    """How many buckets the rows need, so that none holds more than one key may; at least one."""
    return max(1, ceil_div(rows, min(rows_a_key, KEY_BYTES // bytes_a_row)))


@dataclass(frozen=True, slots=True)
class Dealt:
    """Some rows of a task, ordered by bucket, the bucket of each, and what was dropped on the way; `into` counts pairs in."""

    rows: pa.Table
    bucket: Ints
    dropped: pa.Table | None = None
    into: int = 0

    @classmethod
    def ordered(cls, rows: pa.Table, bucket: Ints) -> Dealt:
        """The rows in the order of their buckets; those of one bucket stay in theirs."""
        order = np.argsort(bucket, kind="stable")
        return cls(rows.take(pa.array(order)), bucket[order])


@dataclass(frozen=True, slots=True)
class Task:
    """One task of a shuffle: its number, which orders the rows of a bucket, and what it deals, a chunk at a time. `counted` is
    the unit that says what it dropped; None where nothing can be."""

    number: int
    chunks: Callable[[], Iterable[Dealt]]
    counted: Unit | None = None


@dataclass(frozen=True, slots=True, order=True)
class Slice:
    """Rows in a file: the record batch in bytes [start, start + length)."""

    number: int
    path: str
    start: int
    length: int

    def read(self, schema: pa.Schema) -> pa.Table:
        """The rows; raises DamagedFile where there are none of that schema, WorkLost where they were spent."""
        try:
            return _parse(self.path, fs.read_range(self.path, self.start, self.length), schema)
        except FileNotFoundError as error:
            raise work_lost(self.path) from error


@dataclass(frozen=True, slots=True, order=True)
class Batch:
    """Rows that travel through an engine: the `place`-th batch of a task for a bucket."""

    number: int
    place: int
    data: bytes

    def read(self, schema: pa.Schema) -> pa.Table:
        """The rows."""
        return _parse("a batch of the shuffle", self.data, schema)


@dataclass(frozen=True, slots=True)
class Extent:
    """The slices of one block of buckets in the file of a task."""

    number: int
    path: str
    index: Ints  # [slices, 3]: bucket (or block), start, length

    @property
    def slices(self) -> Iterator[tuple[int, Slice]]:
        """(bucket, slice) of each."""
        for bucket, start, length in self.index.tolist():
            yield bucket, Slice(self.number, self.path, start, length)


def read_rows(pieces: Iterable[Slice | Batch], schema: pa.Schema) -> pa.Table:
    """The rows of a bucket in the order of the tasks, whatever order its pieces came in; one that came twice is read once."""
    ordered = sorted(set(pieces))
    if not ordered:
        return schema.empty_table()
    return pa.concat_tables(_each(ordered, schema)).combine_chunks()


def _each(pieces: Sequence[Slice | Batch], schema: pa.Schema) -> Iterator[pa.Table]:
    """The rows of each piece; of a store several are asked for at a time."""
    asked = any(isinstance(piece, Slice) and not fs.is_local(piece.path) for piece in pieces)
    return (side_by_side if asked else map)(lambda piece: piece.read(schema), pieces)


def _parse(where: str, data: bytes, schema: pa.Schema) -> pa.Table:
    try:
        batch = pa.ipc.read_record_batch(pa.ipc.read_message(data), schema)
    except (pa.ArrowInvalid, EOFError, OSError) as error:
        raise damaged(where, error) from error
    return pa.Table.from_batches([batch], schema)


@dataclass(frozen=True, slots=True)
class Shuffle:
    """A shuffle of a stage: the name of its units, the schema of its rows, at most how many buckets and levels it has."""

    stage: StageDir
    name: str
    schema: pa.Schema
    buckets: int
    two_levels: bool = False

    @classmethod
    def of(cls, stage: StageDir, name: str, schema: pa.Schema, buckets: int, *, rows: int, tasks: int) -> Shuffle:
        """The shuffle of that many rows out of that many tasks; all three numbers may be too high."""
        buckets = max(1, buckets)
        chunks = max(tasks, ceil_div(rows, CHUNK_ROWS))
        many = min(chunks, ceil_div(rows, buckets)) > FAN_IN and rows < SLICE_ROWS * chunks * buckets
        return cls(stage, name, schema, buckets, many)

    @property
    def width(self) -> int:
        """How many buckets a block has."""
        return ceil_div(self.buckets, BLOCKS)

    @property
    def work(self) -> StageDir:
        """Where its files stand."""
        return self.stage.at_work

    def deal(self, task: Task) -> tuple[Marker, Marker | None]:
        """Writes what the task deals; returns the marker of these files, and of what was dropped. Nothing is done twice."""
        unit = Unit.numbered(self.name, task.number)
        dealt = self.work.done(unit)
        counted = self.stage.done(task.counted) if task.counted is not None else None
        if dealt is not None and (counted is not None or task.counted is None):
            return dealt, counted
        seen: list[Dealt] = []
        chunks = (_noted(chunk, seen) for chunk in task.chunks())
        dealt = self._write(unit, map(self._by_block, chunks) if self.two_levels else chunks)
        return dealt, self._count(task, seen)

    def batches(self, task: Task) -> Iterator[tuple[int, Batch] | Marker]:
        """What the task deals, as (bucket, batch); behind it the marker of what was dropped, if the task has one."""
        seen: list[Dealt] = []
        for place, chunk in enumerate(task.chunks()):
            sink = io.BytesIO()
            for bucket, start, length in _write_slices(sink, [_noted(chunk, seen)], self.schema):
                sink.seek(start)  # its whole value would be copied each time
                yield bucket, Batch(task.number, place, sink.read(length))
        if (counted := self._count(task, seen)) is not None:
            yield counted

    def extents(self, dealt: Marker) -> list[tuple[int, Extent]]:
        """(block, extent) of each block that the unit has rows for."""
        index = _read_index(self.work.file(dealt, INDEX))
        bucket = index[:, 0]
        blocks = bucket if self.two_levels and dealt.unit.kind == self.name else bucket // self.width
        order = np.argsort(blocks, kind="stable")
        index, blocks = index[order], blocks[order]
        number = int(dealt.unit.place.partition("-")[0])
        path = (
            self.work.file(dealt, SLICES)
            if SLICES in dealt.files
            else fs.join(self.work.path, f"{dealt.unit}.{SLICES}")
        )
        ends = [*run_starts(blocks).tolist(), len(blocks)]
        return [(int(blocks[a]), Extent(number, path, index[a:b])) for a, b in itertools.pairwise(ends)]

    def grouped(self, extent: tuple[int, Extent]) -> tuple[tuple[int, int], Extent]:
        """The extent by block and group of FAN_IN tasks: what one unit of the second level reads."""
        return (extent[0], extent[1].number // FAN_IN), extent[1]

    def regroup(self, group: tuple[tuple[int, int], Iterable[Extent]]) -> Marker:
        """The second level: the pieces of some tasks for one block -> slices by bucket. Returns the marker of these files."""
        (block, tasks), extents = group
        unit = Unit(f"{self.name}2", f"{tasks:05d}-{block:05d}")

        def work() -> Marker:
            pieces = sorted(piece for extent in extents for _, piece in extent.slices)
            return self._write(unit, self._by_bucket(pieces))

        return self.work.once(unit, work)

    def of_buckets(self, block: tuple[int, Iterable[Extent]]) -> Iterator[tuple[int, tuple[Slice, ...]]]:
        """(bucket, its slices) of each bucket of a block that has rows."""
        pieces: dict[int, list[Slice]] = {}
        for extent in block[1]:
            for bucket, piece in extent.slices:
                pieces.setdefault(bucket, []).append(piece)
        for bucket in sorted(pieces):
            yield bucket, tuple(sorted(pieces[bucket]))

    def _by_block(self, chunk: Dealt) -> Dealt:
        return Dealt(chunk.rows.append_column(BUCKET, pa.array(chunk.bucket, pa.int32())), chunk.bucket // self.width)

    def _by_bucket(self, pieces: Sequence[Slice]) -> Iterator[Dealt]:
        schema = self.schema.append(pa.field(BUCKET, pa.int32()))
        held: list[pa.Table] = []
        for rows in _each(pieces, schema):
            held.append(rows)
            if sum(map(len, held)) >= CHUNK_ROWS:
                yield _without_bucket(pa.concat_tables(held))
                held = []
        if held:
            yield _without_bucket(pa.concat_tables(held))

    def _write(self, unit: Unit, chunks: Iterable[Dealt]) -> Marker:
        """Writes the slices of a unit and their index, and claims it."""
        first = next(chunks := iter(chunks), Dealt(self.schema.empty_table(), np.zeros(0, np.int64)))
        every = itertools.chain([first], chunks)
        with scratch_dir(self.stage.out) as scratch:
            files = {SLICES: fs.join(scratch, "slices.arrow"), INDEX: fs.join(scratch, "index.arrow")}
            with fs.open_write(files[SLICES]) as sink:
                slices = list(_write_slices(sink, every, first.rows.schema))
            index = np.array(slices, np.int64).reshape(-1, len(INDEXED))
            write_stream(pa.table(list(index.T), names=INDEXED.names).cast(INDEXED), files[INDEX])
            return self.work.publish(unit, files)

    def _count(self, task: Task, seen: Sequence[Dealt]) -> Marker | None:
        """Publishes what the task dropped."""
        if task.counted is None:
            return None
        if (there := self.stage.done(task.counted)) is not None:
            return there
        parts = [chunk.dropped for chunk in seen if chunk.dropped is not None]
        tables = {layout.DROPPED: pa.concat_tables(parts)} if parts else {}
        lost = ledger.reason_counts(tables[layout.DROPPED]) if parts else {}
        with scratch_dir(self.stage.out) as scratch:
            tally = Tally(into=sum(chunk.into for chunk in seen), out=0, dropped=lost)
            return self.stage.publish(task.counted, write_tables(scratch, tables), tally)


def _noted(chunk: Dealt, seen: list[Dealt]) -> Dealt:
    """The chunk; all of it but its rows is kept in `seen`."""
    seen.append(Dealt(chunk.rows.schema.empty_table(), chunk.bucket[:0], chunk.dropped, chunk.into))
    return chunk


def _without_bucket(rows: pa.Table) -> Dealt:
    return Dealt.ordered(rows.drop_columns([BUCKET]), rows[BUCKET].to_numpy().astype(np.int64))


def _write_slices(sink: IO[bytes], chunks: Iterable[Dealt], schema: pa.Schema) -> Iterator[tuple[int, ...]]:
    """Writes the schema, and a record batch for each run of equal buckets; yields (bucket, start, length) of each.
    A bucket whose texts are too large for one array has several."""
    with pa.ipc.new_stream(sink, schema, options=OPTIONS) as compressed, pa.ipc.new_stream(sink, schema) as plain:
        for writer in (compressed, plain):
            writer.write_batch(pa.RecordBatch.from_pylist([], schema))  # the schema is written with the first batch
        for chunk in chunks:
            rows = chunk.rows.combine_chunks()
            small = SMALL_BYTES * len(rows) // max(1, rows.nbytes)
            ends = np.append(run_starts(chunk.bucket), len(chunk.bucket))
            for start, end, hollow in zip(ends[:-1].tolist(), ends[1:].tolist(), _hollow(rows, ends), strict=True):
                for batch in rows.slice(start, end - start).to_batches():
                    before, writer = sink.tell(), plain if len(batch) <= small else compressed
                    writer.write_batch(batch.take(pa.array(np.arange(len(batch)))) if hollow else batch)
                    yield int(chunk.bucket[start]), before, sink.tell() - before


def _hollow(rows: pa.Table, ends: Ints) -> list[bool]:
    """Of each run of rows, whether a list column has no value in it: of such a slice Arrow writes the values of all rows
    (measured: 112 kB for one row of 8,000)."""
    hollow = np.zeros(len(ends) - 1, bool)
    for column in rows.columns if len(rows) else ():
        if column.num_chunks > 1:  # texts of more than 2 GB
            return [True] * len(hollow)
        for at in _values_at(column.chunk(0), ends):
            hollow |= at[:-1] == at[1:]
    return [bool(one) for one in hollow]


def _values_at(array: pa.Array, rows: Ints) -> Iterator[Ints]:
    """For each list in an array, however deep: where the values of these rows begin."""
    if pa.types.is_list(array.type):
        at = array.offsets.to_numpy()[rows].astype(np.int64)
        yield at
        yield from _values_at(array.values, at)
    elif pa.types.is_struct(array.type):
        for number in range(array.type.num_fields):
            yield from _values_at(array.field(number), rows)


def _read_index(path: str) -> Ints:
    """[slices, 3]: bucket, start, length."""
    table = read_stream(path)
    if table.schema != INDEXED:
        raise damaged(path, "it is no index of a shuffle")
    index: Ints = np.stack([column.to_numpy().astype(np.int64) for column in table.columns], axis=1)
    return index
