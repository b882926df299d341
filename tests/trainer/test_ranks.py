"""Several processes on loopback: the same bytes at every step, and ends that all of them reach together."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture
def start() -> Iterator[Callable[..., list[subprocess.Popen[str]]]]:
    """Starts `count` ranks of a command on loopback; what still runs at the end of the test is killed, by its id."""
    started: list[subprocess.Popen[str]] = []

    def ranks(count: int, *command: str) -> list[subprocess.Popen[str]]:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        common = os.environ | {"PYTHONPATH": str(HERE.parents[1]), "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
        common |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(count)}
        common["LOCAL_WORLD_SIZE"] = str(count)
        for rank in range(count):
            env = common | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            started.append(subprocess.Popen([sys.executable, *command], env=env, **pipes))
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


@pytest.mark.parametrize("count", [3, pytest.param(4, marks=pytest.mark.slow)])
def test_a_run_that_was_killed_goes_on_to_the_same_bytes(count: int, start, make_shards, tmp_path: Path) -> None:
    shards = make_shards(20, 30, 46, corrupt=(5,))  # 8 steps an epoch
    ran = ended(start(count, str(HERE / "many_ranks.py"), "resume", shards, str(tmp_path)))
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
