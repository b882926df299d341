"""How many requests go to one host, registrable domain or address, and how often: over all workers of this machine."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from wit.fetch.config import FetchConfig
from wit.fetch.limits import HostLimit, HostLimits
from wit.fetch.origins import Origin
from wit.fetch.places import PLACES, Claim, Places

USUAL = HostLimit()


@dataclass(slots=True)
class Lane:
    """Bounds requests in flight, and their rate, at one name. `waiting` origins are woken when this process frees a place."""

    claim: Claim
    active: int = 0  # of this process
    taken_elsewhere: bool = False  # another process had the last place a moment ago
    waiting: deque[Origin] = field(default_factory=deque)

    @property
    def full(self) -> bool:
        """Whether asking for a place now is of no use."""
        return self.active >= self.claim.limit or self.taken_elsewhere


Three = tuple[Lane, Lane, Lane]  # of host, domain and address


class Lanes:
    """All lanes, by kind and name. Idle lanes are forgotten: what must outlive them stands in `places`."""

    def __init__(self, config: FetchConfig, places: Places) -> None:
        self.config, self.places = config, places
        self.limits = HostLimits()  # --host-limits, as last read
        self._lanes: dict[tuple[str, str], Lane] = {}

    def of(self, origin: Origin, address: str, delay_s: float) -> Three:
        """The three lanes of a request to the origin. `delay_s` is the Crawl-delay of its host: above 0, one request at a
        time."""
        c, own, whole = self.config, USUAL, USUAL
        if self.limits.entries:
            own, whole = self.limits.of(origin.host), self.limits.of(origin.domain)
        at_a_time = 1 if delay_s else own.concurrency or c.per_host
        host = self._get("host", origin.host, at_a_time, own.rate or c.host_rate_per_s, delay_s)
        at_a_time = whole.concurrency or c.per_domain
        domain = self._get("domain", origin.domain, at_a_time, whole.rate or c.domain_rate_per_s)
        if c.egress_proxy:  # the proxy's address is no server's, and the servers' are not known
            return host, domain, self._get("address", address, PLACES, 0.0)
        return host, domain, self._get("address", address, c.per_address, c.address_rate_per_s)

    def _get(self, kind: str, name: str, limit: int, rate_per_s: float, delay_s: float = 0.0) -> Lane:
        interval_s = max(1 / rate_per_s if rate_per_s else 0.0, delay_s)
        lane = self._lanes.get((kind, name))
        if lane is None:
            lane = self._lanes[kind, name] = Lane(Claim(f"{kind} {name}", limit, interval_s))
        elif lane.claim.limit != limit or lane.claim.interval_s != interval_s:
            lane.claim = Claim(lane.claim.name, limit, interval_s)
        return lane

    def due(self, lanes: Sequence[Lane]) -> float:
        """When a request that needs all of these lanes may go (monotonic seconds)."""
        return self.places.due([lane.claim for lane in lanes])

    def take(self, lanes: Three) -> tuple[int, ...] | Lane:
        """A place and a turn in all of these lanes; or the lane whose last place or turn another process has."""
        places = self.places.take([lane.claim for lane in lanes])
        if isinstance(places, int):
            return lanes[places]
        for lane in lanes:
            lane.active += 1
        return places

    def give_back(self, lanes: Sequence[Lane], places: Sequence[int]) -> None:
        self.places.give_back(places)
        for lane in lanes:
            lane.active -= 1

    def close(self, host: str, until: float) -> None:
        """Bars all processes from the host until a time (monotonic seconds)."""
        self.places.close(f"host {host}", until)

    def closed_until(self, host: str) -> float:
        """Until when the host is barred (monotonic seconds); 0 if it never was."""
        return self.places.closed_until(f"host {host}")

    def forget_idle(self) -> None:
        """Forgets lanes in which no request is in flight, and for which no origin waits."""
        idle = [key for key, lane in self._lanes.items() if not lane.active and not lane.waiting]
        for key in idle:
            del self._lanes[key]
