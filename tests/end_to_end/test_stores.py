"""Stores that nobody here knows: a scheme of fsspec's that another package brings, and one that fails now and then."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "tests"))

import stores  # noqa: E402

BUILD = ("--queries", str(ROOT / "queries" / "500k.txt"), "--seed", "7", "--limit", "400")
STAGES = ("candidates", "plan", "download", "select", "publish", "report")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """With a package that brings the scheme other://."""
    site = stores.install(tmp_path / "site")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(site)]), "STORE_LOG": str(tmp_path / "log")}


def run(module: str, *arguments: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)


def files(folder: Path) -> dict[str, bytes]:
    """The tables and tars, which must be the same in every build of one seed; markers bear the version of the source."""
    found = [path for stage in ("candidates", "plan", "select", "shards") for path in (folder / stage).iterdir()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found if path.suffix != ".json"}


def test_a_set_is_built_checked_and_left_alone_in_a_store_of_any_scheme_though_it_fails_now_and_then(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    calm = run("pipelines.build", *BUILD, "--output", f"other://{tmp_path}/calm", environment=environment)
    assert calm.returncode == 0, calm.stderr
    out = f"other://{tmp_path}/set"
    failing = environment | {"STORE_FAILS": "0.02", "STORE_SEED": "1", "STORE_LOG": str(tmp_path / "failing")}
    first = run("pipelines.build", *BUILD, "--output", out, environment=failing)
    assert first.returncode == 0, first.stderr
    failed = stores.counted(tmp_path / "failing")
    assert failed["failed after"] >= 1 and failed["failed before"] >= 2, "a test of nothing"
    assert files(tmp_path / "set") == files(tmp_path / "calm")
    checked = run("pipelines.verify", out, "--level", "full", environment=environment)
    assert checked.returncode == 0 and "sound" in checked.stdout, checked.stdout
    again = run("pipelines.build", *BUILD, "--output", out, environment=failing)
    assert again.returncode == 0, again.stderr
    finished = [line for line in again.stderr.splitlines() if "finished before" in line]
    assert finished == [f"{stage:<10} finished before" for stage in STAGES]


def test_a_store_that_does_not_come_back_stops_the_build_in_one_sentence(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    sitecustomize = "import wit.store.patience as p\np.FIRST_PAUSE_S = 0.001\n"
    (tmp_path / "site" / "sitecustomize.py").write_text(sitecustomize, encoding="utf-8")
    gone = environment | {"STORE_FAILS": "1"}
    stopped = run("pipelines.build", *BUILD, "--output", f"other://{tmp_path}/set", environment=gone)
    assert stopped.returncode in (2, 3) and "Traceback" not in stopped.stderr, stopped.stderr
    assert len(stopped.stderr.strip().splitlines()) <= 2, stopped.stderr
