"""How many requests, and how often, to one host, one registrable domain, one address."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from wit.fetch.config import FetchConfig
from wit.fetch.origins import Origin


@dataclass(slots=True)
class Lane:
    """Bounds requests in flight and their rate. `waiting` origins are told when a place gets free."""

    limit: int
    interval_s: float
    active: int = 0
    next_at: float = 0.0
    waiting: deque[Origin] = field(default_factory=deque)

    def take(self, now: float) -> None:
        self.active += 1
        if self.interval_s:
            self.next_at = max(now, self.next_at) + self.interval_s


class Lanes:
    """All lanes, by what they are for; those that rest are forgotten."""

    def __init__(self, config: FetchConfig) -> None:
        self._limits = {
            "host": (config.per_host, config.host_rate_per_s),
            "domain": (config.per_domain, config.domain_rate_per_s),
            "address": (config.per_address, config.address_rate_per_s),
        }
        self._lanes: dict[tuple[str, str], Lane] = {}

    def get(self, kind: str, name: str) -> Lane:
        lane = self._lanes.get((kind, name))
        if lane is None:
            limit, rate = self._limits[kind]
            lane = self._lanes[kind, name] = Lane(limit, 1 / rate if rate else 0.0)
        return lane

    def forget_idle(self, now: float) -> None:
        """Frees the memory of lanes that bound nothing at this moment."""
        idle = [key for key, lane in self._lanes.items() if not lane.active and not lane.waiting and lane.next_at < now]
        for key in idle:
            del self._lanes[key]
