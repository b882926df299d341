import dataclasses
import json
from pathlib import Path

import pytest

from wit.errors import DamagedFile
from wit.store import fs
from wit.store.manifests import Beside, File, Marker, Unit, outlined, read_manifest
from wit.store.packed import Packed
from wit.store.parts import StageDir
from wit.tally import Tally, add_up
from wit.typed import Rest, to_json

INFO = Tally(into=5, out=3, dropped={"no_query": 2})
PART = Unit.numbered("part", 0)


@pytest.fixture
def stage(tmp_path: Path) -> StageDir:
    return StageDir(str(tmp_path / "out"), "candidates", "a" * 32)


@pytest.mark.parametrize(
    "name, unit",
    [
        ("part-00012", Unit("part", "00012")),
        ("scatter-00003-0001", Unit("scatter", "00003-0001")),
        ("00003-0001", Unit("", "00003-0001")),
        ("r0001-0002", Unit("", "r0001-0002")),
        ("retried-0001", Unit("retried", "0001")),
        ("queries", Unit("queries")),
    ],
)
def test_a_unit_is_written_and_read_in_one_way(name: str, unit: Unit) -> None:
    assert Unit.parse(name) == unit and str(unit) == name


def test_another_pass_goes_over_the_same_piece() -> None:
    assert str(Unit.raw("r0001", 2).as_("part")) == "part-r0001-0002" and Unit.raw("r0001", 2).is_retry
    assert str(Unit.numbered("merge", 7).as_("thin")) == "thin-00007" and not Unit.numbered("merge", 7).is_retry


def test_a_manifest_with_a_field_that_nobody_writes_is_damaged_and_one_of_another_version_is_not(
    stage: StageDir,
) -> None:
    stage.publish(PART, {}, INFO)
    stage.finish(stage.markers(), [PART])
    found = json.loads(fs.read_bytes(stage.manifest_path)) | {"odd": 1}
    fs.write_bytes(stage.manifest_path, json.dumps(found).encode())
    with pytest.raises(DamagedFile, match="odd"):
        stage.manifest()
    fs.write_bytes(stage.manifest_path, json.dumps(found | {"schema_version": 1}).encode())
    assert stage.manifest() is not None


@pytest.mark.parametrize("field", ["stage", "fingerprint", "schema_version", "parts", "in", "out", "dropped"])
def test_a_manifest_that_lacks_a_field_is_damaged(stage: StageDir, field: str) -> None:
    stage.publish(PART, {}, INFO)
    stage.finish(stage.markers(), [PART])
    found = json.loads(fs.read_bytes(stage.manifest_path))
    del found[field]
    fs.write_bytes(stage.manifest_path, json.dumps(found).encode())
    with pytest.raises(DamagedFile, match=f"lacks {field}"):
        read_manifest(stage.out, "candidates")


def test_an_outline_has_what_the_marker_has() -> None:
    marker = Marker(
        into=5,
        out=3,
        dropped={"no_query": 2},
        unit=Unit.raw("r0001", 2),
        fingerprint="f" * 32,
        files={"tar": File("raw/a.tar", 1 << 40, "a" * 64), "rows": File("raw/a.parquet", 7, xxh3_128="b" * 32)},
        beside=(Beside("raw/robots.json"),),
        marker_bytes=99,
        facts=Rest({"nested": {"unit": "another", "out": None}, "wide": 2**70}),
    )
    for given in ([marker], Packed(Marker, [to_json(marker).rstrip()]), [to_json(marker)]):
        ((one, data),) = outlined(given)
        assert data + b"\n" == to_json(marker)
        assert (one.unit, one.into, one.out, one.dropped, one.marker_bytes) == ("r0001-0002", 5, 3, {"no_query": 2}, 99)
        assert [(f.name, f.bytes, f.sha256, f.xxh3_128) for f in map(one.files.__getitem__, ("tar", "rows"))] == [
            ("raw/a.tar", 1 << 40, "a" * 64, ""),
            ("raw/a.parquet", 7, "", "b" * 32),
        ]
        assert [beside.name for beside in one.beside] == ["raw/robots.json"]
        assert add_up([one, one]) == add_up([marker, marker]) == Tally(into=10, out=6, dropped={"no_query": 4})


def test_a_manifest_is_the_same_bytes_whether_its_markers_were_packed_or_read_from_one(stage: StageDir) -> None:
    units = [Unit.numbered("part", number) for number in range(3)]
    markers = [stage.publish(unit, {}, INFO) for unit in units]
    stage.finish(markers, units)
    data, read = fs.read_bytes(stage.manifest_path), stage.manifest()
    assert read is not None and read.parts == markers
    for given in (stage.standing(markers), stage.standing(map(to_json, markers)), read.parts):
        stage.finish(given, units)
        assert fs.read_bytes(stage.manifest_path) == data


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Marker) if field.name != "facts"])
def test_a_field_of_a_marker_that_is_of_another_type_damages_its_manifest(stage: StageDir, field: str) -> None:
    stage.publish(PART, {}, INFO)
    stage.finish(stage.markers(), [PART])
    found = json.loads(fs.read_bytes(stage.manifest_path))
    found["parts"][0]["in" if field == "into" else field] = 1.5
    fs.write_bytes(stage.manifest_path, json.dumps(found).encode())
    with pytest.raises(DamagedFile, match="_MANIFEST.json"):
        stage.manifest()


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(File)])
def test_a_field_of_a_file_that_is_of_another_type_damages_its_manifest(stage: StageDir, field: str) -> None:
    stage.publish(PART, {}, INFO)
    stage.finish(stage.markers(), [PART])
    found = json.loads(fs.read_bytes(stage.manifest_path))
    found["parts"][0]["files"] = {"rows": {"name": "a", "bytes": 1, "sha256": "b", field: 1.5}}
    fs.write_bytes(stage.manifest_path, json.dumps(found).encode())
    with pytest.raises(DamagedFile, match="_MANIFEST.json"):
        stage.manifest()
