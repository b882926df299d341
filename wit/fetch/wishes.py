"""What servers asked of us: crawl delays, and when to come back. These outlive idle hosts, processes and builds."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from wit.bounded import Bounded

KEPT_BYTES = 16_000_000
ORIGINS = 8  # of one host whose delays are kept apart: it has 65,535 ports
COST_BYTES = 1_000  # of one host's wishes, about


@dataclass(slots=True)
class Wish:
    """The wishes of one host."""

    delays_s: dict[str, float] = field(default_factory=dict)  # Crawl-delay by origin
    closed_until: float = 0.0  # seconds since the epoch (Retry-After)
    status: int = 0  # the HTTP status of that answer


class Wishes:
    """The wishes of all hosts. If there are too many, those of the hosts met longest ago go."""

    def __init__(self, known: dict[str, dict[str, Any]]) -> None:
        self._hosts: Bounded[str, Wish] = Bounded(KEPT_BYTES, lambda wish: COST_BYTES)
        for host, entry in known.items():
            self._hosts.put(host, Wish(dict(entry["delays_s"]), entry["closed_until"], entry["status"]))

    def delay_s(self, host: str) -> float:
        """The longest Crawl-delay of the host's origins."""
        wish = self._hosts.get(host)
        return max(wish.delays_s.values(), default=0.0) if wish else 0.0

    def closed_by(self, host: str) -> int:
        """The HTTP status with which the host asked to be left alone, if that time is not over; else 0."""
        wish = self._hosts.get(host)
        return wish.status if wish and wish.closed_until > time.time() else 0

    def delay(self, host: str, origin: str, seconds: float) -> bool:
        """Notes an origin's Crawl-delay; returns whether that changed anything."""
        wish = self._hosts.get(host)
        if (wish.delays_s.get(origin, 0.0) if wish else 0.0) == seconds:
            return False
        wish = wish or Wish()
        if origin not in wish.delays_s and len(wish.delays_s) >= ORIGINS:
            origin, seconds = "others", max(seconds, wish.delays_s.get("others", 0.0))
        wish.delays_s[origin] = seconds
        self._hosts.put(host, wish)
        return True

    def close(self, host: str, seconds: float, status: int) -> None:
        wish = self._hosts.get(host) or Wish()
        until = time.time() + seconds
        if until > wish.closed_until:
            wish.closed_until, wish.status = until, status
        self._hosts.put(host, wish)

    def to_json(self, host: str) -> dict[str, Any]:
        wish = self._hosts.get(host) or Wish()
        return {"delays_s": wish.delays_s, "closed_until": wish.closed_until, "status": wish.status}
