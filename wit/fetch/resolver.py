"""Names to addresses: c-ares on a thread of its own, answers cached, never two questions at a time for one name."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import pycares

from wit.fetch.config import FetchConfig
from wit.reasons import Reason

MIN_TTL_S, MAX_TTL_S = 60, 3600
NOT_FOUND_TTL_S, FAILED_TTL_S = 300, 5
NOT_FOUND = (pycares.errno.ARES_ENOTFOUND, pycares.errno.ARES_ENODATA, pycares.errno.ARES_EBADNAME)
RESERVED = ("example", "invalid", "test")  # RFC 6761: no public server knows these, so none is asked
MAX_NAMES = 100_000  # cached at most; the oldest go


@dataclass(frozen=True, slots=True)
class Answer:
    """Addresses, with a port that overrides the URL's (0: none does); or the Reason why there are none."""

    addresses: tuple[str, ...] = ()
    port: int = 0
    reason: Reason | None = None


@dataclass(slots=True)
class _Cached:
    answer: Answer
    until: float


class Resolver:
    """`lookup` calls back at once if the answer is cached. If not, `deliver` does, which the event loop calls when `fileno` is
    readable."""

    def __init__(self, config: FetchConfig) -> None:
        self.endpoints = {host: (address, port) for host, address, port in config.endpoints}
        self._cache: dict[str, _Cached] = {}
        self._asked: dict[str, list[Callable[[Answer], None]]] = {}
        self._arrived: deque[tuple[str, object, int | None]] = deque()
        self._read_fd, self._write_fd = os.pipe()
        os.set_blocking(self._read_fd, False)
        os.set_blocking(self._write_fd, False)
        self.asks_own_servers = bool(config.nameservers)
        servers = list(config.nameservers) or None
        self._channel = pycares.Channel(timeout=2, tries=3, servers=servers, flags=pycares.ARES_FLAG_NOSEARCH)

    def fileno(self) -> int:
        return self._read_fd

    def lookup(self, host: str, done: Callable[[Answer], None]) -> None:
        """Calls `done` with the answer for a host name or a literal address (IPv6 in brackets)."""
        if host in self.endpoints:
            address, port = self.endpoints[host]
            return done(Answer((address,), port))
        if _is_literal(host):
            return done(Answer((host.strip("[]"),)))
        if host.rstrip(".").rpartition(".")[2] in RESERVED and not self.asks_own_servers:
            return done(Answer(reason=Reason.DNS_NOT_FOUND))
        cached = self._cache.get(host)
        if cached and cached.until > time.monotonic():
            return done(cached.answer)
        if host in self._asked:
            self._asked[host].append(done)
            return None
        self._channel.getaddrinfo(host, None, type=1, callback=lambda result, error: self._arrive(host, result, error))
        self._asked[host] = [done]  # the answer waits for `deliver`
        return None

    def _arrive(self, host: str, result: object, error: int | None) -> None:
        """Runs on c-ares' thread."""
        self._arrived.append((host, result, error))
        with contextlib.suppress(BlockingIOError):  # the pipe is full of wake-ups already
            os.write(self._write_fd, b"!")

    def forget_failures(self) -> None:
        self._cache = {host: cached for host, cached in self._cache.items() if cached.answer.addresses}

    def deliver(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._read_fd, 65_536)
        while self._arrived:
            host, result, error = self._arrived.popleft()
            answer, ttl = _answer(result, error)
            if len(self._cache) >= MAX_NAMES:
                del self._cache[next(iter(self._cache))]
            self._cache[host] = _Cached(answer, time.monotonic() + ttl)
            for done in self._asked.pop(host, ()):
                done(answer)


def _answer(result: object, error: int | None) -> tuple[Answer, float]:
    if error is None and isinstance(result, pycares.AddrInfoResult):
        nodes = [node for node in result.nodes if node.addr]
        addresses = tuple(dict.fromkeys(_text(node.addr[0]) for node in nodes))
        if addresses:
            ttl = min((node.ttl for node in nodes), default=MIN_TTL_S)
            return Answer(addresses), min(max(ttl, MIN_TTL_S), MAX_TTL_S)
        return Answer(reason=Reason.DNS_NOT_FOUND), NOT_FOUND_TTL_S
    if error in NOT_FOUND:
        return Answer(reason=Reason.DNS_NOT_FOUND), NOT_FOUND_TTL_S
    return Answer(reason=Reason.DNS_FAILED), FAILED_TTL_S


def _text(address: str | bytes) -> str:
    return address.decode() if isinstance(address, bytes) else address


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True
