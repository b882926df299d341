"""Ctrl-C and SIGTERM while commands still import."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

COMMANDS = (
    "pipelines.build",
    "pipelines.verify",
    "pipelines.show",
    "pipelines.queries",
    "trainer.train",
    "trainer.evaluate",
)


def listens(pid: int) -> bool:
    """Whether the process has a handler for SIGTERM."""
    caught = re.search(r"SigCgt:\s*(\w+)", Path(f"/proc/{pid}/status").read_text(encoding="utf-8"))
    return caught is not None and bool(int(caught[1], 16) >> (signal.SIGTERM - 1) & 1)


@pytest.mark.parametrize("number, name", [(signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "SIGTERM")])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_that_still_imports_ends_with_one_sentence(command: str, number: signal.Signals, name: str) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(
        [sys.executable, "-m", command, "--help"], stderr=subprocess.PIPE, text=True, env=environment
    )
    until = time.monotonic() + 60
    while not listens(process.pid) and time.monotonic() < until:
        time.sleep(0.001)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 3
    assert re.fullmatch(f"stopped: by {name}[^\n]*\n", said)
