"""The supervisor of one fetch process and one decode process: every request gets its outcome, whichever process dies in between.

Messages travel several at a time, so that a picture costs a fraction of a wake-up. So it is shared memory, not messages, that
tells which picture the decode process was at when it died. A decoder that crashes is replaced and its picture tried once more,
since a stray SIGKILL is not the picture's fault; a second crash, or a missed deadline, is that picture's Reason. A fetch process
that dies is replaced, and its requests in flight are sent again, except one that it died of twice.
"""

from __future__ import annotations

import errno
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from wit.bounded import Bounded
from wit.errors import EngineError
from wit.fetch.channel import Channel
from wit.fetch.config import FetchConfig
from wit.fetch.outcome import Outcome, Request
from wit.fetch.ring import DECODED, FETCHING, USUAL_BYTES, create_segment, map_segment, progress_of
from wit.fetch.spool import Spool, Spools
from wit.images.config import ImageConfig
from wit.images.results import Processed, Refused
from wit.reasons import Reason
from wit.store import fs

SENT_AHEAD = 16  # pictures that a decoder holds ahead, so that it never waits for us
SILENCE_S = 60  # a fetch process that says nothing for so long is taken for dead
DEATHS_IN_A_ROW = 5
LOST_MAX = 6  # a request in flight at this many deaths of fetch processes is taken for one of their causes
KNOWN_BYTES = 32_000_000  # of robots.txt, and of hosts' wishes, kept for the next fetch process
# One thread for each child, since there is a pair of them a core. And an allocator that keeps the megabytes of one picture for
# the next: fresh pages from the kernel cost 0.5 ms of system time an image.
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
        """Closes the channel, which ends a sound child; kills a child that goes on for another second."""
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
    expected: str = ""  # hash, from the request
    spool: Spool | None = None  # None until the body is sent to the decoder
    crashes: int = 0


def refused(number: int, place: str) -> OSError:
    """The error of the disk that a child process met, as one of this process."""
    return OSError(number, os.strerror(number), place)


Known = dict[str, dict[str, Any]]  # what servers said, as JSON: "robots" by origin, "hosts" by host


class Engine:
    """`submit` requests, `poll` outcomes; use it as a context manager. An outcome's picture lies in a spool in the directory
    `scratch`; whoever has read it calls `spools.release`. `places` is the file in which all engines of a job on this machine
    count their requests (`wit.fetch.places`); without one this engine counts alone."""

    def __init__(
        self,
        fetch: FetchConfig,
        image: ImageConfig,
        scratch: str,
        *,
        known: Known | None = None,
        places: str = "",
        work: str = "wit.images.process:process",
    ) -> None:
        self.fetch, self.image, self.work = fetch, image, work
        self.spools = Spools(scratch)
        self.places = places or fs.join(scratch, "places")
        self._robots: Bounded[str, Any] = Bounded(KNOWN_BYTES, lambda entry: 300 + len(entry["text"]))
        self._hosts: Bounded[str, Any] = Bounded(KNOWN_BYTES, lambda entry: 500)
        for kept, entries in (
            (self._robots, (known or {}).get("robots", {})),
            (self._hosts, (known or {}).get("hosts", {})),
        ):
            for name, entry in entries.items():
                kept.put(name, entry)
        self.learnt = 0  # how often something was added to `known`
        self.ring_size = max(USUAL_BYTES, fetch.max_body_bytes * 5 // 4) // 8 * 8
        self.ring_fd = create_segment(self.ring_size)
        self.progress = progress_of(map_segment(self.ring_fd, self.ring_size))
        self.selector = selectors.DefaultSelector()
        self.fetching: dict[int, Request] = {}
        self.recalled = False
        self.decoding: deque[Decoding] = deque()
        self.sent = 0  # the decoder has this many of `decoding`, the first ones
        self.answered = 0  # by this decoder
        self.seen, self.seen_since = 0, 0.0  # the decoder's progress, and since when it stands there
        self.deaths = {"fetch": 0, "decode": 0}
        self.blamed: Counter[int] = Counter()  # by request: deaths of fetch processes while they worked at it
        self.lost: Counter[int] = Counter()  # by request: deaths of fetch processes while it was in flight
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
        self.spools.close()
        os.close(self.ring_fd)

    @property
    def known(self) -> Known:
        """What servers have said so far: robots.txt, crawl delays, times to come back."""
        return {"robots": dict(self._robots.items()), "hosts": dict(self._hosts.items())}

    @property
    def pending(self) -> int:
        """Requests that have no outcome yet."""
        return len(self.fetching) + len(self.decoding)

    def submit(self, requests: Sequence[Request]) -> None:
        self.fetching.update((request.id, request) for request in requests)
        if self.fetcher is not None:
            self.fetcher.channel.send(("fetch", [(r.id, r.url, r.domain) for r in requests]))
            self._watch(self.fetcher)

    def recall(self) -> None:
        """Takes back every request that was not sent yet: it gets no outcome. For the end of an engine; called again, nothing."""
        if not self.recalled and self.fetcher is not None:
            self.fetcher.channel.send(("recall",))
            self._watch(self.fetcher)
        self.recalled = True

    def forget_failures(self) -> None:
        """Gives hosts left alone, unreachable robots.txt and failed names a new chance, after an outage of ours."""
        if self.fetcher is not None:
            self.fetcher.channel.send(("forget failures",))

    def poll(self, timeout_s: float) -> list[Outcome]:
        """The outcomes since the last call; waits at most `timeout_s` for one. Raises EngineError; OSError for a full disk."""
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
            elif message[0] in ("robots", "wish"):
                (self._robots if message[0] == "robots" else self._hosts).put(message[1], message[2])
                self.learnt += 1
            elif message[0] == "recalled":
                self.fetching.pop(message[1], None)
            elif message[0] == "decoded":
                self._decoded(*message[1:])
            elif message[0] == "unwritten":
                raise refused(message[1], os.path.dirname(self.spools.directory))
            elif message[0] == "ready":
                self.decoder_ready = True
                self.seen_since = time.monotonic()
        if child.channel.closed:
            self._died(child)
        elif child is self.fetcher:
            self._watch(child)

    def _flush(self) -> None:
        """Sends the messages that this turn has posted."""
        for child in (self.decoder, self.fetcher):
            if child is not None and child.channel.backlog:
                child.channel.flush()
                self._watch(child)

    def _watch(self, child: Child) -> None:
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if child.channel.blocked else 0)
        if self.selector.get_key(child.channel.fileno()).events != events:
            self.selector.modify(child.channel.fileno(), events, child)

    def _fetched(self, outcome: Outcome) -> None:
        request = self.fetching.pop(outcome.id, None)
        if request is None:
            return  # blamed already, for the death of the process that sent this
        self.deaths["fetch"] = 0
        self.lost.pop(outcome.id, None)
        if outcome.reason is not None:
            self.finished.append(outcome)
            return
        self.decoding.append(Decoding(outcome, request.expected))
        self._feed_decoder()

    def _feed_decoder(self) -> None:
        if not self.sent:  # the decoder was idle: its time begins now
            self.seen_since = time.monotonic()
        while self.sent < min(SENT_AHEAD, len(self.decoding)):
            waiting = self.decoding[self.sent]
            outcome = waiting.outcome
            spool = waiting.spool = waiting.spool or self.spools.hold()
            place = (outcome.region, outcome.bytes, spool.path, spool.loan, spool.end)
            self.decoder.channel.post(("decode", outcome.id, waiting.expected, *place))
            self.sent += 1

    def _decoded(self, id: int, result: Processed | Refused, spool_offset: int, spool_size: int) -> None:
        self.deaths["decode"] = 0
        self.answered += 1
        outcome, spool = self.decoding[0].outcome, self.decoding[0].spool
        assert outcome.id == id and spool is not None, "the decoder answers in order"
        if isinstance(result, Refused):
            outcome.reason, outcome.detail = result.reason, result.detail
        else:
            outcome.picture, outcome.spool = result, spool
            outcome.spool_offset, outcome.spool_size = spool_offset, spool_size
            spool.end = spool_offset + spool_size
        self._finish(0)
        self._feed_decoder()

    def _finish(self, index: int) -> None:
        """Hands out the outcome of a picture that the decoder had, and frees its shared memory."""
        outcome, spool = self.decoding[index].outcome, self.decoding[index].spool
        del self.decoding[index]
        self.sent -= 1
        if spool is not None and outcome.picture is None:
            self.spools.release(spool)
        if self.fetcher is not None:
            self.fetcher.channel.post(("free", outcome.region))
        self.finished.append(outcome)

    # --- deaths --------------------------------------------------------------------------------------------------------

    def _check_deadlines(self) -> None:
        now, progress = time.monotonic(), self.progress[DECODED]
        if not self.sent or not self.decoder_ready or progress != self.seen:
            self.seen, self.seen_since = progress, now
        elif now - self.seen_since > self.image.decode_timeout_s:
            index = max(self._at_work(), 0)
            self.decoding[index].outcome.reason = Reason.DECODER_TIMEOUT
            self._finish(index)
            self.decoder.kill()
            self._replace_decoder()
        if not self.decoder_ready and now - self.decoder.heard > SILENCE_S:
            self.decoder.kill()
        if self.fetcher is not None and now - self.fetcher.heard > SILENCE_S:
            self.fetcher.kill()

    def _died(self, child: Child) -> None:
        role = "fetch" if child is self.fetcher else "decode"
        child.kill()
        # SIGBUS: the disk has no room for a mapped page.
        if role == "fetch" and child.process.returncode == -signal.SIGBUS:
            raise refused(errno.ENOSPC, os.path.dirname(self.places))
        self.deaths[role] += 1
        if role == "fetch":
            self._blame_request()
        if self.deaths[role] > DEATHS_IN_A_ROW:
            raise EngineError(f"the {role} process died {self.deaths[role]} times in a row: see its messages above")
        if role == "decode":
            self._blame(self._at_work())
            self._replace_decoder()
            return
        self.selector.unregister(child.channel.fileno())
        child.channel.close()
        self.fetcher = None  # replaced when the decoder has emptied the ring

    def _blame_request(self) -> None:
        """Ends the request that a fetch process has died at twice, and requests that were in flight at LOST_MAX deaths."""
        at, self.progress[FETCHING] = self.progress[FETCHING] - 1, 0
        if at < 0:
            return  # it died before any request: a broken installation
        self.lost.update(self.fetching.keys())
        self.blamed[at] += 1
        guilty = [id for id in self.fetching if self.blamed[id] > 1 or self.lost[id] >= LOST_MAX]
        for id in guilty:
            del self.fetching[id]
            self.finished.append(Outcome(id, Reason.FETCHER_CRASHED, "died", started=time.time()))
            self.deaths["fetch"] = 0

    def _at_work(self) -> int:
        """The place in `decoding` of the picture that the decoder is at; -1 if it has answered for the last one it began."""
        return self.progress[DECODED] - self.answered - 1

    def _blame(self, index: int) -> None:
        if index < 0:
            return
        self.decoding[index].crashes += 1
        if self.decoding[index].crashes > 1:
            self.decoding[index].outcome.reason = Reason.DECODER_CRASHED
            self._finish(index)
            self.deaths["decode"] = 0

    def _replace_decoder(self) -> None:
        self.selector.unregister(self.decoder.channel.fileno())
        self.decoder.channel.close()
        self.sent, self.decoder_ready = 0, False
        self.decoder = self._start_decoder()
        self._feed_decoder()

    def _replace_fetcher(self) -> None:
        if self.recalled:  # what it had sent is lost with it, and nobody wants the rest
            self.fetching.clear()
            return
        self.fetcher = self._start_fetcher()
        lost = list(self.fetching.values())
        self.fetcher.channel.send(("fetch", [(r.id, r.url, r.domain) for r in lost]))
        self._watch(self.fetcher)

    def _start_fetcher(self) -> Child:
        child = Child("fetch", self.ring_fd, self.ring_size, (self.fetch, self.known, self.places))
        self.selector.register(child.channel.fileno(), selectors.EVENT_READ, child)
        return child

    def _start_decoder(self) -> Child:
        self.progress[DECODED] = self.answered = 0
        child = Child("decode", self.ring_fd, self.ring_size, (self.image,), self.work)
        self.selector.register(child.channel.fileno(), selectors.EVENT_READ, child)
        return child
