"""One run of a build: the lock, run.json, which stages run, the funnel."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from rich.console import Console

from pipelines import jobs, probe, worked
from pipelines.context import Context
from pipelines.engine import Engine, quiet_beam
from pipelines.memory import PeakMemory, few_arenas
from pipelines.score import scorer_of
from pipelines.show import funnel, paths
from wit import advice, build, layout, ledger, resume, workers
from wit.config import BuildConfig, for_web
from wit.fingerprints import Inputs
from wit.querycheck import remarks
from wit.report.tables import source_reports
from wit.resume import Stage
from wit.runfile import Job, Record, RunFile, read_run, recorded, sealed
from wit.score import Scorer
from wit.sources import SourceFile, made_here
from wit.stages import PRODUCTS, STAGES
from wit.store import fs, lease, patience
from wit.store.builder import only_builder
from wit.store.manifests import File, Manifest
from wit.store.parts import StageDir

SHOWN_PROBLEMS = 20  # the rest is in ledger/sources.parquet


@contextlib.contextmanager
def opened(config: BuildConfig, beam_flags: tuple[str, ...]) -> Iterator[Session]:
    """Checks everything that can be checked without writing, then takes the output directory and yields the session."""
    quiet_beam()
    few_arenas()
    config = build.absolute(config)
    scorer = scorer_of(config)
    odd = remarks(config.queries, config.candidates.matching)
    build.check_files(config)
    engine = Engine(beam_flags, threads=config.processes())
    engine.check()
    if not engine.local and "download" in config.stage_names():
        config.fetch.check_shared(engine.runner)
    build.check_output(config.output, config.seed)
    sources, webs = build.check_sources(config), made_here(config.source)
    for line in [*odd, *(kind.note for kind in webs)]:
        print(line, file=sys.stderr)
    with contextlib.ExitStack() as stack:
        stack.enter_context(only_builder(config.output))
        before = read_run(config.output)
        last = before.job if before is not None else None
        jobs.end_of_earlier(config.output, engine.endpoint, last, cancel=config.cancel_running)
        for kind in webs:
            served = stack.enter_context(kind.serve(config.output))
            sources += served.files
            config = for_web(config, served.endpoints)
        stack.enter_context(workers.closing_pools())
        peak = stack.enter_context(PeakMemory())
        yield Session.start(config, sources, engine, peak, scorer, before)


@dataclasses.dataclass
class Session:
    """A running build: its context, its run.json, and what stands of each stage."""

    context: Context
    run: RunFile
    before: RunFile | None  # of the last start
    peak: PeakMemory
    inputs: Inputs
    stages: dict[str, Stage] = dataclasses.field(default_factory=dict)
    asked_again: Counter[str] = dataclasses.field(default_factory=Counter)  # of the store, in this start
    probed: bool = False

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
        """Fixes the seed and the fingerprints, and writes run.json. Raises InputError, with nothing touched, if going on would
        throw downloads away unasked or needs files that are gone. `before` is run.json of the last start."""
        if before is not None:
            resume.restore(config.output, before.records)
        run = build.begin(config, sources, engine.flags, scorer, before)
        model = (scorer.model, scorer.sha256) if scorer else None
        inputs = Inputs(run.seed, run.queries_sha256, sources, model, run.gone)
        context = Context(config, tuple(sources), run.seed, engine, {}, scorer, 0, run.rebuild.pending, run.records)
        session = cls(context, run, before, peak, inputs)
        session.look()
        run.retry, retries = build.round_of_retries(config, run, session.stages["download"])
        if (asked := config.retried_reasons()) and not run.retry.reasons:
            print(f"nothing is left to retry: no pair was lost to {', '.join(asked)}", file=sys.stderr)
        session.context = dataclasses.replace(session.context, retries=retries)
        session.check()
        session.tell_what_was_refused()
        resume.drop_damaged(config.output, run.rebuild.pending)
        run.at_work = []
        session.save()
        build.clear_up(config.output)
        return session

    def look(self) -> None:
        """Looks what stands under OUT by now; the fingerprints that follow from it go into run and context."""
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
        """Raises InputError if the stages to run would throw downloads away unasked or need files that are gone."""
        if "download" not in self.run.rebuild.pending:
            resume.check_going_on(self.context.config.output, self.before, self.run, self.stages, self.to_run())

    def tell_what_was_refused(self) -> None:
        """Prints which rows a finished download refused under settings that have changed since."""
        record = self.run.records.get("download")
        if not self.stages["download"].finished or record is None or record.dropped is None:
            return
        if record.fetch is None:
            record.fetch = (self.before or self.run).section("fetch")
        asked = self.context.config.retried_reasons()  # this start fetches those anyway
        refused = {reason: n for reason, n in record.dropped.items() if reason not in asked}
        for line in advice.refused_before(record.fetch, self.run.section("fetch"), refused):
            print(line, file=sys.stderr)

    def nothing_kept(self) -> str | None:
        """Why a finished set has no samples; None where it has some, or where publish was not asked for."""
        published = self.context.totals().get("publish")
        asked = "publish" in self.context.config.stage_names()
        return advice.nothing_kept(self.context.totals()) if asked and published and not published.out else None

    def save(self) -> None:
        """Writes run.json, whole and with its digest."""
        self.count_asked_again()
        out = self.context.config.output
        lease.write(out, layout.run_path(out), sealed(self.run))

    def count_asked_again(self) -> None:
        """Takes over what was asked of the store again since the last time."""
        kinds = patience.counted()
        self.asked_again.update(kinds)
        if kinds:
            self.run.asked_again = dict(Counter(self.run.asked_again or {}) + Counter(kinds))

    def run_stage(self, name: str, work: Callable[[Context], object]) -> None:
        """Runs the stage unless it is finished. One that finished and then lost files is run only if somebody needs them."""
        if name not in self.to_run():
            self.pass_over(name)
            return
        self.check()  # the stages before it may have written something new
        self.probe(name)
        rebuild = self.run.rebuild
        self.run.at_work = [name]  # from here on run.json's digest of its manifest may be out of date
        self.save()
        if name in rebuild.pending and name not in rebuild.begun:
            self.throw_away(name)
        worked.heard.begin()
        started = time.monotonic()
        made = work(self.context.at_work_on(name, self.take_job))
        seconds = time.monotonic() - started
        self.run.timings_s[name] = round(seconds, 2)
        if not self.context.engine.local:
            self.tell_of_workers(name, seconds)
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

    def probe(self, name: str) -> None:
        """Before the first stage that an engine elsewhere runs, a worker of it is asked what it is."""
        if not self.probed and not self.context.engine.local:
            probe.probe(self.context.at_work_on(name, self.take_job))
        self.probed = True

    def take_job(self, job: Job) -> None:
        """Keeps in run.json which job an engine is at work on: should this process die, the next start finds it."""
        self.run.job = job
        self.save()

    def tell_of_workers(self, name: str, seconds: float) -> None:
        """Prints, and keeps in run.json, what the workers of a stage said of themselves, and what the engine took."""
        said = worked.heard.of_stage(seconds)
        self.run.workers = {**(self.run.workers or {}), name: said}
        print(f"{name:<10} {worked.words(said, seconds)}", file=sys.stderr)

    def settle(self, name: str) -> bool:
        """Strikes a stage that is done off run.json's lists of pending stages; returns whether it stood in any."""
        held = False
        for names in (self.run.rebuild.pending, self.run.rebuild.begun, self.run.retry.pending):
            if name in names:
                names.remove(name)
                held = True
        return held

    def pass_over(self, name: str) -> None:
        """Says why the stage does not run, and tidies up after a run that was killed at its end."""
        stage, directory = self.stages[name], self.context.stage(name)
        if isinstance(stage.manifest, Manifest) and not stage.missing:
            directory.tidy(stage.manifest.parts)  # in case the run that finished it was killed there
            fs.remove(directory.at_work.path)
        if name == "publish":
            fs.remove(layout.next_shards_path(directory.out))
        if self.settle(name):
            self.save()
        print(f"{name:<10} {resume.passed_over(directory.out, stage)}", file=sys.stderr)

    def throw_away(self, name: str) -> None:
        """Throws a stage's output away for --rebuild-from, once: a restart keeps what was made since. Downloads go at once, to
        make room; other stages keep the files of their manifest until a new manifest stands."""
        stage = self.context.stage(name)
        if name == "download":
            stage.clear()
        elif name not in PRODUCTS:
            stage.forget()
            fs.remove(stage.at_work.path)
        self.run.rebuild.begun.append(name)
        self.save()

    def withdraw_scores(self) -> None:
        """Removes an earlier start's scores where this start uses none; called once the new set stands."""
        if "score" not in self.stages and "publish" in self.context.config.stage_names():
            StageDir(self.context.config.output, "score", "").clear()
            if self.run.records.pop("score", None):
                self.save()

    def source_problems(self) -> list[str]:
        """One line for each source file, and kind of fault, that could not be read in full."""
        return ledger.source_problems(source_reports(self.context.extracted() or ()))

    def show_funnel(self) -> None:
        """The last word of a build: what went in, what was lost where and why, what came out."""
        self.show_losses(STAGES)
        console, out = Console(), self.context.config.output
        console.print(f"peak memory of all processes: {self.peak.megabytes:,.0f} MB", highlight=False)
        if of_stages := self.run.workers:
            most = max(said.worker_mb for said in of_stages.values())
            console.print(f"peak memory of a worker elsewhere: {most:,.0f} MB", highlight=False)
        self.count_asked_again()
        if self.asked_again:
            console.print(patience.in_words(self.asked_again), highlight=False, soft_wrap=True)
        for path in paths(out):
            console.print(path, highlight=False, soft_wrap=True)

    def show_losses(self, stages: Sequence[str]) -> None:
        """Prints, for these stages, what went in, what was lost and why; then what could not be read in the sources."""
        console, totals = Console(), self.context.totals()
        console.print(funnel(ledger.stage_totals({name: totals[name] for name in stages if name in totals})))
        for line in self.source_problems()[:SHOWN_PROBLEMS]:
            console.print(line, style="yellow", markup=False, highlight=False, soft_wrap=True)
