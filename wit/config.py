"""One build's configuration: the knobs of every stage, composed once. Each section lives beside the code it configures."""

from __future__ import annotations

import dataclasses
import os
import re
import tomllib
import typing
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from wit import storage
from wit.candidates import CandidatesConfig
from wit.fetch.config import FetchConfig, for_local_web
from wit.images.config import ImageConfig
from wit.plan import PlanConfig
from wit.publish import PublishConfig
from wit.records import STAGES, InputError
from wit.retry import reasons_of
from wit.select import SelectConfig
from wit.sources import RequestBudget
from wit.sources.commoncrawl import CC_BASE
from wit.sources.listing import HELP
from wit.sources.text import check_encoding

SECTIONED = {"candidates", "plan", "fetch", "image", "select", "publish"}
DEFAULT_STAGES = "candidates,plan,download,select,publish,report"


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
    """stages to run, comma-separated, in their order; finished ones are skipped"""
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
    """secret key of all decisions (default: drawn at the first start and kept in run.json)"""
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
        for name in ("workers", "source_readers", "files_per_part", "limit", "picture_bytes"):
            if (getattr(self, name) or 0) < 0:
                raise InputError(f"--{name.replace('_', '-')} is {getattr(self, name)}: give a number from 0 on")
        if self.dry_run and self.rebuild_from is not None:
            raise InputError("--dry-run throws nothing away: leave out --rebuild-from, or give another --output")
        check_encoding(self.encoding)
        if not self.source:
            raise InputError(f"--source is empty: give {HELP}")
        if not 0 < self.source_requests_per_s < float("inf"):
            raise InputError(f"--source-requests-per-s is {self.source_requests_per_s}: give a number above 0")

    def stage_names(self) -> list[str]:
        """The stages asked for, in the order they run; raises InputError for an unknown one."""
        asked = {name.strip() for name in self.stages.split(",") if name.strip()}
        if unknown := asked - set(STAGES):
            raise InputError(f"no such stage: {', '.join(sorted(unknown))}; have {', '.join(STAGES)}")
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


COUNTED = ("target", "limit", "max_per_query")  # knobs that may be written as 400M
COUNT = re.compile(r"(\d+(?:\.\d+)?)([kKmMgGbB])")
SUFFIX = {"K": 10**3, "M": 10**6, "G": 10**9, "B": 10**9}


def counted(name: str, value: str) -> int | None:
    """The number that `400M` or `20k` means for a knob that counts; None where it means none."""
    found = COUNT.fullmatch(value) if name.replace("-", "_") in COUNTED else None
    return round(float(found[1]) * SUFFIX[found[2].upper()]) if found else None


def from_toml(path: str, default: BuildConfig) -> BuildConfig:
    """`default` with the settings of a TOML file: any flag by its name, with `-` or `_`, at the top or in the table of its
    section ([fetch], [plan], ...). Raises InputError for an unknown one, and for a value of another type."""
    if not storage.exists(path):
        raise InputError(f"no such configuration file: {path}")
    try:
        values = tomllib.loads(storage.read_bytes(path).decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not TOML: {error}") from error
    changed: BuildConfig = _replace(default, _by_section(values, path), path)
    return changed


def _by_section(values: dict[str, Any], path: str) -> dict[str, Any]:
    """The settings with those at the top in the table of their section."""
    own = {field.name for field in dataclasses.fields(BuildConfig)}
    sections = {
        field.name: field.default_factory for field in dataclasses.fields(BuildConfig) if field.name in SECTIONED
    }
    home = {knob.name: name for name, section in sections.items() for knob in dataclasses.fields(section)}  # type: ignore[arg-type]
    found: dict[str, Any] = {}
    placed = [pair for name, value in values.items() for pair in _placed(name, value, own, home)]
    for section, written, value in placed:
        name = written.replace("-", "_")
        if section is None and name not in own:
            known = ", ".join(sorted((own - SECTIONED) | set(home)))
            raise InputError(f"{path}: no such setting: {written}; have {known}")
        place = found if section is None else found.setdefault(section, {})
        if name in place:
            raise InputError(f"{path}: {written} stands there twice")
        place[name] = value
    return found


def _placed(written: str, value: Any, own: set[str], home: dict[str, str]) -> list[tuple[str | None, str, Any]]:
    """(section or None, name, value) of what one entry at the top sets."""
    name = written.replace("-", "_")
    if name in SECTIONED and isinstance(value, dict):
        return [(name, key, item) for key, item in value.items()]
    return [(None if name in own else home.get(name), written, value)]


def _replace(config: Any, values: dict[str, Any], path: str) -> Any:
    hints = typing.get_type_hints(type(config))
    changed = {}
    for name, value in values.items():
        if name not in hints:
            raise InputError(f"{path}: no such setting: {name}; have {', '.join(sorted(hints))}")
        section = dataclasses.is_dataclass(hints[name])
        if section != isinstance(value, dict):
            raise InputError(f"{path}: {name} {'is a table: write [' + name + ']' if section else 'is no table'}")
        changed[name] = (
            _replace(getattr(config, name), value, path) if section else _typed(name, value, hints[name], path)
        )
    try:
        return dataclasses.replace(config, **changed)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _typed(name: str, value: Any, hint: Any, path: str) -> Any:
    """The value as the knob's type; raises InputError where it is of another."""
    if isinstance(value, str) and (count := counted(name, value)) is not None:
        return count
    frozen = _frozen(value)
    if not _is_a(frozen, hint):
        raise InputError(f"{path}: {name.replace('_', '-')} is {value!r}: give {_in_words(hint)}")
    return float(frozen) if float in (hint, *typing.get_args(hint)) and isinstance(frozen, int) else frozen


def _is_a(value: Any, hint: Any) -> bool:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return value in arguments and not isinstance(value, bool)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        kinds = [arguments[0]] * len(value) if arguments[-1] is ... else list(arguments)
        return len(kinds) == len(value) and all(map(_is_a, value, kinds))
    if arguments:  # a union
        return any(_is_a(value, one) for one in arguments)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, hint) and isinstance(value, bool) == (hint is bool)


def _in_words(hint: Any) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if origin is tuple and arguments[-1] is ...:
        return f"a list, each {_in_words(arguments[0])}"
    if origin is tuple:
        return f"a list of {', '.join(map(_in_words, arguments))}"
    if arguments:
        return " or ".join(_in_words(one) for one in arguments if one is not type(None))
    return {str: "a text in quotes", int: "a whole number", float: "a number", bool: "true or false"}[hint]


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value
