"""What a URL must pass before it is requested, and what follows from the answer: our own resolver, redirects, retries and limits.

A URL waits at its `Origin` for its turn (`wit.fetch.scheduler`). First the host is resolved, its robots.txt fetched once, and a
place taken in the lanes of its host, domain and address; only then is the URL requested. A redirect starts over as a new URL.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import ada_url

from wit.bounded import Bounded
from wit.fetch import robots, verdicts
from wit.fetch.addresses import is_refused
from wit.fetch.config import FetchConfig
from wit.fetch.headers import last, retry_after_s
from wit.fetch.lanes import Lane, Lanes, Three
from wit.fetch.limits import HostLimits
from wit.fetch.origins import Job, Met, Origin
from wit.fetch.outcome import Outcome
from wit.fetch.places import Places
from wit.fetch.resolver import Answer, Resolver
from wit.fetch.scheduler import Scheduler
from wit.fetch.transfers import Transfer, Transfers
from wit.fetch.wishes import Wishes
from wit.reasons import Reason

ANSWER_TTL_S = 60  # an origin asks the resolver (and its cache) again after this


class _Blaming:
    """An exception within the block ends the job, or all jobs that wait for the origin, under FETCHER_CRASHED. So a stranger's
    answer that our code trips over costs the request it answered, and the loop goes on. (It is a class, since a generator costs
    four times as much, and this runs six times a picture.)"""

    __slots__ = ("client", "whom")

    def __init__(self, client: Client, whom: Job | Origin) -> None:
        self.client, self.whom = client, whom

    def __enter__(self) -> None:
        if isinstance(self.whom, Job):
            self.client._at(self.whom)

    def __exit__(self, kind: object, error: BaseException | None, at: object) -> bool:
        if not isinstance(error, Exception):
            return False
        self.client._crashed_at(self.whom, error)
        return True


class Client:
    """Fetches the URLs given to `submit`; every URL ends in one call of `report(outcome, chunks of the body)`. Whoever takes
    over a body calls `transfers.let_go`."""

    def __init__(
        self,
        config: FetchConfig,
        *,
        watch: Callable[[int, int], None],
        report: Callable[[Outcome, list[bytes]], None],
        report_robots: Callable[[str, robots.Robots], None],
        report_wish: Callable[[str], None],
        give_back: Callable[[int], None],
        at: Callable[[int], None],
        crashed: Callable[[Exception], None],
        known_robots: dict[str, robots.Robots],
        wishes: Wishes,
        places: Places,
    ) -> None:
        self.config = config
        self.resolver = Resolver(config)
        self.lanes = Lanes(config, places)
        self.wishes = wishes
        self._report, self._report_robots, self._report_wish = report, report_robots, report_wish
        self._at_id, self._crashed = at, crashed
        self._report_back, self._recalled = give_back, False
        self._robots: Bounded[str, robots.Robots] = robots.kept()
        for key, rules in known_robots.items():
            self._robots.put(key, rules)
        self.transfers = Transfers(config, watch=watch, answered=self._answered, crashed=crashed, at=self._at)
        self.turns = Scheduler(config, self.transfers)
        self._began = time.monotonic()

    # --- what the event loop calls -------------------------------------------------------------------------------------

    def submit(self, id: int, url: str, domain: str = "") -> None:
        """Takes a URL, and its registrable domain if that is known; the URL is reported once, whatever happens to it."""
        job = Job(id, url, domain=domain, started=time.time())
        with self._blaming(job):
            self._route(job, url)

    def pump(self) -> None:
        """Ends transfers that are over, runs due timers and starts what may start."""
        for transfer, code, words in self.transfers.over():
            self._over(transfer, code, words)
        now = time.monotonic()
        for whom, call in self.turns.over(now):
            with self._blaming(whom):
                call()
        while (origin := self.turns.next()) is not None:
            with self._blaming(origin):
                self._advance(origin, now)
                self._pass_on(origin)

    def next_due(self) -> float | None:
        """When the next timer of `pump` is due (monotonic seconds); None where there is none."""
        return self.turns.due

    def tick(self) -> None:
        """Housekeeping, a few times a second."""
        now = time.monotonic()
        self.transfers.tick(now)
        self.turns.tick(now)
        self.lanes.forget_idle()

    def forget_failures(self) -> None:
        """Forgets every failure of every host, but nothing that a host asked of us."""
        self.resolver.forget_failures()
        for origin in self.turns:
            origin.breaker.succeeded()
            origin.answer = None
            if origin.robots is not None and origin.robots.text is None:
                origin.robots = None

    def recall(self) -> None:
        """Gives back, unreported, every URL that has no request in flight, and from now on those whose redirect or further
        attempt would be next. So a client that is to stop ends with what it has sent."""
        self._recalled = True
        for origin in [*self.turns]:
            self._give_back(origin)

    def _give_back(self, origin: Origin) -> None:
        for job in origin.take_all():
            if job.robots_of is None and not job.ended:
                job.ended = True
                self._report_back(job.id)
        origin.robots_pending = False

    def take_limits(self, limits: HostLimits) -> None:
        """Applies new --host-limits: transfers from hosts that are now denied are broken off."""
        self.lanes.limits = limits
        for transfer in self.transfers:
            if limits.denies(transfer.origin.host):
                self.transfers.break_off(transfer, Reason.HOST_DENIED)

    # --- faults of ours ------------------------------------------------------------------------------------------------

    def _at(self, job: Job) -> None:
        """Notes which request is worked at, should this process die of it; for robots.txt, the picture that waits for it."""
        if job.robots_of is None:
            self._at_id(job.id)
        elif job.robots_of.queue:
            self._at_id(job.robots_of.queue[0].id)

    def _blaming(self, whom: Job | Origin) -> _Blaming:
        return _Blaming(self, whom)

    def _crashed_at(self, whom: Job | Origin, error: Exception) -> None:
        self._crashed(error)
        self._blame(whom, f"{type(error).__name__}: {error}")

    def _blame(self, whom: Job | Origin, words: str) -> None:
        detail = words.partition(":")[0]
        if isinstance(whom, Job) and whom.robots_of is None:
            return self._end(whom, Reason.FETCHER_CRASHED, detail, error=words)
        origin = whom if isinstance(whom, Origin) else whom.robots_of
        assert origin is not None
        origin.robots_pending = origin.resolving = False
        return self._end_all(origin, Reason.FETCHER_CRASHED, detail)

    # --- from a URL to a request ---------------------------------------------------------------------------------------

    def _route(self, job: Job, url: str) -> None:
        """Queues the job at the origin of `url`, or ends it. A name or password in the URL is neither sent nor kept."""
        try:
            parsed = ada_url.URL(url)
        except ValueError:
            return self._end(job, Reason.HTTP_INVALID, "url")
        scheme = parsed.protocol.rstrip(":")
        if scheme not in ("http", "https"):
            return self._end(job, Reason.SCHEME_REFUSED, scheme)
        parsed.hash = parsed.username = parsed.password = ""
        job.target = parsed.href
        port = int(parsed.port or (443 if scheme == "https" else 80))
        if port in verdicts.BAD_PORTS:
            return self._end(job, Reason.PORT_REFUSED, str(port))
        host = parsed.hostname.rstrip(".") or parsed.hostname  # one server, with or without a dot
        origin, is_new = self.turns.origin(scheme, host, port, "" if job.hops else job.domain)
        if is_new and (known := self._robots.get(origin.key)) is not None:
            self._take_robots(origin, known)
        if job.robots_of is not None:
            origin.first.append(job)
        else:
            (origin.queue.appendleft if job.hops else origin.queue.append)(job)
        if self._recalled:
            return self._give_back(origin)
        return self.turns.wake(origin)

    def _answered(self, transfer: Transfer) -> None:
        """Notes that a host has begun to answer."""
        self.turns.answered(transfer)

    def _advance(self, origin: Origin, now: float) -> None:
        """Starts the origin's next request, or ends its jobs, or parks it until its obstacle is gone."""
        if self._recalled:
            self._give_back(origin)
        if not origin.queue and not origin.first:
            return self.turns.forget(origin)
        if self._spent(now):
            return self._end_all(origin, Reason.BUDGET_SPENT)
        if self.lanes.limits.denies(origin.host):
            return self._end_all(origin, Reason.HOST_DENIED)
        if closed_by := self.wishes.closed_by(origin.host):
            return self._end_all(origin, Reason.HOST_UNAVAILABLE, str(closed_by))
        if origin.breaker.open_until > now:
            status = origin.breaker.status
            return self._end_all(origin, Reason.HOST_UNAVAILABLE, str(status) if status else "")
        if not self.config.egress_proxy and (origin.answer is None or origin.answer_until < now):
            return self._resolve(origin)
        address, port = self._address(origin)
        if origin.answer and origin.answer.reason:
            return self._fail_all(origin, origin.answer.reason)
        if not address:
            return self._end_all(origin, Reason.ADDRESS_REFUSED)
        if not self._robots_ready(origin):
            return None
        lanes = self._lanes_of(origin, address)
        for lane in lanes:
            if lane.full:
                return self.turns.wait_at(lane, origin)
        if (due := self.lanes.due(lanes)) > now:
            return self._wait(origin, due, now)
        job = self._next_allowed(origin)
        if job is not None:
            with self._blaming(job):
                self._start(job, origin, lanes, address, port, now)
        return None

    def _wait(self, origin: Origin, due: float, now: float) -> None:
        """Parks the origin until its turn; ends its jobs if the host asked another process to leave it alone for long."""
        longest = max(self.config.short_retry_after_s, robots.MAX_CRAWL_DELAY_S) + 1
        if self.lanes.closed_until(origin.host) > now + longest:
            return self._end_all(origin, Reason.HOST_UNAVAILABLE, "asked")
        return self.turns.wait_until(due, origin)

    def _lanes_of(self, origin: Origin, address: str) -> Three:
        return self.lanes.of(origin, address, self.wishes.delay_s(origin.host))

    def _pass_on(self, origin: Origin) -> None:
        """Wakes the next origin that waits for a free place, in case this one was woken for it and did not use it."""
        if not self.config.egress_proxy and (origin.answer is None or not origin.answer.addresses):
            return
        address, _ = self._address(origin)
        for lane in self._lanes_of(origin, address):
            if lane.waiting and not lane.full:
                self.turns.wake_next(lane)

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
            with self._blaming(origin):
                self.turns.wake(origin)

        self.resolver.lookup(origin.host, answered)

    def _address(self, origin: Origin) -> tuple[str, int]:
        """(address, port) to connect to: an allowed address, after a failure the next; empty where none is allowed."""
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
        """Whether the next job may go on. If robots.txt is not known, or too old, a request for it goes first."""
        if not self.config.respect_robots or origin.first:
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
        origin.first.append(job)
        return True

    def _robots_arrived(self, origin: Origin, rules: robots.Robots) -> None:
        origin.robots_pending = False
        self._robots.put(origin.key, rules)
        self._take_robots(origin, rules)
        if delay := self.wishes.delay_s(origin.host):
            self.lanes.close(origin.host, time.monotonic() + delay)  # the request for robots.txt counts too
        self._report_robots(origin.key, rules)
        self.turns.wake(origin)

    def _take_robots(self, origin: Origin, rules: robots.Robots) -> None:
        origin.robots = rules
        if self.wishes.delay(origin.host, origin.key, rules.crawl_delay_s(self.config.user_agent)):
            self._report_wish(origin.host)

    def _next_allowed(self, origin: Origin) -> Job | None:
        """The next job that robots.txt allows; ends the forbidden ones before it."""
        if origin.first:
            return origin.first.popleft()
        while origin.queue:
            job = origin.queue.popleft()
            with self._blaming(job):
                if (refused := self._refused(job, origin.robots)) is None:
                    return job
                self._end(job, refused.reason, refused.detail)
        return None

    def _refused(self, job: Job, rules: robots.Robots | None) -> Met | None:
        """Why robots.txt forbids the job, if it does."""
        if not self.config.respect_robots or rules is None:
            return None
        if rules.text is None:
            return Met(rules.why, "", 0, "")
        if rules.allows(job.target, self.config.user_agent):
            return None
        return Met(Reason.ROBOTS_DISALLOWED, rules.note, 0, "")

    # --- one request ---------------------------------------------------------------------------------------------------

    def _start(self, job: Job, origin: Origin, lanes: Three, address: str, port: int, now: float) -> None:
        """Sends the job's request; if another process has the last place, the job goes back to wait."""
        places = self.lanes.take(lanes)
        if isinstance(places, Lane):
            (origin.first if job.robots_of else origin.queue).appendleft(job)
            return self.turns.look_again_at(places, origin, now)
        if not job.hops:
            job.attempts += 1
        job.address = "" if self.config.egress_proxy else address
        limit = robots.MAX_BYTES if job.robots_of else self.config.max_body_bytes
        transfer = Transfer(job, origin, lanes, places, now, limit=limit, untried=not origin.answers)
        self.turns.started(transfer)
        try:
            self.transfers.start(transfer, address, port)
        except Exception:
            self._leave(transfer)
            raise
        return self.turns.wake(origin)

    def _leave(self, transfer: Transfer) -> None:
        """Gives back the transfer's places, and wakes origins that wait for them."""
        self.turns.left(transfer)
        self.lanes.give_back(transfer.lanes, transfer.places)
        for lane in transfer.lanes:
            self.turns.wake_next(lane)

    # --- how a request ends --------------------------------------------------------------------------------------------

    def _over(self, transfer: Transfer, code: int, words: str) -> None:
        job, origin = transfer.job, transfer.origin
        self._leave(transfer)
        job.spent_s += time.monotonic() - transfer.began
        job.wire_bytes += max(transfer.wire_bytes, transfer.received)
        chunks, transfer.chunks = transfer.chunks, []
        kept = False
        with self._blaming(job):
            kept = self._judge(transfer, code, transfer.words or words, chunks)
        if not kept:
            self.transfers.let_go(sum(map(len, chunks)))
        self.turns.wake(origin)

    def _judge(self, transfer: Transfer, code: int, words: str, chunks: list[bytes]) -> bool:
        """Decides what follows a request; True if the body was handed on."""
        job, status = transfer.job, transfer.status
        if transfer.stale and not job.fresh:
            job.fresh, job.attempts = True, job.attempts - (not job.hops)
            self._route(job, job.target)
            return False
        reason = verdicts.reason_for_request(status, transfer.verdict, code, words)
        if status in verdicts.REDIRECTS and reason is None:
            if self._redirected(transfer):
                return False
            reason = Reason.HTTP_INVALID
        self._tell_breaker(transfer, reason)
        if job.robots_of is not None and reason is None and answers_robots(status):
            rules = robots.from_response(status, b"".join(chunks), self.config.user_agent)
            self._robots_arrived(job.robots_of, rules)
            return False
        reason = reason or verdicts.reason_for_status(status)
        if reason is None and not transfer.received:
            reason = Reason.BODY_EMPTY
        if reason is None:
            outcome, job.ended = self._outcome(job, status, transfer.received), True
            self._report(outcome, chunks)
            return True
        self._failed(job, reason, status, words, transfer)
        return False

    def _redirected(self, transfer: Transfer) -> bool:
        """Sends the job to the response's Location; False where there is none that makes sense."""
        job, location = transfer.job, last(transfer.headers, "location")
        if not location:
            return False
        if job.hops >= self.config.max_redirects:
            if job.robots_of is not None:
                # RFC 9309 section 2.3.1.2: as unavailable
                self._robots_arrived(job.robots_of, robots.from_response(404, b"", self.config.user_agent))
            else:
                self._end(job, Reason.TOO_MANY_REDIRECTS, status=transfer.status)
            return True
        try:
            url = ada_url.join_url(job.target, location)
        except ValueError:
            return False
        transfer.origin.breaker.succeeded()
        job.hops, job.fresh = job.hops + 1, False
        self._route(job, url)
        return True

    def _tell_breaker(self, transfer: Transfer, reason: Reason | None) -> None:
        breaker, now = transfer.origin.breaker, time.monotonic()
        silent = reason in verdicts.HOST_AT_FAULT and not transfer.status
        if silent or transfer.status in verdicts.TIRED_STATUS:
            transfer.origin.answers = bool(transfer.status)
            breaker.failed(now, transfer.status, self.config)
        elif transfer.status:
            breaker.succeeded()

    def _failed(self, job: Job, reason: Reason, status: int, words: str, transfer: Transfer | None) -> None:
        """Has the job tried again, later, if that may help; else ends it."""
        detail = str(status) if status >= 400 else ""
        job.met = Met(reason, detail, status, words)
        pause = verdicts.pause_s(job.url, job.attempts, self.config.backoff_s)
        asked = retry_after_s(transfer.headers) if transfer and status in verdicts.PATIENCE_STATUS else None
        if transfer and asked is not None and asked > self.config.short_retry_after_s:
            self._close(transfer.origin, asked, status)
            return self._end(job, reason, detail, status=status, error=words)
        now = time.monotonic()
        pause = max(pause, asked or 0)
        if transfer and status in verdicts.PATIENCE_STATUS:  # the whole host asks for patience
            self.lanes.close(transfer.origin.host, now + pause)
        if job.hopeless or not verdicts.worth_another(reason, status) or job.attempts > self.config.retries:
            return self._end(job, reason, detail, status=status, error=words)
        job.hops, job.spent_s, job.fresh = 0, 0.0, False
        return self.turns.later(now + pause, job, lambda: self._route(job, job.url))

    def _close(self, origin: Origin, seconds: float, status: int) -> None:
        """Leaves a host alone for as long as it asked; its waiting pictures end, for --retry-failed to fetch."""
        self.wishes.close(origin.host, seconds, status)
        self.lanes.close(origin.host, time.monotonic() + seconds)
        self._report_wish(origin.host)
        self._end_all(origin, Reason.HOST_UNAVAILABLE, str(status))

    def _end_all(self, origin: Origin, reason: Reason, detail: str = "") -> None:
        """Ends all jobs that wait for the origin; a job whose own last request failed ends with that Reason."""
        for job in origin.take_all():
            met = job.met or Met(reason, detail, 0, "")
            with self._blaming(job):
                self._end(job, met.reason, met.detail, status=met.status, error=met.error)

    def _fail_all(self, origin: Origin, reason: Reason) -> None:
        for job in origin.take_all():
            job.attempts += 1
            with self._blaming(job):
                if job.robots_of is not None:
                    self._end(job, reason)
                else:
                    self._failed(job, reason, 0, "", None)

    def _end(self, job: Job, reason: Reason, detail: str = "", *, status: int = 0, error: str = "") -> None:
        if job.robots_of is not None:
            same = verdicts.is_shared(reason, status) and not job.hops
            why = reason if same else Reason.ROBOTS_UNREACHABLE
            self._robots_arrived(job.robots_of, robots.Robots(time.time(), None, why))
            return
        if job.ended:
            return
        job.ended = True
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
            wire_bytes=job.wire_bytes,
            address=job.address,
        )


def answers_robots(status: int) -> bool:
    """Whether a final status of robots.txt is an answer. 429 and 5xx only ask us to go away, and 407 comes from a proxy."""
    return 200 <= status < 300 or (400 <= status < 500 and status not in (407, 429))
