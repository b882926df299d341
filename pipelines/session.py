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
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version

from rich.console import Console

from pipelines.context import Context
from pipelines.engine import Engine, quiet_beam
from pipelines.memory import PeakMemory, few_arenas
from pipelines.score import scorer_of
from pipelines.show import funnel, paths
from wit import advice, demo, layout, ledger, resume, workers
from wit import config as configuration
from wit.candidates import language
from wit.config import BuildConfig
from wit.damage import missed
from wit.download.retry import has_failed
from wit.errors import InputError
from wit.fetch import limits
from wit.fingerprints import Inputs, gone_of
from wit.images.blocklist import load_blocklist
from wit.querycheck import remarks
from wit.querylist import load_queries
from wit.report.tables import source_reports
from wit.resume import Stage
from wit.runfile import Rebuild, Record, Retry, RunFile, load_run, read_run, recorded, sealed
from wit.score import Scorer
from wit.sources import SourceFile, list_sources, version_of
from wit.sources.tables import check_hashes
from wit.stages import PRODUCTS, STAGES, from_stage
from wit.store import fs
from wit.store.claims import only_builder
from wit.store.manifests import File, Manifest
from wit.store.parts import StageDir
from wit.typed import to_json

TABLES_LOOKED_AT = 8  # for a column of hashes: they are of one list
SHOWN_PROBLEMS = 20  # the rest is in ledger/sources.parquet
PACKAGES = ("apache-beam", "pyarrow", "numpy", "pillow", "pycurl", "fastwarc", "cykooz.resizer")


@contextlib.contextmanager
def opened(config: BuildConfig, beam_flags: tuple[str, ...]) -> Iterator[Session]:
    """Checks everything that can be checked without writing, then takes the output directory and yields the session."""
    quiet_beam()
    few_arenas()
    config = _absolute(config)
    scorer = scorer_of(config)
    odd = remarks(config.queries, config.candidates.matching)
    _check_files(config)
    engine = Engine(beam_flags, threads=config.processes())
    engine.check()
    _refuse_foreign(config.output, config.seed)
    sources = [file for spec in config.source if spec != "demo" for file in listed(spec, config)]
    if config.image.verify_hash is not None:
        check_hashes([file for file in sources if file.size is not None][:TABLES_LOOKED_AT], config.image.verify_hash)
    if "demo" not in config.source and "download" in config.stage_names():
        config.fetch.check()
    for line in odd:
        print(line, file=sys.stderr)
    with contextlib.ExitStack() as stack:
        if "demo" in config.source:
            print(DEMO_NOTE, file=sys.stderr)
        stack.enter_context(only_builder(config.output))
        before = read_run(config.output)
        if "demo" in config.source:
            web = stack.enter_context(demo.serve())
            sources += demo_sources(config.output)
            config = configuration.for_demo(config, web.endpoints)
        stack.enter_context(workers.closing_pools())
        peak = stack.enter_context(PeakMemory())
        yield Session.start(config, sources, engine, peak, scorer, before)


def _check_files(config: BuildConfig) -> None:
    """Raises InputError where a file that a flag names, beside the sources, the queries and the checkpoint, is not what it is
    for: workers would tell it too late."""
    if (model := config.candidates.language_model) is None:
        language.check_codes(config.candidates.languages)
    else:  # which may have labels of its own
        language.check_model(model)
    load_blocklist(config.image.blocked_hashes)
    limits.read(config.fetch.host_limits)
    config.fetch.check_ca_file()


def listed(spec: str, config: BuildConfig) -> list[SourceFile]:
    """The files of a source; local ones by absolute path for the workers, and as the user wrote them for the tables."""
    files = list_sources(
        spec,
        cc_base=config.cc_base,
        url_col=config.url_col,
        caption_col=config.caption_col,
        encoding=config.encoding,
        budget=dataclasses.replace(config.budget(), workers=1),
    )
    return [
        dataclasses.replace(file, path=os.path.abspath(file.path), label=file.path) if fs.is_local(file.path) else file
        for file in files
    ]


DEMO_NOTE = (
    "Building from the embedded demonstration web. For Common Crawl: "
    "--source commoncrawl:CC-MAIN-2026-43:files=10 --contact you@example.org"
)


def demo_sources(out: str) -> list[SourceFile]:
    """The demonstration web's crawl files, written below OUT, under names that do not depend on where that is."""
    paths = demo.write_wat(fs.join(out, layout.DEMO))
    return [
        SourceFile("wat", path, label=f"demo/{fs.name_of(path)}", size=fs.size(path), version=version_of(path))
        for path in paths
    ]


def _absolute(config: BuildConfig) -> BuildConfig:
    """Workers of an engine have working directories of their own."""
    local = {
        name: os.path.abspath(getattr(config, name))
        for name in ("output", "queries", "score_checkpoint")
        if getattr(config, name) is not None and fs.is_local(getattr(config, name))
    }
    if config.fetch.host_limits and fs.is_local(config.fetch.host_limits):
        fetch = dataclasses.replace(config.fetch, host_limits=os.path.abspath(config.fetch.host_limits))
        config = dataclasses.replace(config, fetch=fetch)
    return dataclasses.replace(config, **local)


def _refuse_foreign(out: str, seed: int | None) -> None:
    """Raises InputError where OUT is no directory, or one of something else. A set whose run.json is gone is ours, and a seed
    that does not fit its fingerprints is refused where they are compared."""
    if fs.exists(out) and not fs.is_dir(out):
        raise InputError(f"--output {out} is a file: choose a directory")
    there = fs.list_dir(out)
    names = [name for name in there if name not in (layout.LOCK_FILE, layout.LEASE_FILE, layout.SCRATCH)]
    names = [name for name in names if not name.endswith(fs.UNFINISHED)]
    if names and layout.RUN_FILE not in names:
        if not any(fs.exists(layout.manifest_path(out, stage)) for stage in STAGES):
            raise InputError(
                f"--output {out} holds files of something else ({names[0]}, ...): choose an empty directory"
            )
        if seed is None:
            raise InputError(f"{fs.join(out, 'run.json')} is gone: {missed('run.json')}")
    for name in sorted(layout.DIRECTORIES.intersection(there)):
        if not fs.is_dir(fs.join(out, name)):
            raise InputError(f"{fs.join(out, name)} stands where a directory belongs: move it away")


@dataclasses.dataclass
class Session:
    context: Context
    run: RunFile
    before: RunFile | None  # of the last start
    peak: PeakMemory
    inputs: Inputs
    stages: dict[str, Stage] = dataclasses.field(default_factory=dict)

    @classmethod
    def start(
        cls,
        config: BuildConfig,
        sources: list[SourceFile],
        engine: Engine,
        peak: PeakMemory,
        scorer: Scorer | None,
        before: RunFile | None,
    ) -> Session:
        """Fixes the seed and the fingerprints, and writes run.json; raises InputError, with nothing touched, if going on would
        throw downloads away unasked or needs what is gone. `before` is run.json of the last start."""
        if before is not None:
            resume.restore(config.output, before.records)
        run = _begin(config, sources, engine.flags, scorer, before)
        model = (scorer.model, scorer.sha256) if scorer else None
        inputs = Inputs(run.seed, run.queries_sha256, sources, model, run.gone)
        context = Context(config, tuple(sources), run.seed, engine, {}, scorer, 0, run.rebuild.pending, run.records)
        session = cls(context, run, before, peak, inputs)
        session.look()
        run.retry, retries = _retry(config, run, session.stages["download"])
        if (asked := config.retried_reasons()) and not run.retry.reasons:
            print(f"nothing is left to retry: no pair was lost to {', '.join(asked)}", file=sys.stderr)
        session.context = dataclasses.replace(session.context, retries=retries)
        session.check()
        session.tell_what_was_refused()
        resume.drop_damaged(config.output, run.rebuild.pending)
        run.at_work = []
        session.save()
        _clear_up(config.output)
        return session

    def look(self) -> None:
        """What stands under OUT by now, and so the fingerprints that are known."""
        out = self.context.config.output
        self.stages = resume.survey(out, self.run, self.context.config, self.inputs)
        known = {name: stage.above for name, stage in self.stages.items() if stage.above is not None}
        prints = {name: above.fingerprint for name, above in known.items()}
        self.run.fingerprints = prints
        records = self.run.records
        for name, stage in self.stages.items():
            if stage.manifest is not None:
                records[name] = recorded(out, stage.manifest, records.get(name))
            elif stage.record is not None:
                records[name] = stage.record
        schemas = {name: above.schema for name, above in known.items()}
        self.context = dataclasses.replace(self.context, fingerprints=prints, schemas=schemas)

    def to_run(self) -> list[str]:
        """The stages that are still to run."""
        asked, again = self.context.config.stage_names(), self.context.retries > self.stages["download"].retries
        return resume.to_run(self.stages, asked, self.run.rebuild.pending, again)

    def check(self) -> None:
        if "download" not in self.run.rebuild.pending:
            resume.check_going_on(self.context.config.output, self.before, self.run, self.stages, self.to_run())

    def tell_what_was_refused(self) -> None:
        """What a finished download refused under settings that were changed since."""
        record = self.run.records.get("download")
        if not self.stages["download"].finished or record is None or record.dropped is None:
            return
        if record.fetch is None:
            record.fetch = (self.before or self.run).section("fetch")
        asked = self.context.config.retried_reasons()  # which this start fetches as it is
        refused = {reason: n for reason, n in record.dropped.items() if reason not in asked}
        for line in advice.refused_before(record.fetch, self.run.section("fetch"), refused):
            print(line, file=sys.stderr)

    def nothing_kept(self) -> str | None:
        """Why a finished set has no samples; None where it has some, or was not to be published."""
        published = self.context.totals().get("publish")
        asked = "publish" in self.context.config.stage_names()
        return advice.nothing_kept(self.context.totals()) if asked and published and not published.out else None

    def save(self) -> None:
        fs.write_bytes(layout.run_path(self.context.config.output), sealed(self.run))

    def run_stage(self, name: str, work: Callable[[Context], object]) -> None:
        """Runs the stage unless it is finished, or was and nobody misses what is gone of it."""
        if name not in self.to_run():
            self.pass_over(name)
            return
        self.check()  # the stages before it may have come out other than they were
        rebuild = self.run.rebuild
        self.run.at_work = [name]  # from here on its manifest may be another than run.json has the digest of
        self.save()
        if name in rebuild.pending and name not in rebuild.begun:
            self.throw_away(name)
        started = time.monotonic()
        made = work(self.context)
        self.run.timings_s[name] = round(time.monotonic() - started, 2)
        self.run.peak_memory_mb = max(self.run.peak_memory_mb, self.peak.megabytes)
        self.settle(name)
        if name == "report":
            files = tuple(file for file in made if isinstance(file, File)) if isinstance(made, list) else ()
            self.run.records[name] = Record(fingerprint=self.context.fingerprints[name], files=files)
        self.look()
        if name == "download":
            self.run.records[name].fetch = self.run.section("fetch")
        self.run.at_work = []
        self.save()

    def settle(self, name: str) -> bool:
        """Strikes a stage that is done off the lists of what is still to be made; whether it stood in any."""
        held = False
        for names in (self.run.rebuild.pending, self.run.rebuild.begun, self.run.retry.pending):
            if name in names:
                names.remove(name)
                held = True
        return held

    def pass_over(self, name: str) -> None:
        stage, directory = self.stages[name], self.context.stage(name)
        if isinstance(stage.manifest, Manifest) and not stage.missing:
            directory.tidy(stage.manifest.parts)  # in case the run that finished it was killed there
        if name == "publish":
            fs.remove(layout.next_shards_path(directory.out))
        if self.settle(name):
            self.save()
        print(f"{name:<10} {resume.passed_over(directory.out, stage)}", file=sys.stderr)

    def throw_away(self, name: str) -> None:
        """What --rebuild-from asks for, once: a restart goes on with what was made since. Downloads make room; of the other
        stages what the manifest names stays until another one stands."""
        stage = self.context.stage(name)
        if name == "download":
            stage.clear()
        elif name not in PRODUCTS:
            stage.forget()
        self.run.rebuild.begun.append(name)
        self.save()

    def withdraw_scores(self) -> None:
        """Removes scores of an earlier start where this one is without them, once a set without them stands."""
        if "score" not in self.stages and "publish" in self.context.config.stage_names():
            StageDir(self.context.config.output, "score", "").clear()
            if self.run.records.pop("score", None):
                self.save()

    def source_problems(self) -> list[str]:
        """One line for each source file of which something could not be read."""
        return ledger.source_problems(source_reports(self.context.extracted() or ()))

    def show_funnel(self) -> None:
        """The last word of a build: what went in, what was lost where and why, what came out."""
        self.show_losses(STAGES)
        console, out = Console(), self.context.config.output
        console.print(f"peak memory of all processes: {self.peak.megabytes:,.0f} MB", highlight=False)
        for path in paths(out):
            console.print(path, highlight=False, soft_wrap=True)

    def show_losses(self, stages: Sequence[str]) -> None:
        """What went into each of these stages, what was lost there and why, and what of the sources could not be read."""
        console, totals = Console(), self.context.totals()
        console.print(funnel(ledger.stage_totals({name: totals[name] for name in stages if name in totals})))
        for line in self.source_problems()[:SHOWN_PROBLEMS]:
            console.print(line, style="yellow", markup=False, highlight=False, soft_wrap=True)


def _clear_up(out: str) -> None:
    """Removes work in progress of a run that was killed; in the stages' directories each stage does that. When hosts may be
    asked again is kept, where it is the file that it was."""
    scratch = fs.join(out, layout.SCRATCH)
    for name in fs.list_dir(scratch):
        if name != layout.PLACES_FILE or fs.size_of_file(fs.join(scratch, name)) is None:
            fs.remove(fs.join(scratch, name))
    for folder in (out, fs.join(out, "ledger"), fs.join(out, "report")):
        for name in fs.list_dir(folder):
            if name.endswith(fs.UNFINISHED):
                fs.remove(fs.join(folder, name))


def _begin(
    config: BuildConfig,
    sources: Sequence[SourceFile],
    beam_flags: Sequence[str],
    scorer: Scorer | None,
    before: RunFile | None,
) -> RunFile:
    """run.json of this start, with what it takes over from the last one."""
    fresh = RunFile(config={}, seed=secrets.randbits(63), queries_sha256="", sources=())
    last = before or fresh
    given = {
        "config": dataclasses.asdict(config),
        "seed": config.seed if config.seed is not None else last.seed,
        "queries_sha256": load_queries(config.queries).digest,
        "sources": [dataclasses.asdict(source) for source in sources],
        "beam_flags": list(beam_flags),
        "versions": {name: version(name) for name in PACKAGES} | {"python": platform.python_version()},
        "gone": gone_of(before),
        "score_model": {"name": scorer.model, "sha256": scorer.sha256} if scorer else None,
    }
    run = load_run(json.loads(to_json(given)))  # as the next start will read it
    return dataclasses.replace(
        run,
        fingerprints=dict(last.fingerprints),
        timings_s=dict(last.timings_s),
        peak_memory_mb=last.peak_memory_mb,
        stages=dict(last.records),
        at_work=list(STAGES) if last.at_work is None else last.at_work,
        rebuild=_rebuild(config, last.rebuild),
        retry=last.retry,
    )


def _rebuild(config: BuildConfig, last: Rebuild) -> Rebuild:
    """What --rebuild-from asks for: what the last start was at, if it is the same."""
    asked = config.rebuild_from
    if asked is None or (last.pending and last.from_ == asked):
        return dataclasses.replace(last)
    return Rebuild(asked, [name for name in from_stage(asked) if name in config.stage_names()], [])


def _retry(config: BuildConfig, run: RunFile, download: Stage) -> tuple[Retry, int]:
    """(the round of retries with the stages that are still to run for it, the rounds that the raw shards will have).

    A round that was killed, at whatever stage, is gone on with by the same command; once its last stage has run the command
    asks for another one, where anything is left to retry."""
    anew = "download" in run.rebuild.pending
    done = 0 if anew else download.retries
    lost = None if anew else download.manifest or (download.record.tally if download.record else None)
    last, reasons = run.retry, list(config.retried_reasons())
    if not reasons:
        return last, done
    if last.pending and last.reasons == reasons and last.round in (done, done + 1):
        return last, last.round
    if not anew and download.finished and (lost is None or not has_failed(lost, reasons)):
        return Retry(), done
    pending = [name for name in from_stage("download") if name in config.stage_names()]
    return Retry(reasons, done + 1, pending), done + 1
