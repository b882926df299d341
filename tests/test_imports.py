"""Imports run one way: records <- the rest of wit <- pipelines; records, shards, storage, flags <- trainer."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FORBIDDEN = {
    "wit": ("apache_beam", "torch", "pipelines", "trainer"),
    "trainer": ("apache_beam", "pipelines"),
    "pipelines": (),
}
TRAINER_MAY_USE = {"wit.early", "wit.flags", "wit.ranges", "wit.records", "wit.shards", "wit.storage"}


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names} if node.module == "wit" else {node.module}
    return names


@pytest.mark.parametrize("package", FORBIDDEN)
def test_no_arrow_points_back(package: str) -> None:
    for path in (ROOT / package).rglob("*.py"):
        for name in imported(path):
            assert name.split(".")[0] not in FORBIDDEN[package], f"{path} imports {name}"


def test_trainer_reads_shards_and_nothing_else_of_wit() -> None:
    for path in (ROOT / "trainer").rglob("*.py"):
        from_wit = {name for name in imported(path) if name.split(".")[0] == "wit"}
        assert from_wit <= TRAINER_MAY_USE, f"{path} imports {from_wit - TRAINER_MAY_USE}"


def test_reasons_import_nothing_of_wit_and_records_nothing_but_the_ground() -> None:
    assert not {name for name in imported(ROOT / "wit/reasons.py") if name.startswith("wit")}
    of_records = {name for name in imported(ROOT / "wit/records.py") if name.startswith("wit")}
    assert of_records == {"wit.errors", "wit.hashing", "wit.reasons"}


def test_only_storage_opens_files_and_only_fetch_opens_sockets() -> None:
    sockets_allowed = ("wit/fetch/", "wit/demo/")
    for path in (ROOT / "wit").rglob("*.py"):
        relative = str(path.relative_to(ROOT))
        names = imported(path)
        if not relative.startswith(sockets_allowed):
            assert not names & {"socket", "pycurl", "requests", "urllib.request", "http.client"}, relative


def parquet_readers(path: Path) -> set[str]:
    """What the file calls of pyarrow's readers of parquet."""
    calls = (node.func for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call))
    named = {ast.unparse(call) for call in calls}
    return named & {"pq.read_table", "pq.ParquetFile", "pq.ParquetDataset", "pyarrow.parquet.read_table"}


@pytest.mark.parametrize("folder", ["wit", "pipelines", "trainer", "benchmarks"])
def test_parquet_is_read_by_one_module_since_read_table_of_a_stream_aborts_processes_at_their_end(folder: str) -> None:
    for path in (ROOT / folder).rglob("*.py"):
        allowed = {"pq.ParquetFile"} if path.name in ("parquet.py", "bench_plan.py") else set()  # its peer reads a path
        assert parquet_readers(path) <= allowed, f"{path.relative_to(ROOT)}: read it with wit.parquet"
