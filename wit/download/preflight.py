"""An estimate before the first request: how much a download asks of the web, of this disk and of your patience."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from wit.fetch.config import FetchConfig
from wit.fetch.limits import HostLimits, read
from wit.images.config import ImageConfig
from wit.images.formats import ENCODERS

PIXELS = {"keep_ratio": 4 / 3, "keep_ratio_largest": 3 / 4}  # stored pixels of a 4:3 photograph, by those of the square
ORIGINAL_BYTES = 236_000  # a photograph as it is fetched: the mean of the download benchmark's corpus (docs/log.md)
TAR_BYTES = 3_000  # headers and padding of a sample's three members, and its rows in the tables
SURVIVAL = 0.65  # the share of planned pictures that arrive: the web loses a third to a half
SECONDS_PER_REQUEST = 0.5  # for a server somewhere in the world, connecting included


@dataclass(frozen=True, slots=True)
class Preflight:
    """What a download will take. `slowest` is the domain that keeps its worker longest, at the rate allowed for it; of several
    such domains the one with the most pictures, then the first by name."""

    rows: int
    hosts: int
    slowest: str
    slowest_rows: int
    slowest_hours: float
    requests: int
    bytes_needed: int
    hours: float


def picture_bytes(image: ImageConfig) -> float:
    """Estimated bytes of one stored picture under these settings."""
    if image.keep_original or image.resize_mode == "no":
        return ORIGINAL_BYTES
    pixels = image.image_size**2 * PIXELS.get(image.resize_mode, 1)
    return min(pixels * ENCODERS[image.encode_format].stored, ORIGINAL_BYTES)


@dataclass(frozen=True, slots=True)
class Domain:
    """How long the pictures of a domain take at the rates that it is asked at."""

    name: str
    rows: int
    seconds: float


NO_DOMAIN = Domain("", 0, 0.0)


@dataclass(frozen=True, slots=True)
class Asked:
    """What one owner is to fetch, by its name: pictures, hosts, and the domain that keeps it longest."""

    owner: str
    rows: int
    hosts: int
    slowest: Domain


def asked_of(owner: str, hosts: pa.Table, fetch: FetchConfig) -> Asked:
    """The sum of an owner's hosts, a table with columns domain, host and rows, without those that are never asked."""
    limits = read(fetch.host_limits)
    asked = [row for row in hosts.to_pylist() if not limits.denies(row["host"])]
    slowest = min([*domains(asked, limits, fetch), NO_DOMAIN], key=slowest_first)
    return Asked(owner, sum(row["rows"] for row in asked), len(asked), slowest)


def preflight(
    owners: Iterable[Asked],
    *,
    fetch: FetchConfig,
    image: ImageConfig,
    workers: int,
    copies: int,
    bytes_per_picture: float | None = None,
) -> Preflight:
    """The estimate for these owners; no domain is in two of them. `copies` is how often a picture lies on the disk in the end: in
    raw/, and in shards/."""
    rows, hosts, slowest = 0, 0, NO_DOMAIN
    for one in owners:
        rows, hosts, slowest = rows + one.rows, hosts + one.hosts, min(one.slowest, slowest, key=slowest_first)
    requests = rows + hosts * fetch.respect_robots
    stored = bytes_per_picture if bytes_per_picture is not None else picture_bytes(image)
    at_once = max(workers, 1) * fetch.in_flight / SECONDS_PER_REQUEST
    return Preflight(
        rows,
        hosts,
        slowest.name,
        slowest.rows,
        slowest.seconds / 3600,
        requests,
        int(rows * SURVIVAL * (stored + TAR_BYTES) * copies),
        max(slowest.seconds, requests / at_once) / 3600,
    )


def slowest_first(domain: Domain) -> tuple[float, int, str]:
    """The order of domains: of two that take as long that of more pictures comes first, then the first by name."""
    return -domain.seconds, -domain.rows, domain.name


def domains(asked: Sequence[Mapping[str, Any]], limits: HostLimits, fetch: FetchConfig) -> list[Domain]:
    """The domains of some hosts, each given with its domain and rows."""
    rows: Counter[str] = Counter()
    seconds: dict[str, float] = {}
    for host in asked:
        name, rate = host["domain"], limits.of(host["host"]).rate or fetch.host_rate_per_s
        rows[name] += host["rows"]
        seconds[name] = max(seconds.get(name, 0.0), _seconds(host["rows"], rate))
    rates = {name: limits.of(name).rate or fetch.domain_rate_per_s for name in rows}
    return [Domain(name, count, max(seconds[name], _seconds(count, rates[name]))) for name, count in rows.items()]


def _seconds(rows: int, rate_per_s: float) -> float:
    return rows / rate_per_s if rate_per_s else 0.0


def lines(needs: Preflight, free: int | None) -> list[str]:
    """The estimate in words. `free` is the free bytes of the disk; None on object stores."""
    disk = "" if free is None else f", {free / 1e9:,.3f} GB are free"
    return [
        f"to fetch   {_of(needs.rows, 'picture')} of {_of(needs.hosts, 'host')}, {_of(needs.requests, 'request')}",
        f"slowest    {needs.slowest}: {_of(needs.slowest_rows, 'picture')}, {_hours(needs.slowest_hours)} at its rate",
        f"disk       about {needs.bytes_needed / 1e9:,.3f} GB{disk}",
        f"time       {_hours(needs.hours)}",
    ]


def _of(count: int, what: str) -> str:
    return f"{count:,} {what}" + "s" * (count != 1)


def _hours(hours: float) -> str:
    return f"about {hours:,.1f} hours" if hours >= 0.1 else "a few minutes"
