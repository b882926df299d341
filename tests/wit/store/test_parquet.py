import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from wit.errors import DamagedFile
from wit.store import fs, parquet
from wit.store.parquet import write_parquet

TABLE = pa.table({"x": list(range(9)), "y": [str(n) for n in range(9)]})


@pytest.fixture(params=["local", "memory"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A file of TABLE, on this machine and elsewhere."""
    local = str(tmp_path / "table.parquet")
    write_parquet(TABLE, local, row_group_size=4)
    if request.param == "local":
        return local
    fs.write_bytes("memory://parquet/table.parquet", Path(local).read_bytes())
    return "memory://parquet/table.parquet"


def test_columns_come_in_the_order_asked_for(path: str) -> None:
    assert parquet.read_table(path).equals(TABLE)
    assert parquet.read_table(path, ["y", "x"]).column_names == ["y", "x"]
    with parquet.open_file(path) as file:
        assert file.num_row_groups == 3 and file.read_row_group(2).equals(TABLE.slice(8))


def test_a_column_that_is_missing_and_a_file_that_is_damaged_or_missing_are_errors(path: str) -> None:
    with pytest.raises(DamagedFile, match="has no column z"):
        parquet.read_table(path, ["x", "z"])
    with pytest.raises(FileNotFoundError):
        parquet.read_table(path + ".other")
    whole = fs.read_bytes(path)
    for damage in (whole[:-20], whole[: len(whole) // 2], b"", b"PAR1", whole[:40] + bytes(99) + whole[139:]):
        fs.write_bytes(path, damage)
        with pytest.raises(DamagedFile, match=r"table.parquet is damaged \(.*\): delete it and start the build again"):
            parquet.read_table(path)
        with pytest.raises(DamagedFile), parquet.open_file(path) as file:
            list(file.iter_batches())


def test_a_process_that_reads_a_table_ends_as_it_meant_to(tmp_path: Path) -> None:
    """pyarrow's own read_table of a stream aborted 24 of 40 of these."""
    path = str(tmp_path / "table.parquet")
    write_parquet(pa.table({f"c{n}": list(range(2_000)) for n in range(10)}), path, row_group_size=100)
    program = f"from wit.store import parquet\nfor _ in range(3): parquet.read_table({path!r})"
    ended = [subprocess.run([sys.executable, "-c", program], timeout=60).returncode for _ in range(12)]
    assert ended == [0] * 12


@pytest.mark.parametrize("scheme", ["local", "memory"])
def test_a_table_is_published_as_it_is_written_and_nothing_is_left_beside_it(tmp_path: Path, scheme: str) -> None:
    out = str(tmp_path / "out") if scheme == "local" else "memory://published"
    write_parquet(TABLE, str(tmp_path / "same.parquet"), row_group_size=4)
    for _ in range(2):  # the second takes the place of the first
        parquet.publish_table(TABLE, fs.join(out, "ledger/table.parquet"), out=out, row_group_size=4)
        assert fs.read_bytes(fs.join(out, "ledger/table.parquet")) == (tmp_path / "same.parquet").read_bytes()
    files = [name for name in fs.find(out) if not name.startswith("ledger/table.parquet")]
    assert files == []
