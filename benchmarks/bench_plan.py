"""plan at growing sizes: time a row, peak memory, peak disk as a multiple of the input, on one machine, beside a native
GroupByKey of the same rows.

    python benchmarks/bench_plan.py [--rows 1000000 3000000 10000000] [--peer-rows 300000]

The candidates are synthetic: 20 % of rows share a URL with another, queries are Zipf-distributed over 500,000 ids, hosts over
50,000 names. Every size runs in a process of its own; memory is that of its whole tree.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).parents[1]))

PART_ROWS = 1_000_000
QUERIES = 500_000


def candidates(start: int, rows: int, total: int) -> pa.Table:
    from wit.records import CANDIDATES

    rng = np.random.default_rng(start)
    url_ids = rng.integers(0, int(total * 0.9), rows)
    hosts = (rng.zipf(1.3, rows) % 50_000).tolist()
    urls = [
        f"https://img{h}.host{h % 9_000}.com/p/{u:x}/photo-{u % 977}.jpg"
        for u, h in zip(url_ids.tolist(), hosts, strict=True)
    ]
    texts = [
        f"a photo of thing {t} in place {u % 1_000_003}"
        for t, u in zip(rng.integers(0, 1 << 30, rows).tolist(), url_ids.tolist(), strict=True)
    ]
    counts = rng.poisson(3.5, rows) + 1
    ids = np.minimum(rng.zipf(1.15, int(counts.sum())) - 1, QUERIES - 1).astype(np.int32)
    lists = pa.ListArray.from_arrays(pa.array(np.r_[0, np.cumsum(counts)], pa.int32()), pa.array(ids))
    keys = rng.integers(0, 1 << 63, (rows, 2))
    constant = {"source": "bench", "language": "en", "page_url": "https://page.example/"}
    columns = {
        "key": pa.array([f"{a:016x}{b:016x}" for a, b in keys.tolist()]),
        "url": pa.array(urls),
        "canonical_url": pa.array(urls),
        "caption": pa.array(texts),
        "source_offset": pa.array(np.arange(start, start + rows)),
        "source_index": pa.array(np.zeros(rows, np.int32)),
        "query_ids": lists,
        "copies": pa.array(np.ones(rows, np.int32)),
        "language_score": pa.array(np.ones(rows, np.float32)),
        "extra": pa.nulls(rows, pa.string()),
    }
    return pa.table(
        [columns[f.name] if f.name in columns else pa.repeat(constant[f.name], rows) for f in CANDIDATES],
        schema=CANDIDATES,
    )


def make_parts(directory: str, rows: int) -> list[Any]:
    """The parts of candidates."""
    from wit.plan.passes import CandidatesPart
    from wit.store.manifests import Unit
    from wit.store.parquet import write_parquet

    parts = []
    for number, start in enumerate(range(0, rows, PART_ROWS)):
        path = f"{directory}/candidates-{number:05d}.parquet"
        if not os.path.exists(path):
            write_parquet(candidates(start, min(PART_ROWS, rows - start), rows), path)
        parts.append(CandidatesPart(Unit.numbered("scatter", number), path))
    return parts


def run_ours(directory: str, rows: int) -> None:
    import apache_beam as beam

    from pipelines.engine import Engine
    from pipelines.memory import few_arenas
    from pipelines.plan import Plan
    from wit.plan.config import PlanConfig
    from wit.plan.owners import Rates
    from wit.plan.passes import passes
    from wit.store.parts import StageDir

    few_arenas()
    parts = make_parts(directory, rows)
    stage = StageDir(f"{directory}/out", "plan", "f" * 32)
    plan = Plan(
        passes(
            stage, PlanConfig(), queries=f"{directory}/queries.txt", seed=1, rows=rows, rates=Rates(), parts=len(parts)
        )
    )
    Engine((), threads=2).run(lambda p: p | beam.Create(parts) | beam.Reshuffle() | plan)
    planned = sum(marker.out for marker in stage.markers())
    print(f"planned {planned}", flush=True)


def run_peer(directory: str, rows: int) -> None:
    """What one would write first: rows as Beam elements, a GroupByKey by URL, the first of each."""
    import apache_beam as beam
    import pyarrow.parquet as pq

    parts = [part.path for part in make_parts(directory, rows)]
    with beam.Pipeline(runner="FnApiRunner") as p:
        _ = (
            p
            | beam.Create(parts)
            | beam.FlatMap(lambda path: ((r["canonical_url"], r) for r in pq.ParquetFile(path).read().to_pylist()))
            | beam.GroupByKey()
            | beam.MapTuple(lambda url, group: min(group, key=lambda r: r["key"]))
            | beam.combiners.Count.Globally()
        )


def bytes_below(directory: str) -> int:
    """What lies on the disk below a directory."""
    total = 0
    for at, _, names in os.walk(directory):
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                total += os.stat(os.path.join(at, name)).st_size
    return total


def measured(kind: str, directory: str, rows: int) -> tuple[float, float, float, float]:
    """(wall seconds, CPU seconds, peak MB of the tree, peak bytes on the disk beside the input) of a run in its own process."""
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, __file__, "--run", kind, "--directory", directory, "--rows", str(rows)],
        stdout=subprocess.DEVNULL,
    )
    tree, peak, disk, stop = psutil.Process(process.pid), [0.0], [0], threading.Event()

    def watch() -> None:
        while not stop.wait(0.3):
            disk[0] = max(disk[0], bytes_below(f"{directory}/out"))
            try:
                peak[0] = max(peak[0], sum(p.memory_info().rss for p in [tree, *tree.children(recursive=True)]) / 1e6)
            except psutil.Error:
                return

    thread = threading.Thread(target=watch)
    thread.start()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    stop.set()
    thread.join()
    if process.returncode:
        raise SystemExit(f"{kind} at {rows} rows ended with {process.returncode}")
    return time.monotonic() - started, usage.ru_utime + usage.ru_stime, peak[0], disk[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 3_000_000, 10_000_000])
    parser.add_argument("--peer-rows", type=int, default=300_000)
    parser.add_argument("--run", choices=("ours", "peer"))
    parser.add_argument("--directory")
    given = parser.parse_args()
    if given.run:
        {"ours": run_ours, "peer": run_peer}[given.run](given.directory, given.rows[0])
        return
    print(
        f"{'rows':>12} {'what':<22} {'wall s':>8} {'CPU s':>8} {'CPU us/row':>11} {'peak MB':>8} {'B/row':>7} {'disk':>7}"
    )
    for kind, sizes in (("ours", given.rows), ("peer", [given.peer_rows])):
        for rows in sizes:
            with tempfile.TemporaryDirectory() as directory:
                Path(directory, "queries.txt").write_text(
                    "\n".join(f"query {i}" for i in range(QUERIES)), encoding="utf-8"
                )
                make_parts(directory, rows)
                given_bytes = bytes_below(directory)
                wall, cpu, peak, disk = measured(kind, directory, rows)
            name = "wit plan, all passes" if kind == "ours" else "GroupByKey of rows"
            print(
                f"{rows:>12,} {name:<22} {wall:8.1f} {cpu:8.1f} {cpu / rows * 1e6:11.1f} {peak:8.0f} {peak / rows * 1e6:7.0f} "
                f"{disk / given_bytes:6.1f}x",
                flush=True,
            )


if __name__ == "__main__":
    main()
