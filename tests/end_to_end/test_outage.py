"""Our own outage is not data: the name server and then the network go away in the middle of a build."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import socket
import struct
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import wit.download.partition
from pipelines.build import main
from wit.verify import verify

spec = importlib.util.spec_from_file_location("hostile", Path(__file__).parents[1] / "wit/fetch/hostile.py")
assert spec and spec.loader
hostile = sys.modules.setdefault("hostile", importlib.util.module_from_spec(spec))
if not hasattr(hostile, "hostile_web"):
    spec.loader.exec_module(hostile)

HOSTS, PER_SHARD, PICTURES = 120, 20, 120
NAMES = [f"h{n}.example" for n in range(HOSTS)]


class Web(BaseHTTPRequestHandler):
    """Pictures; `after` that many of them, `leave` is called."""

    after, leave, served = 0, staticmethod(lambda: None), 0
    asked: Counter[str] = Counter()
    lock = threading.Lock()

    def do_GET(self) -> None:
        number = self.path.rpartition("/")[2].removesuffix(".png")
        body = b""
        if number.isdecimal():
            pixels = np.random.default_rng(int(number)).integers(0, 255, (8, 8, 3), dtype=np.uint8)
            out = io.BytesIO()
            Image.fromarray(pixels).resize((64, 64)).save(out, "PNG")
            body = out.getvalue()
        self.send_response(200 if body else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        if body:
            with self.lock:
                Web.served += 1
                Web.asked[number] += 1
                if Web.served == Web.after:
                    Web.leave()

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256  # the usual 5 make connections wait for a second now and then


class Network:
    """A web server that can be cut off and plugged in again at the same port."""

    def __init__(self) -> None:
        self.port = 0
        self.plug_in()

    def plug_in(self) -> None:
        self.server = Server(("127.0.0.1", self.port), Web)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def cut(self) -> None:
        """New connections are refused from now on; one request each is all that a connection carries here (HTTP/1.0)."""
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def network() -> Iterator[Network]:
    Web.after, Web.served = 0, 0
    Web.asked.clear()
    one = Network()
    yield one
    one.cut()


def write_build(folder: Path, port: int, nameserver: str) -> list[str]:
    urls = [f"http://{NAMES[n % HOSTS]}:{port}/{n}.png" for n in range(PICTURES)]
    pq.write_table(
        pa.table({"url": urls, "caption": [f"a red dog number {n}" for n in range(PICTURES)]}), folder / "urls.parquet"
    )
    (folder / "queries.txt").write_text("dog\n")
    knobs: dict[str, Any] = {
        "allow_addresses": ["127.0.0.1/32"],
        "nameservers": [nameserver],
        "host_rate_per_s": 0,
        "domain_rate_per_s": 0,
        "address_rate_per_s": 0,
        "backoff_s": 0.05,
        "retries": 1,
        "outage_floor_rows": 1,  # shards are small here: one failure is a twentieth of them
        "outage_floor_share": 0.02,
        "outage_pause_s": 0.2,
        "outage_shards": 2,
    }
    lines = ["[fetch]", *(f"{name} = {json.dumps(value)}" for name, value in knobs.items())]
    plan = ["[plan]", f"rows_per_raw_shard = {PER_SHARD}", "[select]", "max_aspect_ratio = 4.0"]
    (folder / "build.toml").write_text("\n".join([*lines, *plan]))
    return [
        *(
            "--config",
            str(folder / "build.toml"),
            "--queries",
            str(folder / "queries.txt"),
            "--output",
            str(folder / "out"),
        ),
        *("--source", f"table:{folder / 'urls.parquet'}", "--contact", "test@example.org", "--seed", "4"),
    ]


def published(out: Path) -> list[dict[str, Any]]:
    paths = [p for p in (out / "raw").glob("?????-????.json")]
    return [json.loads(path.read_bytes()) for path in sorted(paths)]


def pictures_of(out: Path, markers: list[dict[str, Any]]) -> list[str]:
    """Their numbers."""
    tables = [pq.read_table(out / marker["files"]["parquet"]["name"], columns=["url"]) for marker in markers]
    return [url.rpartition("/")[2].removesuffix(".png") for table in tables for url in table["url"].to_pylist()]


def test_without_names_and_then_without_network_a_build_stops_and_goes_on_later(
    tmp_path: Path, network: Network, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Or all names were known before the first picture came.
    monkeypatch.setattr(wit.download.partition, "WINDOW", PER_SHARD)
    names: dict[str, object] = {name: [["127.0.0.1"]] for name in NAMES}
    out = tmp_path / "out"
    with hostile.dns(names) as server:
        command = write_build(tmp_path, network.port, server.place)

        Web.after, Web.leave = 60, staticmethod(lambda: names.update(dict.fromkeys(NAMES, "servfail")))
        assert main(command) == 3
        assert "Start the build again when the network is back" in capsys.readouterr().err
        first = published(out)
        assert 1 <= len(first) < PICTURES // PER_SHARD
        assert all(marker["dropped"] == {} for marker in first), "an outage of ours was published as a loss"
        assert not (out / "raw/_MANIFEST.json").exists() and not (out / "ledger.json").exists()

        names.update({name: [["127.0.0.1"]] for name in NAMES})
        Web.after, Web.leave = Web.served + 25, staticmethod(lambda: threading.Thread(target=network.cut).start())
        assert main(command) == 3
        assert "Start the build again when the network is back" in capsys.readouterr().err
        second = published(out)
        assert len(second) < PICTURES // PER_SHARD
        assert all(marker in second for marker in first)
        assert all(marker["dropped"] == {} for marker in second), "an outage of ours was published as a loss"

        asked = {number: Web.asked[number] for number in pictures_of(out, second)}

        network.plug_in()
        Web.after = 0
        assert main(command) == 0
    ledger = json.loads((out / "ledger.json").read_bytes())["stages"]["download"]
    assert (ledger["in"], ledger["out"], ledger["dropped"]) == (PICTURES, PICTURES, {})
    done = pictures_of(out, second)
    assert {number: Web.asked[number] for number in done} == asked, "what was published was fetched again"
    assert verify(str(out), level="full").problems == ()


@contextlib.contextmanager
def broken(how: str) -> Iterator[int]:
    """The port of what a network between us and the web may be: it takes every connection, and ends it without an answer
    (`closed`), by a reset (`reset`), or with the word of a proxy that does not let us pass (`407`)."""

    def serve() -> None:
        while True:
            try:
                one, _ = listener.accept()
            except OSError:
                return
            with one, contextlib.suppress(OSError):
                one.settimeout(5)
                one.recv(4096)
                if how == "reset":
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                if how == "407":
                    one.sendall(b"HTTP/1.1 407 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(10)


@pytest.mark.parametrize("respect", ["--respect-robots", pytest.param("--no-respect-robots", marks=pytest.mark.slow)])
@pytest.mark.parametrize("how, scheme", [("closed", "http"), ("reset", "http"), ("closed", "https"), ("407", "http")])
def test_a_network_that_ends_every_connection_is_no_answer_of_the_web(
    tmp_path: Path, how: str, scheme: str, respect: str, capsys: pytest.CaptureFixture[str]
) -> None:
    names: dict[str, object] = {name: [["127.0.0.1"]] for name in NAMES}
    with hostile.dns(names) as server, broken(how) as port:
        command = write_build(tmp_path, port, server.place)
        urls = pq.read_table(tmp_path / "urls.parquet").to_pydict()
        urls["url"] = [url.replace("http://", f"{scheme}://") for url in urls["url"]]
        pq.write_table(pa.table(urls), tmp_path / "urls.parquet")
        proxy = ["--egress-proxy", f"http://127.0.0.1:{port}"] if how == "407" else []
        assert main([*command, *proxy, respect, "--retries", "0"]) == 3
    assert "Start the build again when the network is back" in capsys.readouterr().err
    assert published(tmp_path / "out") == []
