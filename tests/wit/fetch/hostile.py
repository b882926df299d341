"""A small web on loopback that answers exactly the bytes a test wants, however wrong they are."""

from __future__ import annotations

import contextlib
import io
import socketserver
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

Reply = bytes | Iterator[bytes]
Route = Callable[["Ask"], Reply]


@dataclass
class Ask:
    """One request as the server saw it."""

    host: str  # the Host header, without port
    path: str
    headers: dict[str, str]
    count: int  # how often this host and path was asked for, this time included


def picture(kind: str = "JPEG", width: int = 64, height: int = 48, seed: int = 0, **options: object) -> bytes:
    """A smooth picture, different for every seed."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8))
    out = io.BytesIO()
    coarse.resize((width, height), Image.Resampling.BICUBIC).save(out, kind, **options)
    return out.getvalue()


def ok(body: bytes, *, status: str = "200 OK", **headers: str) -> bytes:
    named = {"content-type": "image/jpeg", "content-length": str(len(body))}
    named |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in named.items() if value is not None)
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode("latin-1") + body


def redirect(to: str, status: str = "302 Found") -> bytes:
    return ok(b"", status=status, location=to)


@dataclass
class HostileWeb:
    """`routes` maps paths (or "host/path") to replies; what is not there is 404, robots.txt too."""

    routes: dict[str, Reply | Route] = field(default_factory=dict)
    asked: list[tuple[str, str, str]] = field(default_factory=list)  # (server address, host, path)
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    agents: set[str] = field(default_factory=set)
    headers: Counter[str] = field(default_factory=Counter)  # names of header fields, by requests that had them
    active: Counter[str] = field(default_factory=Counter)  # requests in work, by host
    most_active: Counter[str] = field(default_factory=Counter)
    at_once: int = 0  # requests in work, at most, of all hosts together
    times: dict[str, list[float]] = field(default_factory=dict)
    servers: dict[str, socketserver.ThreadingTCPServer] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def port(self, address: str = "127.0.0.1") -> int:
        return int(self.servers[address].server_address[1])

    def endpoints(self, *hosts: str, address: str = "127.0.0.1") -> tuple[tuple[str, str, int], ...]:
        return tuple((host, address, self.port(address)) for host in hosts)

    def reply_to(self, ask: Ask) -> Reply:
        route = self.routes.get(ask.host + ask.path, self.routes.get(ask.path))
        if route is None:
            return ok(b"not here", status="404 Not Found", content_type="text/plain")
        return route(ask) if callable(route) else route


class Handler(socketserver.BaseRequestHandler):
    web: HostileWeb

    def handle(self) -> None:
        self.request.settimeout(30)
        with contextlib.suppress(OSError):
            while self.one_request():
                pass

    def one_request(self) -> bool:
        head = b""
        while b"\r\n\r\n" not in head:
            block = self.request.recv(65536)
            if not block:
                return False
            head += block
        lines = head.decode("latin-1").split("\r\n")
        target = lines[0].split(" ")[1]
        headers = {n.lower(): v.strip() for n, _, v in (line.partition(":") for line in lines[1:] if line)}
        host = headers.get("host", "").rpartition(":")[0] or headers.get("host", "")
        path = urlsplit(target).path
        return self.answer(host, path, headers)

    def answer(self, host: str, path: str, headers: dict[str, str]) -> bool:
        web = self.web
        with web.lock:
            web.counts[host, path] += 1
            web.asked.append((self.server.server_address[0], host, path))
            web.agents.add(headers.get("user-agent", ""))
            web.headers.update(headers.keys())
            web.active[host] += 1
            web.most_active[host] = max(web.most_active[host], web.active[host])
            web.at_once = max(web.at_once, web.active.total())
            web.times.setdefault(host, []).append(time.monotonic())
            count = web.counts[host, path]

        in_work = [host]

        def over() -> None:
            with web.lock:
                for name in in_work:
                    web.active[name] -= 1
                in_work.clear()

        try:
            reply = web.reply_to(Ask(host, path, headers, count))
            if isinstance(reply, bytes):
                self.request.sendall(reply[:-1])
                over()  # before its last byte: whoever has that may ask the next before this thread runs again
                self.request.sendall(reply[-1:])
                return b"content-length" in reply[:2000].lower()
            for chunk in reply:
                self.request.sendall(chunk)
            return False
        finally:
            over()


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 512


@contextlib.contextmanager
def hostile_web(*addresses: str, wrap: Callable[[Server], None] | None = None) -> Iterator[HostileWeb]:
    """Serves on every address given (127.0.0.1 by default), each on a port of its own, until the block ends."""
    web = HostileWeb()
    handler = type("WebHandler", (Handler,), {"web": web})
    for address in addresses or ("127.0.0.1",):
        server = Server((address, 0), handler)
        if wrap:
            wrap(server)
        web.servers[address] = server
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield web
    finally:
        for server in web.servers.values():
            server.shutdown()
            server.server_close()


class DnsHandler(socketserver.BaseRequestHandler):
    """Answers A questions from `names`: name -> list of addresses, one list for each time it is asked; [] = NXDOMAIN."""

    server: DnsServer

    def handle(self) -> None:
        data, sock = self.request
        name, at = [], 12
        while data[at]:
            name.append(data[at + 1 : at + 1 + data[at]].decode())
            at += 1 + data[at]
        question, kind = data[12 : at + 5], data[at + 1 : at + 3]
        key = ".".join(name).lower()
        turns = self.server.names.get(key)
        self.server.asked[key] += kind == b"\0\1"
        if turns == "silent":
            return
        if turns == "servfail":
            sock.sendto(data[:2] + b"\x81\x82" + b"\0\1" + bytes(6) + question, self.client_address)
            return
        addresses = turns[min(self.server.asked[key], len(turns)) - 1] if turns else []
        found = addresses if kind == b"\0\1" else []
        code = b"\x81\x80" if addresses else b"\x81\x83"
        head = b"\xc0\x0c\0\1\0\1" + self.server.ttl_s.to_bytes(4, "big") + b"\0\4"
        records = b"".join(head + bytes(map(int, address.split("."))) for address in found)
        sock.sendto(
            data[:2] + code + b"\0\1" + len(found).to_bytes(2, "big") + bytes(4) + question + records,
            self.client_address,
        )


class DnsServer(socketserver.ThreadingUDPServer):
    daemon_threads = True
    names: dict[str, object]
    asked: Counter[str]
    ttl_s = 0

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"


@contextlib.contextmanager
def dns(names: dict[str, object]) -> Iterator[DnsServer]:
    """A name server on loopback until the block ends."""
    server = DnsServer(("127.0.0.1", 0), DnsHandler)
    server.names, server.asked = names, Counter()
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
