import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pytest

from wit.errors import DamagedFile
from wit.store import fs
from wit.store.manifests import Unit, read_manifest
from wit.store.parquet import write_parquet
from wit.store.parts import StageDir
from wit.tally import Tally

sys.path.append(str(Path(__file__).parents[2]))

import stores

TABLE = pa.table({"x": [1, 2, 3]})


def local(tmp_path: Path, table: pa.Table = TABLE) -> str:
    path = str(tmp_path / "local.parquet")
    write_parquet(table, path)
    return path


@pytest.fixture
def stage(tmp_path: Path) -> StageDir:
    return StageDir(str(tmp_path / "out"), "candidates", "a" * 32)


INFO = Tally(into=5, out=3, dropped={"no_query": 2})
PART = Unit.numbered("part", 0)


def test_a_unit_is_published_once_and_the_loser_leaves_nothing(stage: StageDir, tmp_path: Path) -> None:
    first = stage.publish(PART, {"rows": local(tmp_path)}, INFO)
    second = stage.publish(PART, {"rows": local(tmp_path, TABLE.slice(1))}, Tally(into=9, out=3, dropped={}))
    assert second == first == stage.marker(PART)
    assert fs.list_dir(stage.path) == sorted(["part-00000.json", Path(first.files["rows"].name).name])


def test_the_same_content_gets_the_same_name_and_a_marker_says_what_it_is(stage: StageDir, tmp_path: Path) -> None:
    entry = stage.publish(PART, {"rows": local(tmp_path)}, INFO).files["rows"]
    other = StageDir(str(tmp_path / "other"), "candidates", "a" * 32)
    assert other.publish(PART, {"rows": local(tmp_path)}, INFO).files["rows"] == entry
    path = fs.join(stage.out, entry.name)
    assert fs.sha256_file(path) == entry.sha256 and fs.size(path) == entry.bytes


def test_units_of_another_fingerprint_do_not_exist(stage: StageDir, tmp_path: Path) -> None:
    stage.publish(PART, {"rows": local(tmp_path)}, INFO)
    changed = StageDir(stage.out, "candidates", "b" * 32)
    assert changed.marker(PART) is None and changed.markers() == []
    assert changed.publish(PART, {"rows": local(tmp_path, TABLE.slice(1))}, INFO).fingerprint == "b" * 32
    assert stage.marker(PART) is None


def test_the_manifest_sums_the_markers_and_the_janitor_removes_the_rest(stage: StageDir, tmp_path: Path) -> None:
    for i in range(2):
        files = {"rows": local(tmp_path, TABLE.slice(i)), "dropped": local(tmp_path / ".." / tmp_path.name)}
        files["dropped"] = str(tmp_path / "d.parquet")
        write_parquet(TABLE, files["dropped"])
        stage.publish(Unit.numbered("part", i), files, INFO)
    fs.write_bytes(fs.join(stage.path, "part-00007.deadbeef.parquet"), b"an attempt that was killed")
    fs.write_bytes(fs.join(stage.out, "dropped/plan-merge-00000.parquet"), b"another stage's")
    manifest = stage.finish(stage.markers(), [])
    assert (manifest.into, manifest.out, manifest.dropped) == (10, 6, {"no_query": 4})
    assert stage.manifest() == manifest == read_manifest(stage.out, "candidates")
    assert "part-00007.deadbeef.parquet" not in fs.list_dir(stage.path)
    assert len(fs.list_dir(fs.join(stage.out, "dropped"))) == 3


def test_clear_removes_the_manifest_and_every_file_of_the_stage_alone(stage: StageDir, tmp_path: Path) -> None:
    stage.publish(PART, {"dropped": local(tmp_path)}, INFO)
    stage.finish(stage.markers(), [])
    fs.write_bytes(fs.join(stage.out, "dropped/plan-x.parquet"), b"stays")
    stage.clear()
    assert stage.manifest() is None and fs.list_dir(stage.path) == []
    assert fs.list_dir(fs.join(stage.out, "dropped")) == ["plan-x.parquet"]


def test_work_is_done_once(stage: StageDir, tmp_path: Path) -> None:
    first = stage.once(PART, lambda: stage.publish(PART, {"rows": local(tmp_path)}, INFO))
    assert stage.once(PART, lambda: pytest.fail("it is there")) == first


@dataclass(frozen=True)
class Facts:
    shards: int


def test_facts_are_read_as_they_were_written_and_a_missing_one_names_the_file(stage: StageDir) -> None:
    marker = stage.publish(PART, {}, INFO, facts=Facts(7))
    assert stage.facts(marker, Facts) == Facts(7)
    bare = stage.publish(Unit.numbered("part", 1), {}, INFO)
    with pytest.raises(DamagedFile, match=r"part-00001\.json.*lacks shards"):
        stage.facts(bare, Facts)


def test_of_some_markers_those_stand_that_are_there_with_all_their_files(stage: StageDir, tmp_path: Path) -> None:
    units = [Unit.numbered("part", number) for number in (3, 1, 2, 0)]
    markers = [
        stage.publish(unit, {"rows": local(tmp_path, pa.table({"x": [i]}))}, INFO) for i, unit in enumerate(units)
    ]
    fs.remove(stage.marker_path(units[0]))
    fs.write_bytes(stage.file(markers[1], "rows"), b"cut")
    assert [marker.unit for marker in stage.standing([*markers, markers[2]])] == [units[3], units[2]]


def test_a_listing_that_is_late_makes_no_file_missing_and_no_marker_new(other_store: Any, tmp_path: Path) -> None:
    late = StageDir(other_store.at("set"), "candidates", "a" * 32)
    units = [Unit.numbered("part", number) for number in range(3)]
    markers = [late.publish(unit, {"rows": local(tmp_path, pa.table({"x": [unit.place]}))}, INFO) for unit in units]
    manifest = late.finish(markers, units)
    other_store.counts_together("set")
    other_store.goes_wrong(late=60)
    assert late.missing(manifest) == []
    late.tidy(markers)
    assert other_store.counted()["put"] == 0
    fs.remove(late.file(markers[1], "rows"))
    assert markers[1].files["rows"].name in late.missing(manifest)


def test_of_a_stage_that_is_gone_one_file_is_asked_for(other_store: Any, tmp_path: Path) -> None:
    stage = StageDir(other_store.at("set"), "candidates", "a" * 32)
    units = [Unit.numbered("part", number) for number in range(20)]
    markers = [stage.publish(unit, {"rows": local(tmp_path, pa.table({"x": [unit.place]}))}, INFO) for unit in units]
    manifest = stage.finish(markers, units)
    fs.remove(stage.path)
    other_store.counts_together("set")
    assert len(stage.missing(manifest)) == 20
    assert other_store.counted().total() < 20  # which counts each call twice


def test_an_upload_that_another_attempt_has_made_is_skipped_unless_the_stage_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsspec.register_implementation("other", stores.OtherStore, clobber=True)
    monkeypatch.setenv("STORE_LOG", str(tmp_path / "log"))
    monkeypatch.setattr(fs, "WORTH_ASKING_BYTES", 100)
    stage = StageDir(f"other://{tmp_path}/out", "candidates", "f")

    def puts(stage: StageDir) -> int:
        (tmp_path / "log").write_text("", encoding="utf-8")
        marker = stage.publish(PART, {"rows": local(tmp_path)}, INFO)
        fs.remove(stage.marker_path(PART))
        assert Path(stage.file(marker, "rows").removeprefix("other://")).read_bytes() == whole
        assert not (tmp_path / "local.parquet").exists()
        return stores.counted(tmp_path / "log")["put"]

    whole = Path(local(tmp_path)).read_bytes()
    assert puts(stage) == 1 and puts(stage) == 0
    [path] = [path for path in (tmp_path / "out/candidates").iterdir() if path.suffix == ".parquet"]
    path.write_bytes(whole[:-1])  # cut off: not what its name says
    assert puts(stage) == 1
    path.write_bytes(b"x" * len(whole))  # flipped bits show in nothing but a reading, so the user says so
    assert puts(replace(stage, anew=True)) == 1
    monkeypatch.setattr(fs, "WORTH_ASKING_BYTES", 10_000)
    assert puts(stage) == 1  # so small that asking takes as long
