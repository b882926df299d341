"""One build's configuration: the knobs of every stage, composed once. Each section lives beside the code it configures."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from wit.candidates.config import CandidatesConfig
from wit.download.retry import reasons_of
from wit.errors import InputError
from wit.fetch.config import FetchConfig, for_local_web
from wit.flags import instead
from wit.images.config import ImageConfig
from wit.plan.config import PlanConfig
from wit.publish.config import PublishConfig
from wit.ranges import MANY, WHOLE, Range, check_ranges
from wit.select.config import SelectConfig
from wit.sources import RequestBudget
from wit.sources.commoncrawl import CC_BASE
from wit.sources.listing import HELP
from wit.sources.text import check_encoding
from wit.stages import STAGES, USUAL

SECTIONED = {"candidates", "plan", "fetch", "image", "select", "publish"}
RANGES = {
    "source_requests_per_s": Range(1e-4, 1e6),
    **dict.fromkeys(("source_readers", "files_per_part"), Range(0, 1_000_000)),
    "picture_bytes": Range(1, 1e9),
    "limit": Range(1, MANY),
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
    """where pairs come from: demo, commoncrawl:CRAWL[:files=N], wat:GLOB, warc:GLOB, table:GLOB"""
    cc_base: str = CC_BASE
    """where commoncrawl: finds its files: https:// or s3://"""
    source_requests_per_s: float = 2.0
    """requests a second that the whole job sends for remote source files"""
    source_readers: int = 0
    """workers that read source files at a time and share those requests (0 = --workers; on a cluster, say how many)"""
    url_col: str | None = None
    """table sources: column of the image URL, or a field in it as a.b (default: found by its usual names)"""
    caption_col: str | None = None
    """table sources: column of the caption, or a field in it as a.b (default: found by its usual names)"""
    encoding: str | None = None
    """table sources of text: their encoding, for instance shift_jis (default: UTF-8, UTF-16 or Windows-1252, as they read)"""
    stages: str = DEFAULT_STAGES
    """stages to run, comma-separated; they run in the order of the road, and finished ones are skipped"""
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
    picture_bytes: int | None = None
    """stored bytes of a picture that the check of the disk reckons with (default: by the image settings)"""
    limit: int | None = None
    """read at most this many pairs from the sources: a quick look"""
    seed: int | None = None
    """secret key of all decisions, any whole number (default: drawn at the first start and kept in run.json)"""
    files_per_part: int = 0
    """source files extracted by one worker into one part (0 = by the number of files: 1 on a laptop, up to 32)"""
    workers: int = 0
    """local worker processes (0 = one per core)"""
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
        check_encoding(self.encoding)
        self.stage_names()
        self.retried_reasons()
        if not self.source:
            raise InputError(f"--source is empty: give {HELP}")

    def stage_names(self) -> list[str]:
        """The stages asked for, in the order they run, whatever order they are given in; raises InputError for an unknown one."""
        asked = {name.strip() for name in self.stages.split(",") if name.strip()}
        if unknown := sorted(asked - set(STAGES)):
            raise InputError(f"no such stage: {unknown[0]}; {instead(unknown[0], STAGES)}")
        return [name for name in STAGES if name in asked]

    def check_score(self) -> None:
        """Raises InputError where the stage, its checkpoint and the filter that needs both are not asked for together."""
        asked = "score" in self.stage_names()
        if asked and self.score_checkpoint is None:
            raise InputError("the score stage needs a trained model: add --score-checkpoint DIR")
        if self.score_checkpoint is not None and not asked:
            raise InputError("--score-checkpoint is for the score stage: add score to --stages")
        if self.select.min_clip_score is not None and not asked:
            raise InputError("--min-clip-score needs scores: add score to --stages, and --score-checkpoint DIR")

    def retried_reasons(self) -> tuple[str, ...]:
        """The reasons whose rows are to be fetched again; raises InputError for an unknown one."""
        return reasons_of(self.retry_reason, failed=self.retry_failed)

    def budget(self) -> RequestBudget:
        """The share of the job's requests for source files that one worker may send."""
        return RequestBudget(self.source_requests_per_s, workers=self.source_readers or self.processes())

    def processes(self) -> int:
        return self.workers or os.cpu_count() or 1


def for_demo(config: BuildConfig, endpoints: Iterable[tuple[str, str, int]]) -> BuildConfig:
    """The configuration for the demonstration web: its hosts are on loopback and need no patience, and its few thousand
    pictures make several shards, as a build has them."""
    return dataclasses.replace(
        config,
        fetch=for_local_web(endpoints, config.fetch),
        plan=dataclasses.replace(config.plan, rows_per_raw_shard=min(config.plan.rows_per_raw_shard, 500)),
        publish=dataclasses.replace(config.publish, samples_per_shard=min(config.publish.samples_per_shard, 1_000)),
    )
