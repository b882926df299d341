"""docs/interop.md as it stands: in pyarrow over a small set, and by `make test-interop` in Daft and Spark over the demonstration
web. What a part of the page makes goes back into a build, by the page's own command."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipelines.build import main

sys.path.append(str(Path(__file__).parent))

import blocks

ROOT = Path(__file__).parents[2]
PINS = {"daft": "daft==0.7.26", "spark": "pyspark==3.5.6"}
QUIET = {"SPARK_LOCAL_IP": "127.0.0.1", "DAFT_ANALYTICS_ENABLED": "0", "DAFT_PROGRESS_BAR": "0"}


def python_of(kind: str) -> Path:
    """The Python of an environment that has Daft or Spark and nothing of ours, made where it is not there."""
    environment = ROOT / "build" / "interop" / kind
    if not (environment / "installed").exists():
        subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
        subprocess.run([str(environment / "bin/python"), "-m", "pip", "install", "--quiet", PINS[kind]], check=True)
        (environment / "installed").touch()
    return environment / "bin" / "python"


def shown(kind: str, python: Path, out: Path, queries: Path, folder: Path) -> str:
    """What the blocks of that kind print, in a folder where the set and the queries stand as the page has them."""
    for name, target in (("out/demo", out), ("queries/500k.txt", queries)):
        (folder / name).parent.mkdir()
        (folder / name).symlink_to(target)
    command = [str(python), blocks.__file__, *filter(None, [kind])]
    done = subprocess.run(command, cwd=folder, env=os.environ | QUIET, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3_000:]
    return done.stdout


def back(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's command takes the table that the blocks made: all of its rows, and the column `owner` with them."""
    monkeypatch.chdir(folder)
    (line,) = [line for line in blocks.PAGE.read_text(encoding="utf-8").splitlines() if "-m pipelines.build" in line]
    assert main([*shlex.split(line)[3:], "--dry-run", "--languages", "any"]) == 0
    given = pq.read_table("out/chosen")
    rows = [row for path in sorted(Path("out/second/candidates").glob("part-*.parquet")) for row in read(path)]
    taken = {(row["url"], row["caption"], json.loads(row["extra"])["owner"]) for row in rows}
    assert taken == {(row["url"], row["caption"], row["owner"]) for row in given.to_pylist()}


def read(path: Path) -> list[dict[str, str]]:
    return pq.read_table(path, columns=["url", "caption", "extra"]).to_pylist()


def test_what_the_page_shows_in_pyarrow(
    earlier: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = earlier()
    (tmp_path / "work").mkdir()
    queries = ROOT / "tests/fixtures/upgrade/queries.txt"
    said = shown("", Path(sys.executable), out, queries, tmp_path / "work").splitlines()
    assert said[0].split()[-1] == "26" and said[-1].startswith("(40, 40) ")
    assert len(said) > 2 and all(line.split()[0].isdecimal() for line in said[1:-1])
    back(tmp_path / "work", monkeypatch)


@pytest.fixture(scope="module")
def demonstration(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demonstration web, built."""
    out = tmp_path_factory.mktemp("demo") / "set"
    command = [sys.executable, "-m", "pipelines.build", "--queries", "queries/500k.txt", "--output", str(out)]
    subprocess.run(command, cwd=ROOT, check=True)
    return out


@pytest.mark.interop
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", sorted(PINS))
def test_what_the_page_shows_in(
    kind: str, demonstration: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = shown(kind, python_of(kind), demonstration, ROOT / "queries/500k.txt", tmp_path)
    assert "assets.example" in said and "looks like" in said
    back(tmp_path, monkeypatch)
