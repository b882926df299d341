"""What every stage of one build shares."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from pipelines import jobs
from pipelines.engine import Engine
from wit.candidates.passes import Extracted
from wit.config import BuildConfig
from wit.download.published import FetchedShard, raw_shards
from wit.errors import InputError
from wit.plan.facts import PlanFacts, read_facts
from wit.runfile import Job, Record
from wit.score import Scorer
from wit.sources import SourceFile
from wit.stages import STAGES
from wit.store.manifests import Manifest, Published, read_manifest, read_published
from wit.store.parts import StageDir
from wit.tally import Tally

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Context:
    """What a stage gets from its build: settings, inputs, engine, and what is known of the other stages."""

    config: BuildConfig
    sources: tuple[SourceFile, ...]
    seed: int
    engine: Engine
    fingerprints: Mapping[str, str]  # of the stages whose inputs stand
    scorer: Scorer | None = None
    retries: int = 0  # rounds of --retry-failed in the raw shards, this run's included
    rebuilding: Collection[str] = ()  # stages of --rebuild-from that are still to be made anew
    records: Mapping[str, Record] = field(default_factory=dict)  # of finished stages, from run.json
    schemas: Mapping[str, int] = field(default_factory=dict)  # under which the fingerprints were made

    @property
    def by_engine(self) -> bool:
        """Whether rows are shuffled by the engine, and not through files."""
        return self.config.shuffle == "engine" or (self.config.shuffle == "auto" and not self.engine.local)

    @property
    def processes(self) -> int:
        """Worker processes that the local engine's DoFns share; 0 where the engine brings its own."""
        return self.config.processes() if self.engine.local else 0

    def at_work_on(self, stage: str, on_job: Callable[[Job], None]) -> Context:
        """The context of a stage that runs: its jobs bear its name and that of OUT."""
        name = jobs.name_of(self.config.output, stage)
        return replace(self, engine=replace(self.engine, stage=stage, job_name=name, on_job=on_job))

    def stage(self, name: str) -> StageDir:
        """The directory of that stage; only parts with this build's fingerprint count there."""
        return StageDir(self.config.output, name, self.fingerprints.get(name, ""), name in self.rebuilding)

    def totals(self) -> dict[str, Tally]:
        """The statistics of every finished stage: from its manifest, or from run.json where the manifest was deleted since."""
        tallies = {name: self._tally(name) for name in STAGES if name != "report"}
        return {name: tally for name, tally in tallies.items() if tally is not None}

    def _tally(self, name: str) -> Tally | None:
        mine = self.fingerprints.get(name)
        manifest, record = read_manifest(self.config.output, name), self.records.get(name)
        if manifest is not None and manifest.fingerprint == mine:
            return manifest
        return record.tally if record and record.fingerprint == mine else None

    def manifest(self, name: str) -> Manifest:
        """The finished stage's manifest; raises InputError if it is still to run."""
        return self._there(name, self.stage(name).manifest())

    def published(self) -> Published:
        """The manifest of the published set; raises InputError if it is still to be made."""
        manifest = read_published(self.config.output)
        mine = manifest is not None and manifest.fingerprint == self.fingerprints.get("publish")
        return self._there("publish", manifest if mine else None)

    def _there(self, name: str, manifest: T | None) -> T:
        if manifest is None:
            raise InputError(
                f"{self.config.output} holds no finished {name} stage for these settings: add it to --stages"
            )
        return manifest

    def plan_facts(self) -> PlanFacts:
        """The per-query table of the finished plan, and the cap that it was solved for."""
        plan = self.manifest("plan")
        return read_facts(self.stage("plan"), plan, oversample=self.config.plan.oversample)

    def extracted(self) -> list[Extracted] | None:
        """What the candidates stage recorded of each group; None where its output was deleted since."""
        stage = self.stage("candidates")
        manifest = stage.manifest()
        return [stage.facts(part, Extracted) for part in manifest.parts] if manifest else None

    def raw_shards(self) -> tuple[FetchedShard, ...]:
        """The published raw shards, with their scores where this build has any."""
        scores = self.manifest("score") if self.scorer else None
        return tuple(raw_shards(self.manifest("download"), scores))
