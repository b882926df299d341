"""What a build costs its driver at the size it was made for: requests, seconds and memory.

    python benchmarks/bench_scale.py driver                    # 80,000 raw shards, 40,000 final ones
    python benchmarks/bench_scale.py driver --before COMMIT    # an earlier commit at 1/80 of the size, times 80, beside it
    python benchmarks/bench_scale.py prefixes                  # requests that one prefix of a store takes
    python benchmarks/bench_scale.py report                    # 15 million hosts
    python benchmarks/bench_scale.py verify                    # 400 million keys
    python benchmarks/bench_scale.py growth                    # the shuffle: tasks and buckets double, rows stay tiny
    python benchmarks/bench_scale.py width                     # single units of it at full width
    python benchmarks/bench_scale.py skew                      # hot names: the largest units beside the median ones
    python benchmarks/bench_scale.py build                     # the whole build at 10^4, 10^5 and 10^6 candidates

driver: a store is stood in by made-up names (scale_store.py) that has a set with all units of every stage done, and no manifest
of the stage that is looked at. The engine does nothing, and what its workers would have given back lies in the store. So what is
counted is the driver's alone. Each request is slept for, a listing and a removal once for 1,000 names.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import apache_beam as beam
import fsspec
import scale_store
from apache_beam.options.pipeline_options import TypeOptions
from scale_store import OUT, Counted, Line, Set, measured

from pipelines import engine, progress
from pipelines.candidates import run_candidates
from pipelines.context import Context
from pipelines.download import run_download
from pipelines.plan import run_plan
from pipelines.publish import run_publish
from pipelines.select import run_select
from wit import build
from wit.config import BuildConfig
from wit.fingerprints import Inputs
from wit.layout import manifest_of
from wit.querylist import load_queries
from wit.resume import survey
from wit.sources import SourceFile
from wit.stages import SCHEMAS
from wit.store.parts import StageDir

STAGES = {
    "candidates": run_candidates,
    "plan": run_plan,
    "download": run_download,
    "select": run_select,
    "publish": run_publish,
}
WORKERS, SHARE = 1_000, 0.05  # of a stage's time, at most, is the driver's (design section 11)
# Worker seconds of each stage at full size: 250 core-hours of extraction and 62 of plan (docs/log.md), 800 million pictures asked
# for at 300 a second and core; of select and publish 10 seconds a raw and 60 a final shard, by the demonstration's.
SECONDS = {
    "candidates": 250 * 3600,
    "plan": 62 * 3600,
    "download": 800e6 / 300,
    "select": 80_000 * 10,
    "publish": 40_000 * 60,
}


class Idle(engine.Engine):
    """An engine whose workers have done all, elsewhere, and whose answers lie in the store."""

    local = False

    def run(self, build: Any) -> None:
        """Makes the job's graph, and no more."""
        options = self.options()
        options.view_as(TypeOptions).pipeline_type_check = False
        pipeline = beam.Pipeline(runner=self.runner, options=options)
        build(pipeline)
        graph = pipeline.to_runner_api().SerializeToString()
        Line.graph = max(Line.graph, len(graph))
        if b"RemoveWork" in graph:
            scale_store.drop_all(f"{OUT}/_work")


def answers(whole: Set, stage: str, fingerprint: str) -> list[Any]:
    """What the workers of a stage give back."""
    if stage == "publish":
        return [whole.shard(number) for number in range(whole.final)]
    markers: list[Any] = [whole.marker(stage, unit, fingerprint) for unit in whole.units(stage)]
    with contextlib.suppress(ImportError):  # before there was such a thing
        from wit.plan.passes import OF_BUCKETS, OF_PARTITIONS, Wanted

        if stage == "plan":
            buckets, partitions = range(whole.buckets), range(whole.partitions)
            markers += [Wanted(OF_BUCKETS, tuple(buckets)), Wanted(OF_PARTITIONS, tuple(partitions))]
    return markers


def driver(scale: float, latency_s: float) -> Iterator[Line]:
    """Start, progress and end of every stage."""
    fsspec.register_implementation("counted", Counted, clobber=True)
    with contextlib.suppress(ImportError):  # before there was such a thing
        from wit.store import pages

        pages.PAGES["counted"] = lambda store, *asked: pages.Page(*store.page(*asked))
    secrets.token_hex = lambda *_: "bench"  # names of scratch files
    whole, folder = Set(scale), f"{OUT}/_tmp/units-bench"
    with tempfile.TemporaryDirectory() as scratch:
        queries = Path(scratch, "queries.txt")
        queries.write_text("dog\n", encoding="utf-8")
        sources = [SourceFile("wat", f"s3://crawl/{n:06d}.wat.gz", size=1 << 27) for n in range(32 * whole.candidates)]
        config = BuildConfig(queries=str(queries), source=("wat:s3://crawl/*",), output=OUT)
        object.__setattr__(config.sources, "files_per_part", 32)
        run = build.begin(config, sources, (), None, None)
        inputs = Inputs(run.seed, run.queries_sha256, sources)
        load_queries(str(queries))
        prints: dict[str, str] = {}
        for stage, work in STAGES.items():
            above = survey(OUT, run, config, inputs)[stage].above
            assert above is not None, stage
            prints[stage] = above.fingerprint
            if stage != "publish":
                whole.lay(stage, prints[stage], work=True)
            else:
                whole.finish(stage, prints[stage])
                scale_store.drop(f"{OUT}/{manifest_of(stage)}")
            whole.give_back(answers(whole, stage, prints[stage]), folder)
            context = Context(
                config, tuple(sources), run.seed, Idle((), 2), dict(prints), schemas={stage: SCHEMAS[stage]}
            )
            Counted.latency_s = latency_s
            if stage != "publish":
                yield measured(
                    stage, "in progress, once", functools.partial(progress._published, StageDir(OUT, stage, ""))
                )
            yield measured(stage, "start and end", functools.partial(work, context))
            Counted.latency_s = 0.0
            for name in list(Counted.folders.get("out/_tmp/units-bench", {})):
                scale_store.drop(f"{folder}/{name}")
        Counted.latency_s = latency_s
        yield measured("every start", "what stands", lambda: survey(OUT, run, config, inputs))


def lines_of(what: str, scale: float, latency_s: float) -> Iterator[Line]:
    """The lines of what was asked for."""
    if what == "driver":
        return driver(scale, latency_s)
    import scale_sums  # not above: earlier commits have nothing to sum

    return scale_sums.report(scale) if what == "report" else scale_sums.verify(scale)


def before(commit: str, scale: float, latency_s: float) -> list[Line]:
    """The same of an earlier commit, in a process and a tree of its own."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder, "tree")
        root = Path(__file__).parents[1]
        subprocess.run(["git", "-C", root, "worktree", "add", "--detach", "--quiet", tree, commit], check=True)
        try:
            command = [
                sys.executable,
                __file__,
                "driver",
                "--json",
                f"--scale={scale}",
                f"--latency-ms={latency_s * 1000}",
            ]
            done = subprocess.run(
                command, env=os.environ | {"PYTHONPATH": str(tree)}, capture_output=True, text=True, check=True
            )
        finally:
            subprocess.run(["git", "-C", root, "worktree", "remove", "--force", tree], check=True)
    return [Line(**json.loads(line)) for line in done.stdout.splitlines() if line.startswith("{")]


def show(lines: list[Line], earlier: list[Line], scale: float) -> None:
    """The table, and which bounds hold."""
    times = {(line.stage, line.what): line for line in earlier}
    print(
        f"{'':34}{'requests':>10}{'seconds':>10}{'MB':>7}{'graph kB':>10}{'share':>8}   before: requests, hours, MB, kB"
    )
    for line in lines:
        of_stage = SECONDS.get(line.stage) if line.what == "start and end" else None
        share = "" if of_stage is None else f"{line.seconds / (of_stage / WORKERS):.2%}"
        graph = f"{line.graph_kb:,.0f}" if line.graph_kb else ""
        old = times.get((line.stage, line.what))
        was = (
            f"{old.requests * scale:>11,.0f} {old.seconds * scale / 3600:>7.2f} {old.megabytes * scale:>7,.0f} "
            f"{old.graph_kb * scale:>7,.0f}"
            if old
            else ""
        )
        what = f"{line.stage:<14}{line.what:<20}{line.requests:>10,}{line.seconds:>10.1f}{line.megabytes:>7.0f}"
        print(f"{what}{graph:>10}{share:>8}   {was}")


def show_bounds(lines: list[Line]) -> None:
    """The bounds of design 11 that concern the driver, and whether they hold. Of a marker's name it keeps a few bytes, and a
    listing is 1,000 names a request: what grows is said."""
    graph = max(line.graph_kb for line in lines)
    shares = {one.stage: one.seconds / (SECONDS[one.stage] / WORKERS) for one in lines if one.what == "start and end"}
    whole, most = Set(1.0), max(lines, key=lambda line: line.megabytes)
    for line in (line for line in lines if line.what == "start and end"):
        units = whole.final if line.stage == "publish" else len(whole.units(line.stage))
        each = f"{units:,} units: {line.megabytes * 1e6 / units:,.0f} B and {line.requests / units:.4f} requests each"
        print(f"{line.stage}, {each}")
    print(f"memory at most {most.megabytes:.0f} MB ({most.stage}, {most.what}), whatever the rows")
    print(f"a job's graph below 1 MB: {graph:,.0f} kB, {'within' if graph < 1_000 else 'BEYOND'}")
    for stage, share in shares.items():
        print(f"below {SHARE:.0%} of the time of {stage}: {share:.1%}, {'within' if share < SHARE else 'BEYOND'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("driver", "prefixes", "report", "verify", "growth", "width", "skew", "build"))
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full size")
    parser.add_argument("--latency-ms", type=float, default=30.0)
    parser.add_argument("--before", help="an earlier commit")
    parser.add_argument("--before-scale", type=float, default=1 / 80)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--sizes", type=int, nargs="+", help="of build, in candidates")
    given = parser.parse_args()
    if given.what == "build":
        import scale_build

        scale_build.build(tuple(given.sizes or scale_build.SIZES))
        return
    if given.what == "prefixes":
        import scale_prefixes

        scale_prefixes.prefixes(SECONDS, WORKERS)
        return
    if given.what == "skew":
        import scale_skew

        scale_skew.skew()
        return
    if given.what in ("growth", "width"):
        import scale_shuffle  # not above: earlier commits have no such thing

        scale_shuffle.growth() if given.what == "growth" else scale_shuffle.width(given.latency_ms / 1000)
        return
    lines = []
    for line in lines_of(given.what, given.scale, given.latency_ms / 1000):
        lines.append(line)
        if given.json:
            print(json.dumps(asdict(line)), flush=True)
    if not given.json:
        earlier = before(given.before, given.before_scale, given.latency_ms / 1000) if given.before else []
        show(lines, earlier, given.scale / given.before_scale)
        if given.what == "driver" and given.scale == 1:
            show_bounds(lines)


if __name__ == "__main__":
    main()
