"""A small web of all kinds on loopback, and the source files that lead to it."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import faults
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

PICTURES, HOSTS = 36, 5
GONE, BUSY, SILENT, RESET = {7, 8}, {5}, {13}, {14}  # 404; 503; no answer; a connection that is closed
DAMAGED, NO_PICTURE, SMALL, JPEG = {9}, {21}, {20}, {3, 22, 31}
ALIKE, MOVED = {11: 10, 27: 26}, {18: 19}  # the same picture as another; redirected to another
CLOSED, OPTED_OUT = {15, 16}, {17}  # by robots.txt; by a header
QUERIES = "dog\ncat\nred\nhorse\n"
WORDS = ("a small cat", "a red dog", "one dog and a cat", "a horse", "nothing that is asked for")


def url(number: int) -> str:
    """Where a picture lies."""
    host = "closed" if number in CLOSED else f"h{number % HOSTS}"
    return f"http://{host}.example/{number}.{'jpg' if number in JPEG else 'png'}"


def caption(number: int) -> str:
    return f"{WORDS[number % len(WORDS)]} number {number}"


def picture(number: int) -> bytes:
    """The bytes of a picture: coloured squares that its number decides."""
    pixels = np.random.default_rng(ALIKE.get(number, number)).integers(0, 255, (5, 5, 3), dtype=np.uint8)
    out, side = io.BytesIO(), 12 if number in SMALL else 40
    Image.fromarray(pixels).resize((side, side)).save(out, "JPEG" if number in JPEG else "PNG")
    return out.getvalue()


def answer(number: int) -> tuple[int, bytes, dict[str, str]]:
    """(status, body, headers) of a picture."""
    if number not in range(PICTURES) or number in GONE:
        return 404, b"", {}
    if number in BUSY:
        return 503, b"", {}
    if number in MOVED:
        return 302, b"", {"Location": url(MOVED[number])}
    if number in DAMAGED | NO_PICTURE:
        return 200, b"\x89PNG\r\n\x1a\nbroken" if number in DAMAGED else b"<!doctype html>", {}
    return 200, picture(number), {"X-Robots-Tag": "noai"} if number in OPTED_OUT else {}


class Web(BaseHTTPRequestHandler):
    """Answers as `answer` says; each request is a call that faults may strike at."""

    environment: Path  # file with STORE_... of the start that is under way

    def do_GET(self) -> None:
        self.strike()
        name = self.path.rpartition("/")[2].partition(".")[0]
        number = int(name) if name.isdecimal() else -1
        if number in SILENT:
            time.sleep(3)
        if number in SILENT | RESET:
            self.close_connection = True
            return
        status, body, headers = answer(number)
        if self.path == "/robots.txt" and self.headers["Host"].startswith("closed"):
            status, body = 200, b"User-agent: *\nDisallow: /\n"
        self.send_response(status)
        for header, value in {**headers, "Content-Length": f"{len(body)}"}.items():
            self.send_header(header, value)
        self.end_headers()
        with contextlib.suppress(OSError):  # a build that was killed does not listen any more
            self.wfile.write(body)

    def strike(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            os.environ.update(json.loads(self.environment.read_text(encoding="utf-8")))
        if root := os.environ.get("STORE_ROOT"):
            faults.before(faults.counted("request", f"{root}/web{self.path}"))

    def log_message(self, *_: object) -> None: ...


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_: object) -> None: ...


@contextlib.contextmanager
def web(environment: Path) -> Iterator[int]:
    """The port of the web while the block runs; a process of its own serves it."""
    Web.environment = environment
    server = Server(("127.0.0.1", 0), Web)
    if not (process := os.fork()):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
        server.serve_forever(0.05)
        os._exit(0)
    server.server_close()
    try:
        yield server.server_address[1]
    finally:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


# The sources: one of each kind that names files of its own, with URLs that several of them have.


def write_sources(folder: Path) -> list[str]:
    """Writes queries and sources; returns the flags that give them."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "queries.txt").write_text(QUERIES, encoding="utf-8")
    (folder / "a.wat.gz").write_bytes(b"".join(_wat(range(n, n + 3)) for n in range(0, 12, 3)))
    (folder / "b.warc.gz").write_bytes(b"".join(_warc(range(n, n + 3)) for n in range(8, 20, 3)))
    lines = [f"{url(n)}\t{caption(n)}\n" for n in range(18, 30)] + ["no address\ta dog\n"]
    (folder / "c.tsv").write_text("url\tcaption\n" + "".join(lines), encoding="utf-8")
    rows = {"url": [url(n) for n in range(26, PICTURES)], "text": [caption(n + 1) for n in range(26, PICTURES)]}
    pq.write_table(pa.table(rows), folder / "d.parquet")
    kinds = ("wat:a.wat.gz", "warc:b.warc.gz", "table:c.tsv", "table:d.parquet")
    return ["--queries", f"{folder}/queries.txt", "--source", *(kind.replace(":", f":{folder}/") for kind in kinds)]


def _record(kind: str, body: bytes, number: int) -> bytes:
    head = f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Target-URI: https://page{number}.example/\r\n"
    return gzip.compress(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body + b"\r\n\r\n", mtime=0)


def _wat(numbers: range) -> bytes:
    links = [{"path": "IMG@/src", "url": url(n), "alt": caption(n)} for n in numbers]
    page = {"WARC-Header-Metadata": {"WARC-Target-URI": f"https://page{numbers[0]}.example/"}}
    page["Payload-Metadata"] = {"HTTP-Response-Metadata": {"HTML-Metadata": {"Links": links}}}  # type: ignore[dict-item]
    return _record("metadata", json.dumps({"Envelope": page}, separators=(",", ":")).encode(), numbers[0])


def _warc(numbers: range) -> bytes:
    images = "".join(f'<img src="{url(n)}" alt="{caption(n)}">' for n in numbers)
    return _record("response", f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n{images}".encode(), numbers[0])


def settings(port: int) -> str:
    """The TOML of a build from it: many small pieces, no patience."""
    names = [*(f"h{n}" for n in range(HOSTS)), "closed"]
    ends = ", ".join(f'["{name}.example", "127.0.0.1", {port}]' for name in names)
    return f"""
rows_per_key = 20
[fetch]
endpoints = [{ends}]
allow_addresses = ["127.0.0.1/32"]
timeout_s = 1.0
backoff_s = 0.01
retries = 0
host_rate_per_s = 0
domain_rate_per_s = 0
address_rate_per_s = 0
breaker_failures = 1000
[plan]
rows_per_partition = 12
rows_per_raw_shard = 6
[publish]
samples_per_shard = 5
raw_shards_per_group = 2
"""
