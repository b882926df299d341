"""What waits to be fetched, and where: URLs, their origins, and the breakers that leave a failing origin alone."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from wit.fetch.config import FetchConfig
from wit.fetch.resolver import Answer
from wit.fetch.robots import Robots
from wit.reasons import Reason


@dataclass(slots=True)
class Breaker:
    """Opens after consecutive failures of a host; lets one request through after the pause. A host's explicit wishes are kept
    elsewhere (`wit.fetch.wishes`), where no later success undoes them."""

    failures: int = 0
    open_until: float = 0.0
    status: int = 0  # of the last failure; 0: silence

    def failed(self, now: float, status: int, config: FetchConfig) -> None:
        self.failures, self.status = self.failures + 1, status
        if self.failures >= config.breaker_failures:
            self.open_until = now + config.breaker_pause_s

    def succeeded(self) -> None:
        self.failures, self.open_until, self.status = 0, 0.0, 0


@dataclass(frozen=True, slots=True)
class Met:
    """How a job's own last request failed."""

    reason: Reason
    detail: str
    status: int
    error: str


@dataclass(slots=True)
class Job:
    """One URL on its way through attempts and redirects. A job with `robots_of` asks for that origin's robots.txt."""

    id: int
    url: str
    domain: str = ""  # of `url`, where known
    target: str = ""  # the URL of this hop
    address: str = ""  # that its last request went to
    attempts: int = 0
    hops: int = 0
    spent_s: float = 0.0  # on earlier hops of this attempt
    started: float = 0.0
    robots_of: Origin | None = None
    met: Met | None = None
    hopeless: bool = False  # no further attempt, whatever the reason
    wire_bytes: int = 0  # of all its requests
    fresh: bool = False  # asks for a new connection: the one used before had died
    ended: bool = False  # it was reported, which happens only once


@dataclass(slots=True)
class Origin:
    """scheme://host:port with the URLs that wait for it."""

    key: str
    scheme: str
    host: str
    port: int
    first: deque[Job] = field(default_factory=deque)  # requests for robots.txt, which no robots.txt holds up
    queue: deque[Job] = field(default_factory=deque)
    answer: Answer | None = None
    answer_until: float = 0.0
    resolving: bool = False
    robots: Robots | None = None
    robots_pending: bool = False
    breaker: Breaker = field(default_factory=Breaker)
    parked: bool = False  # in a queue of runnable origins, in a lane's, or in a timer
    answers: bool = False  # it has answered, and has not fallen silent since
    active: int = 0
    domain: str = ""

    def take_all(self) -> list[Job]:
        """Takes all waiting jobs out of the queues, and returns them."""
        jobs = [*self.first, *self.queue]
        self.first.clear()
        self.queue.clear()
        return jobs

    @property
    def idle(self) -> bool:
        """Whether no job, transfer, lane, timer or lookup has to do with it."""
        return not (self.first or self.queue or self.active or self.parked or self.robots_pending or self.resolving)
