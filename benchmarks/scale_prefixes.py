"""What one prefix of a store takes at full size: requests are counted in a small build with many units, by the folder below OUT
and the stage that is at work, and are scaled by units and by the stage's time on 1,000 workers."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from scale_store import Set

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "tests"))

import stores  # noqa: E402

BOUND = 3_000  # requests a second (design section 11); S3 takes 3,500 that write and 5,500 that read
ENDS = {  # what each stage writes last
    "candidates": "candidates/_MANIFEST.json",
    "plan": "plan/_MANIFEST.json",
    "download": "raw/_MANIFEST.json",
    "select": "select/_MANIFEST.json",
    "publish": "shards/MANIFEST.json",
}
OF_STAGE = {"candidates": "candidates", "plan": "plan", "download": "raw", "select": "select", "publish": "_shards"}


def counted(folder: Path) -> tuple[list[stores.Line], str]:
    """(calls of a build of the demonstration web with many units, its OUT)."""
    out, site = f"{folder}/set", stores.install(folder / "site")
    environment = {"STORE_LOG": f"{folder}/log", "PYTHONPATH": f"{ROOT}:{site}"}
    command = [sys.executable, "-m", "pipelines.build", "--queries", f"{ROOT}/queries/500k.txt", "--seed", "7"]
    many = "--rows-per-partition 300 --rows-per-raw-shard 50 --rows-per-key 200 --samples-per-shard 200".split()
    subprocess.run(
        [*command, *many, "--output", f"other://{out}"],
        env=os.environ | environment,
        check=True,
        capture_output=True,
    )
    return stores.lines(folder / "log"), out


def prefixes(seconds: dict[str, float], workers: int) -> None:
    """A line for each stage and folder; `seconds` are the worker-seconds of each stage at full size."""
    print("building the demonstration web on a store that counts, which takes a minute or more", file=sys.stderr)
    with tempfile.TemporaryDirectory() as name:
        lines, out = counted(Path(name))
        units = {stage: _units(Path(out), stage) for stage in ENDS}
    written = {line.path: line.began for line in lines if line.call in ("put", "create")}
    ended = sorted((written[f"{out}/{end}"], stage) for stage, end in ENDS.items())
    calls: Counter[tuple[str, str]] = Counter()
    for line in lines:
        stage = next((stage for end, stage in ended if line.began <= end), None)
        place = line.path.removeprefix(f"{out}/")
        folder = "/".join(place.split("/")[: 2 if place.startswith(("_work/", "_tmp/")) else 1])
        if stage and not folder.startswith("_tmp/"):  # of its own each run
            calls[stage, folder.partition("/")[0] if folder.startswith("_work") else folder] += 1
    full = Set(1.0)
    whole = {stage: len(full.units(stage)) for stage in ENDS if stage != "publish"} | {"publish": full.final}
    print(f"{'':14}{'folder':14}{'calls a unit':>13}{'a second, of a prefix':>23}")
    for (stage, folder), number in sorted(calls.items()):
        each, spread = number / units[stage], 256 if folder == "_work" else 1
        rate = each * whole[stage] / (seconds[stage] / workers) / spread
        if rate >= 1:
            said = "within" if rate < BOUND else "BEYOND"
            print(f"{stage:14}{folder:14}{each:>13.1f}{rate:>23,.0f} of {BOUND:,}: {said}")


def _units(out: Path, stage: str) -> int:
    if stage == "publish":
        return len(list((out / "shards").glob("*.tar")))
    return len(
        [path for path in (out / OF_STAGE[stage]).glob("*.json") if "." not in path.stem and path.stem[0] != "_"]
    )
