"""A job that an engine ends half-way, and says so or not, leaves its stage unfinished: in every stage."""

import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner
from apache_beam.runners.runner import PipelineResult, PipelineState

from pipelines.build import main
from trainer import checkpoint
from trainer.model import CLIP, MODELS
from wit.layout import manifest_path
from wit.stages import KINDS
from wit.store.manifests import read_manifest
from wit.verify import verify

ENDED = "_stats.json"


class Result(PipelineResult):
    def wait_until_finish(self, duration: object = None) -> str:
        return str(self.state)


def markers(stage: str) -> list[Path]:
    """The markers of a stage's units, in the order in which they were published."""
    found = [path for path in Path("set", KINDS[stage].directory).glob("*.json") if path.name.count(".") == 1]
    units = [p for p in found if p.name.endswith(ENDED) or stage != "publish" and not p.name.startswith("_")]
    return sorted(units, key=lambda path: path.stat().st_mtime_ns)


class HalfRunner(FnApiRunner):
    """A cluster that is told to stop when a stage has published half of its units."""

    stage, state = "", PipelineState.CANCELLED

    def run_pipeline(self, pipeline: Any, options: Any) -> PipelineResult:
        done = set(markers(self.stage))
        super().run_pipeline(pipeline, options)
        new = [path for path in markers(self.stage) if path not in done]
        for path in new[len(new) // 2 :]:
            path.unlink()
        return Result(self.state if new else PipelineState.DONE)


def fresh_model() -> str:
    """A checkpoint of fresh weights: its scores mean nothing."""
    torch.manual_seed(3)
    checkpoint.save("model", {"name": "demo", "state_dict": CLIP(MODELS["demo"]).state_dict()}, step=1, keep=1)
    return "model"


@pytest.fixture
def command(
    tmp_path: Path, upgrade: Any, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[list[str]]:
    """A small build of three tables, on an engine of one's own."""
    module = types.ModuleType("half_runner")
    module.HalfRunner = HalfRunner  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "half_runner", module)
    monkeypatch.chdir(tmp_path)
    with upgrade.web() as port:
        arguments = upgrade.inputs(tmp_path, port)
        head, *lines = Path("urls.tsv").read_text(encoding="utf-8").splitlines()
        for number in range(3):
            Path(f"urls-{number}.tsv").write_text("\n".join([head, *lines[number::3]]) + "\n", encoding="utf-8")
        arguments[arguments.index("table:urls.tsv")] = "table:urls-*.tsv"
        yield [*arguments, "--rows-per-key", "9", "--rows-per-partition", "9"]


STAGES = ("candidates", "plan", "download", "score", "select", "publish")


@pytest.mark.variants(3)
@pytest.mark.parametrize(
    "stage, state",
    [
        *((stage, PipelineState.CANCELLED) for stage in STAGES),
        ("candidates", PipelineState.DRAINED),
        *((stage, PipelineState.DONE) for stage in ("plan", "publish")),  # an engine that lost units and does not know
    ],
)
def test_a_job_that_was_stopped_half_way_is_not_finished_and_goes_on(
    stage: str, state: str, command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(HalfRunner, "stage", stage)
    monkeypatch.setattr(HalfRunner, "state", state)
    if stage == "score":
        command += ["--stages", ",".join([*STAGES, "report"]), "--score-checkpoint", fresh_model()]
    assert main([*command, "--runner", "half_runner.HalfRunner", "--fetch-workers", "2"]) == 3
    said = capsys.readouterr().err
    assert "start the build again to go on" in said and (state == "DONE" or state in said)
    assert markers(stage), "a test of nothing"
    assert not Path(manifest_path("set", stage)).exists()
    assert main(command) == 0
    manifest = read_manifest("set", stage)
    assert manifest is not None and len(manifest.wanted) >= 2
    assert verify("set", "full").problems == ()
    assert sum(manifest.dropped.values()) + manifest.out == manifest.into
