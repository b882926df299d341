"""Many transfers at a time: libcurl's multi interface under our own resolver, redirects, limits and address policy.

A URL passes through `Origin` queues: its host is resolved, its robots.txt asked for once, a place in the lanes of its host,
domain and address taken, and only then is it requested. Redirects come back to the start as a new URL.
"""

from __future__ import annotations

import heapq
import itertools
import socket
import time
import zlib
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import ada_url
import certifi
import pycurl

from wit.fetch import robots
from wit.fetch.addresses import is_refused
from wit.fetch.config import FetchConfig
from wit.fetch.headers import Headers, last, opt_out, retry_after_s
from wit.fetch.lanes import Breaker, Lane, Lanes
from wit.fetch.outcome import Outcome
from wit.fetch.resolver import Answer, Resolver
from wit.reasons import Reason
from wit.urls import registrable_domain

ANSWER_TTL_S = 60  # an origin asks the resolver (and its cache) again after this
STALLED_S = 0.5  # a transfer without a first byte for so long no longer counts against in_flight
STALLED_MAX = 3  # times in_flight: but no more of them than this
UNTRIED_MAX = 4  # times in_flight: requests to hosts that have not answered yet, which do not count against it either
ERROR_BODY_BYTES = 65_536  # bodies of error pages are read up to here to keep the connection, then cut
BODY_BUDGET_BYTES = 96_000_000  # bodies in memory; above it all but one transfer pause
IDLE_CONNECTIONS = 256
BUFFER_BYTES = 131_072
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
    robots: robots.Robots | None = None
    robots_pending: bool = False
    breaker: Breaker = field(default_factory=Breaker)
    closed_reason: Reason = Reason.HOST_UNAVAILABLE
    parked: bool = False  # in a queue of runnable origins, in a lane's, or in a timer
    answers: bool = False  # it has, and did not fall silent since
    active: int = 0
    domain: str = ""


@dataclass(slots=True)
class Transfer:
    """One request in flight."""

    job: Job
    origin: Origin
    lanes: tuple[Lane, Lane, Lane]
    began: float
    easy: Any = None
    headers: Headers = field(default_factory=list)
    header_bytes: int = 0
    status: int = 0
    chunks: list[bytes] = field(default_factory=list)
    received: int = 0
    untried: bool = False  # to an origin that has not answered yet
    verdict: Reason | None = None  # why we broke off
    paused: bool = False
    limit: int = 0


class Client:
    """Fetches what `submit` is given; every URL ends in one call of `report(outcome, chunks of the body)`."""

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
        self._transfers: dict[Any, Transfer] = {}
        self._spare: list[Any] = []
        self._stalled = 0
        self._held = 0  # bytes of bodies in memory, those not yet handed over included
        self._requests = self._bytes = 0
        self._began = time.monotonic()
        self.curl_due: float | None = None
        self.held_back = False  # the ring is full: start nothing new
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, lambda what, fd, multi, data: watch(fd, what))
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._set_timer)
        self._multi.setopt(pycurl.M_MAXCONNECTS, IDLE_CONNECTIONS)
        self._ca = config.ca_file or certifi.where()

    # --- what the event loop calls -------------------------------------------------------------------------------------

    def submit(self, id: int, url: str, domain: str = "") -> None:
        """Takes a URL, and its registrable domain where that is known; it is reported once, whatever happens to it."""
        self._route(Job(id, url, domain=domain, started=time.time()), url)

    def on_socket(self, fd: int, events: int) -> None:
        self._multi.socket_action(fd, events)

    def on_timer(self) -> None:
        self.curl_due = None
        self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)

    def pump(self) -> None:
        """Ends transfers that are over, runs due timers and starts what may start."""
        self._collect()
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            heapq.heappop(self._timers)[2]()
        while (origin := self._next_origin()) is not None:
            origin.parked = False
            self._advance(origin, now)
            self._pass_on(origin)

    def next_due(self) -> float | None:
        """When `pump` or `on_timer` has work without any socket saying so (monotonic seconds)."""
        due = [self._timers[0][0]] if self._timers else []
        if self.curl_due is not None:
            due.append(self.curl_due)
        return min(due, default=None)

    def tick(self) -> None:
        """Housekeeping, a few times a second."""
        now = time.monotonic()
        waiting = (t for t in self._transfers.values() if not t.status and not t.untried)
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

    def handed_over(self, size: int) -> None:
        """A reported body has left this process' memory."""
        self._held -= size
        self._resume_paused()

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
        if self.held_back or self._held >= BODY_BUDGET_BYTES:
            return None
        excused = self._untried_active + min(self._stalled, STALLED_MAX * self.config.in_flight)
        if self._runnable and len(self._transfers) - excused < self.config.in_flight:
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
            (c.max_bytes and self._bytes >= c.max_bytes)
            or (c.max_requests and self._requests >= c.max_requests)
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
        self._requests += 1
        limit = robots.MAX_BYTES if job.robots_of else self.config.max_body_bytes
        transfer = Transfer(job, origin, lanes, now, limit=limit, untried=not origin.answers)
        self._untried_active += transfer.untried
        easy = transfer.easy = self._spare.pop() if self._spare else self._new_easy()
        self._configure(easy, transfer, address, port)
        self._transfers[easy] = transfer
        self._multi.add_handle(easy)

    def _new_easy(self) -> Any:
        """A handle with the options that all requests share."""
        c, easy = self.config, pycurl.Curl()
        easy.setopt(pycurl.PATH_AS_IS, 1)  # the parser has resolved dots already
        easy.setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS)
        easy.setopt(pycurl.NOSIGNAL, 1)
        easy.setopt(pycurl.FOLLOWLOCATION, 0)
        easy.setopt(pycurl.USERAGENT, c.user_agent_header)
        easy.setopt(pycurl.HTTPHEADER, ["Accept: image/*,*/*;q=0.8"])
        easy.setopt(pycurl.ENCODING, "gzip, deflate, br")
        easy.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_2TLS)
        easy.setopt(pycurl.CAINFO, self._ca)
        easy.setopt(pycurl.BUFFERSIZE, BUFFER_BYTES)
        easy.setopt(pycurl.PROXY, c.egress_proxy)  # empty: and so no proxy variable counts
        if not c.egress_proxy:
            easy.setopt(pycurl.NOPROXY, "*")
        return easy

    def _configure(self, easy: Any, transfer: Transfer, address: str, port: int) -> None:
        c, job = self.config, transfer.job
        left_ms = max(int((c.timeout_s - job.spent_s) * 1000), 1)
        easy.setopt(pycurl.URL, job.target)
        easy.setopt(pycurl.TIMEOUT_MS, left_ms)
        easy.setopt(pycurl.CONNECTTIMEOUT_MS, min(int(c.connect_timeout_s * 1000), left_ms))
        easy.setopt(pycurl.WRITEFUNCTION, lambda chunk: self._on_body(transfer, chunk))
        easy.setopt(pycurl.HEADERFUNCTION, lambda line: self._on_header(transfer, line))
        if c.egress_proxy:
            return
        bracketed = f"[{address}]" if ":" in address else address
        easy.setopt(pycurl.CONNECT_TO, [f"::{bracketed}:{port}"])
        easy.setopt(pycurl.OPENSOCKETFUNCTION, lambda purpose, to: self._open_socket(transfer, to))

    def _open_socket(self, transfer: Transfer, to: Any) -> Any:
        """The last gate: the address that is really connected to."""
        family, kind, protocol, address = to
        if is_refused(address[0], self.config.allow_addresses):
            transfer.verdict = Reason.ADDRESS_REFUSED
            return pycurl.SOCKET_BAD
        return socket.socket(family, kind, protocol)

    def _on_header(self, transfer: Transfer, line: bytes) -> int | None:
        transfer.header_bytes += len(line)
        if transfer.header_bytes > self.config.max_header_bytes:
            transfer.verdict = Reason.HEADERS_TOO_LARGE
            return -1
        if line.startswith(b"HTTP/"):
            if not transfer.status:
                self._answered(transfer)
            words = line.split(None, 2)
            transfer.status = int(words[1]) if len(words) > 1 and words[1].isdigit() else 0
            transfer.headers = []
            return None
        name, colon, value = line.partition(b":")
        if line in (b"\r\n", b"\n") and transfer.verdict is None:
            transfer.verdict = self._verdict_on_headers(transfer)
            return -1 if transfer.verdict else None
        if colon:
            transfer.headers.append((name.strip().lower().decode("latin-1"), text_of(value.strip())))
        return None

    def _on_body(self, transfer: Transfer, chunk: bytes) -> int | None:
        if self._must_pause(transfer):
            transfer.paused = True
            return int(pycurl.WRITEFUNC_PAUSE)
        transfer.received += len(chunk)
        self._bytes += len(chunk)
        if not 200 <= transfer.status < 300:
            return -1 if transfer.received > ERROR_BODY_BYTES else None
        if transfer.received > transfer.limit:
            if transfer.job.robots_of:
                return -1  # what was read of it counts (RFC 9309 section 2.5)
            transfer.verdict = Reason.BODY_TOO_LARGE
            return -1
        transfer.chunks.append(chunk)
        self._held += len(chunk)
        return None

    def _verdict_on_headers(self, transfer: Transfer) -> Reason | None:
        """Why the body is not worth reading."""
        if not 200 <= transfer.status < 300 or transfer.job.robots_of:
            return None
        if self.config.respect_opt_out and (found := opt_out(transfer.headers, self.config.user_agent)):
            return found
        length = last(transfer.headers, "content-length")
        if length and length.isdecimal() and int(length) > transfer.limit:
            return Reason.BODY_TOO_LARGE
        return None

    def _must_pause(self, transfer: Transfer) -> bool:
        if self._held < BODY_BUDGET_BYTES:
            return False
        return any(t is not transfer and t.chunks and not t.paused for t in self._transfers.values())

    def _resume_paused(self) -> None:
        if self._held >= BODY_BUDGET_BYTES:
            return
        for transfer in self._transfers.values():
            if transfer.paused:
                transfer.paused = False
                transfer.easy.pause(pycurl.PAUSE_CONT)

    # --- how a request ends --------------------------------------------------------------------------------------------

    def _set_timer(self, timeout_ms: int) -> None:
        self.curl_due = None if timeout_ms < 0 else time.monotonic() + timeout_ms / 1000

    def _collect(self) -> None:
        more = 1
        while more:
            more, done, failed = self._multi.info_read()
            for easy in done:
                self._over(easy, 0, "")
            for easy, code, words in failed:
                self._over(easy, code, words)

    def _over(self, easy: Any, code: int, words: str) -> None:
        transfer = self._transfers.pop(easy)
        self._multi.remove_handle(easy)
        self._untried_active -= transfer.untried
        self._spare.append(easy)
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
            self._held -= sum(map(len, chunks))
            self._resume_paused()
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


def text_of(value: bytes) -> str:
    """Header bytes as text: UTF-8 where they are that, else Latin-1 (RFC 9110 section 5.5)."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")
