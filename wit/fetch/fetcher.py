"""The fetch process: an event loop around `Client`. Bodies go to shared memory; only their places go to the supervisor."""

from __future__ import annotations

import selectors
import sys
import time
import traceback
from collections import deque
from typing import Any

import pycurl

from wit.errors import InputError
from wit.fetch import limits
from wit.fetch.channel import Channel
from wit.fetch.client import Client
from wit.fetch.config import FetchConfig
from wit.fetch.outcome import Outcome
from wit.fetch.places import Places
from wit.fetch.ring import FETCHING, USUAL_BYTES, WAITING, Ring, map_segment, progress_of
from wit.fetch.robots import Robots, from_json, to_json
from wit.fetch.wishes import Wishes
from wit.store import fs

TICK_S = 0.25
BEAT_S = 1.0  # how often the supervisor hears that this process is alive
LIMITS_S, LIMITS_REMOTE_S = 5.0, 60.0  # how often --host-limits is read again
SHOWN_FAULTS = 3  # faults of ours that go to the terminal; all are counted under their Reason


class Fetcher:
    """Messages in: ("fetch", [(id, url, domain)...]), ("free", offset), ("forget failures",), ("recall",).
    Messages out: ("outcome", Outcome), ("robots", origin, entry), ("wish", host, entry), ("beat",)."""

    def __init__(self, channel: Channel, ring_fd: int, ring_size: int) -> None:
        self.channel = channel
        self.selector = selectors.DefaultSelector()
        self.memory = map_segment(ring_fd, ring_size)
        self.progress = progress_of(self.memory)
        self.ring = Ring(ring_size, USUAL_BYTES)
        self.undelivered: deque[tuple[Outcome, list[bytes]]] = deque()
        self.watched: dict[int, int] = {}
        self.faults = 0
        self.limits_text = ""

    def run(self, config: FetchConfig, known: dict[str, Any], places: str) -> None:
        """Fetches until the supervisor closes the channel. `known` is what earlier processes learnt about servers, `places` the
        file of `wit.fetch.places`."""
        self.config = config
        self.client = Client(
            config,
            watch=self.watch,
            report=self.deliver,
            report_robots=self.tell_robots,
            report_wish=self.tell_wish,
            give_back=self.give_back,
            at=self.at,
            crashed=self.show,
            known_robots=from_json(known["robots"], config.user_agent),
            wishes=Wishes(known["hosts"]),
            places=Places(places),
        )
        self.read_limits()
        self.selector.register(self.channel.fileno(), selectors.EVENT_READ, "channel")
        self.selector.register(self.client.resolver.fileno(), selectors.EVENT_READ, "resolver")
        next_tick = next_beat = 0.0
        next_limits = time.monotonic() + self.limits_every_s()
        self.serve_channel(selectors.EVENT_READ)  # what came together with the configuration
        while not self.channel.closed:
            due = (self.client.next_due(), self.client.transfers.due, self.channel.due)
            self.turn(min([next_tick, *(at for at in due if at is not None)]))
            now = time.monotonic()
            if now >= next_tick:
                self.client.tick()
                next_tick = now + TICK_S
            if now >= next_limits:
                self.read_limits()
                next_limits = now + self.limits_every_s()
            if now >= next_beat:
                self.channel.send(("beat",))
                next_beat = now + BEAT_S

    def limits_every_s(self) -> float:
        return LIMITS_S if fs.is_local(self.config.host_limits) else LIMITS_REMOTE_S

    def read_limits(self) -> None:
        """Applies --host-limits if the file has changed; one that cannot be read, or is malformed, changes nothing."""
        path = self.config.host_limits
        if not path:
            return
        try:
            text = limits.read_text(path)
        except InputError as error:
            text = str(error)
        if text == self.limits_text:
            return
        self.limits_text = text
        try:
            self.client.take_limits(limits.read(path))
        except InputError as error:
            print(f"{error}; what it said before goes on", file=sys.stderr)

    def at(self, id: int) -> None:
        """Notes which request is being worked at, should this process die of it."""
        self.progress[FETCHING] = id + 1

    def show(self, error: Exception) -> None:
        """Prints a fault of ours (the first SHOWN_FAULTS): tables blame the request, but the maker should hear of it."""
        self.faults += 1
        if self.faults <= SHOWN_FAULTS:
            print("".join(traceback.format_exception(error)), file=sys.stderr)

    def turn(self, until: float) -> None:
        """Waits for sockets, at most until `until` (monotonic seconds), and serves them."""
        for key, mask in self.wait(max(0.0, until - time.monotonic())):
            if key.data == "channel":
                self.serve_channel(mask)
            elif key.data == "resolver":
                self.client.resolver.deliver()
            else:
                self.client.transfers.on_socket(key.fd, curl_events(mask))
        due = self.client.transfers.due
        if due is not None and due <= time.monotonic():
            self.client.transfers.on_timer()
        self.client.pump()
        if self.channel.ripe():
            self.channel.flush()
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if self.channel.blocked else 0)
        if self.selector.get_key(self.channel.fileno()).events != wanted:
            self.selector.modify(self.channel.fileno(), wanted, "channel")

    def wait(self, seconds: float) -> list[tuple[selectors.SelectorKey, int]]:
        """Waits for sockets. Should this process be killed meanwhile, no request is blamed for it."""
        at = self.progress[FETCHING]
        self.progress[FETCHING] = WAITING if at else 0
        ready = self.selector.select(seconds)
        self.progress[FETCHING] = at  # if libcurl crashes now, it is likely by this one
        return ready

    def serve_channel(self, mask: int) -> None:
        if mask & selectors.EVENT_WRITE:
            self.channel.flush()
        for message in self.channel.receive():
            if message[0] == "fetch":
                for id, url, domain in message[1]:
                    self.client.submit(id, url, domain)
            elif message[0] == "free":
                self.ring.free(message[1])
                self.deliver_waiting()
            elif message[0] == "forget failures":
                self.client.forget_failures()
            elif message[0] == "recall":
                self.client.recall()

    def watch(self, fd: int, what: int) -> None:
        """Watches one of libcurl's sockets as libcurl asks."""
        if what == pycurl.POLL_REMOVE:
            if self.watched.pop(fd, None) is not None:
                self.selector.unregister(fd)
            return
        mask = (selectors.EVENT_READ if what & pycurl.POLL_IN else 0) | (
            selectors.EVENT_WRITE if what & pycurl.POLL_OUT else 0
        )
        if not mask:
            return
        if fd in self.watched:
            if self.watched[fd] != mask:
                self.selector.modify(fd, mask)
        else:
            self.selector.register(fd, mask)
        self.watched[fd] = mask

    def deliver(self, outcome: Outcome, chunks: list[bytes]) -> None:
        """Hands an outcome to the supervisor, its body through the ring; while the ring is full, it waits in line."""
        if outcome.reason is None:
            self.undelivered.append((outcome, chunks))
            self.deliver_waiting()
        else:
            self.channel.post(("outcome", outcome))

    def deliver_waiting(self) -> None:
        while self.undelivered:
            outcome, chunks = self.undelivered[0]
            offset = self.ring.allocate(outcome.bytes)
            if offset is None:
                break
            self.undelivered.popleft()
            at = offset
            for chunk in chunks:
                self.memory[at : at + len(chunk)] = chunk
                at += len(chunk)
            outcome.region = offset
            self.channel.post(("outcome", outcome))
            self.client.transfers.let_go(outcome.bytes)
        self.client.turns.held_back = bool(self.undelivered)

    def tell_robots(self, origin: str, rules: Robots) -> None:
        if (entry := to_json(rules, self.config.user_agent)) is not None:
            self.channel.post(("robots", origin, entry))

    def give_back(self, id: int) -> None:
        self.channel.post(("recalled", id))

    def tell_wish(self, host: str) -> None:
        self.channel.post(("wish", host, self.client.wishes.to_json(host)))


def curl_events(mask: int) -> int:
    return (pycurl.CSELECT_IN if mask & selectors.EVENT_READ else 0) | (
        pycurl.CSELECT_OUT if mask & selectors.EVENT_WRITE else 0
    )
