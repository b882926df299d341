"""Several processes on loopback: the same bytes at every step, and ends that all of them reach together."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from trainer import checkpoint

HERE = Path(__file__).parent


@pytest.fixture
def start() -> Iterator[Callable[..., list[subprocess.Popen[str]]]]:
    """Starts `count` ranks of a command on loopback; what still runs at the end of the test is killed, by its id."""
    started: list[subprocess.Popen[str]] = []

    def ranks(count: int, *command: str, **knobs: Any) -> list[subprocess.Popen[str]]:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        common = os.environ | {"PYTHONPATH": str(HERE.parents[1]), "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
        common |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(count)}
        common["LOCAL_WORLD_SIZE"] = str(count)
        for rank in range(count):
            env = common | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            started.append(subprocess.Popen([sys.executable, *command], env=env, **pipes, **knobs))
        return started[-count:]

    yield ranks
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def ended(processes: list[subprocess.Popen[str]]) -> list[tuple[int, str]]:
    """The exit code of each rank, and what it said on standard error."""
    said = [process.communicate(timeout=120)[1] for process in processes]
    return [(process.returncode, text) for process, text in zip(processes, said, strict=True)]


@pytest.mark.parametrize(
    "count, model",
    [
        (3, "demo-vit"),
        pytest.param(4, "demo-vit", marks=pytest.mark.slow),
        pytest.param(3, "demo", marks=pytest.mark.slow),  # whose batch norms count rank 0's pictures, as DDP's do
    ],
)
def test_a_run_that_was_killed_goes_on_to_the_same_bytes(
    count: int, model: str, start, make_shards, tmp_path: Path
) -> None:
    shards = make_shards(20, 30, 46, corrupt=(5,))  # 8 steps an epoch
    ran = ended(start(count, str(HERE / "many_ranks.py"), "resume", model, str(tmp_path), shards))
    assert [code for code, _ in ran] == [0] * count, ran
    found = json.loads((tmp_path / "found.json").read_text())
    assert len(found["whole"]["losses"]) == 12 and found["killed"] == found["whole"]


@pytest.mark.parametrize("count", [3, pytest.param(4, marks=pytest.mark.slow)])
def test_equal_steps_have_equal_gradients_and_pytorchs_own_reduction_does_not_keep_to_that(
    count: int, start, tmp_path: Path
) -> None:
    ran = ended(start(count, str(HERE / "many_ranks.py"), "gradients", "demo-vit", str(tmp_path)))
    assert [code for code, _ in ran] == [0] * count, ran
    found = json.loads((tmp_path / "found.json").read_text())
    assert len(set(found["ours"])) == 1 and len(set(found["ddp"])) > 1


def limited(size: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def trained(shards: str, output: Path, *more: str) -> list[str]:
    small = ["--model", "demo", "--batch-size", "8", "--log-every-steps", "1", "--device", "cpu", "--workers", "1"]
    return ["-m", "trainer.train", "--shards", shards, "--output", str(output), *small, *more]


def wait_for(path: Path, text: str, processes: list[subprocess.Popen[str]]) -> None:
    until = time.monotonic() + 100
    while not path.exists() or text not in path.read_text():
        assert time.monotonic() < until and all(process.poll() is None for process in processes), f"no {text} in {path}"
        time.sleep(0.01)


def test_ranks_that_are_interrupted_stop_after_the_same_step_with_one_sentence(
    start, make_shards, tmp_path: Path
) -> None:
    output = tmp_path / "run"
    processes = start(2, *trained(make_shards(20, 20), output, "--epochs", "3000"))
    wait_for(output / "metrics.jsonl", '"step": 3,', processes)
    for process in reversed(processes):  # as a terminal does, and torchrun after it; never quite at once
        process.send_signal(signal.SIGINT)
        time.sleep(0.05)
        process.send_signal(signal.SIGINT)
    (first, said), other = ended(processes)
    assert first == 3 and other == (3, "") and said.count("\n") == 1
    [newest] = checkpoint.list_checkpoints(str(output))
    step = checkpoint.read(newest)["step"]
    assert f"stopped: by Ctrl-C after step {step}; to go on: torchrun --nproc-per-node 2 -m trainer.train " in said
    assert said.endswith(" --resume\n")


@pytest.mark.parametrize("damage", ["shard", pytest.param("sizes", marks=pytest.mark.slow)])
def test_what_one_rank_cannot_read_ends_all_with_one_sentence(damage: str, start, make_shards, tmp_path: Path) -> None:
    shards = make_shards(8, 8, 8)
    victim = Path(shards, "00002.tar" if damage == "shard" else "sizes.json")
    victim.write_bytes(victim.read_bytes()[:-9000] if damage == "shard" else b"{")
    (first, said), other = ended(start(2, *trained(shards, tmp_path / "run")))
    code = 3 if damage == "shard" else 2
    assert (first, other) == (code, (code, "")) and victim.name in said and said.count("\n") == 1, said


@pytest.mark.slow
@pytest.mark.parametrize("room, code", [(100, 2), (100_000, 3)])
def test_a_full_disk_ends_all_ranks_with_one_sentence(room: int, code: int, start, make_shards, tmp_path: Path) -> None:
    command = trained(make_shards(8, 8), tmp_path / "run", "--checkpoint-every-steps", "3")
    (first, said), other = ended(start(2, *command, preexec_fn=limited(room)))
    assert (first, other) == (code, (code, "")) and "make room there" in said and said.count("\n") == 1, said
