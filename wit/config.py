"""One build's configuration: the knobs of every stage, composed once. Each section lives beside the code it configures."""

from __future__ import annotations

import dataclasses
import os
import typing
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from wit.candidates.config import CandidatesConfig
from wit.download.retry import reasons_of
from wit.errors import InputError
from wit.fetch.config import FetchConfig, for_local_web
from wit.flags import instead
from wit.images.config import ImageConfig
from wit.knobs import WHOLE, Range, check_ranges, flag
from wit.plan.config import PlanConfig
from wit.publish.config import PublishConfig
from wit.select.config import SelectConfig
from wit.select.filters import filters_on
from wit.sources import RequestBudget, SourceConfig
from wit.sources.kinds import USAGE
from wit.stages import STAGES, USUAL
from wit.store.shuffle import KEY_ROWS

RANGES = {
    "picture_bytes": Range(1, 1e9),
    "rows_per_key": Range(1, KEY_ROWS),
    "seed": Range(-WHOLE, WHOLE - 1),
    "workers": Range(0, 4_096),
}
DEFAULT_STAGES = ",".join(USUAL)


@dataclass(frozen=True, slots=True)
class BuildConfig:
    queries: str = "queries/500k.txt"
    """query list, one query a line, UTF-8"""
    output: str = "out/build"
    """directory of the build: local, s3://, gs:// or hdfs://"""
    source: tuple[str, ...] = ("demo",)
    """where pairs come from, one or several: commoncrawl:CRAWL[:files=N], wat:GLOB, warc:GLOB, table:GLOB; or demo alone"""
    stages: str = DEFAULT_STAGES
    """stages to run, comma-separated; they run in this order whatever order they are given in, and finished ones are skipped"""
    score_checkpoint: str | None = None
    """stage score: output directory of a training run, or one .pt file, whose CLIP scores every pair"""
    rebuild_from: Literal["candidates", "plan", "download", "score", "select", "publish", "report"] | None = None
    """throw away this stage's output and what follows, even downloads, and build it again"""
    retry_failed: bool = False
    """fetch again what failed for a passing reason, into new raw shards; what is published stays as it is"""
    retry_reason: str | None = None
    """as --retry-failed, for rows that were lost to these reasons, comma-separated: after a change of what refused them"""
    dry_run: bool = False
    """only what comes before the first request: candidates, plan, and what the download will take"""
    cancel_running: bool = False
    """end a job that an earlier start left at work on an engine; without it the build waits for that job's end"""
    picture_bytes: int | None = None
    """stored bytes of a picture that the check of the disk reckons with (default: by the image settings)"""
    seed: int | None = None
    """secret key of all decisions, any whole number (default: drawn at the first start and kept in run.json)"""
    workers: int = 0
    """local worker processes (0 = one per core)"""
    shuffle: Literal["auto", "files", "engine"] = "auto"
    """how rows find together: through files, which take little memory, or by the engine (auto: files on this machine)"""
    rows_per_key: int = KEY_ROWS
    """rows that one piece of a shuffle holds, at most: what one worker has in hand"""
    sources: SourceConfig = field(default_factory=SourceConfig)
    candidates: CandidatesConfig = field(default_factory=CandidatesConfig)
    plan: PlanConfig = field(default_factory=PlanConfig)
    fetch: FetchConfig = field(default_factory=FetchConfig)
    image: ImageConfig = field(default_factory=ImageConfig)
    select: SelectConfig = field(default_factory=SelectConfig)
    publish: PublishConfig = field(default_factory=PublishConfig)

    def __post_init__(self) -> None:
        check_ranges(self, RANGES)
        if self.dry_run and self.rebuild_from is not None:
            raise InputError("--dry-run throws nothing away: leave out --rebuild-from, or give another --output")
        self.stage_names()
        self.retried_reasons()
        if not self.source:
            raise InputError(f"--source is empty: give {USAGE}")

    def stage_names(self) -> list[str]:
        """The stages asked for, in the order they run; raises InputError for an unknown one."""
        asked = {name.strip() for name in self.stages.split(",") if name.strip()}
        if unknown := sorted(asked - set(STAGES)):
            raise InputError(f"no such stage: {unknown[0]}; {instead(unknown[0], STAGES)}")
        return [name for name in STAGES if name in asked]

    def check_score(self) -> None:
        """Raises InputError unless the score stage and its checkpoint come together, and both with a filter that reads scores."""
        asked = "score" in self.stage_names()
        if asked and self.score_checkpoint is None:
            raise InputError("the score stage needs a trained model: add --score-checkpoint DIR")
        if self.score_checkpoint is not None and not asked:
            raise InputError("--score-checkpoint is for the score stage: add score to --stages")
        for one in filters_on(self.select):
            if one.score and not asked:
                raise InputError(f"{flag(one.knob)} needs scores: add score to --stages, and --score-checkpoint DIR")

    def retried_reasons(self) -> tuple[str, ...]:
        """Rows lost to these reasons are fetched again; raises InputError for an unknown reason."""
        return reasons_of(self.retry_reason, failed=self.retry_failed)

    def budget(self) -> RequestBudget:
        """The share of the job's requests for source files that one worker may send."""
        return self.sources.budget(self.processes())

    def budget_elsewhere(self) -> RequestBudget:
        """As `budget`, for workers of an engine, which do not see each other: they claim their shares under OUT."""
        readers = self.fetch.fetch_workers or self.processes()
        return dataclasses.replace(self.sources.budget(readers), shares_in=self.output)

    def processes(self) -> int:
        return self.workers or os.cpu_count() or 1


# The knobs of each room, by the name of its table in TOML.
SECTIONS: dict[str, type] = {
    name: typing.cast(type, hint)
    for name, hint in typing.get_type_hints(BuildConfig).items()
    if dataclasses.is_dataclass(hint)
}


def for_web(config: BuildConfig, endpoints: Iterable[tuple[str, str, int]]) -> BuildConfig:
    """The configuration for a web that was made here. Its hosts are on loopback and need no patience; shards are made smaller, so
    that its few thousand pictures fill several."""
    return dataclasses.replace(
        config,
        fetch=for_local_web(endpoints, config.fetch),
        plan=dataclasses.replace(config.plan, rows_per_raw_shard=min(config.plan.rows_per_raw_shard, 500)),
        publish=dataclasses.replace(config.publish, samples_per_shard=min(config.publish.samples_per_shard, 1_000)),
    )
