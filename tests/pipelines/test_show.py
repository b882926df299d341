import json
from pathlib import Path

import pytest

from pipelines import show
from wit.typed import load

RESULT = {
    "model": "demo",
    "dataset": "emoji",
    "top1": 0.45,
    "top1_interval": [0.43, 0.47],
    "classes": 1906,
    "chance": 0.0005,
}


def test_the_funnel_accuracy_beside_chance_and_paths_are_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stages = {"plan": {"in": 1_200, "out": 900, "dropped": {"balanced_out": 300}}}
    (tmp_path / "ledger.json").write_text(json.dumps({"stages": stages, "samples": 900}))
    (tmp_path / "run.json").write_text(json.dumps({"peak_memory_mb": 812.5}))
    (tmp_path / "result.json").write_text(json.dumps(RESULT))
    assert show.main([str(tmp_path), str(tmp_path / "result.json")]) == 0
    said = capsys.readouterr().out
    for part in ("balanced_out", "1,200", "25.0%", "812 MB", "0.4500", "chance 0.0005", str(tmp_path / "ledger.json")):
        assert part in said


@pytest.mark.parametrize("run", [{"peak_memory_mb": 0.0}, {}])
def test_a_peak_that_was_not_measured_is_left_out(
    run: dict[str, float], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ledger.json").write_text(json.dumps({"stages": {}, "samples": 0}))
    (tmp_path / "run.json").write_text(json.dumps(run))
    assert show.main([str(tmp_path)]) == 0
    assert "peak memory" not in capsys.readouterr().out


def test_the_pixel_baseline_the_groups_and_a_control_run_are_told_beside_it() -> None:
    flags, all_but = ({"images": n, "top1": top1, "top1_interval": [0.1, 0.9]} for n, top1 in ((261, 0.9), (1645, 0.4)))
    nearest = {"training_images": 7_000, "top1": 0.35, "top1_interval": [0.33, 0.37], "groups": {"flags": flags}}
    more = {"groups": {"flags": flags, "all but flags": all_but}, "nearest": nearest, "shuffled_captions": True}
    first, second, third, fourth = show.accuracy(load(show.ZeroShot, RESULT | more)).splitlines()
    assert first.startswith("control run, trained on shuffled captions: zero-shot top-1 of demo on emoji: 0.4500")
    assert second == "  nearest of 7,000 training pictures by raw pixels: 0.3500 (95 % 0.3300 to 0.3700)"
    assert "flags (261 images): 0.9000" in third and "by raw pixels 0.9000" in third
    assert fourth == "  all but flags (1,645 images): 0.4000 (95 % 0.1000 to 0.9000)"


def test_no_build_is_an_error_with_its_fix(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert show.main([str(tmp_path)]) == 2
    assert "give the --output of a finished build" in capsys.readouterr().err
    assert show.main([str(tmp_path), "--levle"]) == 2
    assert "unknown option --levle" in capsys.readouterr().err


@pytest.mark.parametrize(
    "other, said",
    [
        ({"stages": {}}, "it lacks model"),
        (RESULT | {"top1": "high"}, "top1: 'high' is of another type"),
        (RESULT | {"top1_interval": [0.1]}, "not enough values"),
        ([1], "it is no JSON object"),
    ],
)
def test_what_is_no_result_of_an_evaluation_is_named(
    other: object, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ledger.json").write_text(json.dumps({"stages": {}, "samples": 0}))
    (tmp_path / "other.json").write_text(json.dumps(other))
    assert show.main([str(tmp_path), str(tmp_path / "other.json")]) == 2
    found = capsys.readouterr()
    assert found.out == "" and found.err.count("\n") == 1 and "other.json" in found.err and said in found.err
