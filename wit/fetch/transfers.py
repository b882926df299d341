"""Requests in flight: libcurl's multi interface under our own limits on headers, bodies, memory and addresses."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import certifi
import pycurl

from wit.fetch.addresses import is_refused
from wit.fetch.config import FetchConfig
from wit.fetch.headers import Headers, last, opt_out
from wit.fetch.lanes import Lane
from wit.fetch.origins import Job, Origin
from wit.reasons import Reason

ERROR_BODY_BYTES = 65_536  # bodies of error pages are read up to here to keep the connection, then cut
BODY_BUDGET_BYTES = 96_000_000  # bodies in memory; above it all but one transfer pause
IDLE_CONNECTIONS = 256
BUFFER_BYTES = 131_072


@dataclass(slots=True)
class Transfer:
    """One request in flight, and how far it has come."""

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


class Transfers:
    """Starts requests and says which are `over`. `watch(fd, what)` hears which sockets libcurl waits for, `answered` of the
    first line of an answer."""

    def __init__(
        self, config: FetchConfig, *, watch: Callable[[int, int], None], answered: Callable[[Transfer], None]
    ) -> None:
        self.config = config
        self.requests = self.bytes = 0  # so far
        self._held = 0  # bytes of bodies in memory, those not yet handed over included
        self.due: float | None = None  # when libcurl wants `on_timer` (monotonic seconds)
        self._answered = answered
        self._transfers: dict[Any, Transfer] = {}
        self._spare: list[Any] = []
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, lambda what, fd, multi, data: watch(fd, what))
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._set_timer)
        self._multi.setopt(pycurl.M_MAXCONNECTS, IDLE_CONNECTIONS)
        self._ca = config.ca_file or certifi.where()

    def __len__(self) -> int:
        return len(self._transfers)

    def __iter__(self) -> Iterator[Transfer]:
        return iter(self._transfers.values())

    @property
    def full(self) -> bool:
        """Whether no more bodies fit into memory."""
        return self._held >= BODY_BUDGET_BYTES

    def on_socket(self, fd: int, events: int) -> None:
        self._multi.socket_action(fd, events)

    def on_timer(self) -> None:
        self.due = None
        self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)

    def start(self, transfer: Transfer, address: str, port: int) -> None:
        """Requests `transfer.job.target` from an address that may be connected to."""
        self.requests += 1
        easy = transfer.easy = self._spare.pop() if self._spare else self._new_easy()
        self._configure(easy, transfer, address, port)
        self._transfers[easy] = transfer
        self._multi.add_handle(easy)

    def over(self) -> Iterator[tuple[Transfer, int, str]]:
        """The transfers that have ended, with libcurl's error code (0: none) and its words."""
        more = 1
        while more:
            more, done, failed = self._multi.info_read()
            for easy, code, words in [(easy, 0, "") for easy in done] + failed:
                self._multi.remove_handle(easy)
                self._spare.append(easy)
                yield self._transfers.pop(easy), code, words

    def let_go(self, size: int) -> None:
        """So many bytes of bodies have left this process' memory."""
        self._held -= size
        if not self.full:
            for transfer in self._transfers.values():
                if transfer.paused:
                    transfer.paused = False
                    transfer.easy.pause(pycurl.PAUSE_CONT)

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
        self.bytes += len(chunk)
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
        return self.full and any(t is not transfer and t.chunks and not t.paused for t in self._transfers.values())

    def _set_timer(self, timeout_ms: int) -> None:
        self.due = None if timeout_ms < 0 else time.monotonic() + timeout_ms / 1000


def text_of(value: bytes) -> str:
    """Header bytes as text: UTF-8 where they are that, else Latin-1 (RFC 9110 section 5.5)."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")
