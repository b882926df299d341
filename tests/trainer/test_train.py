from __future__ import annotations

import dataclasses
import json
import math
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from trainer import checkpoint
from trainer.config import TrainConfig, parse
from trainer.data import Stream
from trainer.model import CLIP, MODELS
from trainer.ranks import Ranks
from trainer.train import (
    Numbers,
    Trainer,
    learning_rate,
    main,
    parameter_groups,
    stream_config,
    train,
)
from wit.errors import InputError

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


def wait_for(path: Path, process: subprocess.Popen[Any], *, holding: str = "", seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not path.exists() or (holding and holding not in path.read_text(encoding="utf-8")):
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
    [fault] = [json.loads(line) for line in (tmp_path / "killed" / "corrupt.jsonl").read_text().splitlines()]
    assert fault == {"shard": "00000.tar", "key": f"{5:032x}", "reason": "image_corrupt", "masked": True}


@pytest.mark.parametrize(
    "number, name", [(signal.SIGINT, "Ctrl-C"), pytest.param(signal.SIGTERM, "SIGTERM", marks=pytest.mark.slow)]
)
def test_a_signal_saves_and_says_how_to_go_on(
    number: signal.Signals, name: str, make_shards: Callable[..., str], tmp_path: Path
) -> None:
    stopped = config(make_shards(20, 20, 24), tmp_path / "stopped", epochs=300)
    process = subprocess.Popen(command(stopped), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    wait_for(tmp_path / "stopped" / "metrics.jsonl", process, holding='"step": 3,')
    process.send_signal(number)
    said = process.communicate(timeout=60)[1]
    reached = losses(tmp_path / "stopped")[-1][0]
    assert process.returncode == 3 and said.count("\n") == 1, said
    assert f"stopped: by {name} after step {reached}; to go on: python -m trainer.train --shards=" in said
    assert said.endswith(" --resume\n")
    [newest] = checkpoint.list_checkpoints(str(tmp_path / "stopped"))
    assert checkpoint.read(newest)["step"] == reached


def test_checkpoints_are_written_by_the_clock_too_and_add_no_line_to_the_metrics(make_shards, tmp_path: Path) -> None:
    knobs = {"checkpoint_every_minutes": 1e-9, "keep_checkpoints": 9, "log_every_steps": 5}
    train(config(make_shards(20, 28), tmp_path / "run", epochs=1, **knobs))  # 6 steps
    steps = [int(path[-5:-3]) for path in checkpoint.list_checkpoints(str(tmp_path / "run"))]
    assert steps == [2, 4, 6] and [step for step, _ in losses(tmp_path / "run")] == [5, 6]


def test_two_ranks_learn_what_one_does(make_shards: Callable[..., str], tmp_path: Path) -> None:
    shards = make_shards(20, 20, 24, corrupt=(5, 17, 30, 44, 59))
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
    assert checkpoint.load(str(tmp_path / "two"))["corrupt"] == 5
    assert sorted(faults(tmp_path / "two")) == sorted(faults(tmp_path / "one")) and len(faults(tmp_path / "two")) == 5


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
        (["--model", "demo", "--batch-size", "0"], "--batch-size is 0: give a number from 1 to 10000000"),
        (["--model", "demo", "--device", "tpu"], "no such device: tpu"),
        (["--model", "demo", "--output", "used"], "used holds a run; add --resume"),
        (["--model", "demo", "--output", "used/checkpoints/step-0000000001.pt"], "is a file; give a directory"),
        (["--model", "demo", "--batch-size", "8", "--output", "file/run"], "Not a directory"),
    ],
)
def test_bad_input_gets_one_sentence_and_touches_nothing(
    options: list[str], told: str, make_shards: Callable[..., str], tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    make_shards(9)
    Path("used/checkpoints").mkdir(parents=True)
    Path("used/checkpoints/step-0000000001.pt").touch()
    Path("file").touch()
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


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--shardz", "s"], "unknown option --shardz; did you mean --shards?"),
        (
            ["--precision", "float23"],
            "--precision float23: no such value; have float32, bfloat16; did you mean float32?",
        ),
        (["--model", "demoo"], "did you mean demo?"),
    ],
)
def test_what_does_not_exist_is_answered_with_what_was_meant(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert said in capsys.readouterr().err


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


CASES = Path(__file__).parents[1] / "cases" / "wds"


def faults(output: Path) -> list[tuple[str, str, bool]]:
    rows = [json.loads(line) for line in (output / "corrupt.jsonl").read_text().splitlines()]
    return [(row["key"], row["reason"], row["masked"]) for row in rows]


def test_a_bad_key_json_costs_no_sample_and_is_named_once(tmp_path: Path, capsys) -> None:
    output = tmp_path / "run"
    assert main(command(config(str(CASES / "badjson"), output))[3:]) == 0
    assert checkpoint.load(str(output))["corrupt"] == 0 and len(losses(output)) == 3
    assert faults(output) == [("00000", "metadata_corrupt", False)]
    told = capsys.readouterr().out
    assert told.count("00000.json of 0.tar is no JSON object") == 1 and "1 unreadable KEY.json" in told


def test_what_macos_puts_beside_each_file_is_ignored(tmp_path: Path) -> None:
    output = tmp_path / "run"
    assert main(command(config(str(CASES / "appledouble"), output))[3:]) == 0
    assert len(losses(output)) == 3 and not (output / "corrupt.jsonl").exists()


@pytest.mark.parametrize("how", ["gone", "empty"])
def test_a_missing_shard_is_named_before_anything_is_written(
    how: str, make_shards: Callable[..., str], tmp_path: Path, capsys
) -> None:
    shards = make_shards(8, 8, 8)
    Path(shards, "00001.tar").unlink() if how == "gone" else Path(shards, "00001.tar").write_bytes(b"")
    assert main(command(config(shards, tmp_path / "run"))[3:]) == 2
    said = capsys.readouterr().err
    assert f"of the 3 shards that sizes.json names 1 are missing or empty: {shards}/00001.tar;" in said
    assert not (tmp_path / "run").exists()


def test_a_tar_that_sizes_json_does_not_count_is_named(make_shards: Callable[..., str], tmp_path: Path, capsys) -> None:
    shards = make_shards(8)
    shutil.copy(Path(shards, "00000.tar"), Path(shards, "00007.tar"))
    assert main(command(config(shards, tmp_path / "run", epochs=1))[3:]) == 0
    assert "1 tars that sizes.json does not count are not read: 00007.tar" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["", "[1]", '{"00000.tar": "8"}', '{"00000.tar": -1}', "\xff"])
def test_a_sizes_json_that_is_none_gets_one_sentence(
    text: str, make_shards: Callable[..., str], tmp_path, capsys
) -> None:
    shards = make_shards(8)
    Path(shards, "sizes.json").write_bytes(text.encode("latin-1"))
    assert main(command(config(shards, tmp_path / "run"))[3:]) == 2
    said = capsys.readouterr().err
    assert "sizes.json is damaged" in said and said.count("\n") == 1


def test_tars_without_sizes_json_get_a_sentence_that_says_what_is_missing(
    make_shards: Callable[..., str], tmp_path: Path, capsys
) -> None:
    shards = make_shards(8, 8)
    Path(shards, "sizes.json").unlink()
    assert main(command(config(shards, tmp_path / "run"))[3:]) == 2
    assert "00000.tar and 1 tars more, but no sizes.json" in capsys.readouterr().err


def test_a_shard_with_another_count_stops_a_run_that_goes_on_when_it_is_mended(
    make_shards: Callable[..., str], tmp_path: Path, capsys
) -> None:
    shards = make_shards(8, 8, 8)
    stopped = config(shards, tmp_path / "stopped", epochs=1)
    victim = Path(shards, "00001.tar")
    sound = victim.read_bytes()
    victim.write_bytes(Path(make_shards(5, name="other"), "00000.tar").read_bytes())
    assert main(command(stopped)[3:]) == 3
    said = capsys.readouterr().err
    assert "00001.tar holds 5 samples where sizes.json says 8" in said and said.count("\n") == 1 and "--resume" in said
    victim.write_bytes(sound)
    assert main([*command(stopped)[3:], "--resume"]) == 0


def explosive(shards: str, output: Path, **knobs: object) -> TrainConfig:
    """A run whose weights leave the range of numbers within a few steps."""
    return config(shards, output, **({"learning_rate": 100, "weight_decay": 100, "checkpoint_every_steps": 1} | knobs))


def test_a_step_that_is_not_finite_is_never_kept_and_going_on_does_not_start_from_it(
    make_shards: Callable[..., str], tmp_path: Path, capsys
) -> None:
    output = tmp_path / "run"
    run = explosive(make_shards(24), output, keep_checkpoints=1)
    for more in ([], ["--resume"]):
        assert main([*command(run)[3:], *more]) == 3
        said = capsys.readouterr().err
        [newest] = checkpoint.list_checkpoints(str(output))
        state = checkpoint.read(newest)
        assert said.count("\n") == 1 and "--learning-rate" in said
        assert f"of step {state['step'] + 1} are not finite" in said and f"good checkpoint is {newest}" in said
        assert [step for step, _ in losses(output)] == list(range(1, state["step"] + 1))


def test_gradients_that_are_not_finite_change_nothing_though_the_loss_is(
    make_shards: Callable[..., str], tmp_path
) -> None:
    shards = make_shards(24)
    trainer = Trainer(config(shards, tmp_path / "run"), Ranks(0, 1, torch.device("cpu")), 9)
    stream = Stream.open(shards, stream_config(trainer.config))
    first, *others = stream.batches(end=6)
    trainer.train_step(first)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    hook = trainer.model.text_projection.register_hook(lambda gradient: gradient * torch.nan)
    told = [Numbers(*trainer.train_step(others[0]).read())]
    hook.remove()
    told += [Numbers(*trainer.train_step(batch).read()) for batch in others[1:]]
    assert [numbers.bad for numbers in told] == [1] * 5 and math.isfinite(told[0].loss)
    assert all(torch.equal(before[name], value) for name, value in trainer.model.state_dict().items())


def spoiled(path: str, how: str) -> None:
    data = bytearray(Path(path).read_bytes())
    match how:
        case "cut":
            data = data[: len(data) // 2]
        case "flipped":
            data[len(data) // 2] ^= 1
        case "nan":  # as earlier versions left it
            state = torch.load(path, weights_only=True)
            state["state_dict"]["logit_scale"].fill_(torch.nan)
            torch.save(state, path)
            return
    Path(path).write_bytes(data)


@pytest.mark.parametrize("how", ["cut", "flipped", "nan"])
def test_a_damaged_checkpoint_is_passed_over_with_a_word_and_outlives_no_good_one(
    how: str, make_shards: Callable[..., str], tmp_path: Path, capsys
) -> None:
    output = tmp_path / "run"
    run = config(make_shards(24), output, checkpoint_every_steps=4)  # 9 steps
    train(run)
    whole = weights(output)
    spoiled(checkpoint.list_checkpoints(str(output))[-1], how)
    capsys.readouterr()
    more = {"checkpoint_every_steps": 5, "keep_checkpoints": 1}
    assert main([*command(dataclasses.replace(run, **more))[3:], "--resume"]) == 0
    assert "passed over: " in (told := capsys.readouterr().out) and "steps 8 to 9" in told
    assert f"taken instead: {output}/checkpoints/step-0000000008.pt\n" in told
    [newest] = checkpoint.list_checkpoints(str(output))
    assert newest.endswith("step-0000000009.pt")
    assert all(torch.equal(value, whole[name]) for name, value in weights(output).items())


def test_a_good_checkpoint_is_not_pruned_for_a_damaged_later_one(tmp_path: Path) -> None:
    output = str(tmp_path)
    state = {"name": "demo", "state_dict": {"w": torch.ones(3)}}
    for step in (5, 10):
        checkpoint.save(output, state, step=step, keep=2)
    spoiled(checkpoint.path_of(output, 10), "cut")
    checkpoint.save(output, state, step=7, keep=1)
    assert checkpoint.list_checkpoints(output) == [checkpoint.path_of(output, 7)]


def test_where_no_checkpoint_is_whole_one_sentence_says_so(
    make_shards: Callable[..., str], tmp_path: Path, capsys
) -> None:
    output = tmp_path / "run"
    run = config(make_shards(24), output, checkpoint_every_steps=4)
    train(run)
    for path in checkpoint.list_checkpoints(str(output)):
        spoiled(path, "cut")
    capsys.readouterr()
    assert main([*command(run)[3:], "--resume"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "no checkpoint in" in said and "step-0000000009.pt is no whole checkpoint" in said


def test_a_flip_anywhere_in_a_checkpoint_is_noticed_or_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    state = {"name": "demo", "state_dict": {"w": torch.arange(5.0), "b": torch.ones(())}, "step": 3}
    torch.save(state, path)
    whole = path.read_bytes()
    noticed = 0
    for place in range(len(whole)):
        data = bytearray(whole)
        data[place] ^= 1 << place % 8
        path.write_bytes(data)
        try:
            found = checkpoint.read(str(path))
        except InputError:
            noticed += 1
            continue
        assert (found["name"], found["step"]) == ("demo", 3)
        assert all(torch.equal(found["state_dict"][name], value) for name, value in state["state_dict"].items()), place
    assert noticed > 500


def limited(size: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@pytest.mark.parametrize("room, code, last", [(100, 2, "error: "), (100_000, 3, "stopped: ")])
def test_a_disk_that_takes_no_more_is_one_sentence(
    room: int, code: int, last: str, make_shards: Callable[..., str], tmp_path: Path
) -> None:
    run = config(make_shards(24), tmp_path / "run", checkpoint_every_steps=3)
    process = subprocess.run(command(run), preexec_fn=limited(room), capture_output=True, text=True, timeout=120)
    assert process.returncode == code and process.stderr.startswith(last) and process.stderr.count("\n") == 1
    assert "File too large" in process.stderr and "make room there" in process.stderr
    assert code == 2 or process.stderr.endswith(" --resume\n")
