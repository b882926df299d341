"""What a build of a given size takes, told from a finished pilot: each figure with its unit and where it comes from.

Three things grow apart. What is read (files, candidates) grows until the balance leaves enough samples; what is fetched (planned
rows) follows from the samples wanted, the survival and the oversample; what is published is the target. docs/scale.md says what
is measured, what is modelled, and which way it errs.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from wit.arithmetic import ceil_div
from wit.arrays import Ints
from wit.candidates.passes import SAMPLED_FROM_BYTES, SAMPLED_ONE_IN, files_a_part
from wit.download import preflight
from wit.errors import InputError
from wit.fetch.limits import read
from wit.fetch.resolver import MIN_TTL_S
from wit.knobs import MANY, Range, check_ranges
from wit.pilot import Draws, Pilot, chances
from wit.plan.owners import Rates
from wit.plan.passes import ROW_BYTES, Passes, shape_of
from wit.select.passes import PICTURE_BYTES, dedup_buckets
from wit.store.fs import READ_AHEAD_BYTES
from wit.store.parts import StageDir
from wit.store.shuffle import BLOCKS, CHUNK_ROWS, FAN_IN, Shuffle

FEWEST = 10  # samples: with fewer the yield is known to a factor of two at best (2 / sqrt(10) = 63 %)
FEW = 1_000  # samples: with fewer it is not known to 6 % (2 / sqrt(1000)), and of hosts and queries nearly nothing
CRAWL_FILES = (
    90_000  # WAT files of a crawl, by the measurements of extraction (docs/log.md); wat.paths.gz has the crawl's own
)
PORTS = 65_535 - 1_023  # of one address that a NAT has to give: TCP's port numbers without the well-known ones
FAMILIES = 2  # DNS questions a name: A and AAAA

# What the driver takes, in seconds: `make bench-scale driver` at 30 ms a request (docs/log.md, 2026-11-27), its start and end
# with what is in progress and what stands, by the number of units of that benchmark.
DRIVER_S = {
    "candidates": 2.0 / 2_000,
    "plan": (13.3 + 50.4) / 170_001,
    "download": (10.9 + 73.9 + 78.8) / 80_000,
    "select": (5.5 + 38.3) / 80_000,
    "publish": 18.9 / 40_000,
}

# Requests to the store a unit, where rows travel through an engine: counted in a build of the demonstration web on the tests'
# counting store, besides one for a marker that is not there yet. docs/scale.md has the table.
OF_PART = 4  # candidates: marker asked for, rows, rejects, marker; the source's own requests are told apart
OF_SCATTER = 2  # plan, a part of candidates: marker asked for, marker; its reading is counted by blocks
OF_BUCKET = (
    29  # plan: six units of a bucket, and its narrow rows read by each pass, four times in the search for a target
)
OF_PARTITION = 3
OF_RAW_SHARD = 9  # download: a row group of the plan (three), marker asked for, three files, marker, robots
OF_KEEP = 8  # select and report, a raw shard: its table four times, the keep list's rows and rejects, marker twice
OF_CLUSTER = 9  # select, a bucket of pictures: verdicts and what the cut is solved from, read in each of four rounds
OF_RUN, OF_SHARD = 4, 6  # publish: a run of a raw shard (keep list asked for and read twice, pictures); a final shard
OF_FILE_OF_A_SHUFFLE = 4  # slices, index, marker, and the marker asked for

# CLIP section 2.5: 32 epochs of 400 million pairs each.
CLIP_SAMPLES, CLIP_ACCELERATOR = 400_000_000, "V100"
CLIP_RUNS = (("ViT-L/14", 256, 12), ("RN50x64", 592, 18))  # model, accelerators, days
DAYS_A_YEAR = 365.25

PRICE = Range(0, 1e9)
RANGES = {
    "target": Range(1, MANY),
    "workers": Range(1, 1_000_000),
    "pilot_cores": Range(1, 1_000_000),
    "max_per_query": Range(1, MANY, zero="no balance"),
    "crawl_files": Range(1, 1e9),
    "months": Range(0, 1e4),
    **dict.fromkeys(
        ("price_core_hour", "price_gb_month", "price_gb_egress", "price_million_requests", "price_accelerator_hour"),
        PRICE,
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is asked for, and what the pilot cannot tell; None where nothing was said."""

    target: int
    """samples that are to be published"""
    workers: int = 1_000
    """processes at a time, one a core; 1,000 is what wit is made for (design section 11)"""
    pilot_cores: int | None = None
    """cores of the machine that made the pilot (default: as many as its run.json says it used)"""
    max_per_query: int | None = None
    """the cap on the samples of a query (default: the pilot's; 0 = none)"""
    crawl_files: int | None = None
    months: float = 1.0
    """for which the set lies in the store"""
    price_core_hour: float | None = None
    price_gb_month: float | None = None
    price_gb_egress: float | None = None
    price_million_requests: float | None = None
    price_accelerator_hour: float | None = None

    def __post_init__(self) -> None:
        check_ranges(self, RANGES)


# --- how much there is of everything ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Size:
    """A build of the wanted size: how many times the pilot's sources it reads, and what there is of everything. `cap` is the
    one that it was solved for; None where there is none, or none that the pilot's queries could fill."""

    times: float
    cap: int | None
    most: float
    """samples that the cap leaves of the pilot's queries, however much is read; infinite without a cap"""
    files: int
    candidates: int
    planned: int
    downloaded: int
    survivors: int
    samples: int
    hosts: int
    parts: int
    buckets: int
    partitions: int
    raw_shards: int
    clusters: int
    shards: int

    def factor(self, stage: str, pilot: Pilot) -> float:
        """How many times the pilot's work a stage has."""
        if stage in ("candidates", "plan"):
            return self.times
        return self.samples / pilot.samples if stage == "publish" else self.planned / pilot.planned


def size_of(pilot: Pilot, wish: Wish) -> Size:
    """The size of the build. Raises InputError where the pilot has too few samples to tell."""
    if pilot.samples < FEWEST:
        raise InputError(
            f"the pilot kept {pilot.samples:,} samples, too few to tell anything: build one of at least {FEW:,}, from more files"
        )
    settings, survival = pilot.settings, pilot.survivors / pilot.planned
    given = settings.plan.max_per_query if wish.max_per_query is None else wish.max_per_query
    times, most = solve(pilot.draws, wish.target, cap_in_pairs(given, survival, settings.plan.oversample))
    cap = given if given and math.isfinite(times) else None
    if cap is None:
        times = wish.target / float(pilot.draws.weights.sum())
        planned = math.ceil(wish.target / survival)
    else:
        planned = math.ceil(kept(pilot.draws, times, cap * settings.plan.oversample) / survival)
    candidates = math.ceil(times * pilot.candidates)
    files, planned = math.ceil(times * pilot.source.files), min(planned, candidates)
    survivors = math.ceil(planned * survival)
    return Size(
        times=times,
        cap=cap,
        most=most,
        files=files,
        candidates=candidates,
        planned=planned,
        downloaded=math.ceil(planned * pilot.stages["download"].out / pilot.planned),
        survivors=survivors,
        samples=wish.target,
        hosts=math.ceil(hosts_at(pilot.hosts["rows"].to_numpy(), planned / pilot.planned)),
        parts=ceil_div(files, files_a_part(files, settings.files_per_part)),
        buckets=shape_of(candidates, settings.plan, rows_a_key=settings.rows_per_key).buckets,
        partitions=ceil_div(planned, settings.plan.rows_per_partition),
        raw_shards=ceil_div(planned, settings.plan.rows_per_raw_shard),
        clusters=dedup_buckets(survivors, rows_a_key=settings.rows_per_key),
        shards=ceil_div(wish.target, settings.samples_per_shard),
    )


def cap_in_pairs(cap: float, survival: float, oversample: float) -> float:
    """How many planned pairs of a query give `cap` samples: select counts what survives (design section 7), but plan took no more
    than the cap times the oversample. 0 for no cap."""
    return cap * min(1 / survival, oversample)


def kept(draws: Draws, times: float, cap: float) -> float:
    """Samples out of `times` as many sources, where a query has `times` as many pairs and keeps `cap` of them on average."""
    shares = cap / (times * np.maximum(draws.pairs, 1))
    return times * float(draws.weights @ chances(draws.samples, draws.sample, shares))


def solve(draws: Draws, target: float, cap: float) -> tuple[float, float]:
    """(how many times the pilot's sources give the target under the cap, what they give at most). Infinite times where the
    pilot's queries do not give it; infinitely many samples where there is no cap, or a sample without a query."""
    without = target / float(draws.weights.sum())
    if not cap:
        return without, math.inf
    full = np.bincount(draws.sample, minlength=draws.samples) > 0
    pairs = np.maximum(draws.pairs, 1)
    most = float((draws.weights[draws.sample] * cap / pairs).sum()) if full.all() else math.inf
    if most <= target * (1 + 1e-6):
        return math.inf, most
    low = high = without
    while kept(draws, high, cap) < target:
        low, high = high, 2 * high
    while high > low * (1 + 1e-8):
        middle = (low + high) / 2
        low, high = (middle, high) if kept(draws, middle, cap) < target else (low, middle)
    return high, most


def hosts_at(rows: Ints, times: float) -> float:
    """Hosts among `times` as many rows by Heaps' law, whose exponent the pilot tells: from half of its rows to all of them."""
    rows = rows[rows > 0]
    if not len(rows):
        return 0.0
    half = float((1 - 0.5**rows).sum())
    return float(len(rows) * times ** math.log2(len(rows) / half))


# --- what that takes -------------------------------------------------------------------------------------------------------


def cores_of(pilot: Pilot, wish: Wish) -> int:
    """The cores that the pilot used: as was said, or as run.json says, or as this machine has."""
    return wish.pilot_cores or pilot.cores or os.cpu_count() or 1


def core_hours(pilot: Pilot, size: Size, cores: int) -> dict[str, float]:
    """By stage: the pilot's wall time on all its cores, times the work."""
    return {name: seconds * cores * size.factor(name, pilot) / 3600 for name, seconds in pilot.seconds.items()}


def driver_hours(size: Size) -> float:
    """What the driver takes beside its workers."""
    units = {
        "candidates": size.parts,
        "plan": size.parts + 3 * size.buckets + size.partitions,
        "download": size.raw_shards,
        "select": size.raw_shards,
        "publish": size.shards,
    }
    return sum(DRIVER_S[name] * count for name, count in units.items()) / 3600


def store_requests(pilot: Pilot, size: Size) -> int:
    """Requests of all workers to the store, of a build that fails nowhere."""
    candidates = pilot.stored["candidates"].kept * size.times
    runs = min(pilot.settings.raw_shards_per_group, size.raw_shards)
    engine = (
        size.parts * (OF_PART + OF_SCATTER)
        + math.ceil(candidates / READ_AHEAD_BYTES)
        + size.buckets * OF_BUCKET
        + size.partitions * OF_PARTITION
        + size.raw_shards * (OF_RAW_SHARD + OF_KEEP)
        + size.clusters * OF_CLUSTER
        + size.shards * (OF_SHARD + runs * OF_RUN)
    )
    return engine + (plan_files(pilot, size) if pilot.settings.by_files else 0)


def plan_files(pilot: Pilot, size: Size) -> int:
    """Requests of the shuffles of plan where they go through files."""
    settings = pilot.settings
    shape = shape_of(size.candidates, settings.plan, rows_a_key=settings.rows_per_key)
    stage = StageDir("", "plan", "")
    plan = Passes(stage, settings.plan, "", 0, 0, Rates(), shape, size.candidates, size.parts)
    every = (
        (plan.by_url, size.parts),
        (plan.by_name, shape.buckets),
        (plan.frequent, shape.ranges),
        (plan.by_host, shape.buckets),
        (plan.by_domain, shape.ranges),
        (plan.by_partition, shape.buckets),
    )
    return sum(file_requests(shuffle, tasks, size.candidates) for shuffle, tasks in every)


def file_requests(shuffle: Shuffle, tasks: int, rows: int) -> int:
    """Requests of one shuffle through files: the files of its tasks, and each piece that is read; a piece has a row at least."""
    written, chunks = tasks * OF_FILE_OF_A_SHUFFLE, max(tasks, ceil_div(rows, CHUNK_ROWS))
    if not shuffle.two_levels:
        return written + min(chunks * shuffle.buckets, rows)
    blocks, groups = min(BLOCKS, ceil_div(shuffle.buckets, shuffle.width)), ceil_div(tasks, FAN_IN)
    return written + chunks * blocks + groups * (blocks * OF_FILE_OF_A_SHUFFLE + shuffle.buckets)


@dataclass(frozen=True, slots=True)
class Slowest:
    """The domain that keeps its worker longest: planned rows, and the hours they take at its rate. `lost` rows of all domains
    are beyond what --max-domain-hours allows."""

    name: str
    rows: int
    hours: float
    lost: int


def slowest_domain(pilot: Pilot, size: Size) -> Slowest:
    """The slowest of the pilot's domains. Raises what `limits.read` does for a bad --host-limits file."""
    fetch, times = pilot.settings.fetch, size.planned / pilot.planned
    hosts = [host | {"rows": math.ceil(host["rows"] * times)} for host in pilot.hosts.to_pylist()]
    found = preflight.domains(hosts, read(fetch.host_limits), fetch)
    most_s = pilot.settings.plan.max_domain_hours * 3600 or math.inf
    slowest = min(found, key=preflight.slowest_first)
    lost = sum(one.rows - _within(one, most_s) for one in found)
    return Slowest(slowest.name, _within(slowest, most_s), min(slowest.seconds, most_s) / 3600, lost)


def _within(domain: preflight.Domain, most_s: float) -> int:
    """How many rows of a domain its rate allows in that time."""
    return domain.rows if domain.seconds <= most_s else int(domain.rows * most_s / domain.seconds)


def hours_at(pilot: Pilot, size: Size, work: Mapping[str, float], workers: int, slowest: Slowest) -> dict[str, float]:
    """By stage, on so many workers: its core-hours shared out, but no faster than the source's budget of requests or the slowest
    domain allows."""
    hours = {name: of_stage / workers for name, of_stage in work.items()}
    if pilot.source.remote:
        hours["candidates"] = max(hours["candidates"], size.files / pilot.settings.source_requests_per_s / 3600)
    hours["download"] = max(hours["download"], slowest.hours)
    return hours


def bytes_at_rest(pilot: Pilot, size: Size) -> dict[str, float]:
    """By stage: the bytes of its files once the build is finished. Rejected pairs are as large as the pilot's, or, where it
    rejected none, as its candidates."""
    row = pilot.stored["candidates"].kept / max(pilot.candidates, 1)
    sampled = SAMPLED_ONE_IN if pilot.source.bytes * size.times > SAMPLED_FROM_BYTES else 1
    rejects = {
        "candidates": (pilot.stages["candidates"].into - pilot.candidates) * size.times / sampled,
        "plan": size.candidates - size.planned,
        "select": size.downloaded - size.samples,
    }
    found = {}
    for name, stored in pilot.stored.items():
        tally, one_in = pilot.stages[name], pilot.rejected_one_in if name == "candidates" else 1
        before = (tally.into - tally.out) / one_in
        reject = stored.rejected / before if before and stored.rejected else row
        outward = {
            "candidates": size.times,
            "publish": size.samples / pilot.samples,
            "select": size.samples / pilot.samples,
        }
        factor = outward.get(name, size.planned / pilot.planned)
        found[name] = stored.kept * factor + reject * max(rejects.get(name, 0), 0)
    return found


NARROW_SHARE = 0.42  # 44 of 104 bytes a row on the disk, of the rows of benchmarks/bench_plan.py


def bytes_moved(pilot: Pilot, size: Size, at_rest: Mapping[str, float]) -> float:
    """Bytes between workers, store and source, besides those from sites: what is written, what later stages read of it, and the
    shuffles out and in. Plan has its rows whole in hand four times, and what decides about them six times (`wit.plan.passes`)."""
    raw, times = pilot.stored["download"], size.planned / pilot.planned
    read_back = (
        at_rest["candidates"]
        + at_rest["plan"]
        + 4 * (raw.kept - raw.pictures) * times  # three passes of select, and the report
        + raw.pictures * times * size.samples / max(size.downloaded, 1)  # publish copies what is kept
        + 2 * at_rest["select"]
    )
    shuffled = size.candidates * ROW_BYTES * (2 * 3 + NARROW_SHARE * 6) + size.planned * ROW_BYTES * 2
    shuffled += size.survivors * PICTURE_BYTES * 2
    return pilot.source.bytes * size.times + sum(at_rest.values()) + read_back + shuffled


def dns_questions(pilot: Pilot, size: Size, download_core_hours: float) -> float:
    """Questions to resolvers in all, at most: while a partition is at work a host is asked for anew once its answer is as old as
    the shortest that is kept, but not more often than it has rows."""
    seconds = download_core_hours * 3600 * pilot.settings.plan.rows_per_partition / size.planned
    again = max(1, math.ceil(seconds / MIN_TTL_S))
    return FAMILIES * size.hosts * min(again, max(1.0, size.planned / max(size.hosts, 1)))


def accelerator_years(accelerators: int, days: float, samples: int) -> float:
    """Of a training as CLIP's, of as many epochs, on so many samples."""
    return accelerators * days / DAYS_A_YEAR * samples / CLIP_SAMPLES
