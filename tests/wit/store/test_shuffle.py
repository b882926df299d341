"""The shuffle in its forms, against a dictionary: rows come to their bucket, in the order of the tasks."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wit.errors import DamagedFile
from wit.records import DROPPED
from wit.store import fs, shuffle
from wit.store.manifests import Unit
from wit.store.parts import StageDir
from wit.store.shuffle import Batch, Dealt, Extent, Shuffle, Slice, Task, buckets_for, read_rows

SCHEMA = pa.schema([("x", pa.int64()), ("names", pa.list_(pa.string()))])
TASKS = st.lists(st.lists(st.lists(st.integers(0, 9), max_size=12).map(sorted), max_size=4), max_size=6)
Given = list[list[list[int]]]  # the bucket of each row, by task and chunk


def rows(values: range) -> pa.Table:
    return pa.table({"x": list(values), "names": [["a"] * (v % 3) if v % 5 else None for v in values]}, schema=SCHEMA)


def tasks_of(given_: Given) -> Iterator[Task]:
    start = 0
    for number, chunks in enumerate(given_):
        dealt = []
        for buckets in chunks:
            dealt.append(Dealt(rows(range(start, start + len(buckets))), np.array(buckets, np.int64)))
            start += len(buckets)
        yield Task(number, lambda dealt=dealt: dealt)  # type: ignore[misc]


def expected(given_: Given) -> dict[int, list[int]]:
    found, start = defaultdict(list), 0
    for chunks in given_:
        for buckets in chunks:
            for bucket in buckets:
                found[bucket].append(start)
                start += 1
    return found


def grouped(pairs: list[tuple]) -> list[tuple]:
    """As an engine groups: the values of a key in any order."""
    groups = defaultdict(list)
    for key, value in reversed(pairs):
        groups[key].append(value)
    return list(groups.items())


def by_files(one: Shuffle, given_: Given) -> dict[int, tuple[Slice, ...]]:
    extents = [extent for task in tasks_of(given_) for extent in one.extents(one.deal(task)[0])]
    if one.two_levels:
        regrouped = [one.regroup(group) for group in grouped([one.grouped(extent) for extent in extents])]
        extents = [extent for marker in regrouped for extent in one.extents(marker)]
    return {bucket: pieces for block in grouped(extents) for bucket, pieces in one.of_buckets(block)}


def by_engine(one: Shuffle, given_: Given) -> dict[int, list[Batch]]:
    return dict(grouped([dealt for task in tasks_of(given_) for dealt in one.batches(task)]))


def read(pieces: dict[int, tuple[Slice, ...]] | dict[int, list[Batch]]) -> dict[int, pa.Table]:
    return {bucket: read_rows([*reversed(some), *some[:1]], SCHEMA) for bucket, some in pieces.items()}


@given(given_=TASKS, blocks=st.integers(1, 12), fan_in=st.integers(1, 3), chunk=st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_each_bucket_gets_its_rows_in_the_order_of_the_tasks_by_whatever_way(
    tmp_path_factory: pytest.TempPathFactory, given_: Given, blocks: int, fan_in: int, chunk: int
) -> None:
    out = str(tmp_path_factory.mktemp("shuffle"))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(shuffle, "BLOCKS", blocks)
        patched.setattr(shuffle, "FAN_IN", fan_in)
        patched.setattr(shuffle, "CHUNK_ROWS", chunk)
        stage = StageDir(out, "plan", "f" * 32)
        one, two = (Shuffle(stage, name, SCHEMA, 10, levels) for name, levels in (("one", False), ("two", True)))
        ways = [read(by_files(one, given_)), read(by_files(two, given_)), read(by_engine(one, given_))]
    assert ways[0] == ways[1] == ways[2]
    assert {bucket: table["x"].to_pylist() for bucket, table in ways[0].items()} == expected(given_)
    for table in ways[0].values():
        assert table.equals(pa.concat_tables(rows(range(x, x + 1)) for x in table["x"].to_pylist()))
    assert not Path(out, "plan").exists(), "what is handed on stands apart from what the stage gives"


GIVEN: Given = [[[0, 1, 1], [1, 7]], [], [[]], [[2, 7, 7]], [[1, 9]]]


@pytest.fixture
def stage(tmp_path: Path) -> StageDir:
    return StageDir(str(tmp_path / "out"), "plan", "f" * 32)


@pytest.mark.parametrize("two_levels", [False, True])
def test_nothing_is_done_twice(stage: StageDir, two_levels: bool) -> None:
    one = Shuffle(stage, "url", SCHEMA, 10, two_levels)
    first = by_files(one, GIVEN)
    written = {path: path.stat().st_mtime_ns for path in Path(stage.out).rglob("*.*")}
    assert by_files(one, GIVEN) == first
    assert {path: path.stat().st_mtime_ns for path in Path(stage.out).rglob("*.*")} == written


def losing(number: int, *lost: int) -> Task:
    """A task of chunks that drop so many rows each."""
    chunks = [
        Dealt(rows(range(2)), np.array([0, 3]), pa.Table.from_pylist([{"reason": "same_url"}] * n, DROPPED), into=n + 2)
        for n in lost
    ]
    return Task(number, lambda: chunks, Unit.numbered("scatter", number))


def test_what_a_task_drops_is_counted_alike_by_files_and_by_the_engine(stage: StageDir) -> None:
    one = Shuffle(stage, "url", SCHEMA, 10)
    _, by_files_ = one.deal(losing(3, 2, 0, 4))
    other = StageDir(stage.out + "-engine", "plan", "f" * 32)
    *batches, by_engine_ = Shuffle(other, "url", SCHEMA, 10).batches(losing(3, 2, 0, 4))
    assert by_files_ == by_engine_ and (by_files_.into, by_files_.dropped) == (12, {"same_url": 6})
    assert by_files_.unit == Unit.numbered("scatter", 3) and list(by_files_.files) == ["dropped"]
    assert len(batches) == 6
    assert one.deal(Task(4, list))[1] is None
    nothing = one.deal(Task(5, list, Unit.numbered("scatter", 5)))[1]
    assert nothing is not None and (nothing.into, nothing.dropped, nothing.files) == (0, {}, {})


def test_a_stage_may_change_its_way_half_done(stage: StageDir) -> None:
    one = Shuffle(stage, "url", SCHEMA, 10)
    *first, counted = one.batches(losing(0, 1))
    dealt, again = one.deal(losing(0, 1))
    assert again == counted
    assert list(one.batches(losing(0, 1))) == [*first, counted]
    assert [extent for _, extent in one.extents(dealt)]


def test_a_task_whose_files_are_gone_is_done_again(stage: StageDir) -> None:
    one = Shuffle(stage, "url", SCHEMA, 10)
    dealt, _ = one.deal(losing(0, 1))
    os.unlink(one.work.file(dealt, "slices"))
    assert one.deal(losing(0, 1))[0] == dealt and one.work.done(dealt.unit) == dealt


def test_a_damaged_file_is_named(stage: StageDir) -> None:
    one = Shuffle(stage, "url", SCHEMA, 10)
    dealt, _ = one.deal(next(tasks_of(GIVEN)))
    ((_, extent), *_) = one.extents(dealt)
    (_, piece), *_ = extent.slices
    path = Path(piece.path)
    whole = path.read_bytes()
    for data in (whole[: piece.start + 9], whole[: piece.start] + bytes(len(whole) - piece.start), b""):
        path.write_bytes(data)
        with pytest.raises(DamagedFile, match=path.name):
            read_rows([piece], SCHEMA)
    fs.write_bytes(one.work.file(dealt, "index"), b"[[1, 2]")
    with pytest.raises(DamagedFile):
        one.extents(dealt)


@pytest.mark.parametrize("two_levels", [False, True])
def test_only_the_first_piece_of_a_file_carries_a_schema(stage: StageDir, two_levels: bool) -> None:
    one = Shuffle(stage, "url", SCHEMA, 10, two_levels)
    dealt, _ = one.deal(next(tasks_of(GIVEN)))
    extents: list[Extent] = [extent for _, extent in one.extents(dealt)]
    pieces = sorted(piece for extent in extents for _, piece in extent.slices)
    ends = [piece.start + piece.length for piece in pieces]
    assert [piece.start for piece in pieces[1:]] == ends[:-1], "they lie one behind the other"
    for piece in pieces:
        message = pa.ipc.read_message(fs.read_range(piece.path, piece.start, piece.length))
        assert message.type == "record batch"


@pytest.mark.parametrize(
    "number, bytes_a_row, rows_a_key, buckets",
    [(0, 200, 125_000, 1), (125_000, 200, 125_000, 1), (125_001, 200, 125_000, 2), (10**10, 200, 125_000, 80_000)]
    + [(25_000, 1_000, 125_000, 1), (25_001, 1_000, 125_000, 2), (7, 24, 2, 4)],
)
def test_a_key_holds_neither_more_rows_nor_more_bytes_than_it_may(
    number: int, bytes_a_row: int, rows_a_key: int, buckets: int
) -> None:
    assert buckets_for(number, bytes_a_row=bytes_a_row, rows_a_key=rows_a_key) == buckets


@pytest.mark.parametrize(
    "tasks, buckets, number, two",
    [
        (30, 240, 30_000_000, False),  # on one machine one level does
        (2_000, 80_000, 10_000_000_000, True),
        (80_000, 8_000, 800_000_000, True),
        (400, 8_000, 80_000, False),  # a bucket of ten rows reads ten pieces at most
        (10, 80_000, 1_000_000, False),
        (0, 0, 0, False),
    ],
)
def test_there_are_two_levels_where_many_tasks_have_little_for_many_buckets(
    stage: StageDir, tasks: int, buckets: int, number: int, two: bool
) -> None:
    assert Shuffle.of(stage, "url", SCHEMA, buckets, rows=number, tasks=tasks).two_levels is two


NESTED = pa.schema(
    [
        ("said", pa.list_(pa.struct([("text", pa.string()), ("ids", pa.list_(pa.int32()))]))),
        ("draws", pa.list_(pa.int32())),
    ]
)


@pytest.mark.parametrize("sliced", [False, True])
def test_a_slice_is_no_larger_for_the_rows_beside_it(stage: StageDir, sliced: bool) -> None:
    """Lists that are null, or empty, also inside of others."""
    kinds = (None, [], [{"text": "a" * 50, "ids": None}], [{"text": "b" * 50, "ids": [1, 2]}] * 3)
    said = [kinds[n % 4] for n in range(4_000)]
    table = pa.table({"said": said, "draws": [[n] if n % 3 else None for n in range(4_000)]}, schema=NESTED)
    table = table.slice(1_000, 1_000) if sliced else table
    task = Task(0, lambda: [Dealt(table, np.arange(len(table)))])
    one = Shuffle.of(stage, "rows", NESTED, len(table), rows=len(table), tasks=1)
    pieces = {bucket: piece for bucket, piece in one.batches(task) if isinstance(piece, Batch)}
    assert max(len(piece.data) for piece in pieces.values()) < 2_000
    found = pa.concat_tables(read_rows([pieces[bucket]], NESTED) for bucket in range(len(table)))
    assert found.to_pylist() == table.to_pylist()
    dealt, _ = one.deal(task)
    assert dealt.files["slices"].bytes < 2_000 * len(table)
