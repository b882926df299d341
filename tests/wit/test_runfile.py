from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from wit.errors import DamagedFile
from wit.runfile import Record, RunFile, SeenSource, load_run, read_run, sealed
from wit.tally import Tally

FIRST: dict[str, Any] = {  # as version 0.1.0 wrote it
    "config": {"fetch": {"retries": 2}, "image": {}},
    "seed": 7,
    "queries_sha256": "q",
    "sources": [{"path": "/a.tsv", "label": "a.tsv", "size": 3, "kind": "table"}],
}


def written(out: Path, found: dict[str, Any]) -> Path:
    (out / "run.json").write_bytes(json.dumps(found).encode())
    return out / "run.json"


def test_a_run_json_is_read_as_it_was_written(tmp_path: Path) -> None:
    record = Record(fingerprint="f", into=3, out=2, dropped={"timeout": 1}, wrote="w")
    source = SeenSource("/a.tsv", "a.tsv", 3, "sha256 x")
    run = RunFile(config={"fetch": {}}, seed=7, queries_sha256="q", sources=(source,), stages={"plan": record})
    (tmp_path / "run.json").write_bytes(sealed(run))
    found = read_run(str(tmp_path))
    assert found is not None and found.records == {"plan": record} and found.sources == (source,)
    assert record.tally == Tally(into=3, out=2, dropped={"timeout": 1}) and not found.is_first


def test_none_is_none_and_the_first_version_had_no_digest(tmp_path: Path) -> None:
    assert read_run(str(tmp_path)) is None
    written(tmp_path, FIRST)
    found = read_run(str(tmp_path))
    assert found is not None and found.is_first and found.records == {} and found.sources[0].name == "a.tsv"


def test_what_a_version_did_not_know_is_kept(tmp_path: Path) -> None:
    run = load_run(FIRST | {"odd": {"x": 1}})
    assert json.loads(sealed(run))["odd"] == {"x": 1}
    assert json.loads(sealed(run))["sources"][0]["kind"] == "table"


def test_any_byte_that_was_flipped_is_told(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_bytes(sealed(load_run(FIRST)))
    data = path.read_bytes()
    for at in range(0, len(data), 7):
        path.write_bytes(data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :])
        try:
            assert read_run(str(tmp_path)) != load_run(json.loads(data))
        except DamagedFile as error:
            assert str(path) in str(error)


@pytest.mark.parametrize("name", FIRST)
def test_a_field_that_is_missing_is_told(name: str, tmp_path: Path) -> None:
    path = written(tmp_path, {key: value for key, value in FIRST.items() if key != name})
    with pytest.raises(DamagedFile, match=f"{path} is damaged .it lacks {name}"):
        read_run(str(tmp_path))


@pytest.mark.parametrize("config", [{}, {"fetch": 3}, {"fetch": {}, "plan": []}])
def test_sections_are_objects(config: dict[str, Any], tmp_path: Path) -> None:
    written(tmp_path, FIRST | {"config": config})
    with pytest.raises(DamagedFile, match="is no JSON object"):
        read_run(str(tmp_path))
