"""Stores that nobody here knows: a scheme of fsspec's that another package brings, and one that fails now and then."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
BUILD = ("--queries", str(ROOT / "queries" / "500k.txt"), "--seed", "7", "--limit", "400")
ANOTHER = ("--samples-per-shard", "40")
STAGES = ("candidates", "plan", "download", "select", "publish", "report")
# What a build has to live with, not so often that eight attempts in a row fail.
WRONG = {"fails": 0.03, "short": 0.05, "torn": 0.1, "reorder": 0.002, "late": 0.3, "seed": 1}


def run(module: str, *arguments: str, store: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, env=store.environment, cwd=ROOT, capture_output=True, text=True, check=False)


def files(folder: Path) -> dict[str, bytes]:
    """The tables and tars, which must be the same in every build of one seed; markers bear the version of the source."""
    paths = [path for stage in ("candidates", "plan", "select", "shards") for path in (folder / stage).iterdir()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths if path.suffix != ".json"}


def asked_again(text: str) -> tuple[int, dict[str, int]]:
    """What the summary says of it: how often, and how often for each reason."""
    line = re.search(r"the store was asked again (\d+) times: (.*)", text)
    assert line, text
    return int(line[1]), {why: int(times) for times, why in (part.split(" ", 1) for part in line[2].split(", "))}


def test_a_set_is_built_checked_and_left_alone_in_a_store_of_any_scheme_though_it_fails_now_and_then(
    other_store: Any,
) -> None:
    calm = run("pipelines.build", *BUILD, "--output", other_store.at("calm"), store=other_store)
    assert calm.returncode == 0, calm.stderr
    out = other_store.at("set")
    other_store.counts_together("set")
    other_store.goes_wrong(**WRONG)
    first = run("pipelines.build", *BUILD, "--output", out, store=other_store)
    assert first.returncode == 0, first.stderr
    failed = other_store.counted()
    assert all(failed[how] for how in ("failed after", "failed before", "short", "put in part")), "a test of nothing"
    times, kinds = asked_again(first.stdout)
    assert times == sum(kinds.values()) > 0 and "asked again" not in calm.stdout
    kept = json.loads((other_store.folder / "set/run.json").read_text("utf-8"))["asked_again"]
    assert kept.keys() == kinds.keys()
    again = run("pipelines.build", *BUILD, "--output", out, store=other_store)
    assert again.returncode == 0, again.stderr
    finished = [line for line in again.stderr.splitlines() if "finished before" in line]
    assert finished == [f"{stage:<10} finished before" for stage in STAGES]
    for name in ("calm", "set"):  # another set takes the place of the one that stands: copied by workers, file by file
        other = run("pipelines.build", *BUILD, *ANOTHER, "--output", other_store.at(name), store=other_store)
        assert other.returncode == 0 and not (other_store.folder / name / "_shards").is_dir(), other.stderr
    assert len(list((other_store.folder / "set/shards").glob("*.tar"))) > 1
    # Only now, since a listing that was late has hidden work files from the start that wrote them.
    assert files(other_store.folder / "set") == files(other_store.folder / "calm")
    checked = run("pipelines.verify", out, "--level", "full", store=other_store)
    assert checked.returncode == 0 and "sound" in checked.stdout, checked.stdout


def test_a_store_that_does_not_come_back_stops_the_build_in_one_sentence(other_store: Any) -> None:
    sitecustomize = "import wit.store.patience as p\np.FIRST_PAUSE_S = 0.001\n"
    (other_store.site / "sitecustomize.py").write_text(sitecustomize, encoding="utf-8")
    other_store.goes_wrong(fails=1)
    stopped = run("pipelines.build", *BUILD, "--output", other_store.at("set"), store=other_store)
    assert stopped.returncode in (2, 3) and "Traceback" not in stopped.stderr, stopped.stderr
    assert len(stopped.stderr.strip().splitlines()) <= 2, stopped.stderr
