"""What waits to be fetched, and where: URLs, the origins they are at, and when to leave one of those alone."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from wit.fetch.config import FetchConfig
from wit.fetch.resolver import Answer
from wit.fetch.robots import Robots
from wit.reasons import Reason


@dataclass(slots=True)
class Breaker:
    """Opens after consecutive failures of a host; lets one request through after the pause."""

    failures: int = 0
    open_until: float = 0.0

    def failed(self, now: float, config: FetchConfig) -> None:
        self.failures += 1
        if self.failures >= config.breaker_failures:
            self.open_until = now + config.breaker_pause_s

    def succeeded(self) -> None:
        self.failures, self.open_until = 0, 0.0


@dataclass(slots=True)
class Job:
    """One URL on its way through attempts and redirects; `robots` jobs ask for an origin's robots.txt."""

    id: int
    url: str
    domain: str = ""  # of `url`, where known
    target: str = ""  # the URL of this hop
    attempts: int = 0
    hops: int = 0
    spent_s: float = 0.0  # of this attempt's time
    started: float = 0.0
    robots_of: Origin | None = None


@dataclass(slots=True)
class Origin:
    """scheme://host:port with the URLs that wait for it."""

    key: str
    scheme: str
    host: str
    port: int
    queue: deque[Job] = field(default_factory=deque)
    answer: Answer | None = None
    answer_until: float = 0.0
    resolving: bool = False
    robots: Robots | None = None
    robots_pending: bool = False
    breaker: Breaker = field(default_factory=Breaker)
    closed_reason: Reason = Reason.HOST_UNAVAILABLE
    parked: bool = False  # in a queue of runnable origins, in a lane's, or in a timer
    answers: bool = False  # it has, and did not fall silent since
    active: int = 0
    domain: str = ""
