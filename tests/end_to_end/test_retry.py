"""--retry-failed: a web that is half broken at first, and well later."""

import io
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipelines.build import main
from tests.loopback import serving
from wit.verify import verify

PICTURES = 40


def picture(number: int) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).resize((64, 64)).save(out, "PNG")
    return out.getvalue()


class Web(BaseHTTPRequestHandler):
    broken: set[int] = set()
    gone: set[int] = set()
    asked: list[int] = []

    def do_GET(self) -> None:
        name = self.path.rpartition("/")[2]
        number = int(name.removesuffix(".png")) if name.endswith(".png") else -1
        status = 404 if number < 0 or number in self.gone else 503 if number in self.broken else 200
        body = picture(number) if status == 200 else b""
        self.asked.append(number)
        self.send_response(status)
        self.send_header("Content-Type", "image/png")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def web() -> Iterator[int]:
    with serving(Web) as port:
        yield port


@pytest.fixture
def command(web: int, tmp_path: Path) -> list[str]:
    rows = {
        "url": [f"http://h{i % 10}.example/{i}.png" for i in range(PICTURES)],
        "caption": [f"a red dog number {i}" for i in range(PICTURES)],
    }
    pq.write_table(pa.table(rows), tmp_path / "urls.parquet")
    (tmp_path / "queries.txt").write_text("dog\n")
    hosts = ", ".join(f'["h{i}.example", "127.0.0.1", {web}]' for i in range(10))
    config = (
        f'[fetch]\nendpoints = [{hosts}]\nallow_addresses = ["127.0.0.1/32"]\nbackoff_s = 0.05\nhost_rate_per_s = 0\n'
    )
    config += "domain_rate_per_s = 0\naddress_rate_per_s = 0\nretries = 1\n"
    (tmp_path / "build.toml").write_text(config + "[plan]\nrows_per_raw_shard = 20\n[select]\nmax_aspect_ratio = 4.0\n")
    given = {
        "--config": "build.toml",
        "--queries": "queries.txt",
        "--output": "out",
    }
    paths = [part for flag, name in given.items() for part in (flag, str(tmp_path / name))]
    return [*paths, "--source", f"table:{tmp_path / 'urls.parquet'}", "--contact", "test@example.org", "--seed", "4"]


def download(out: Path) -> dict:
    return json.loads((out / "ledger.json").read_bytes())["stages"]["download"]


def test_what_failed_for_a_passing_reason_is_fetched_again_and_counted_once(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    Web.broken, Web.gone, Web.asked = set(range(12)), {20, 21}, []
    assert main(command) == 0
    first = download(out)
    assert (first["in"], first["out"]) == (40, 26)
    assert first["dropped"] == {"http_not_found": 2, "http_server_error": 12} or sum(first["dropped"].values()) == 14
    raw = {p.name: p.read_bytes() for p in (out / "raw").glob("00000-*")}

    Web.broken, Web.asked = {0, 1}, []
    assert main([*command, "--retry-failed"]) == 0
    second = download(out)
    assert (second["in"], second["out"]) == (40, 36)
    assert sum(second["dropped"].values()) == 4 and second["dropped"]["http_not_found"] == 2
    assert {n for n in Web.asked if n >= 0} == set(range(12))  # nothing else was asked for again
    assert {p.name: p.read_bytes() for p in (out / "raw").glob("00000-*")} == raw  # and nothing rewritten
    assert verify(str(out), level="full").problems == ()
    shards = pq.read_table(out / "shards/00000.parquet", columns=["url"])
    assert len(shards) == 36

    Web.broken, Web.asked = set(), []
    assert main([*command, "--retry-failed"]) == 0
    third = download(out)
    assert (third["in"], third["out"], third["dropped"]) == (40, 38, {"http_not_found": 2})
    assert {n for n in Web.asked if n >= 0} == {0, 1}
    hosts = pq.read_table(out / "ledger/hosts.parquet")
    assert sum(hosts["pairs"].to_pylist()) == 40

    Web.asked = []
    capsys.readouterr()
    assert main([*command, "--retry-failed"]) == 0
    assert "nothing is left to retry: no pair was lost to body_incomplete, " in capsys.readouterr().err
    assert Web.asked == []

    Web.asked = []
    assert main([*command, "--retry-failed"]) == 0  # nothing is left to retry
    assert Web.asked == [] and download(out) == third
    assert verify(str(out), level="full").problems == ()
