"""Every command many times over: does it end with the exit code that it promises, each time? `make test-exits`.

    python tests/exits.py [--times 200] [--at-once CORES] [--only verify]

A process can do its work, print its last line and then be aborted by a thread that something left behind (docs/log.md): one
run in a few, so that no other test sees it. Prints a line a command; exits with 1 where any run ended otherwise.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
ENV = os.environ | {"PYTHONPATH": str(ROOT)}
Command = tuple[str, Sequence[str], int]  # what it is, its arguments after `python -m`, the exit code it promises


def upgrade() -> Any:
    """The small web and its inputs, of the fixtures."""
    path = ROOT / "tests/fixtures/upgrade/make.py"
    spec = importlib.util.spec_from_file_location("upgrade_make", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(folder: Path, arguments: Sequence[str]) -> int:
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, cwd=folder, env=ENV, capture_output=True, timeout=300).returncode


def commands(build: Sequence[str]) -> list[Command]:
    made: list[Command] = [
        ("build, from nothing", [*build, "--output", "new-{}"], 0),
        ("build, finished before", [*build, "--output", "again-{}"], 0),
        ("build, nothing kept", [*build, "--output", "again-{}", "--min-image-side-px", "99"], 4),
        ("build, settings that would lose downloads", [*build, "--image-size", "64"], 2),
        ("build --help", ["pipelines.build", "--help"], 0),
    ]
    levels = ("metadata", "sample", "full")
    made += [(f"verify {level}, sound", ["pipelines.verify", "set", "--level", level], 0) for level in levels]
    made += [(f"verify {level}, broken", ["pipelines.verify", "broken", "--level", level], 1) for level in levels]
    made += [("verify, no set", ["pipelines.verify", "empty"], 2), ("show", ["pipelines.show", "set"], 0)]
    made += [("capacity", ["pipelines.capacity", "set", "--target", "1M"], 0)]
    few = ["--model", "demo", "--output", "new-{}", "--batch-size", "8", "--epochs", "1", "--warmup-steps", "1"]
    made += [
        ("train, a few steps", ["trainer.train", "--shards", "set/shards", *few], 0),
        ("train, no shards", ["trainer.train", "--shards", "empty", *few], 2),
        ("evaluate, no data set", ["trainer.evaluate", "--checkpoint", "empty", "--dataset", "empty"], 2),
    ]
    return [*made, ("queries --help", ["pipelines.queries", "--help"], 0)]


def repeat(folder: Path, command: Command, times: int, at_once: int) -> Counter[int]:
    """How often it ended with which code."""
    _, arguments, _ = command
    slot = itertools.count()

    def once(number: int) -> int:
        place = number if "new-{}" in arguments else next(slot) % 10_000
        name = f"again-{place}"
        if "again-{}" in arguments:
            shutil.copytree(folder / "set", folder / name)
        code = run(folder, [part.format(place) if part.endswith("-{}") else part for part in arguments])
        for made in (name, f"new-{place}"):
            shutil.rmtree(folder / made, ignore_errors=True)
        return code

    with ThreadPoolExecutor(at_once) as threads:
        return Counter(threads.map(once, range(times)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=200)
    parser.add_argument("--only", default="", help="commands whose line begins so")
    parser.add_argument("--at-once", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    web, wrong = upgrade(), 0
    with tempfile.TemporaryDirectory() as temporary, web.web() as port:
        folder = Path(temporary)
        build = ["pipelines.build", *web.inputs(folder, port)]
        assert run(folder, build) == 0
        shutil.copytree(folder / "set", folder / "broken")
        (folder / "broken/shards/00001.tar").unlink()
        (folder / "empty").mkdir()
        for command in (command for command in commands(build) if command[0].startswith(given.only)):
            started = time.monotonic()
            ended = repeat(folder, command, given.times, given.at_once)
            others = {code: n for code, n in ended.items() if code != command[2]}
            wrong += sum(others.values())
            said = f"otherwise: {others}" if others else "each time"
            print(
                f"{command[0]:<42} exit {command[2]}, {given.times} runs: {said}  ({time.monotonic() - started:.0f} s)",
                flush=True,
            )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
