from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wit.errors import DamagedFile
from wit.store import fs
from wit.store.manifests import Unit
from wit.store.parts import StageDir
from wit.store.scratch import scratch_dir
from wit.store.shuffle import SliceRef, parse, read_slices, scatter_to, slice_refs, write_slices, write_stream

SCHEMA = pa.schema([("x", pa.int64())])
CHUNKS = st.lists(st.lists(st.integers(0, 3), max_size=12).map(sorted), max_size=5)


def rows(values: range) -> pa.Table:
    return pa.table({"x": list(values)}, schema=SCHEMA)


@given(CHUNKS)
@settings(max_examples=60, deadline=None)
def test_a_bucket_reads_back_what_was_written_to_it_in_order(
    tmp_path_factory: pytest.TempPathFactory, chunks: list[list[int]]
) -> None:
    path, start, given_, expected = str(tmp_path_factory.mktemp("s") / "x.arrow"), 0, [], dict[int, list[int]]()
    for buckets in chunks:
        given_.append((rows(range(start, start + len(buckets))), np.array(buckets, np.int64)))
        for value, bucket in enumerate(buckets, start):
            expected.setdefault(bucket, []).append(value)
        start += len(buckets)
    refs = write_slices(given_, path)
    assert sum(ref.rows for _, ref in refs) == start
    for bucket in range(4):
        found = read_slices(reversed([ref for at, ref in refs if at == bucket]), SCHEMA)
        assert found["x"].to_pylist() == expected.get(bucket, [])


def test_slices_of_several_files_come_in_the_order_of_their_names(tmp_path: Path) -> None:
    refs = []
    for name, first in (("b", 10), ("a", 0)):
        refs += write_slices([(rows(range(first, first + 3)), np.zeros(3, np.int64))], str(tmp_path / name))
    assert read_slices((ref for _, ref in refs), SCHEMA)["x"].to_pylist() == [0, 1, 2, 10, 11, 12]
    assert read_slices([], SCHEMA).equals(SCHEMA.empty_table())


@pytest.fixture
def stage(tmp_path: Path) -> StageDir:
    return StageDir(str(tmp_path / "out"), "plan", "f" * 32)


def test_a_scattered_unit_hands_on_what_its_index_says(stage: StageDir) -> None:
    unit = Unit.numbered("scatter", 0)
    with scratch_dir(stage.out) as scratch:
        marker = stage.publish(unit, scatter_to(scratch, [(rows(range(4)), np.array([1, 1, 5, 9]))]))
    refs = slice_refs(stage, marker)
    assert [(bucket, ref.rows) for bucket, ref in refs] == [(1, 2), (5, 1), (9, 1)]
    assert read_slices([ref for bucket, ref in refs if bucket == 1], SCHEMA)["x"].to_pylist() == [0, 1]
    assert stage.units() == [unit]  # the index is no marker
    fs.write_bytes(stage.file(marker, "index"), b"[[1, 2]")
    with pytest.raises(DamagedFile):
        slice_refs(stage, marker)


def test_up_to_version_0_3_the_marker_had_the_index(stage: StageDir, tmp_path: Path) -> None:
    (tmp_path / "slices.arrow").write_bytes(b"")
    unit = Unit.numbered("scatter", 0)
    stage.publish(unit, {"slices": str(tmp_path / "slices.arrow")})
    path = Path(stage.marker_path(unit))
    path.write_bytes(json.dumps(json.loads(path.read_bytes()) | {"slices": [[3, 0, 40, 2]]}).encode())
    marker = stage.marker(unit)
    assert marker is not None and slice_refs(stage, marker) == [(3, SliceRef(stage.file(marker, "slices"), 0, 40, 2))]


def test_a_stream_is_read_as_it_was_written_and_named_where_it_is_none(tmp_path: Path) -> None:
    path = str(tmp_path / "x.arrow")
    write_stream(rows(range(7)), path)
    assert parse(path, Path(path).read_bytes()).equals(rows(range(7)))
    with pytest.raises(DamagedFile, match="x.arrow"):
        parse(path, b"no stream")
