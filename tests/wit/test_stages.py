from __future__ import annotations

from pathlib import Path

import pytest

from pipelines import build
from wit import layout
from wit.config import DEFAULT_STAGES
from wit.stages import KINDS, STAGES, before_stage, from_stage


def test_a_stage_reads_and_hangs_on_stages_before_it_alone() -> None:
    for name, kind in KINDS.items():
        assert {*kind.hangs_on, *kind.opens} <= {*before_stage(name)}
        assert {*before_stage(name), *from_stage(name)} == {*STAGES}


def test_the_usual_stages_are_all_but_those_that_are_asked_for() -> None:
    assert ",".join(name for name in STAGES if not KINDS[name].optional) == DEFAULT_STAGES


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_runs(stage: str) -> None:
    assert f'"{stage}": run_{stage}' in Path(build.__file__).read_text(encoding="utf-8")


def test_directories_of_stages_are_distinct_and_known() -> None:
    folders = [kind.directory for kind in KINDS.values()]
    assert len({*folders}) == len(folders) and {*folders} < layout.DIRECTORIES
    assert layout.manifest_path("set", "publish") == "set/shards/MANIFEST.json"
    assert layout.manifest_path("set", "download") == "set/raw/_MANIFEST.json"
