"""The demonstration web's server: on loopback, in a child process that ends with its parent.

    with wit.demo.serve() as web:
        web.endpoints      # ((host, address, port), ...): what the build's resolver must map
        web.requests()     # {url: how often it was asked for}

The child talks to its parent over its standard streams: it prints its endpoints, then answers each line that it reads with the
request counts. It ends when its input ends, or when its parent has died.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from wit.demo.crawl import response_headers
from wit.demo.pages import page_html, pages
from wit.demo.tables import load
from wit.urls import canonical_url

Row = dict[str, Any]
Endpoint = tuple[str, str, int]  # host, address, port

BACKLOG = 1_024
MAX_HEAD_BYTES = 65_536
KEEP_ALIVE_S = 60
ENDLESS_BLOCK = b"\xff\xd8\xff\xe0" + bytes(65_532)
MEDIA_TYPES = {"jpg": "image/jpeg", "png": "image/png", "webp": "image/webp", "gif": "image/gif"}
REASONS = {
    200: "OK",
    301: "Moved Permanently",
    302: "Found",
    304: "Not Modified",
    404: "Not Found",
    429: "Too Many Requests",
}


# --- the parent's side -------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Web:
    """The running server."""

    process: subprocess.Popen[bytes]
    endpoints: tuple[Endpoint, ...]
    lock: threading.Lock = field(default_factory=threading.Lock)

    def requests(self) -> dict[str, int]:
        """{URL without port: how often it was requested since the start}."""
        assert self.process.stdin and self.process.stdout
        with self.lock:
            self.process.stdin.write(b"requests\n")
            self.process.stdin.flush()
            counts: dict[str, int] = json.loads(self.process.stdout.readline())
        return counts

    def stop(self) -> None:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


@contextlib.contextmanager
def serve() -> Iterator[Web]:
    """Starts the server; stops it when the block ends."""
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    environment = {
        **os.environ,
        "ARROW_DEFAULT_MEMORY_POOL": "system",  # holds 30 MB less than Arrow's own
        "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep),
    }
    command = [sys.executable, "-c", "from wit.demo.server import main; main()", str(os.getpid())]
    # in a session of its own: Ctrl-C is for the build, which may still need the web for requests in flight
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, start_new_session=True
    )
    assert process.stdout
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"the demonstration web did not start (exit code {process.wait()})")
    web = Web(process, tuple((host, address, port) for host, address, port in json.loads(line)))
    try:
        yield web
    finally:
        web.stop()


# --- the child's side --------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Request:
    method: str
    url: str
    headers: dict[str, str]


@dataclass(slots=True)
class Response:
    """`body` is sent whole, unless there is a `stream`; `announced`, if given, is a false Content-Length."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    announced: int | None = None
    stream: Callable[[], AsyncIterator[bytes]] | None = None


class Answers:
    """The answer of each URL, with one method for each kind of resource. `counts` is its only state."""

    def __init__(self) -> None:
        self.resources = {url: number for number, url in enumerate(load("resources")["url"].to_pylist())}
        self.pictures = {name: number for number, name in enumerate(load("pictures")["picture"].to_pylist())}
        self.counts: dict[str, int] = {}

    def answer(self, request: Request) -> Response:
        url = canonical_url(request.url) or request.url
        self.counts[url] = self.counts.get(url, 0) + 1
        if url in self.resources:
            (resource,) = load("resources").slice(self.resources[url], 1).to_pylist()
            response: Response = getattr(self, resource["kind"])(resource)
            return response
        if url in pages():
            body = page_html(url).encode()
            return Response(headers=dict(response_headers(url)), body=body)
        return Response(404, {"Content-Type": "text/plain"}, b"There is nothing here.\n")

    def picture(self, resource: Row) -> Response:
        kind, data = self.picture_data(resource["picture"])
        headers = {
            "Content-Type": resource["content_type"] or MEDIA_TYPES[kind],
            "ETag": f'"{hashlib.sha256(data).hexdigest()[:16]}"',
            "Cache-Control": "max-age=86400",
            **json.loads(resource["headers"] or "{}"),
        }
        return Response(200, headers, data)

    def picture_data(self, picture: str) -> tuple[str, bytes]:
        table, row = load("pictures"), self.pictures[picture]
        return table["format"][row].as_py(), table["data"][row].as_py()

    def body(self, resource: Row) -> Response:
        return Response(resource["status"] or 200, {"Content-Type": resource["content_type"]}, resource["body"])

    def redirect(self, resource: Row) -> Response:
        return Response(resource["status"], {"Location": resource["location"]})

    def busy(self, resource: Row) -> Response:
        """The first time "come back in a second", then the picture."""
        if self.counts[resource["url"]] == 1:
            return Response(429, {"Retry-After": "1", "Content-Type": "text/plain"}, b"Too many requests.\n")
        return self.picture(resource)

    def cut(self, resource: Row) -> Response:
        """A file that was cut short long ago: Content-Length is right, but the picture is not whole."""
        whole = self.picture(resource)
        return Response(200, whole.headers, whole.body[: len(whole.body) * 6 // 10])

    def short(self, resource: Row) -> Response:
        """A connection that ends before the announced length."""
        whole = self.picture(resource)
        return Response(200, whole.headers, whole.body, announced=len(whole.body) + 5_000)

    def drip(self, resource: Row) -> Response:
        """A byte every quarter of a second, for a day."""

        async def drops() -> AsyncIterator[bytes]:
            yield b"\xff\xd8\xff\xe0\x00\x10JFIF\x00"
            while True:
                await asyncio.sleep(0.25)
                yield b"\x00"

        return Response(200, {"Content-Type": "image/jpeg"}, announced=345_600, stream=drops)

    def endless(self, resource: Row) -> Response:
        """Bytes without end, as fast as they are read."""

        async def blocks() -> AsyncIterator[bytes]:
            while True:
                yield ENDLESS_BLOCK

        return Response(200, {"Content-Type": "image/jpeg"}, stream=blocks)


async def converse(answers: Answers, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers all requests of one connection."""
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError):
        while True:
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), KEEP_ALIVE_S)
            request = parse_request(head)
            if request is None or not await respond(request, answers.answer(request), writer):
                break
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


def parse_request(head: bytes) -> Request | None:
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {
        name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)
    }
    words = first.split(" ")
    if len(words) != 3 or "host" not in headers:
        return None
    host = headers["host"].lower().rpartition(":")[0] or headers["host"].lower()
    return Request(words[0], f"http://{host}{words[1]}", headers)


async def respond(request: Request, response: Response, writer: asyncio.StreamWriter) -> bool:
    """Sends the response; returns whether the connection stays open."""
    if response.headers.get("ETag", "-") == request.headers.get("if-none-match"):
        response = Response(304, {"ETag": response.headers["ETag"]})
    length = len(response.body) if response.announced is None else response.announced
    endless = response.stream is not None and response.announced is None
    stay = response.stream is None and response.announced is None and request.headers.get("connection") != "close"
    headers = dict(response.headers) | ({} if endless or response.status == 304 else {"Content-Length": str(length)})
    headers["Connection"] = "keep-alive" if stay else "close"
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = f"HTTP/1.1 {response.status} {REASONS.get(response.status, 'Other')}\r\n{lines}\r\n".encode("latin-1")
    writer.write(head if request.method == "HEAD" else head + response.body)
    await writer.drain()
    if response.stream is not None and request.method != "HEAD":
        async for block in response.stream():
            writer.write(block)
            await writer.drain()
    return stay


def host_names() -> list[str]:
    """Every host that has pages or pictures."""
    urls = [*load("resources")["url"].to_pylist(), *load("pages")["page_url"].to_pylist()]
    return sorted({urlsplit(url).netloc for url in urls})


def listen(hosts: list[str]) -> list[tuple[str, socket.socket]]:
    """A socket for every host: with an address of its own on Linux, which has all of 127/8; with a port of its own elsewhere."""
    sockets = []
    for number, host in enumerate(hosts):
        address = f"127.0.77.{number + 1}" if sys.platform == "linux" else "127.0.0.1"
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((address, 0))
        sockets.append((host, listening))
    return sockets


async def run(parent: int) -> None:
    answers = Answers()
    listening = listen(host_names())
    handle: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]] = functools.partial(
        converse, answers
    )
    servers = [
        await asyncio.start_server(handle, sock=found, backlog=BACKLOG, limit=MAX_HEAD_BYTES) for _, found in listening
    ]
    endpoints = [(host, *found.getsockname()[:2]) for host, found in listening]
    threading.Thread(target=obey, args=(answers,), daemon=True).start()
    threading.Thread(target=watch, args=(parent,), daemon=True).start()
    say(endpoints)
    await asyncio.gather(*(server.serve_forever() for server in servers))


def say(value: object) -> None:
    print(json.dumps(value), flush=True)


def obey(answers: Answers) -> None:
    """Answers each line of standard input with the request counts; ends the process when the input ends."""
    for _ in sys.stdin:
        say(dict(answers.counts))
    os._exit(0)


def watch(parent: int) -> None:
    """Ends the process when its parent has died: another child of it may hold the other end of standard input open."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(0)


def main() -> None:
    asyncio.run(run(int(sys.argv[1])))
