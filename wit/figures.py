"""What a build takes as lines to print: each figure with its unit, and where it comes from."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from wit.arithmetic import ceil_div
from wit.capacity import (
    CLIP_ACCELERATOR,
    CLIP_RUNS,
    CRAWL_FILES,
    DAYS_A_YEAR,
    FEW,
    PORTS,
    Size,
    Slowest,
    Wish,
    accelerator_years,
    bytes_at_rest,
    bytes_moved,
    core_hours,
    cores_of,
    dns_questions,
    driver_hours,
    hours_at,
    size_of,
    slowest_domain,
    store_requests,
)
from wit.fetch.resolver import MIN_TTL_S
from wit.fetch.transfers import IDLE_CONNECTIONS
from wit.pilot import Pilot

MUCH = 0.1  # of a pilot's time, that an engine takes
MEASURED, COMPUTED, ASSUMED = "measured", "computed", "assumed"
GB, TB = 1e9, 1e12


@dataclass(frozen=True, slots=True)
class Line:
    """One figure: its name for scripts, what it is, how much, in which unit, and where it comes from. `measured`: counted in the
    pilot, times its share of the work. `computed`: by a formula of docs/scale.md. `assumed`: by a flag, or its default."""

    name: str
    what: str
    value: float
    unit: str
    basis: str
    why: str


@dataclass(frozen=True, slots=True)
class Capacity:
    """All figures of a build, and what to know of them."""

    target: int
    samples: int
    """of the pilot"""
    error: float
    """of its yield: one standard deviation, as a share"""
    lines: tuple[Line, ...]
    notes: tuple[str, ...]


def capacity(pilot: Pilot, wish: Wish) -> Capacity:
    """What the wished-for build takes. Raises InputError where the pilot is too small to tell, or its --host-limits are gone."""
    size = size_of(pilot, wish)
    work, slowest = core_hours(pilot, size, cores_of(pilot, wish)), slowest_domain(pilot, size)
    hours, driver, rest = (
        hours_at(pilot, size, work, wish.workers, slowest),
        driver_hours(size),
        bytes_at_rest(pilot, size),
    )
    costs = Costs(sum(work.values()), sum(rest.values()), rest["publish"], store_requests(pilot, size))
    lines = (
        *_read(pilot, size, wish),
        *_network(pilot, size, wish, hours["download"], work["download"]),
        *_work(work, hours, driver, slowest, pilot, wish),
        *_stored(pilot, size, rest),
        *_training(wish),
        *_cost(costs, wish),
    )
    notes = tuple(_notes(pilot, size, wish, slowest))
    return Capacity(wish.target, pilot.samples, 1 / math.sqrt(pilot.samples), lines, notes)


def _read(pilot: Pilot, size: Size, wish: Wish) -> Iterator[Line]:
    source, cap = pilot.source, f"at most {size.cap:,} a query" if size.cap else "nothing balanced out"
    per = f"pilot {source.files:,} files for {pilot.samples:,} samples; {cap}"
    if source.kind == "table":
        why = f"pilot {source.rows:,} rows for {pilot.samples:,} samples; {cap}"
        yield Line("source_rows", "rows of the tables", size.times * source.rows, "rows", COMPUTED, why)
    else:
        kinds = {"wat": "WAT files", "warc": "WARC files", "demo": "files of the demonstration web"}
        what = kinds.get(source.kind, "source files")
        yield Line("source_files", what, size.files, "files", COMPUTED, per)
    if source.kind == "wat":
        files = wish.crawl_files or source.crawl_files or CRAWL_FILES
        basis = MEASURED if source.crawl_files and not wish.crawl_files else ASSUMED
        why = f"of {files:,} a crawl" + (f", as {source.crawl} has" if basis == MEASURED else " (--crawl-files)")
        yield Line("crawls", "that is of crawls", size.files / files, "crawls", basis, why)
    why = f"pilot {source.bytes:,} bytes"
    yield Line("source_tb", "read of them", source.bytes * size.times / TB, "TB", MEASURED, why)
    why = f"pilot {pilot.candidates:,}, as they leave stage candidates"
    yield Line("candidates", "candidates", size.candidates, "pairs", MEASURED, why)
    survival = pilot.survivors / pilot.planned
    why = f"survival {survival:.1%}, measured" + (
        f"; oversample {pilot.settings.plan.oversample:g}" if size.cap else ""
    )
    yield Line("planned", "pictures to fetch", size.planned, "pictures", COMPUTED, why)


def _network(pilot: Pilot, size: Size, wish: Wish, hours: float, work: float) -> Iterator[Line]:
    settings, times = pilot.settings, size.planned / pilot.planned
    seconds = max(hours * 3600, 1e-9)
    attempts = pilot.fetched.attempts / pilot.planned
    robots = size.hosts * settings.fetch.respect_robots
    why = f"{attempts:.2f} attempts a picture; redirects are not counted"
    yield Line("site_requests", "requests to sites", size.planned * attempts, "requests", MEASURED, why)
    why = f"one a host, by Heaps' law from {len(pilot.hosts):,} in the pilot"
    yield Line("robots_requests", "and for robots.txt", robots, "requests", COMPUTED, why)
    why = "shuffled through files" if settings.by_files else "rows shuffled by an engine"
    yield Line("store_requests", "requests to the store", store_requests(pilot, size), "requests", COMPUTED, why)
    ingress = pilot.fetched.wire_bytes * times
    each = pilot.fetched.wire_bytes / pilot.planned
    why = f"originals: {each:,.0f} bytes a picture asked for, on the wire"
    yield Line("ingress_tb", "ingress from sites", ingress / TB, "TB", MEASURED, why)
    why = f"while stage download runs, {_short(hours)} hours"
    yield Line("ingress_gbit_s", "that is on average", ingress * 8 / seconds / 1e9, "Gbit/s", COMPUTED, why)
    why = f"at most: A and AAAA of {size.hosts:,} hosts, kept for {MIN_TTL_S} s"
    yield Line("dns_s", "DNS queries", dns_questions(pilot, size, work) / seconds, "a second", COMPUTED, why)
    each_worker = settings.fetch.in_flight + IDLE_CONNECTIONS
    ports = wish.workers * each_worker
    why = f"{settings.fetch.in_flight} in flight and {IDLE_CONNECTIONS} idle a worker; {ceil_div(ports, PORTS):,} addresses"
    yield Line("nat_ports", "NAT ports", ports, "ports", COMPUTED, why)


def _work(
    work: Mapping[str, float],
    hours: Mapping[str, float],
    driver: float,
    slowest: Slowest,
    pilot: Pilot,
    wish: Wish,
) -> Iterator[Line]:
    for name, of_stage in work.items():
        why = f"pilot {pilot.seconds[name]:,.1f} s on {cores_of(pilot, wish):,} cores"
        yield Line(f"core_hours_{name}", name, of_stage, "core-hours", MEASURED, why)
    yield Line("core_hours", "all stages", sum(work.values()), "core-hours", MEASURED, "the sum of these")
    yield Line("driver_hours", "driver beside them", driver, "hours", COMPUTED, "make bench-scale driver, by units")
    rate = pilot.settings.fetch.domain_rate_per_s
    why = f"{slowest.name}, {slowest.rows:,} planned rows" + ("" if rate else ", no rate set")
    yield Line("slowest_domain_hours", "slowest domain", slowest.hours, "hours", COMPUTED, why)
    what = f"hours at {wish.workers:,} workers"
    why = f"--workers; stages and driver in turn; download {_short(hours['download'])}"
    yield Line("hours", what, sum(hours.values()) + driver, "hours", COMPUTED, why)


def _stored(pilot: Pilot, size: Size, rest: Mapping[str, float]) -> Iterator[Line]:
    whole = sum(rest.values())
    why = f"raw {rest['download'] / whole:.0%}, shards {rest['publish'] / whole:.0%}, other tables the rest"
    yield Line("at_rest_tb", "at rest", whole / TB, "TB", MEASURED, why)
    why = "sources, written, read back, shuffled; ingress is apart"
    yield Line("moved_tb", "moved", bytes_moved(pilot, size, rest) / TB, "TB", COMPUTED, why)


def _short(hours: float) -> str:
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.3g}"


def _training(wish: Wish) -> Iterator[Line]:
    for model, accelerators, days in CLIP_RUNS:
        years = accelerator_years(accelerators, days, wish.target)
        why = f"CLIP 2.5: {days} days on {accelerators} {CLIP_ACCELERATOR} for 400M, 32 epochs"
        unit = f"{CLIP_ACCELERATOR}-years"
        yield Line(f"training_{model.replace('/', '-').lower()}", f"training {model}", years, unit, COMPUTED, why)


@dataclass(frozen=True, slots=True)
class Costs:
    """What is paid for: core-hours, bytes at rest, bytes of the published set, requests to the store."""

    core_hours: float
    at_rest: float
    published: float
    requests: int


def _cost(costs: Costs, wish: Wish) -> Iterator[Line]:
    """A line for each price that was given; none without."""
    years = accelerator_years(*CLIP_RUNS[0][1:], wish.target)
    priced = (
        ("cost_core_hours", "cost of core-hours", wish.price_core_hour, costs.core_hours, "a core-hour"),
        ("cost_store", "cost at rest", wish.price_gb_month, costs.at_rest / GB * wish.months, "a GB and month"),
        ("cost_egress", "cost of egress", wish.price_gb_egress, costs.published / GB, "a GB, the set once"),
        ("cost_requests", "cost of requests", wish.price_million_requests, costs.requests / 1e6, "a million"),
        (
            "cost_training",
            f"cost of {CLIP_RUNS[0][0]}",
            wish.price_accelerator_hour,
            years * DAYS_A_YEAR * 24,
            f"a {CLIP_ACCELERATOR}-hour",
        ),
    )
    total, given = 0.0, 0
    for name, what, price, amount, per in priced:
        if price is not None:
            total, given = total + price * amount, given + 1
            yield Line(name, what, price * amount, "as priced", ASSUMED, f"{price:g} {per}")
    if given > 1:
        yield Line("cost", "cost", total, "as priced", ASSUMED, "of what has a price")


def _notes(pilot: Pilot, size: Size, wish: Wish, slowest: Slowest) -> Iterator[str]:
    """What to know before one goes by the figures, a sentence each."""
    error = 1 / math.sqrt(pilot.samples)
    if pilot.samples < FEW:
        yield (
            f"the pilot kept {pilot.samples:,} samples: its yield is uncertain by {error:.0%} (one standard deviation, "
            f"1 / sqrt(n)), and more where few hosts give many; build a pilot of {FEW:,} at least"
        )
    if math.isfinite(size.most) and size.cap is None:
        cap = pilot.settings.plan.max_per_query if wish.max_per_query is None else wish.max_per_query
        yield (
            f"at most {cap:,} samples a query, the pilot's queries give at most {size.most:,.0f}: the figures are those without "
            "balance, and too low; a pilot from more files meets more queries"
        )
    survival = pilot.survivors / pilot.planned
    if size.cap is not None and pilot.settings.plan.oversample * survival < 1:
        yield (
            f"--oversample {pilot.settings.plan.oversample:g} is below 1 / survival: {1 / survival:.2f} would need fewer files"
        )
    if slowest.lost:
        yield (
            f"--max-domain-hours {pilot.settings.plan.max_domain_hours:g} takes {slowest.lost:,} rows from domains that are too "
            "slow; the other figures still count them"
        )
    if not (wish.pilot_cores or pilot.cores):
        yield (
            f"run.json does not say how many cores made the pilot: {cores_of(pilot, wish):,}, as this machine has, are assumed "
            "(--pilot-cores)"
        )
    if (engine := sum(pilot.engine_s.values())) > MUCH * sum(pilot.seconds.values()):
        yield (
            f"of the pilot's {sum(pilot.seconds.values()):,.0f} s its engine took {engine:,.0f}, to start and to wait, which "
            "core-hours and hours count as work: too high; a pilot on one machine tells what the work takes"
        )
    if unknown := [name for name, seconds in pilot.seconds.items() if not seconds]:
        yield f"run.json has no time of {', '.join(unknown)}: core-hours and hours are too low"
    if pilot.source.kind == "demo":
        yield "the demonstration web is small and near: its sizes, times and hosts are not the web's"
