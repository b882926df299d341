"""Imports run one way: records <- the rest of wit <- pipelines; records, shards, the store's files, flags <- trainer."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FORBIDDEN = {
    "wit": ("apache_beam", "torch", "pipelines", "trainer"),
    "trainer": ("apache_beam", "pipelines"),
    "pipelines": (),
}
TRAINER_MAY_USE = {
    "wit.early",
    "wit.flags",
    "wit.knobs",
    "wit.records",
    "wit.shards",
    "wit.store.fs",
    "wit.store.refusals",
}


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            of_package = node.module in ("wit", "wit.store")
            names |= {f"{node.module}.{alias.name}" for alias in node.names} if of_package else {node.module}
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


def test_only_fetch_the_demonstration_web_and_the_stores_reader_of_the_web_open_sockets() -> None:
    for path in (ROOT / "wit").rglob("*.py"):
        if not str(path.relative_to(ROOT)).startswith(("wit/fetch/", "wit/demo/", "wit/store/web")):
            assert not imported(path) & {"socket", "pycurl", "requests", "urllib.request", "http.client"}, path


OPENERS = {
    "open",
    "io.open",
    "os.open",
    "gzip.open",
    "tarfile.open",
    "pa.OSFile",
    "pa.memory_map",
    "np.load",
    "np.save",
}
OPENERS |= {"os.remove", "os.unlink", "os.rename", "os.replace", "os.makedirs", "shutil.copy", "shutil.rmtree"}
METHODS = ("read_text", "write_text", "write_bytes", "unlink", "mkdir")
# What a user's set never comes near: the makers of assets, and this machine's own files.
STORE = ("wit/store/fs.py", "wit/store/builder.py", "wit/store/claims.py", "wit/store/direct.py", "wit/store/web.py")
MAY_OPEN = {
    "wit/store/parquet.py": {"pa.OSFile"},
    "wit/store/scratch.py": {"os.makedirs", "shutil.rmtree"},  # less than fs.py may, of which it was a part
    "wit/fetch/decoder.py": {"open", "os.open"},  # /proc of its own, and /dev/null
    "wit/demo/making/make_web.py": {"os.makedirs"},
}


def opened(path: Path) -> set[str]:
    """The calls of a file that open, make or remove files."""
    calls = (node.func for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call))
    named = {ast.unparse(call) for call in calls}
    return {name for name in named if name in OPENERS or (name.rpartition(".")[2] in METHODS and "fs." not in name)}


def test_only_the_store_opens_files() -> None:
    for path in (ROOT / "wit").rglob("*.py"):
        name = str(path.relative_to(ROOT))
        found = {
            call for call in opened(path) if "resources" not in call and call not in ("limits.read_text", "read_text")
        }
        if name not in STORE and not name.startswith("wit/querybuild/"):
            assert found <= MAY_OPEN.get(name, set()), f"{name} calls {found}: let wit.store.fs do it"


ROOMS = ("candidates", "plan", "download", "score", "select", "publish", "report")  # of stages, in their order
GROUND = (
    "arithmetic",
    "arrays",
    "damage",
    "early",
    "errors",
    "hashing",
    "layout",
    "reasons",
    "records",
)
GROUND += ("stages", "store", "tally", "typed", "workers", "images", "fetch", "sources", "shards")


def rooms_used(path: Path) -> set[str]:
    """The stages whose rooms a file imports from."""
    return {name.split(".")[1] for name in imported(path) if name.startswith("wit.")} & {*ROOMS}


def test_no_stage_imports_a_later_one_and_the_ground_knows_no_stage() -> None:
    for path in (ROOT / "wit").rglob("*.py"):
        room = path.relative_to(ROOT / "wit").with_suffix("").parts[0]
        if room in ROOMS:
            later = rooms_used(path) & {*ROOMS[ROOMS.index(room) + 1 :]}
            assert not later, f"{path} imports from {later}"
        if room in GROUND:
            assert not rooms_used(path), f"{path} imports from {rooms_used(path)}"


def parquet_readers(path: Path) -> set[str]:
    """What the file calls of pyarrow's readers of parquet."""
    calls = (node.func for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call))
    named = {ast.unparse(call) for call in calls}
    return named & {"pq.read_table", "pq.ParquetFile", "pq.ParquetDataset", "pyarrow.parquet.read_table"}


@pytest.mark.parametrize("folder", ["wit", "pipelines", "trainer", "benchmarks"])
def test_parquet_is_read_by_one_module_since_read_table_of_a_stream_aborts_processes_at_their_end(folder: str) -> None:
    for path in (ROOT / folder).rglob("*.py"):
        allowed = {"pq.ParquetFile"} if path.name in ("parquet.py", "bench_plan.py") else set()  # its peer reads a path
        assert parquet_readers(path) <= allowed, f"{path.relative_to(ROOT)}: read it with wit.store.parquet"
