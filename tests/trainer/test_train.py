from __future__ import annotations

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from trainer import checkpoint
from trainer.model import CLIP, MODELS
from trainer.train import TrainConfig, learning_rate, main, parameter_groups, parse, train

SMALL = dict(model="demo-vit", epochs=3, batch_size=8, learning_rate=1e-3, warmup_steps=2, augmentation=0.5)


def config(shards: str, output: Path, **knobs: object) -> TrainConfig:
    return TrainConfig(shards=shards, output=str(output), **(SMALL | {"log_every_steps": 1} | knobs))


def losses(output: Path) -> list[tuple[int, float]]:
    rows = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return [(row["step"], row["loss"]) for row in rows]


def weights(output: Path) -> dict[str, torch.Tensor]:
    return checkpoint.load(str(output))["state_dict"]


def command(config: TrainConfig) -> list[str]:
    told = [f"--{name.replace('_', '-')}={value}" for name, value in dataclasses.asdict(config).items() if value]
    told = [option.removesuffix("=True") for option in told]
    return [sys.executable, "-m", "trainer.train", *told]


def wait_for(path: Path, process: subprocess.Popen[bytes], *, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None and time.monotonic() < until, f"{path} did not appear"
        time.sleep(0.01)


def test_a_killed_run_resumes_exactly(make_shards: Callable[..., str], tmp_path: Path) -> None:
    shards = make_shards(20, 20, 24, corrupt=(5,))  # 8 steps an epoch
    whole, killed = config(shards, tmp_path / "whole"), config(shards, tmp_path / "killed", checkpoint_every_steps=5)
    train(whole)
    process = subprocess.Popen(command(killed), stdout=subprocess.DEVNULL)
    wait_for(tmp_path / "killed" / "checkpoints" / "step-0000000005.pt", process)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    reached = losses(tmp_path / "killed")[-1][0]
    train(dataclasses.replace(killed, resume=True))
    assert reached < 24 and losses(tmp_path / "killed") == losses(tmp_path / "whole")
    ours, theirs = weights(tmp_path / "killed"), weights(tmp_path / "whole")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert checkpoint.load(str(tmp_path / "killed"))["corrupt"] == 3


def test_two_ranks_learn_what_one_does(make_shards: Callable[..., str], tmp_path: Path) -> None:
    shards = make_shards(20, 20, 24, corrupt=(5,))
    one, two = (config(shards, tmp_path / name, epochs=1, device="cpu") for name in ("one", "two"))
    train(one)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = os.environ | {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": "2",
        "OMP_NUM_THREADS": "1",
    }
    ranks = [
        subprocess.Popen(
            command(two), env=common | {"RANK": str(rank), "LOCAL_RANK": str(rank)}, stdout=subprocess.DEVNULL
        )
        for rank in range(2)
    ]
    assert [process.wait(timeout=120) for process in ranks] == [0, 0]
    assert [loss for _, loss in losses(tmp_path / "two")] == pytest.approx(
        [x for _, x in losses(tmp_path / "one")], abs=1e-4
    )
    ours, theirs = weights(tmp_path / "two"), weights(tmp_path / "one")
    assert all(torch.allclose(ours[name], theirs[name], atol=2e-4) for name in theirs)
    assert checkpoint.load(str(tmp_path / "two"))["corrupt"] == 1


def test_a_checkpoint_is_plain_data_that_continues_the_count(make_shards: Callable[..., str], tmp_path: Path) -> None:
    train(config(make_shards(36), tmp_path / "run", epochs=2.5, checkpoint_every_steps=2, keep_checkpoints=3))
    names = [Path(path).name for path in checkpoint.list_checkpoints(str(tmp_path / "run"))]
    assert names == ["step-0000000006.pt", "step-0000000008.pt", "step-0000000010.pt"]
    state = torch.load(tmp_path / "run" / "checkpoints" / names[-1], weights_only=True)
    told = {name: state[name] for name in ("name", "epoch", "step", "position", "samples_seen", "corrupt")}
    assert told == {"name": "demo-vit", "epoch": 2, "step": 10, "position": 2, "samples_seen": 80, "corrupt": 0}
    assert json.loads((tmp_path / "run" / "config.json").read_text())["batch_size"] == 8


@pytest.mark.parametrize(
    "options, told",
    [
        (["--model", "ViT-X"], "no such model: ViT-X; have demo, demo-vit, RN50"),
        (["--model", "demo", "--shards", "nowhere"], "nowhere"),
        (["--model", "demo", "--batch-size", "9999"], "fewer than a batch of 9999"),
        (["--model", "demo", "--batch-size", "0"], "--batch-size must be above 0"),
        (["--model", "demo", "--device", "tpu"], "no such device: tpu"),
        (["--model", "demo", "--output", "used"], "used holds a run; add --resume"),
    ],
)
def test_bad_input_gets_one_sentence_and_touches_nothing(
    options: list[str], told: str, make_shards: Callable[..., str], tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    make_shards(9)
    Path("used/checkpoints").mkdir(parents=True)
    Path("used/checkpoints/step-0000000001.pt").touch()
    before = sorted(tmp_path.rglob("*"))
    assert main(["--shards", "shards", "--output", "new", *options]) == 2
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_another_configuration_is_not_resumed(make_shards: Callable[..., str], tmp_path: Path, capsys) -> None:
    first = config(make_shards(9), tmp_path / "run", epochs=1)
    train(first)
    assert main(command(dataclasses.replace(first, seed=5, workers=1, resume=True))[3:]) == 2
    assert "(seed was 0 and is 5)" in capsys.readouterr().err


def test_the_command_line_has_the_models_recipe_and_what_is_given_wins() -> None:
    given = ["--shards", "s", "--output", "o", "--model"]
    assert parse([*given, "RN50"]).beta2 == 0.999 and parse([*given, "ViT-B/32"]).beta2 == 0.98
    assert parse([*given, "demo", "--epochs", "2"]).epochs == 2 and parse([*given, "demo"]).epochs != TrainConfig.epochs


def test_help_names_every_knob(capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        parse(["--help"])
    told = capsys.readouterr().out
    assert stop.value.code == 0
    assert all(f"--{field.name.replace('_', '-')}" in told for field in dataclasses.fields(TrainConfig))


@pytest.mark.parametrize("step, rate", [(0, 0.1), (9, 1.0), (10, 1.0), (60, 0.5), (110, 0.0)])
def test_the_learning_rate_warms_up_and_falls_along_a_cosine(step: int, rate: float) -> None:
    assert learning_rate(step, peak=1.0, warmup_steps=10, steps=110) == pytest.approx(rate)


def test_gains_biases_and_temperature_do_not_decay() -> None:
    model = CLIP(MODELS["demo-vit"])
    groups = parameter_groups(model, 0.2)
    kept = {name for name, value in model.named_parameters() if any(value is other for other in groups[0]["params"])}
    assert groups[0]["weight_decay"] == 0 and "logit_scale" in kept and "visual.ln_pre.weight" in kept
    assert all(name == "logit_scale" or name.endswith(("bias", "class_embedding")) or "ln_" in name for name in kept)


@pytest.mark.parametrize("model", ["demo", "demo-vit"])
def test_bfloat16_starts_where_float32_does(model: str, make_shards: Callable[..., str], tmp_path: Path) -> None:
    shards = make_shards(9)
    for precision in ("float32", "bfloat16"):
        train(config(shards, tmp_path / precision, model=model, epochs=1, precision=precision))
    [(_, exact)], [(_, rough)] = losses(tmp_path / "float32"), losses(tmp_path / "bfloat16")
    assert rough == pytest.approx(exact, rel=0.05)
