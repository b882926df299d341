"""What every stage of one build shares."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipelines.engine import Engine
from wit import parquet, select
from wit.config import BuildConfig
from wit.errors import InputError
from wit.parts import Marker, StageDir
from wit.score import Scorer
from wit.select import RawShard
from wit.sources import SourceFile
from wit.stages import STAGES


@dataclass(frozen=True, slots=True)
class PlanFacts:
    """What plan learned about the whole set, per query: memberships, and the weight of draws; and what critical t was
    compared with."""

    path: str
    pairs: Any
    weights: Any
    threshold: float
    cap: float  # of which the threshold is `oversample` times as much


@dataclass(frozen=True, slots=True)
class Context:
    config: BuildConfig
    sources: tuple[SourceFile, ...]
    seed: int
    engine: Engine
    fingerprints: Mapping[str, str]  # of the stages whose inputs stand
    scorer: Scorer | None = None
    retries: int = 0  # rounds of --retry-failed that the raw shards have, this run's included
    rebuilding: Collection[str] = ()  # stages of --rebuild-from that are still to be made anew
    records: Mapping[str, Marker] = field(default_factory=dict)  # run.json's, of stages that finished
    schemas: Mapping[str, int] = field(default_factory=dict)  # that the fingerprints are of

    @property
    def processes(self) -> int:
        """Worker processes that the local engine's DoFns share; 0 where the engine brings its own."""
        return self.config.processes() if self.engine.local else 0

    def stage(self, name: str) -> StageDir:
        return StageDir(self.config.output, name, self.fingerprints.get(name, ""))

    def totals(self) -> dict[str, Marker]:
        """The manifest of every finished stage, or what run.json recorded of it where its files were deleted since."""
        found = {name: self.stage(name).manifest() or self._record(name) for name in STAGES if name != "report"}
        return {name: totals for name, totals in found.items() if totals and "in" in totals}

    def _record(self, name: str) -> Marker | None:
        record = self.records.get(name)
        return record if record and record["fingerprint"] == self.fingerprints.get(name) else None

    def manifest(self, name: str) -> Marker:
        """The finished stage's manifest; raises InputError if it is still to run."""
        found = self.stage(name).manifest()
        if found is None:
            raise InputError(
                f"{self.config.output} holds no finished {name} stage for these settings: add it to --stages"
            )
        return found

    def plan_facts(self) -> PlanFacts:
        """The per-query table of the finished plan, and the threshold that critical t was compared with."""
        marker = next(m for m in self.manifest("plan")["parts"] if m["unit"] == "queries")
        path = self.stage("plan").file(marker, "rows")
        table = parquet.read_table(path, ["pairs", "weight"])
        threshold = float("inf") if marker["threshold"] is None else marker["threshold"]
        cap = threshold / self.config.plan.oversample
        return PlanFacts(path, table["pairs"].to_numpy(), table["weight"].to_numpy(), threshold, cap)

    def raw_shards(self) -> tuple[RawShard, ...]:
        """The published raw shards, with their scores where this build has any."""
        scores = self.manifest("score") if self.scorer else None
        return tuple(select.raw_shards(self.manifest("download"), scores))
