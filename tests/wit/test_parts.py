from pathlib import Path

import pyarrow as pa
import pytest

from wit import storage
from wit.parts import StageDir, add_counts, read_manifest, write_parquet

TABLE = pa.table({"x": [1, 2, 3]})


def local(tmp_path: Path, table: pa.Table = TABLE) -> str:
    path = str(tmp_path / "local.parquet")
    write_parquet(table, path)
    return path


@pytest.fixture
def stage(tmp_path: Path) -> StageDir:
    return StageDir(str(tmp_path / "out"), "candidates", "a" * 32)


INFO = {"in": 5, "out": 3, "dropped": {"no_query": 2}}


def test_a_unit_is_published_once_and_the_loser_leaves_nothing(stage: StageDir, tmp_path: Path) -> None:
    first = stage.publish("part-00000", {"rows": local(tmp_path)}, INFO)
    second = stage.publish("part-00000", {"rows": local(tmp_path, TABLE.slice(1))}, {**INFO, "in": 9})
    assert second == first == stage.marker("part-00000")
    assert storage.list_dir(stage.path) == sorted(["part-00000.json", Path(first["files"]["rows"]["name"]).name])


def test_the_same_content_gets_the_same_name_and_a_marker_says_what_it_is(stage: StageDir, tmp_path: Path) -> None:
    entry = stage.publish("part-00000", {"rows": local(tmp_path)}, INFO)["files"]["rows"]
    other = StageDir(str(tmp_path / "other"), "candidates", "a" * 32)
    assert other.publish("part-00000", {"rows": local(tmp_path)}, INFO)["files"]["rows"] == entry
    path = storage.join(stage.out, entry["name"])
    assert storage.sha256_file(path) == entry["sha256"] and storage.size(path) == entry["bytes"]


def test_units_of_another_fingerprint_do_not_exist(stage: StageDir, tmp_path: Path) -> None:
    stage.publish("part-00000", {"rows": local(tmp_path)}, INFO)
    changed = StageDir(stage.out, "candidates", "b" * 32)
    assert changed.marker("part-00000") is None and changed.markers() == []
    assert changed.publish("part-00000", {"rows": local(tmp_path, TABLE.slice(1))}, INFO)["fingerprint"] == "b" * 32
    assert stage.marker("part-00000") is None


def test_the_manifest_sums_the_markers_and_the_janitor_removes_the_rest(stage: StageDir, tmp_path: Path) -> None:
    for i in range(2):
        files = {"rows": local(tmp_path, TABLE.slice(i)), "dropped": local(tmp_path / ".." / tmp_path.name)}
        files["dropped"] = str(tmp_path / "d.parquet")
        write_parquet(TABLE, files["dropped"])
        stage.publish(f"part-{i:05d}", files, INFO)
    storage.write_bytes(storage.join(stage.path, "part-00007.deadbeef.parquet"), b"an attempt that was killed")
    storage.write_bytes(storage.join(stage.out, "dropped/plan-merge-00000.parquet"), b"another stage's")
    manifest = stage.finish(stage.markers(), [])
    assert (manifest["in"], manifest["out"], manifest["dropped"]) == (10, 6, {"no_query": 4})
    assert stage.manifest() == manifest == read_manifest(stage.out, "candidates")
    assert "part-00007.deadbeef.parquet" not in storage.list_dir(stage.path)
    assert len(storage.list_dir(storage.join(stage.out, "dropped"))) == 3


def test_clear_removes_the_manifest_and_every_file_of_the_stage_alone(stage: StageDir, tmp_path: Path) -> None:
    stage.publish("part-00000", {"dropped": local(tmp_path)}, INFO)
    stage.finish(stage.markers(), [])
    storage.write_bytes(storage.join(stage.out, "dropped/plan-x.parquet"), b"stays")
    stage.clear()
    assert stage.manifest() is None and storage.list_dir(stage.path) == []
    assert storage.list_dir(storage.join(stage.out, "dropped")) == ["plan-x.parquet"]


def test_counts_add_up_in_order_without_zeros() -> None:
    assert list(add_counts([{"b": 1, "a": 2}, {"a": 1, "c": 0}]).items()) == [("a", 3), ("b", 1)]
