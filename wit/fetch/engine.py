"""The supervisor of one fetch process and one decode process: what goes in comes out, whoever dies in between.

A decoder that crashes is replaced and its picture tried once more, since a stray SIGKILL is not the picture's fault; a second
crash, or a deadline passed, is that picture's Reason. A fetch process that dies is replaced and what it had in flight is
fetched again.
"""

from __future__ import annotations

import os
import selectors
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from wit.fetch.channel import Channel
from wit.fetch.config import FetchConfig
from wit.fetch.errors import EngineError
from wit.fetch.outcome import Outcome, Request
from wit.fetch.ring import create_segment
from wit.images import ImageConfig, Processed, Refused
from wit.reasons import Reason

RING_BYTES = 24_000_000  # and somewhat more than the largest body, where that is more
SENT_AHEAD = 8  # pictures that a decoder has in hand, so that it never waits for us
SILENCE_S = 60  # a fetch process that says nothing for so long is taken for dead
DEATHS_IN_A_ROW = 5
# One thread each, since there is a pair of children a core; and an allocator that keeps the megabytes of one picture for the
# next instead of asking the kernel for fresh pages each time (0.5 ms of system time an image).
CHILD_ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": "33554432",
    "MALLOC_TRIM_THRESHOLD_": "67108864",
}


class Child:
    """A child process with its channel."""

    def __init__(self, role: str, ring_fd: int, ring_size: int, first: tuple[Any, ...], *more: str) -> None:
        ours, theirs = socket.socketpair()
        command = "from wit.fetch.child import main; main()"
        fds = (theirs.fileno(), ring_fd)
        self.process = subprocess.Popen(
            [sys.executable, "-c", command, role, str(fds[0]), str(fds[1]), str(ring_size), *more],
            pass_fds=fds,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            env=os.environ | CHILD_ENVIRONMENT | {"PYTHONPATH": os.pathsep.join(p or "." for p in sys.path)},
        )
        theirs.close()
        self.channel = Channel(ours)
        self.channel.send(first)
        self.heard = time.monotonic()

    def stop(self) -> None:
        """Closes the channel, which ends a sound child; kills one that does not end."""
        self.channel.close()
        try:
            self.process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@dataclass(slots=True)
class Decoding:
    """A body in shared memory that waits for its decoder."""

    outcome: Outcome
    spool: str
    crashes: int = 0


class Engine:
    """`submit` requests, `poll` outcomes; use as a context manager."""

    def __init__(
        self,
        fetch: FetchConfig,
        image: ImageConfig,
        *,
        robots: dict[str, Any] | None = None,
        work: str = "wit.images:process",
    ) -> None:
        self.fetch, self.image, self.work = fetch, image, work
        self.robots = robots or {}  # origin -> {"fetched", "text"}: grows as hosts are met
        self.ring_size = max(RING_BYTES, fetch.max_body_bytes * 5 // 4)
        self.ring_fd = create_segment(self.ring_size)
        self.selector = selectors.DefaultSelector()
        self.fetching: dict[int, Request] = {}
        self.decoding: deque[Decoding] = deque()
        self.sent = 0  # how many of the first in `decoding` the decoder has
        self.head_since = 0.0
        self.deaths = {"fetch": 0, "decode": 0}
        self.finished: list[Outcome] = []
        self.fetcher: Child | None = self._start_fetcher()
        self.decoder = self._start_decoder()
        self.decoder_ready = False

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for child in (self.fetcher, self.decoder):
            if child is not None:
                child.channel.close()
        for child in (self.fetcher, self.decoder):
            if child is not None:
                child.stop()
        self.selector.close()
        os.close(self.ring_fd)

    @property
    def pending(self) -> int:
        """Requests that have no outcome yet."""
        return len(self.fetching) + len(self.decoding)

    def submit(self, requests: Sequence[Request]) -> None:
        self.fetching.update((request.id, request) for request in requests)
        if self.fetcher is not None:
            self.fetcher.channel.send(("fetch", [(r.id, r.url) for r in requests]))
            self._watch(self.fetcher)

    def forget_failures(self) -> None:
        """Closed breakers, unreachable robots.txt and failed names get a new chance: after an outage of ours."""
        if self.fetcher is not None:
            self.fetcher.channel.send(("forget failures",))

    def poll(self, timeout_s: float) -> list[Outcome]:
        """Outcomes that have come since, waiting for the first at most so long."""
        for key, _ in self.selector.select(timeout_s):
            self._serve(key.data)
        self._check_deadlines()
        if self.fetcher is None and not self.decoding:
            self._replace_fetcher()
        self._flush()
        finished, self.finished = self.finished, []
        return finished

    # --- messages ------------------------------------------------------------------------------------------------------

    def _serve(self, child: Child) -> None:
        child.channel.flush()
        for message in child.channel.receive():
            child.heard = time.monotonic()
            if message[0] == "outcome":
                self._fetched(message[1])
            elif message[0] == "robots":
                self.robots[message[1]] = message[2]
            elif message[0] == "decoded":
                self._decoded(*message[1:])
            elif message[0] == "ready":
                self.decoder_ready = True
                self.head_since = time.monotonic()
        if child.channel.closed:
            self._died(child)
        elif child is self.fetcher:
            self._watch(child)

    def _flush(self) -> None:
        """Sends what this turn has posted."""
        if self.decoder.channel.backlog:
            self.decoder.channel.flush()
        if self.fetcher is not None and self.fetcher.channel.backlog:
            self.fetcher.channel.flush()
            self._watch(self.fetcher)

    def _watch(self, child: Child) -> None:
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if child.channel.backlog else 0)
        self.selector.modify(child.channel.fileno(), events, child)

    def _fetched(self, outcome: Outcome) -> None:
        request = self.fetching.pop(outcome.id)
        self.deaths["fetch"] = 0
        if outcome.reason is not None:
            self.finished.append(outcome)
            return
        self.decoding.append(Decoding(outcome, request.spool))
        self._feed_decoder()

    def _feed_decoder(self) -> None:
        while self.sent < min(SENT_AHEAD, len(self.decoding)):
            if not self.sent:
                self.head_since = time.monotonic()
            waiting = self.decoding[self.sent]
            outcome = waiting.outcome
            self.decoder.channel.post(("decode", outcome.id, outcome.region, outcome.bytes, waiting.spool))
            self.sent += 1

    def _decoded(self, id: int, result: Processed | Refused, spool_offset: int, spool_size: int) -> None:
        self.deaths["decode"] = 0
        outcome = self._take_head()
        assert outcome.id == id, "the decoder answers in order"
        if isinstance(result, Refused):
            outcome.reason, outcome.detail = result.reason, result.detail
        else:
            outcome.picture, outcome.spool_offset, outcome.spool_size = result, spool_offset, spool_size
        self.finished.append(outcome)
        self._feed_decoder()

    def _take_head(self) -> Outcome:
        """The picture that the decoder was at, its shared memory given back."""
        outcome = self.decoding.popleft().outcome
        self.sent -= 1
        self.head_since = time.monotonic()
        if self.fetcher is not None:
            self.fetcher.channel.post(("free", outcome.region))
        return outcome

    # --- deaths --------------------------------------------------------------------------------------------------------

    def _check_deadlines(self) -> None:
        now = time.monotonic()
        if self.sent and self.decoder_ready and now - self.head_since > self.image.decode_timeout_s:
            outcome = self._take_head()
            outcome.reason = Reason.DECODER_TIMEOUT
            self.finished.append(outcome)
            self.decoder.kill()
            self._replace_decoder()
        if not self.decoder_ready and now - self.decoder.heard > SILENCE_S:
            self.decoder.kill()
        if self.fetcher is not None and now - self.fetcher.heard > SILENCE_S:
            self.fetcher.kill()

    def _died(self, child: Child) -> None:
        role = "fetch" if child is self.fetcher else "decode"
        child.kill()
        self.deaths[role] += 1
        if self.deaths[role] > DEATHS_IN_A_ROW:
            raise EngineError(f"the {role} process died {self.deaths[role]} times in a row: see its messages above")
        if role == "decode":
            self._blame_head()
            self._replace_decoder()
            return
        self.selector.unregister(child.channel.fileno())
        child.channel.close()
        self.fetcher = None  # replaced when the decoder has emptied the ring

    def _blame_head(self) -> None:
        if not self.sent or not self.decoder_ready:
            return
        self.decoding[0].crashes += 1
        if self.decoding[0].crashes > 1:
            outcome = self._take_head()
            outcome.reason = Reason.DECODER_CRASHED
            self.finished.append(outcome)
            self.deaths["decode"] = 0

    def _replace_decoder(self) -> None:
        self.selector.unregister(self.decoder.channel.fileno())
        self.decoder.channel.close()
        self.sent, self.decoder_ready = 0, False
        self.decoder = self._start_decoder()
        self._feed_decoder()

    def _replace_fetcher(self) -> None:
        self.fetcher = self._start_fetcher()
        lost = list(self.fetching.values())
        self.fetcher.channel.send(("fetch", [(request.id, request.url) for request in lost]))
        self._watch(self.fetcher)

    def _start_fetcher(self) -> Child:
        child = Child("fetch", self.ring_fd, self.ring_size, (self.fetch, self.robots))
        self.selector.register(child.channel.fileno(), selectors.EVENT_READ, child)
        return child

    def _start_decoder(self) -> Child:
        child = Child("decode", self.ring_fd, self.ring_size, (self.image,), self.work)
        self.selector.register(child.channel.fileno(), selectors.EVENT_READ, child)
        return child
