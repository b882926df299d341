"""Requests in flight: libcurl's multi interface under our own limits on headers, bodies, memory and addresses."""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import certifi
import pycurl

from wit.fetch.addresses import is_refused
from wit.fetch.config import FetchConfig
from wit.fetch.headers import Headers, content_length, opt_out
from wit.fetch.lanes import Three
from wit.fetch.origins import Job, Origin
from wit.reasons import Reason

ERROR_BODY_BYTES = 65_536  # bodies of error pages are read up to here, to keep the connection, then broken off
ERROR_BODY_S = 1.0  # and for so long: only their status matters
BODY_BUDGET_BYTES = 96_000_000  # bodies in memory; above it all but one transfer pause
SLOW_BYTES, SLOW_S = 65_536, 1.0  # while memory is full, a body that gains less in that time is broken off
IDLE_CONNECTIONS = 256
BUFFER_BYTES = 131_072
SUPPRESS_CONNECT_HEADERS = 265  # libcurl's option, unnamed in pycurl: a proxy's answer is not the server's
LOOK_EVERY = (
    8  # reads of a socket (3 MB each on loopback) between two looks at its bytes; a read without callback is one too
)
BYTES_RECEIVED = 128  # offset of tcpi_bytes_received in Linux' struct tcp_info
WIRE_FACTOR, WIRE_EXTRA_BYTES = 1.1, 1_000_000  # TLS records, chunk sizes, frames


@dataclass(slots=True)
class Transfer:
    """One request in flight, and how far it has come."""

    job: Job
    origin: Origin
    lanes: Three
    places: tuple[int, ...]
    began: float
    easy: Any = None
    headers: Headers = field(default_factory=list)
    header_bytes: int = 0
    status: int = 0
    headed: float = 0.0  # when the headers of the final answer ended (monotonic seconds)
    chunks: list[bytes] = field(default_factory=list)
    received: int = 0  # of the body, decoded
    moved: float = 0.0  # when it had last gained SLOW_BYTES,
    moved_at: int = 0  # and how many it had then
    wire_bytes: int = 0  # received for it, before anything is decoded
    sent: bool = False  # whether the request was sent, or is about to be
    stale: bool = False  # whether its connection had died before
    untried: bool = False  # to an origin that has not answered yet
    verdict: Reason | None = None  # why we broke off
    words: str = ""  # about the verdict
    paused: bool = False
    limit: int = 0


Callback = Callable[["Transfers", Transfer, Any], Any]


def blamed(callback: Callback) -> Callback:
    """The callback, changed so that an exception in it becomes the transfer's verdict: libcurl would print it and go on."""

    @functools.wraps(callback)
    def guarded(self: Transfers, transfer: Transfer, what: Any) -> Any:
        try:
            return callback(self, transfer, what)
        except Exception as error:  # if our code trips over a stranger's bytes, it costs their request alone
            transfer.verdict, transfer.words = Reason.FETCHER_CRASHED, f"{type(error).__name__}: {error}"
            self.crashed(error)
            return -1

    return guarded


class Transfers:
    """Starts requests and tells which are `over`. It calls `watch(fd, what)` for sockets that libcurl waits for, `answered` at
    the first line of an answer, `crashed` for a fault of ours, and `at` with the job that is being worked at."""

    def __init__(
        self,
        config: FetchConfig,
        *,
        watch: Callable[[int, int], None],
        answered: Callable[[Transfer], None],
        crashed: Callable[[Exception], None],
        at: Callable[[Job], None],
    ) -> None:
        self.config = config
        self.requests = self.bytes = 0  # so far; bytes over the wire
        self._held = 0  # bytes of bodies in memory, also of those not yet handed over
        self.due: float | None = None  # when libcurl wants `on_timer` (monotonic seconds)
        self._answered, self.crashed, self._at = answered, crashed, at
        self._transfers: dict[Any, Transfer] = {}
        self._broken: list[Transfer] = []
        self._heard = 0  # header lines and pieces of bodies so far
        self._last: Transfer | None = None  # the transfer of the last of those
        self._reads: Counter[int] = Counter()  # of sockets, since they were idle
        self._seen: dict[int, int] = {}  # by socket: bytes received before the first look
        self._spare: list[Any] = []
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, lambda what, fd, multi, data: self._watched(watch, fd, what))
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
        before = self._heard
        self._multi.socket_action(fd, events)
        if events & pycurl.CSELECT_IN:
            self._reads[fd] += 1
            if self._heard == before or self._reads[fd] % LOOK_EVERY == 0:
                self._look_at(fd)

    def on_timer(self) -> None:
        self.due = None
        self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)

    def start(self, transfer: Transfer, address: str, port: int) -> None:
        """Requests `transfer.job.target` from this address, which must be an allowed one."""
        self.requests += 1
        easy = transfer.easy = self._spare.pop() if self._spare else self._new_easy()
        self._configure(easy, transfer, address, port)
        self._transfers[easy] = transfer
        self._multi.add_handle(easy)

    def break_off(self, transfer: Transfer, verdict: Reason | None = None) -> None:
        """Ends a transfer now; `over` yields it."""
        transfer.verdict = verdict or transfer.verdict
        self._broken.append(transfer)

    def tick(self, now: float) -> None:
        """Breaks off transfers that keep others waiting: error pages that never end, and slow bodies while memory is full."""
        for transfer in self:
            if transfer.status >= 300 and transfer.headed and now - transfer.headed > ERROR_BODY_S:
                self.break_off(transfer)
            elif self.full and transfer.chunks and not transfer.paused and now - transfer.moved > SLOW_S:
                transfer.job.hopeless, transfer.words = True, "too slow for the memory it held"
                self.break_off(transfer, Reason.TIMEOUT)

    def over(self) -> Iterator[tuple[Transfer, int, str]]:
        """The transfers that have ended, with libcurl's error code (0: none) and its words."""
        more = 1
        while more:
            more, done, failed = self._multi.info_read()
            for easy, code, words in [(easy, 0, "") for easy in done] + failed:
                yield self._ended(easy), code, words
        broken, self._broken = self._broken, []
        for transfer in broken:
            if self._transfers.get(transfer.easy) is transfer:
                yield self._ended(transfer.easy), 0, ""

    def _ended(self, easy: Any) -> Transfer:
        transfer, self._last = self._transfers.pop(easy), None
        transfer.wire_bytes = max(
            transfer.wire_bytes, int(easy.getinfo(pycurl.SIZE_DOWNLOAD_T)) + transfer.header_bytes
        )
        self.bytes += max(transfer.wire_bytes - transfer.received, 0)
        self._multi.remove_handle(easy)
        self._spare.append(easy)
        return transfer

    def let_go(self, size: int) -> None:
        """Notes that `size` bytes of bodies have left this process's memory; paused transfers go on if there is room."""
        self._held -= size
        if not self.full:
            now = time.monotonic()
            for transfer in self._transfers.values():
                if transfer.paused:
                    transfer.paused, transfer.moved = False, now
                    # Fails for a transfer that ended while it was paused; `over` will tell how.
                    with contextlib.suppress(pycurl.error):
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
        easy.setopt(SUPPRESS_CONNECT_HEADERS, 1)
        easy.setopt(pycurl.PROXY, c.egress_proxy)  # empty, so that no proxy variable counts
        if not c.egress_proxy:
            easy.setopt(pycurl.NOPROXY, "*")
        return easy

    def _configure(self, easy: Any, transfer: Transfer, address: str, port: int) -> None:
        c, job = self.config, transfer.job
        left_ms = max(int((c.timeout_s - job.spent_s) * 1000), 1)
        easy.setopt(pycurl.URL, job.target)
        easy.setopt(pycurl.FRESH_CONNECT, job.fresh)
        easy.setopt(pycurl.TIMEOUT_MS, left_ms)
        easy.setopt(pycurl.CONNECTTIMEOUT_MS, min(int(c.connect_timeout_s * 1000), left_ms))
        # In bytes before decoding. A longer robots.txt counts as far as it is read.
        easy.setopt(pycurl.MAXFILESIZE_LARGE, 0 if job.robots_of else transfer.limit)
        easy.setopt(pycurl.WRITEFUNCTION, lambda chunk: self._on_body(transfer, chunk))
        easy.setopt(pycurl.HEADERFUNCTION, lambda line: self._on_header(transfer, line))
        easy.setopt(pycurl.PREREQFUNCTION, lambda *ends: self._on_request(transfer, ends))
        if c.egress_proxy:
            return
        bracketed = f"[{address}]" if ":" in address else address
        easy.setopt(pycurl.CONNECT_TO, [f"::{bracketed}:{port}"])
        easy.setopt(pycurl.OPENSOCKETFUNCTION, lambda purpose, to: self._open_socket(transfer, to))

    def _open_socket(self, transfer: Transfer, to: Any) -> Any:
        """The last gate: refuses an address that may not be connected to, as libcurl is about to."""
        family, kind, protocol, address = to
        if is_refused(address[0], self.config.allow_addresses):
            transfer.verdict = Reason.ADDRESS_REFUSED
            return pycurl.SOCKET_BAD
        return socket.socket(family, kind, protocol)

    def _hear_of(self, transfer: Transfer) -> None:
        """Notes that something came for a transfer."""
        self._heard += 1
        if transfer is not self._last:
            self._last = transfer
            self._at(transfer.job)

    def _on_request(self, transfer: Transfer, ends: object) -> int:
        """Aborts libcurl's second sending of a request: it does that by itself where a reused connection has died, and nobody
        would count it. The job is routed again instead, for a new connection."""
        if transfer.sent:
            transfer.stale = True
            return int(pycurl.PREREQFUNC_ABORT)
        transfer.sent = True
        return int(pycurl.PREREQFUNC_OK)

    @blamed
    def _on_header(self, transfer: Transfer, line: bytes) -> int | None:
        self._hear_of(transfer)
        transfer.header_bytes += len(line)
        if transfer.header_bytes > self.config.max_header_bytes:
            transfer.verdict = Reason.HEADERS_TOO_LARGE
            return -1
        if transfer.headed:
            return None  # a trailer, which says nothing about the picture
        if line.startswith(b"HTTP/"):
            if not transfer.status:
                self._answered(transfer)
            words = line.split(None, 2)
            transfer.status = int(words[1]) if len(words) > 1 and words[1].isdigit() else 0
            transfer.headers = []
            return None
        if line in (b"\r\n", b"\n"):
            if transfer.status >= 200:
                transfer.headed = transfer.moved = time.monotonic()
            if transfer.status == 101:  # nobody asked for another protocol
                transfer.verdict = Reason.HTTP_INVALID
            transfer.verdict = transfer.verdict or self._verdict_on_headers(transfer)
            return -1 if transfer.verdict else None
        name, colon, value = line.partition(b":")
        if colon:
            transfer.headers.append((name.strip().lower().decode("latin-1"), text_of(value.strip())))
        return None

    @blamed
    def _on_body(self, transfer: Transfer, chunk: bytes) -> int | None:
        self._hear_of(transfer)
        if self._must_pause(transfer):
            transfer.paused = True
            return int(pycurl.WRITEFUNC_PAUSE)
        transfer.received += len(chunk)
        self.bytes += len(chunk)
        if not 200 <= transfer.status < 300:
            return -1 if transfer.received > ERROR_BODY_BYTES else None
        if transfer.received > transfer.limit:
            if transfer.job.robots_of:
                return -1  # the part that was read counts (RFC 9309 section 2.5)
            transfer.verdict = Reason.BODY_TOO_LARGE
            return -1
        if transfer.received - transfer.moved_at >= SLOW_BYTES:
            transfer.moved, transfer.moved_at = time.monotonic(), transfer.received
        transfer.chunks.append(chunk)
        self._held += len(chunk)
        return None

    def _verdict_on_headers(self, transfer: Transfer) -> Reason | None:
        """Why the body is not worth reading; None where it may be."""
        if not 200 <= transfer.status < 300 or transfer.job.robots_of:
            return None
        if self.config.respect_opt_out and (refused := opt_out(transfer.headers, self.config.user_agent)):
            return refused
        return Reason.BODY_TOO_LARGE if (content_length(transfer.headers) or 0) > transfer.limit else None

    def _must_pause(self, transfer: Transfer) -> bool:
        return self.full and any(t is not transfer and t.chunks and not t.paused for t in self._transfers.values())

    def _watched(self, watch: Callable[[int, int], None], fd: int, what: int) -> None:
        if what == pycurl.POLL_REMOVE:  # its requests have ended
            self._reads.pop(fd, None)
            self._seen.pop(fd, None)
        watch(fd, what)

    def _look_at(self, fd: int) -> None:
        """Breaks off the transfers of a socket that has received more bytes than they may all have together. Chunk extensions,
        padding and the like reach no callback, and no limit of libcurl's counts them."""
        received = bytes_received(fd)
        if received is None:
            return
        received -= self._seen.setdefault(fd, received)
        mine = [t for t in self if t.easy.getinfo(pycurl.LASTSOCKET) == fd]
        allowed = sum(t.limit * WIRE_FACTOR + self.config.max_header_bytes + WIRE_EXTRA_BYTES for t in mine)
        for transfer in mine:
            transfer.wire_bytes = received // len(mine)
            if received > allowed:
                self.break_off(transfer, Reason.BODY_TOO_LARGE)

    def _set_timer(self, timeout_ms: int) -> None:
        self.due = None if timeout_ms < 0 else time.monotonic() + timeout_ms / 1000


def bytes_received(fd: int) -> int | None:
    """Bytes that a TCP connection has brought since its start; None where it is closed, or the system does not tell."""
    if not hasattr(socket, "TCP_INFO"):
        return None  # not Linux
    try:
        with socket.socket(fileno=os.dup(fd)) as same:
            info = same.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, BYTES_RECEIVED + 8)
    except OSError:
        return None
    return int(struct.unpack_from("<Q", info, BYTES_RECEIVED)[0]) if len(info) >= BYTES_RECEIVED + 8 else None


def text_of(value: bytes) -> str:
    """Header bytes as text: UTF-8 if they are valid, else Latin-1 (RFC 9110 section 5.5)."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")
