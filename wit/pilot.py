"""What a finished build tells of a larger one: its ledger, manifests, run.json, fetch tables, and where its plan's rows lie."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wit import layout
from wit.arrays import Floats, Ints, offsets_of, owners_of
from wit.damage import damaged
from wit.download.published import with_pictures
from wit.errors import InputError
from wit.fetch.config import FetchConfig
from wit.layout import DROPPED
from wit.ledger import imbalances
from wit.plan.config import PlanConfig
from wit.plan.facts import read_facts
from wit.reasons import Reason
from wit.report.tables import read_sources
from wit.runfile import RunFile, read_run
from wit.stages import STAGES, USUAL
from wit.store import fs, parquet
from wit.store.flight import side_by_side
from wit.store.manifests import AnyManifest, File, Manifest, read_manifest
from wit.store.parts import StageDir
from wit.tally import Tally
from wit.typed import load

COUNTED = tuple(stage for stage in USUAL if stage != "report")  # the stages that count pairs
HOSTS = pa.schema([("domain", pa.string()), ("host", pa.string()), ("rows", pa.int64())])


@dataclass(frozen=True, slots=True)
class Source:
    """What the pilot read: `kind` is wat, warc, table or demo, files where there are several; `crawl_files` is how many files its
    crawl has, where all of them were read."""

    kind: str
    files: int
    rows: int
    bytes: int
    crawl: str = ""
    crawl_files: int | None = None
    remote: bool = False


@dataclass(frozen=True, slots=True)
class Fetched:
    """The sums of all fetch tables, rounds of retries included."""

    attempts: int
    wire_bytes: int
    seconds: float
    """that rows were under way, added up"""


@dataclass(frozen=True, slots=True)
class Stored:
    """Bytes of a stage's files; `rejected` are those of its rejected pairs, `pictures` of its tars."""

    kept: int
    rejected: int
    pictures: int


@dataclass(frozen=True, slots=True)
class Draws:
    """The captions of the pilot's samples, a row for each query of each: the number of the sample, and how many pairs the query
    had before balancing. `weights` [samples] says how many samples each stands for, where the pilot was balanced itself."""

    samples: int
    sample: Ints
    pairs: Ints
    weights: Floats


@dataclass(frozen=True, slots=True)
class Settings:
    """The knobs of the pilot that a larger build would have too."""

    plan: PlanConfig
    fetch: FetchConfig
    rows_per_key: int
    samples_per_shard: int
    raw_shards_per_group: int
    files_per_part: int
    source_requests_per_s: float
    by_files: bool
    """whether rows are shuffled through files wherever it runs"""


@dataclass(frozen=True, slots=True)
class Pilot:
    """A finished build, as far as a larger one can be told from it."""

    source: Source
    stages: Mapping[str, Tally]
    seconds: Mapping[str, float]
    """of wall time, by stage"""
    cores: int
    """of the machine that made it; 0 where run.json does not say"""
    rejected_one_in: int
    fetched: Fetched
    stored: Mapping[str, Stored]
    hosts: pa.Table
    """HOSTS: planned rows"""
    draws: Draws
    settings: Settings
    engine_s: Mapping[str, float] = field(default_factory=dict)
    """of the wall time of a stage, those that an engine took (`Workers.engine_s`); none where it was made on one machine"""

    @property
    def samples(self) -> int:
        return self.stages["publish"].out

    @property
    def planned(self) -> int:
        return self.stages["plan"].out

    @property
    def candidates(self) -> int:
        return self.stages["candidates"].out

    @property
    def survivors(self) -> int:
        """Samples there would be without the balance among those that arrived."""
        return survivors_of(self.stages["select"])


def survivors_of(select: Tally) -> int:
    """What is left of planned pictures after losses and duplicates, before select balances them."""
    return select.out + select.dropped.get(Reason.REBALANCED_OUT, 0)


# --- reading -----------------------------------------------------------------------------------------------------------


def read_pilot(out: str) -> Pilot:
    """The finished build under OUT. Raises InputError, with the fix, where there is none, where a stage is missing or not
    finished, and where nothing was kept."""
    run = read_run(out)
    if run is None:
        raise InputError(f"no build in {out}: give the --output directory of python -m pipelines.build")
    manifests = _manifests(out, run)
    stages: dict[str, Tally] = dict(manifests)
    if not stages["publish"].out:
        raise InputError(f"{out} kept nothing, which tells nothing of a larger build: python -m pipelines.show {out}")
    if wrong := imbalances(stages):
        raise damaged(layout.manifest_path(out, wrong[0][0]), wrong[0][1])
    plan, select, download = (_parts(manifests[name]) for name in ("plan", "select", "download"))
    settings = _settings(out, run)
    return Pilot(
        source=_source(out, run),
        stages=stages,
        seconds=_seconds(out, run, manifests),
        cores=_cores(out, run),
        rejected_one_in=manifests["candidates"].dropped_one_in or 1,
        fetched=_fetched(out, download),
        stored={name: _stored(manifest.entries) for name, manifest in manifests.items()},
        hosts=_hosts(out, plan),
        draws=_draws(out, plan, select, stages, settings.plan),
        settings=settings,
        engine_s={name: said.engine_s for name, said in (run.workers or {}).items()},
    )


def _manifests(out: str, run: RunFile) -> dict[str, AnyManifest]:
    """The manifest of each stage that counts pairs, score's too where it ran."""
    begun = sorted({*(run.at_work or ()), *run.rebuild.pending}, key=STAGES.index)
    missing = [name for name in USUAL if name not in run.records and not run.is_first]
    if unfinished := begun or missing:
        raise InputError(
            f"{out} is not finished: {unfinished[0]} is still to come; start its python -m pipelines.build again"
        )
    found = {name: manifest for name in STAGES if name != "report" and (manifest := read_manifest(out, name))}
    for name in COUNTED:
        if name not in found:
            raise InputError(
                f"{out} has no {layout.manifest_of(name)}: what stage {name} left is needed to tell what a larger build takes"
            )
    return {name: found[name] for name in STAGES if name in found}


def _parts(manifest: AnyManifest) -> Manifest:
    assert isinstance(manifest, Manifest), "only publish has another kind"
    return manifest


def _wrong(out: str, what: object) -> InputError:
    """The error for run.json, which may say anything under a right digest."""
    return damaged(layout.run_path(out), what)


def _whole(out: str, name: str, value: object, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise _wrong(out, f"{name} is {value!r:.80}")
    return value


def _cores(out: str, run: RunFile) -> int:
    """How many cores this machine's workers had; 0 where an engine brought its own, or one worker a core was asked for."""
    by_engine = any(flag.startswith("--runner") for flag in run.beam_flags)
    return 0 if by_engine else _whole(out, "workers", run.config.get("workers", 0), 0)


def _seconds(out: str, run: RunFile, manifests: Mapping[str, AnyManifest]) -> dict[str, float]:
    seconds = {name: run.timings_s.get(name, 0.0) for name in (*manifests, "report")}
    for name, value in seconds.items():
        if not (math.isfinite(value) and value >= 0):
            raise _wrong(out, f"timings_s of {name} is {value!r}")
    return seconds


@dataclass(frozen=True, slots=True)
class _Publish:
    samples_per_shard: int = 10_000
    raw_shards_per_group: int = 64


@dataclass(frozen=True, slots=True)
class _Sources:
    files_per_part: int = 0
    source_requests_per_s: float = 2.0


# Knobs of a download that count here; others may be of a type that JSON has not, or gone since.
FETCH_KNOBS = ("in_flight", "host_rate_per_s", "domain_rate_per_s", "respect_robots", "host_limits")


def _settings(out: str, run: RunFile) -> Settings:
    fetch = {name: value for name, value in run.section("fetch").items() if name in FETCH_KNOBS}
    try:
        plan = load(PlanConfig, run.section("plan"))
        publish, sources = load(_Publish, run.section("publish")), load(_Sources, run.section("sources"))
        settings = Settings(
            plan,
            load(FetchConfig, fetch),
            _whole(out, "rows_per_key", run.config.get("rows_per_key", 125_000), 1),
            _whole(out, "samples_per_shard", publish.samples_per_shard, 1),
            _whole(out, "raw_shards_per_group", publish.raw_shards_per_group, 1),
            _whole(out, "files_per_part", sources.files_per_part, 0),
            sources.source_requests_per_s,
            run.config.get("shuffle") == "files",
        )
    except ValueError as error:
        raise _wrong(out, f"config: {error}") from error
    if not settings.source_requests_per_s > 0:
        raise _wrong(out, f"source_requests_per_s is {settings.source_requests_per_s!r}")
    return settings


def _source(out: str, run: RunFile) -> Source:
    """What was read, by the ledger; its kind by run.json."""
    table = read_sources(out)
    specs = run.config.get("source", ())
    spec = str(specs[0]) if isinstance(specs, list | tuple) and len(specs) == 1 else ""
    name, _, rest = spec.partition(":")
    kinds = {str(source.others.get("kind", "files")) for source in run.sources}
    kind = "demo" if name == "demo" else kinds.pop() if len(kinds) == 1 else "files"
    crawl, _, few = rest.partition(":") if name == "commoncrawl" else ("", "", "")
    asked = int(few.removeprefix("files=")) if few.removeprefix("files=").isdecimal() else None
    whole = bool(crawl) and (not few or (asked is not None and len(table) < asked))
    rows, size = (int(pc.sum(table[column]).as_py() or 0) for column in ("records", "bytes"))
    remote = any(not fs.is_local(source.path) for source in run.sources)
    return Source(kind, len(table), rows, size, crawl, len(table) if whole else None, remote)


def _stored(files: Iterable[File]) -> Stored:
    kept = rejected = pictures = 0
    for file in files:
        place = file.name.partition("/")[0]
        kept += file.bytes * (place not in layout.APART)
        rejected += file.bytes * (place == DROPPED)
        pictures += file.bytes * file.name.endswith(".tar")
    return Stored(kept, rejected, pictures)


def _fetched(out: str, download: Manifest) -> Fetched:
    names = [part.files["fetch"].name for part in with_pictures(download.parts) if "fetch" in part.files]
    if not names:
        raise InputError(f"{out} has no raw/*.fetch.parquet: make the pilot with this version of wit")
    sums = list(side_by_side(lambda name: _sums(fs.join(out, name)), names))
    return Fetched(*(sum(column) for column in zip(*sums, strict=True)))


def _sums(path: str) -> tuple[int, int, float]:
    """(attempts, bytes, seconds) of a fetch table. Version 0.1 counted no bytes on the wire, but those of the bodies."""
    with parquet.open_file(path) as file:
        wire = "wire_bytes" if "wire_bytes" in file.schema_arrow.names else "bytes"
    table = parquet.read_table(path, ["attempts", wire, "duration_s"])
    attempts, size, seconds = (pc.sum(table[name]).as_py() or 0 for name in table.schema.names)
    return int(attempts), int(size), float(seconds)


def _hosts(out: str, plan: Manifest) -> pa.Table:
    """How many rows were planned of each host."""
    names = [part.files["rows"].name for part in plan.outlines("part")]
    counted = list(side_by_side(lambda name: _of_part(fs.join(out, name)), names))
    summed = pa.concat_tables([HOSTS.empty_table(), *counted]).group_by(["domain", "host"]).aggregate([("rows", "sum")])
    return summed.select(["domain", "host", "rows_sum"]).rename_columns(HOSTS.names)


def _of_part(path: str) -> pa.Table:
    rows = parquet.read_table(path, ["domain", "host"])
    counted = rows.group_by(["domain", "host"]).aggregate([([], "count_all")])
    return counted.select(["domain", "host", "count_all"]).rename_columns(HOSTS.names).cast(HOSTS)


# --- what the balance of a larger build would meet -------------------------------------------------------------------------


def _draws(out: str, plan: Manifest, select: Manifest, stages: Mapping[str, Tally], config: PlanConfig) -> Draws:
    facts = read_facts(StageDir(out, "plan", ""), plan, oversample=config.oversample)
    names = [part.files["rows"].name for part in select.outlines("part") if "rows" in part.files]
    tables = side_by_side(lambda name: parquet.read_table(fs.join(out, name), ["captions"]), names)
    samples, sample, query = draws_of(list(tables))
    if samples != stages["select"].out or query.max(initial=-1) >= len(facts.pairs):
        raise damaged(layout.manifest_path(out, "select"), "its keep list is of another set")
    pairs = facts.pairs[query]
    cut = Reason.BALANCED_OUT in stages["plan"].dropped or Reason.REBALANCED_OUT in stages["select"].dropped
    weights = np.ones(samples)
    if cut and math.isfinite(facts.cap):
        survival = survivors_of(stages["select"]) / max(stages["plan"].out, 1)
        cap = facts.cap * min(1 / max(survival, 1e-9), config.oversample)
        weights = 1 / np.maximum(chances(samples, sample, cap / np.maximum(pairs, 1)), 1e-6)
    return Draws(samples, sample, pairs, weights)


def draws_of(tables: Sequence[pa.Table]) -> tuple[int, Ints, Ints]:
    """(samples, number of the sample, query): the last two of each query of each caption, of tables with a column of captions."""
    samples, queries, before = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], 0
    for table in tables:
        of_row, captions = offsets_of(table["captions"])
        of_caption, ids = offsets_of(captions.field("query_ids"))
        samples.append(before + owners_of(of_row)[owners_of(of_caption)])
        queries.append(ids.to_numpy().astype(np.int64))
        before += len(table)
    return before, np.concatenate(samples), np.concatenate(queries)


def chances(samples: int, sample: Ints, shares: Floats) -> Floats:
    """[samples] how likely each is kept, if it is as soon as one of its draws is and a draw is with its share: 1 where it has no
    draw, since there is no query to balance it by."""
    with np.errstate(divide="ignore"):
        lost = np.log1p(-np.minimum(shares, 1.0))
    total = np.bincount(sample, weights=lost, minlength=samples)
    some = np.bincount(sample, minlength=samples) > 0
    kept: Floats = np.where(some, -np.expm1(total), 1.0)
    return kept
