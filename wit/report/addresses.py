"""Server addresses that several partitions met at a time, on an engine whose workers do not see each other (design section 8)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from wit.download.met import Met, highest

TOP = 20  # on the page
GAP_S = 10.0  # between two raw shards of a partition that meet an address in one go
MOST_OF_PIECE = (
    200  # of a piece of the set, those with most requests: 100,000 of 500 pieces, which the driver puts together
)


@dataclass(frozen=True, slots=True)
class MetIn:
    """What one partition's requests to an address come to."""

    partition: str
    met: Met


@dataclass(frozen=True, slots=True)
class SharedAddress:
    """An address that several partitions met at a time, with sums over those that did at the busiest moment: of the requests that
    each had in flight at most, and of those it sent a second, on the average of its time with the address."""

    address: str
    partitions: int
    requests: int
    at_once: int
    rate_per_s: float


def added(seen: Iterable[MetIn], most: int = MOST_OF_PIECE) -> list[MetIn]:
    """Of each partition and address one for each time that it was met: raw shards of one partition come one after the other, and
    what begins within GAP_S of the end of another is one with it. Those with most requests first."""
    joined: list[MetIn] = []
    for one in sorted(seen, key=lambda one: (one.partition, one.met.address, one.met.first_s)):
        met, before = one.met, joined[-1] if joined else None
        same = before is not None and (before.partition, before.met.address) == (one.partition, met.address)
        if before is None or not same or met.first_s > before.met.last_s + GAP_S:
            joined.append(one)
            continue
        b = before.met
        requests, at_once = met.requests + b.requests, max(met.at_once, b.at_once)
        joined[-1] = MetIn(one.partition, Met(met.address, requests, at_once, b.first_s, max(met.last_s, b.last_s)))
    return sorted(joined, key=lambda one: (-one.met.requests, one.partition, one.met.address, one.met.first_s))[:most]


def shared(seen: Iterable[MetIn]) -> list[SharedAddress]:
    """The TOP addresses that several partitions met at a time, by their rate."""
    by: dict[str, list[Met]] = {}
    for one in seen:
        by.setdefault(one.met.address, []).append(one.met)
    found = []
    for address, every in by.items():
        if (together := highest((one.first_s, one.last_s, 1.0) for one in every)) < 2:
            continue
        rates = ((one.first_s, one.last_s, one.requests / max(one.last_s - one.first_s, 1.0)) for one in every)
        at_once = highest((one.first_s, one.last_s, float(one.at_once)) for one in every)
        requests = sum(one.requests for one in every)
        found.append(SharedAddress(address, int(together), requests, int(at_once), round(highest(rates), 1)))
    return sorted(found, key=lambda one: (-one.rate_per_s, one.address))[:TOP]
