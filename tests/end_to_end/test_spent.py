"""A build whose passes miss what was removed behind them begins these passes anew, by itself, and ends the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.build import main
from wit.plan import pairs
from wit.select import passes

PLACES = {"plan": (pairs, "arrange", "merge-*.json"), "select": (passes, "keep_list", "cluster*.json")}


def published(out: Path, stage: str) -> dict[str, bytes]:
    paths = [*out.glob(f"{stage}/part-*.parquet"), *out.glob("shards/*.tar")]
    return {path.name: path.read_bytes() for path in paths}


@pytest.mark.parametrize("stage", PLACES)
def test_what_was_made_of_rows_that_are_gone_is_made_again(
    stage: str, command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--output", "whole"]) == 0
    command = [*command, "--output", "other"]
    owner, name, lost = PLACES[stage]

    def end(*_: object, **__: object) -> None:
        raise RuntimeError("the end")

    with monkeypatch.context() as patched, pytest.raises(RuntimeError, match="the end"):
        patched.setattr(owner, name, end)
        main(command)
    paths = sorted(Path("other/_work", stage).rglob(lost))
    assert paths
    for path in paths:
        path.unlink()
    capsys.readouterr()
    assert main(command) == 0
    assert "its passes begin anew" in capsys.readouterr().err
    assert published(Path("other"), stage) == published(Path("whole"), stage)
