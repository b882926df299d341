"""One run of a build: what is checked before anything is written, the lock, run.json, the demonstration web, the funnel."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import platform
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any

from rich.console import Console

from pipelines.context import Context
from pipelines.engine import Engine, quiet_beam
from pipelines.memory import PeakMemory, few_arenas
from pipelines.score import scorer_of
from pipelines.show import funnel, paths
from wit import config as configuration
from wit import demo, ledger, parts, storage, workers
from wit.config import BuildConfig
from wit.parts import Marker, read_manifest
from wit.querylist import load_queries
from wit.records import STAGES, InputError
from wit.retry import has_failed
from wit.score import Scorer
from wit.sources import SourceFile, list_sources

SHOWN_PROBLEMS = 20  # the rest is in ledger/sources.parquet
PACKAGES = ("apache-beam", "pyarrow", "numpy", "pillow", "pycurl", "fastwarc", "cykooz.resizer")


@contextlib.contextmanager
def opened(config: BuildConfig, beam_flags: tuple[str, ...]) -> Iterator[Session]:
    """Checks everything that can be checked without writing, then takes the output directory and yields the session."""
    quiet_beam()
    few_arenas()
    config = _absolute(config)
    scorer = scorer_of(config)
    load_queries(config.queries)
    _refuse_foreign(config.output)
    sources = [file for spec in config.source if spec != "demo" for file in listed(spec, config)]
    if "demo" not in config.source and "download" in config.stage_names():
        config.fetch.check()
    with contextlib.ExitStack() as stack:
        if "demo" in config.source:
            print(DEMO_NOTE, file=sys.stderr)
        stack.enter_context(storage.only_builder(config.output))
        if "demo" in config.source:
            web = stack.enter_context(demo.serve())
            sources += demo_sources(config.output)
            config = configuration.for_demo(config, web.endpoints)
        stack.enter_context(workers.closing_pools())
        peak = stack.enter_context(PeakMemory())
        yield Session.start(config, sources, beam_flags, peak, scorer)


def listed(spec: str, config: BuildConfig) -> list[SourceFile]:
    """The files of a source; local ones by absolute path for the workers, and as the user wrote them for the tables."""
    files = list_sources(
        spec,
        cc_base=config.cc_base,
        url_col=config.url_col,
        caption_col=config.caption_col,
        budget=dataclasses.replace(config.budget(), workers=1),
    )
    return [
        dataclasses.replace(file, path=os.path.abspath(file.path), label=file.path)
        if storage.is_local(file.path)
        else file
        for file in files
    ]


DEMO_NOTE = (
    "Building from the embedded demonstration web. For Common Crawl: "
    "--source commoncrawl:CC-MAIN-2026-43:files=10 --contact you@example.org"
)


def demo_sources(out: str) -> list[SourceFile]:
    """The demonstration web's crawl files, written below OUT, under names that do not depend on where that is."""
    paths = demo.write_wat(storage.join(out, "_demo"))
    return [SourceFile("wat", path, label=f"demo/{storage.name_of(path)}", size=storage.size(path)) for path in paths]


def _absolute(config: BuildConfig) -> BuildConfig:
    """Workers of an engine have working directories of their own."""
    local = {
        name: os.path.abspath(getattr(config, name))
        for name in ("output", "queries", "score_checkpoint")
        if getattr(config, name) is not None and storage.is_local(getattr(config, name))
    }
    return dataclasses.replace(config, **local)


def _refuse_foreign(out: str) -> None:
    if storage.exists(out) and not storage.is_dir(out):
        raise InputError(f"--output {out} is a file: choose a directory")
    names = [name for name in storage.list_dir(out) if name not in (".lock", "_LEASE.json")]
    if names and "run.json" not in names:
        raise InputError(f"--output {out} holds files of something else ({names[0]}, ...): choose an empty directory")


@dataclasses.dataclass
class Session:
    context: Context
    run: dict[str, Any]
    peak: PeakMemory

    @classmethod
    def start(
        cls,
        config: BuildConfig,
        sources: list[SourceFile],
        beam_flags: tuple[str, ...],
        peak: PeakMemory,
        scorer: Scorer | None,
    ) -> Session:
        """Fixes the seed and the fingerprints; raises InputError if going on would throw downloads away unasked."""
        before = _previous(config.output)
        seed = config.seed if config.seed is not None else before.get("seed", secrets.randbits(63))
        retries = _rounds(config, configuration.fingerprints(config, sources, seed)["download"])
        prints = configuration.fingerprints(config, sources, seed, scorer, retries)
        _guard_downloads(config, prints)
        run = {
            "config": dataclasses.asdict(config),
            "seed": seed,
            "fingerprints": prints,
            "queries_sha256": load_queries(config.queries).digest,
            "sources": [dataclasses.asdict(source) for source in sources],
            "beam_flags": list(beam_flags),
            "versions": {name: version(name) for name in PACKAGES} | {"python": platform.python_version()},
            "timings_s": before.get("timings_s", {}),
            "peak_memory_mb": before.get("peak_memory_mb", 0.0),
        }
        if scorer is not None:
            run["score_model"] = {"name": scorer.model, "sha256": scorer.sha256}
        engine = Engine(beam_flags, threads=config.processes())
        session = cls(Context(config, tuple(sources), seed, engine, prints, scorer, retries), run, peak)
        session.save()
        session.clear_stale()
        storage.remove(storage.join(config.output, "_tmp"))  # work in progress of a run that was killed
        return session

    def save(self) -> None:
        storage.write_bytes(storage.join(self.context.config.output, "run.json"), parts.to_json(self.run))

    def clear_stale(self) -> None:
        """Removes the output of stages that these settings, or --rebuild-from, no longer stand behind."""
        asked = self.context.config.rebuild_from
        forced = STAGES[STAGES.index(asked) :] if asked else ()
        for name in self.context.fingerprints:
            manifest = read_manifest(self.context.config.output, name)
            stage = self.context.stage(name)
            if name in forced or (manifest and manifest["fingerprint"] != stage.fingerprint):
                stage.clear()
        if "score" not in self.context.fingerprints:
            parts.StageDir(self.context.config.output, "score", "").clear()

    def run_stage(self, name: str, work: Callable[[Context], Marker]) -> None:
        """Runs the stage unless its manifest bears its fingerprint."""
        retries = self.context.retries if name == "download" else 0
        manifest = self.context.stage(name).manifest() if name in self.context.fingerprints else None
        if manifest and manifest.get("retries", 0) >= retries:
            if "parts" in manifest:
                self.context.stage(name).tidy(manifest["parts"])  # in case the run that finished it was killed there
            print(f"{name:<10} finished before", file=sys.stderr)
            return
        started = time.monotonic()
        work(self.context)
        self.run["timings_s"][name] = round(time.monotonic() - started, 2)
        self.run["peak_memory_mb"] = max(self.run["peak_memory_mb"], self.peak.megabytes)
        self.save()

    def source_problems(self) -> list[str]:
        """One line for each source file that was damaged or could not be read to its end."""
        candidates = self.context.stage("candidates").manifest() or {"parts": []}
        reports = [report for marker in candidates["parts"] for report in marker["sources"]]
        lost = [f"{r['path']}: {n:,} records lost: {name}" for r in reports for name, n in sorted(r["lost"].items())]
        return lost + [f"{r['path']}: {r['error']}" for r in reports if r["error"]]

    def manifests(self) -> dict[str, Marker]:
        found = {name: self.context.stage(name).manifest() for name in self.context.fingerprints}
        return {name: manifest for name, manifest in found.items() if manifest}

    def show_funnel(self) -> None:
        """The last word of a build: what went in, what was lost where and why, what came out."""
        console = Console()
        console.print(funnel(ledger.stage_totals(self.manifests())))
        for line in self.source_problems()[:SHOWN_PROBLEMS]:
            console.print(line, style="yellow", highlight=False, soft_wrap=True)
        out = self.context.config.output
        console.print(f"peak memory of all processes: {self.peak.megabytes:,.0f} MB", highlight=False)
        for path in paths(out):
            console.print(path, highlight=False, soft_wrap=True)


def _previous(out: str) -> dict[str, Any]:
    path = storage.join(out, "run.json")
    return dict(json.loads(storage.read_bytes(path))) if storage.exists(path) else {}


def _rounds(config: BuildConfig, fingerprint: str) -> int:
    """Rounds of retries that the raw shards will have: one more if it is asked for and something is left to retry."""
    manifest = parts.StageDir(config.output, "download", fingerprint).manifest()
    if config.rebuild_from in ("candidates", "plan", "download"):
        manifest = None
    done = manifest.get("retries", 0) if manifest else 0
    return done + (config.retry_failed and (manifest is None or has_failed(manifest)))


def _guard_downloads(config: BuildConfig, prints: dict[str, str]) -> None:
    stage = parts.StageDir(config.output, "download", prints["download"])
    names = [
        n for n in storage.list_dir(stage.path) if n.endswith(".json") and not n.startswith("_") and n.count(".") == 1
    ]
    foreign = [n for n in names if stage.marker(n.removesuffix(".json")) is None]
    asked = config.rebuild_from
    if foreign and (asked is None or STAGES.index(asked) > STAGES.index("download")):
        raise InputError(
            f"these settings would throw away {len(foreign)} downloaded shards in {stage.path}: keep the settings of "
            f"{config.output}/run.json, choose another --output, or say --rebuild-from download"
        )
