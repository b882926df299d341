"""Which URL is requested when, and what follows from the answer: our own resolver, redirects, retries and limits.

A URL passes through `Origin` queues: its host is resolved, its robots.txt asked for once, a place in the lanes of its host,
domain and address taken, and only then is it requested. Redirects come back to the start as a new URL.
"""

from __future__ import annotations

import heapq
import itertools
import time
import zlib
from collections import OrderedDict, deque
from collections.abc import Callable

import ada_url
import pycurl

from wit.fetch import robots
from wit.fetch.addresses import is_refused
from wit.fetch.config import FetchConfig
from wit.fetch.headers import last, retry_after_s
from wit.fetch.lanes import Lane, Lanes
from wit.fetch.origins import Job, Origin
from wit.fetch.outcome import Outcome
from wit.fetch.resolver import Answer, Resolver
from wit.fetch.transfers import Transfer, Transfers
from wit.reasons import Reason
from wit.urls import registrable_domain

ANSWER_TTL_S = 60  # an origin asks the resolver (and its cache) again after this
STALLED_S = 0.5  # a transfer without a first byte for so long no longer counts against in_flight
STALLED_MAX = 3  # times in_flight: but no more of them than this
UNTRIED_MAX = 4  # times in_flight: requests to hosts that have not answered yet, which do not count against it either
REDIRECTS = (301, 302, 303, 307, 308)
RETRIED = frozenset(
    (Reason.DNS_FAILED, Reason.CONNECT_FAILED, Reason.TIMEOUT, Reason.BODY_INCOMPLETE, Reason.HTTP_RATE_LIMITED)
)
RETRIED_STATUS = (500, 502, 503, 504)
HOST_AT_FAULT = frozenset((Reason.CONNECT_FAILED, Reason.TIMEOUT))  # what a breaker counts
SAME_FATE = frozenset(  # what befell robots.txt befalls the pictures, and is the better word for it
    (Reason.CONNECT_FAILED, Reason.TIMEOUT, Reason.TLS_FAILED, Reason.DNS_FAILED, Reason.DNS_NOT_FOUND)
)

E_HTTP2_STREAM, E_TOO_LARGE = 92, 100  # libcurl has them, pycurl has no names for them

CURL_REASONS = {
    pycurl.E_OPERATION_TIMEDOUT: Reason.TIMEOUT,
    pycurl.E_COULDNT_CONNECT: Reason.CONNECT_FAILED,
    pycurl.E_COULDNT_RESOLVE_HOST: Reason.DNS_FAILED,
    pycurl.E_COULDNT_RESOLVE_PROXY: Reason.CONNECT_FAILED,
    pycurl.E_PARTIAL_FILE: Reason.BODY_INCOMPLETE,
    pycurl.E_GOT_NOTHING: Reason.BODY_INCOMPLETE,
    pycurl.E_RECV_ERROR: Reason.BODY_INCOMPLETE,
    pycurl.E_SEND_ERROR: Reason.BODY_INCOMPLETE,
    pycurl.E_HTTP2: Reason.BODY_INCOMPLETE,
    E_HTTP2_STREAM: Reason.BODY_INCOMPLETE,
    pycurl.E_SSL_CONNECT_ERROR: Reason.TLS_FAILED,
    pycurl.E_PEER_FAILED_VERIFICATION: Reason.TLS_FAILED,
    pycurl.E_SSL_CIPHER: Reason.TLS_FAILED,
    pycurl.E_SSL_CERTPROBLEM: Reason.TLS_FAILED,
    pycurl.E_FILESIZE_EXCEEDED: Reason.BODY_TOO_LARGE,
    E_TOO_LARGE: Reason.HEADERS_TOO_LARGE,
}


class Client:
    """Fetches what `submit` is given; every URL ends in one call of `report(outcome, chunks of the body)`. Who has taken a body
    over tells `transfers`."""

    def __init__(
        self,
        config: FetchConfig,
        *,
        watch: Callable[[int, int], None],
        report: Callable[[Outcome, list[bytes]], None],
        report_robots: Callable[[str, robots.Robots], None],
        known_robots: dict[str, robots.Robots],
    ) -> None:
        self.config = config
        self.resolver = Resolver(config)
        self.lanes = Lanes(config)
        self._report, self._report_robots = report, report_robots
        self._robots = known_robots
        self._origins: dict[str, Origin] = {}
        self._runnable: deque[Origin] = deque()  # those that answer
        # The others: hosts that say nothing must not take the places of those that do.
        self._untried: OrderedDict[str, Origin] = OrderedDict()
        self._untried_active = 0
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._tie = itertools.count()
        self.transfers = Transfers(config, watch=watch, answered=self._answered)
        self._stalled = 0
        self._began = time.monotonic()
        self.held_back = False  # the ring is full: start nothing new

    # --- what the event loop calls -------------------------------------------------------------------------------------

    def submit(self, id: int, url: str, domain: str = "") -> None:
        """Takes a URL, and its registrable domain where that is known; it is reported once, whatever happens to it."""
        self._route(Job(id, url, domain=domain, started=time.time()), url)

    def pump(self) -> None:
        """Ends transfers that are over, runs due timers and starts what may start."""
        for transfer, code, words in self.transfers.over():
            self._over(transfer, code, words)
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            heapq.heappop(self._timers)[2]()
        while (origin := self._next_origin()) is not None:
            origin.parked = False
            self._advance(origin, now)
            self._pass_on(origin)

    def next_due(self) -> float | None:
        """When `pump` has work without any socket saying so (monotonic seconds)."""
        return self._timers[0][0] if self._timers else None

    def tick(self) -> None:
        """Housekeeping, a few times a second."""
        now = time.monotonic()
        waiting = (t for t in self.transfers if not t.status and not t.untried)
        self._stalled = sum(now - t.began > STALLED_S for t in waiting)
        self.lanes.forget_idle(now)

    def forget_failures(self) -> None:
        """Every host starts again with a clean sheet."""
        self.resolver.forget_failures()
        for origin in self._origins.values():
            origin.breaker.succeeded()
            origin.answer = None
            if origin.robots is not None and origin.robots.text is None:
                origin.robots = None

    # --- from a URL to a request ---------------------------------------------------------------------------------------

    def _route(self, job: Job, url: str) -> None:
        """Queues the job at the origin of `url`, or ends it."""
        try:
            parsed = ada_url.URL(url)
        except ValueError:
            return self._end(job, Reason.HTTP_INVALID, "url")
        scheme = parsed.protocol.rstrip(":")
        if scheme not in ("http", "https"):
            return self._end(job, Reason.SCHEME_REFUSED, scheme)
        parsed.hash = ""
        job.target = parsed.href
        port = int(parsed.port or (443 if scheme == "https" else 80))
        origin = self._origin(scheme, parsed.hostname, port, "" if job.hops else job.domain)
        (origin.queue.appendleft if job.hops or job.robots_of else origin.queue.append)(job)
        self._wake(origin)

    def _origin(self, scheme: str, host: str, port: int, domain: str) -> Origin:
        key = f"{scheme}://{host}:{port}"
        found = self._origins.get(key)
        if found is None:
            found = self._origins[key] = Origin(key, scheme, host, port, domain=domain or registrable_domain(host))
            found.robots = self._robots.get(key)
        return found

    def _wake(self, origin: Origin) -> None:
        if not origin.parked:
            origin.parked = True
            if origin.answers:
                self._runnable.append(origin)
            else:
                self._untried[origin.key] = origin

    def _next_origin(self) -> Origin | None:
        """An origin that may start a request."""
        if self.held_back or self.transfers.full:
            return None
        excused = self._untried_active + min(self._stalled, STALLED_MAX * self.config.in_flight)
        if self._runnable and len(self.transfers) - excused < self.config.in_flight:
            return self._runnable.popleft()
        if self._untried and self._untried_active < UNTRIED_MAX * self.config.in_flight:
            return self._untried.popitem(last=False)[1]
        return None

    def _answered(self, transfer: Transfer) -> None:
        """Takes note that a host has begun to answer."""
        if transfer.untried:
            transfer.untried = False
            self._untried_active -= 1
        origin = transfer.origin
        origin.answers = True
        if self._untried.pop(origin.key, None) is not None:
            self._runnable.append(origin)

    def _later(self, when: float, call: Callable[[], None]) -> None:
        heapq.heappush(self._timers, (when, next(self._tie), call))

    def _advance(self, origin: Origin, now: float) -> None:
        """Starts the origin's next request, or parks it where its obstacle will wake it."""
        if not origin.queue:
            return self._forget(origin)
        if self._spent(now):
            return self._end_all(origin, Reason.BUDGET_SPENT)
        if origin.breaker.open_until > now:
            return self._end_all(origin, origin.closed_reason)
        if not self.config.egress_proxy and (origin.answer is None or origin.answer_until < now):
            return self._resolve(origin)
        address, port = self._address(origin)
        if origin.answer and origin.answer.reason:
            return self._fail_all(origin, origin.answer.reason)
        if not address:
            return self._end_all(origin, Reason.ADDRESS_REFUSED)
        if not self._robots_ready(origin):
            return
        lanes = self._lanes_of(origin, address)
        for lane in lanes:
            if lane.active >= lane.limit:
                origin.parked = True
                lane.waiting.append(origin)
                return
        due = max(lane.next_at for lane in lanes)
        if due > now:
            origin.parked = True
            return self._later(due, lambda: self._unpark(origin))
        job = self._next_allowed(origin)
        if job is not None:
            self._start(job, origin, lanes, address, port, now)
            self._wake(origin)

    def _lanes_of(self, origin: Origin, address: str) -> tuple[Lane, Lane, Lane]:
        return (
            self.lanes.get("host", origin.host),
            self.lanes.get("domain", origin.domain),
            self.lanes.get("address", address),
        )

    def _unpark(self, origin: Origin) -> None:
        origin.parked = False
        self._wake(origin)

    def _pass_on(self, origin: Origin) -> None:
        """An origin that was woken for a free place may not have used it: wake the next one that waits for it."""
        if not self.config.egress_proxy and (origin.answer is None or not origin.answer.addresses):
            return
        address, _ = self._address(origin)
        for lane in self._lanes_of(origin, address):
            if lane.waiting and lane.active < lane.limit:
                self._unpark(lane.waiting.popleft())

    def _forget(self, origin: Origin) -> None:
        if not origin.active and not origin.robots_pending and not origin.breaker.failures:
            self._origins.pop(origin.key, None)

    def _spent(self, now: float) -> bool:
        c = self.config
        return bool(
            (c.max_bytes and self.transfers.bytes >= c.max_bytes)
            or (c.max_requests and self.transfers.requests >= c.max_requests)
            or (c.max_seconds and now - self._began >= c.max_seconds)
        )

    def _resolve(self, origin: Origin) -> None:
        if origin.resolving:
            return
        origin.resolving = True

        def answered(answer: Answer) -> None:
            origin.resolving = False
            origin.answer, origin.answer_until = answer, time.monotonic() + ANSWER_TTL_S
            self._wake(origin)

        self.resolver.lookup(origin.host, answered)

    def _address(self, origin: Origin) -> tuple[str, int]:
        """(address, port) to connect to: the first address that may be; the address is empty where none may."""
        if self.config.egress_proxy:
            return "proxy", origin.port
        answer = origin.answer
        if answer is None:
            return "", 0
        allowed = [a for a in answer.addresses if not is_refused(a, self.config.allow_addresses)]
        chosen = allowed[origin.breaker.failures % len(allowed)] if allowed else ""
        return chosen, answer.port or origin.port

    # --- robots.txt ----------------------------------------------------------------------------------------------------

    def _robots_ready(self, origin: Origin) -> bool:
        """Whether the next job may go on; puts a request for robots.txt before it where that is not known yet."""
        if not self.config.respect_robots or origin.queue[0].robots_of is not None:
            return True
        if origin.robots_pending:
            return False
        if origin.robots is not None and origin.robots.is_fresh(self.config.robots_max_age_s):
            return True
        origin.robots_pending = True
        default = 443 if origin.scheme == "https" else 80
        place = origin.host if origin.port == default else f"{origin.host}:{origin.port}"
        url = f"{origin.scheme}://{place}/robots.txt"
        job = Job(-1, url, target=url, started=time.time(), robots_of=origin)
        origin.queue.appendleft(job)
        return True

    def _robots_arrived(self, origin: Origin, found: robots.Robots) -> None:
        self._robots[origin.key] = origin.robots = found
        origin.robots_pending = False
        delay = found.crawl_delay_s(self.config.user_agent)
        lane = self.lanes.get("host", origin.host)
        lane.interval_s = max(lane.interval_s, delay)
        if delay:
            lane.limit = 1
        self._report_robots(origin.key, found)
        self._wake(origin)

    def _next_allowed(self, origin: Origin) -> Job | None:
        """The next job that robots.txt allows; ends those before it."""
        while origin.queue:
            job = origin.queue.popleft()
            rules = origin.robots
            if job.robots_of is not None or not self.config.respect_robots or rules is None:
                return job
            if rules.allows(job.target, self.config.user_agent):
                return job
            self._end(job, rules.why if rules.text is None else Reason.ROBOTS_DISALLOWED)
        return None

    # --- one request ---------------------------------------------------------------------------------------------------

    def _start(
        self, job: Job, origin: Origin, lanes: tuple[Lane, Lane, Lane], address: str, port: int, now: float
    ) -> None:
        for lane in lanes:
            lane.take(now)
        origin.active += 1
        if not job.hops:
            job.attempts += 1
        limit = robots.MAX_BYTES if job.robots_of else self.config.max_body_bytes
        transfer = Transfer(job, origin, lanes, now, limit=limit, untried=not origin.answers)
        self._untried_active += transfer.untried
        self.transfers.start(transfer, address, port)

    # --- how a request ends --------------------------------------------------------------------------------------------

    def _over(self, transfer: Transfer, code: int, words: str) -> None:
        self._untried_active -= transfer.untried
        for lane in transfer.lanes:
            lane.active -= 1
            if lane.waiting:
                self._unpark(lane.waiting.popleft())
        job, origin = transfer.job, transfer.origin
        origin.active -= 1
        job.spent_s += time.monotonic() - transfer.began
        chunks, transfer.chunks = transfer.chunks, []
        kept = self._judge(transfer, code, words, chunks)
        if not kept:
            self.transfers.let_go(sum(map(len, chunks)))
        self._wake(origin)

    def _judge(self, transfer: Transfer, code: int, words: str, chunks: list[bytes]) -> bool:
        """Decides what follows a request; True if its body was handed on."""
        job, status = transfer.job, transfer.status
        reason = transfer.verdict
        if code and reason is None:
            cut = code == pycurl.E_WRITE_ERROR  # we had read enough of an error page, or of a long robots.txt
            reason = None if cut else CURL_REASONS.get(code, Reason.HTTP_INVALID)
        if status in REDIRECTS and (reason is None or reason is Reason.BODY_INCOMPLETE):
            if self._redirected(transfer):
                return False
            reason = Reason.HTTP_INVALID
        self._tell_breaker(transfer, reason)
        if reason is None:
            reason = reason_for_status(status)
        if job.robots_of is not None and (reason is None or 400 <= status < 500 and status != 429):
            self._robots_arrived(job.robots_of, robots.from_response(status, b"".join(chunks)))
            return False
        if reason is None and not transfer.received:
            reason = Reason.BODY_EMPTY
        if reason is None:
            self._report(self._outcome(job, status, transfer.received), chunks)
            return True
        self._failed(job, reason, status, words, transfer)
        return False

    def _redirected(self, transfer: Transfer) -> bool:
        """Sends the job to where the response points; False where it points nowhere."""
        job, location = transfer.job, last(transfer.headers, "location")
        if not location:
            return False
        if job.hops >= self.config.max_redirects:
            if job.robots_of is not None:
                self._robots_arrived(
                    job.robots_of, robots.from_response(404, b"")
                )  # RFC 9309 section 2.3.1.2: as unavailable
            else:
                self._end(job, Reason.TOO_MANY_REDIRECTS, status=transfer.status)
            return True
        try:
            url = ada_url.join_url(job.target, location)
        except ValueError:
            return False
        transfer.origin.breaker.succeeded()
        job.hops += 1
        self._route(job, url)
        return True

    def _tell_breaker(self, transfer: Transfer, reason: Reason | None) -> None:
        breaker, now = transfer.origin.breaker, time.monotonic()
        silent = reason in HOST_AT_FAULT and not transfer.status
        if silent or transfer.status in (502, 503, 504):
            transfer.origin.closed_reason = Reason.HOST_UNAVAILABLE
            transfer.origin.answers = bool(transfer.status)
            breaker.failed(now, self.config)
        elif transfer.status:
            breaker.succeeded()

    def _failed(self, job: Job, reason: Reason, status: int, words: str, transfer: Transfer | None) -> None:
        """Another attempt where that may help, else the end."""
        pause = self.config.backoff_s * 2 ** (job.attempts - 1) * (0.5 + jitter(job))
        asked = retry_after_s(transfer.headers) if transfer and status in (429, 503) else None
        if asked is not None and asked > self.config.short_retry_after_s:
            if transfer:
                self._close(transfer.origin, asked, reason)
            return self._end(job, reason, status=status, error=words)
        again = reason in RETRIED or (reason is Reason.HTTP_SERVER_ERROR and status in RETRIED_STATUS)
        if not again or job.attempts > self.config.retries:
            detail = str(status) if status >= 400 else ""
            return self._end(job, reason, detail, status=status, error=words)
        now = time.monotonic()
        if transfer and status in (429, 503):  # the whole host asks for patience
            lane = transfer.lanes[0]
            lane.next_at = max(lane.next_at, now + max(pause, asked or 0))
        job.hops, job.spent_s = 0, 0.0
        self._later(now + max(pause, asked or 0), lambda: self._route(job, job.url))

    def _close(self, origin: Origin, seconds: float, reason: Reason) -> None:
        """Leaves a host alone for as long as it asked; its other pictures are left to the retry pass."""
        origin.breaker.open_until = time.monotonic() + seconds
        origin.closed_reason = reason
        self._end_all(origin, reason)

    def _end_all(self, origin: Origin, reason: Reason) -> None:
        jobs, origin.queue = origin.queue, deque()
        for job in jobs:
            self._end(job, reason)

    def _fail_all(self, origin: Origin, reason: Reason) -> None:
        jobs, origin.queue = origin.queue, deque()
        for job in jobs:
            job.attempts += 1
            if job.robots_of is not None:
                self._end(job, reason)
            else:
                self._failed(job, reason, 0, "", None)

    def _end(self, job: Job, reason: Reason, detail: str = "", *, status: int = 0, error: str = "") -> None:
        if job.robots_of is not None:
            first_hop = reason in SAME_FATE and not job.hops
            why = reason if first_hop else Reason.ROBOTS_UNREACHABLE
            self._robots_arrived(job.robots_of, robots.Robots(time.time(), None, why))
            return
        outcome = self._outcome(job, status, 0)
        outcome.reason, outcome.detail, outcome.error = reason, detail, error
        self._report(outcome, [])

    def _outcome(self, job: Job, status: int, size: int) -> Outcome:
        return Outcome(
            job.id,
            http_status=status,
            final_url=job.target,
            attempts=job.attempts,
            started=job.started,
            duration_s=time.time() - job.started,
            bytes=size,
        )


def reason_for_status(status: int) -> Reason | None:
    """Why a final status is no picture; None where the body may be one."""
    if 200 <= status < 300:
        return Reason.BODY_EMPTY if status in (204, 205) else None
    exact = {404: Reason.HTTP_NOT_FOUND, 410: Reason.HTTP_GONE, 429: Reason.HTTP_RATE_LIMITED}
    if status in exact:
        return exact[status]
    if status in (401, 403, 451):
        return Reason.HTTP_FORBIDDEN
    if 400 <= status < 500:
        return Reason.HTTP_CLIENT_ERROR
    return Reason.HTTP_SERVER_ERROR if status >= 500 else Reason.HTTP_INVALID


def jitter(job: Job) -> float:
    """0 to 1, different for every URL and attempt: no thundering herd, and no random number either."""
    return zlib.crc32(f"{job.url} {job.attempts}".encode()) / 2**32
