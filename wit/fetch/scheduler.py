"""Whose turn it is: origins that may start a request, origins that wait for a place in a lane, and calls due at some time.

Silent hosts must not take the places of those that answer. So origins that have not answered yet have a queue of their own and
are counted apart. Nothing here knows what a request is for, or what follows from its answer.
"""

from __future__ import annotations

import heapq
import itertools
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator

from wit.fetch.config import FetchConfig
from wit.fetch.lanes import Lane
from wit.fetch.origins import Job, Origin
from wit.fetch.transfers import Transfer, Transfers
from wit.urls import registrable_domain

STALLED_S = 0.5  # a transfer without a first byte for so long no longer counts against in_flight
STALLED_MAX = 3  # times in_flight: at most so many transfers are excused that way
UNTRIED_MAX = 4  # times in_flight: requests to hosts that have not answered yet; these do not count against it either
LOOK_AGAIN_S = 0.02  # until the next try for a place that another process of this machine holds
ORIGINS_MAX = 50_000  # remembered; beyond that the oldest idle ones go


class Scheduler:
    """All origins, and which of them is next. While `held_back` is set nothing new starts (the ring of pictures is full)."""

    def __init__(self, config: FetchConfig, transfers: Transfers) -> None:
        self.config, self.transfers = config, transfers
        self.held_back = False
        self._origins: dict[str, Origin] = {}
        self._runnable: deque[Origin] = deque()  # those that answer
        self._untried: OrderedDict[str, Origin] = OrderedDict()  # the others
        self._untried_active = 0
        self._stalled = 0
        self._timers: list[tuple[float, int, Job | Origin, Callable[[], None]]] = []
        self._tie = itertools.count()

    def __iter__(self) -> Iterator[Origin]:
        return iter(self._origins.values())

    def origin(self, scheme: str, host: str, port: int, domain: str) -> tuple[Origin, bool]:
        """(the origin, whether it is new); `domain` is the host's registrable domain, or empty if the caller does not know it."""
        key = f"{scheme}://{host}:{port}"
        known = self._origins.get(key)
        if known is not None:
            return known, False
        new = self._origins[key] = Origin(key, scheme, host, port, domain=domain or registrable_domain(host))
        return new, True

    # --- turns -------------------------------------------------------------------------------------------------------

    def wake(self, origin: Origin) -> None:
        """Queues an origin that may have something to do, unless it is parked already."""
        if not origin.parked:
            origin.parked = True
            if origin.answers:
                self._runnable.append(origin)
            else:
                self._untried[origin.key] = origin

    def unpark(self, origin: Origin) -> None:
        """Ends the origin's waiting, and queues it."""
        origin.parked = False
        self.wake(origin)

    def next(self) -> Origin | None:
        """Takes from the queues the origin that may start a request now; None where none may."""
        if self.held_back or self.transfers.full:
            return None
        excused = self._untried_active + min(self._stalled, STALLED_MAX * self.config.in_flight)
        origin = None
        if self._runnable and len(self.transfers) - excused < self.config.in_flight:
            origin = self._runnable.popleft()
        elif self._untried and self._untried_active < UNTRIED_MAX * self.config.in_flight:
            origin = self._untried.popitem(last=False)[1]
        if origin is not None:
            origin.parked = False
        return origin

    def started(self, transfer: Transfer) -> None:
        """Counts a request that has taken its places."""
        transfer.origin.active += 1
        self._untried_active += transfer.untried

    def left(self, transfer: Transfer) -> None:
        """Counts out a request that has given its places back."""
        transfer.origin.active -= 1
        self._untried_active -= transfer.untried

    def answered(self, transfer: Transfer) -> None:
        """Moves an origin that has begun to answer to the queue of those that do."""
        if transfer.untried:
            transfer.untried = False
            self._untried_active -= 1
        origin = transfer.origin
        origin.answers = True
        if self._untried.pop(origin.key, None) is not None:
            self._runnable.append(origin)

    # --- waiting -----------------------------------------------------------------------------------------------------

    def later(self, when: float, whom: Job | Origin, call: Callable[[], None]) -> None:
        """Has `over` yield this call, for that job or origin, once the time has come (monotonic seconds)."""
        heapq.heappush(self._timers, (when, next(self._tie), whom, call))

    @property
    def due(self) -> float | None:
        """When the next call is due (monotonic seconds)."""
        return self._timers[0][0] if self._timers else None

    def over(self, now: float) -> Iterator[tuple[Job | Origin, Callable[[], None]]]:
        """(job or origin, call) for every call whose time has come."""
        while self._timers and self._timers[0][0] <= now:
            _, _, whom, call = heapq.heappop(self._timers)
            yield whom, call

    def wait_until(self, when: float, origin: Origin) -> None:
        """Parks the origin until a time (monotonic seconds)."""
        origin.parked = True
        self.later(when, origin, lambda: self.unpark(origin))

    def wait_at(self, lane: Lane, origin: Origin) -> None:
        """Parks the origin until the lane has a place."""
        origin.parked = True
        lane.waiting.append(origin)

    def look_again_at(self, lane: Lane, origin: Origin, now: float) -> None:
        """Parks the origin at a lane whose last place or turn another process has; one look after LOOK_AGAIN_S is enough for
        all."""
        self.wait_at(lane, origin)
        lane.taken_elsewhere = True
        self.later(now + LOOK_AGAIN_S, origin, lambda: self.wake_next(lane))

    def wake_next(self, lane: Lane) -> None:
        """Wakes the origin that has waited longest for the lane, which may have a place again."""
        lane.taken_elsewhere = False
        if lane.waiting:
            self.unpark(lane.waiting.popleft())

    # --- housekeeping ------------------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Counts stalled requests, and forgets idle origins beyond ORIGINS_MAX."""
        waiting = (t for t in self.transfers if not t.status and not t.untried)
        self._stalled = sum(now - t.began > STALLED_S for t in waiting)
        if len(self._origins) > ORIGINS_MAX:
            idle = [key for key, origin in self._origins.items() if origin.idle]
            for key in idle[: len(self._origins) - ORIGINS_MAX // 2]:
                del self._origins[key]

    def forget(self, origin: Origin) -> None:
        """Forgets an origin with nothing to do, unless its host has failed before."""
        if origin.idle and not origin.breaker.failures:
            self._origins.pop(origin.key, None)
