"""Arrow streams in files."""

from pathlib import Path

import pyarrow as pa
import pytest

from wit.errors import DamagedFile
from wit.store.streams import parse, read_stream, streamed, write_stream


def rows(values: range) -> pa.Table:
    return pa.table({"x": pa.array(values, pa.int64())})


def test_a_stream_is_read_as_it_was_written_and_named_where_it_is_none(tmp_path: Path) -> None:
    path = str(tmp_path / "x.arrow")
    write_stream(rows(range(7)), path)
    assert read_stream(path).equals(rows(range(7)))
    with pytest.raises(DamagedFile, match="x.arrow"):
        parse(path, b"no stream")


def test_a_stream_comes_batch_by_batch(tmp_path: Path) -> None:
    path = str(tmp_path / "x.arrow")
    write_stream(rows(range(7)), path, rows=3)
    with streamed(path) as batches:
        assert [batch["x"].to_pylist() for batch in batches] == [[0, 1, 2], [3, 4, 5], [6]]
