"""--retry-failed: a web that is half broken at first, and well later."""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipelines.build import main
from tests.loopback import serving
from wit.download import retry
from wit.store.parts import StageDir
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
    held: set[int] = set()
    asked: list[int] = []

    def do_GET(self) -> None:
        name = self.path.rpartition("/")[2]
        number = int(name.removesuffix(".png")) if name.endswith(".png") else -1
        status = 404 if number < 0 or number in self.gone else 503 if number in self.broken else 200
        body = picture(number) if status == 200 else b""
        self.asked.append(number)
        if number in self.held:
            time.sleep(60)
        self.send_response(status)
        self.send_header("Content-Type", "image/png")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(OSError):  # a build that was killed does not listen any more
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def web() -> Iterator[int]:
    with serving(Web) as port:
        yield port


@pytest.fixture
def command(web: int, tmp_path: Path) -> list[str]:
    return command_for(web, tmp_path, "rows_per_raw_shard = 20")


@pytest.fixture
def command_of_several(web: int, tmp_path: Path) -> list[str]:
    """Of a plan with several partitions, of which h0 to h4 are giants; a round needs several, too."""
    return command_for(
        web,
        tmp_path,
        "rows_per_raw_shard = 2\nrows_per_partition = 5\nmax_urls_per_domain_partition = 6",
        url=lambda i: f"http://h{i % 5 if i < 35 else 5 + i % 5}.example/{i}.png",
    )


def command_for(
    web: int,
    tmp_path: Path,
    plan: str,
    url: Callable[[int], str] = lambda i: f"http://h{i % 10}.example/{i}.png",
) -> list[str]:
    rows = {
        "url": [url(i) for i in range(PICTURES)],
        "caption": [f"a red dog number {i}" for i in range(PICTURES)],
    }
    pq.write_table(pa.table(rows), tmp_path / "urls.parquet")
    (tmp_path / "queries.txt").write_text("dog\n")
    hosts = ", ".join(f'["h{i}.example", "127.0.0.1", {web}]' for i in range(10))
    config = (
        f'[fetch]\nendpoints = [{hosts}]\nallow_addresses = ["127.0.0.1/32"]\nbackoff_s = 0.05\nhost_rate_per_s = 0\n'
    )
    # no host is given up: which of its pictures that costs would follow from the order of their answers
    config += "domain_rate_per_s = 0\naddress_rate_per_s = 0\nretries = 1\nbreaker_failures = 100\n"
    (tmp_path / "build.toml").write_text(config + "[plan]\n" + plan + "\n[select]\nmax_aspect_ratio = 4.0\n")
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


def pictures_by_partition(out: Path) -> dict[str, set[int]]:
    """Of each partition in raw/ the pictures that it asked for."""
    markers = [json.loads(path.read_bytes()) for path in sorted((out / "raw").glob("*-*.json"))]
    found: dict[str, set[int]] = {}
    for marker in (marker for marker in markers if marker["files"]):
        urls = pq.read_table(out / marker["files"]["parquet"]["name"], columns=["url"])["url"].to_pylist()
        numbers = {int(url.rpartition("/")[2].removesuffix(".png")) for url in urls}
        found.setdefault(marker["unit"].partition("-")[0], set()).update(numbers)
    return found


def of_round(out: Path, number: int) -> dict[str, set[int]]:
    return {name: some for name, some in pictures_by_partition(out).items() if name.startswith(f"r{number:04d}")}


LOST = {*range(33), 36}  # for a passing reason, by the first download of `command_of_several`


def first_download(command: list[str]) -> None:
    Web.broken, Web.gone, Web.asked = LOST, {35}, []
    assert main(command) == 0


def test_a_round_of_many_rows_has_partitions_and_every_pair_is_counted_once(
    command_of_several: list[str], tmp_path: Path
) -> None:
    command, out = command_of_several, tmp_path / "out"
    first_download(command)
    assert len(pictures_by_partition(out)) == 11 and download(out)["out"] == 5
    Web.broken, Web.asked = {0, 1, 36}, []
    assert main([*command, "--retry-failed"]) == 0
    found = of_round(out, 1)
    assert sum(map(len, found.values())) == len(LOST) and set().union(*found.values()) == LOST
    assert sorted(found)[0] == "r0001" and len(found) == 11, "one for the small domains, two for each giant"
    assert all(len({n % 5 for n in some}) == 1 for name, some in found.items() if name != "r0001")
    assert {n for n in Web.asked if n >= 0} <= LOST and not (out / "_retry").exists()
    assert (download(out)["in"], download(out)["out"]) == (40, 36) and download(out)["dropped"]["http_not_found"] == 1
    assert verify(str(out), level="full").problems == ()
    assert sum(pq.read_table(out / "ledger/hosts.parquet")["pairs"].to_pylist()) == 40

    Web.broken, Web.asked = {1}, []
    assert main([*command, "--retry-failed"]) == 0
    assert of_round(out, 2) == {"r0002": {0, 1, 36}} and {n for n in Web.asked if n >= 0} == {0, 1, 36}
    assert (download(out)["out"], sum(download(out)["dropped"].values())) == (38, 2)
    Web.broken = set()
    assert main([*command, "--retry-failed", "--retry-reason", "http_not_found"]) == 0
    assert of_round(out, 3) == {"r0003": {1, 35}}
    assert (download(out)["in"], download(out)["out"], download(out)["dropped"]) == (40, 39, {"http_not_found": 1})
    assert verify(str(out), level="full").problems == ()
    hosts = pq.read_table(out / "ledger/hosts.parquet")
    assert sum(hosts["pairs"].to_pylist()) == 40
    before = (out / "raw/_MANIFEST.json").read_bytes()
    (out / "raw/_MANIFEST.json").unlink()
    assert main(command) == 0 and verify(str(out), level="full").problems == ()
    assert main([*command, "--samples-per-shard", "7"]) == 0
    assert (out / "raw/_MANIFEST.json").read_bytes() == before, (
        "the manifest of rounds is made again from what is there"
    )


def killed_in_its_round(command: list[str], out: Path, *flags: str) -> set[int]:
    """Kills a build with SIGKILL once some shards of its round are published; returns the pictures in these."""
    Web.broken, Web.held = set(), {3, 8, 13, 18, 23, 28}  # of one giant
    arguments = [sys.executable, "-m", "pipelines.build", *command, *flags]
    process = subprocess.Popen(arguments, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while len(list((out / "raw").glob("r0001*-*.json"))) < 4:
        assert process.poll() is None, "the build ended before it could be killed"
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    Web.held, Web.asked = set(), []
    return set().union(*of_round(out, 1).values())


@pytest.mark.variants(1)
@pytest.mark.parametrize("flag, fetched", [(["--retry-failed"], LOST), (["--retry-reason", "http_not_found"], {35})])
def test_a_round_of_several_partitions_that_was_killed_goes_on_and_another_takes_its_place(
    flag: list[str], fetched: set[int], command_of_several: list[str], tmp_path: Path
) -> None:
    command, out = command_of_several, tmp_path / "out"
    first_download(command)
    published = killed_in_its_round(command, out, "--retry-failed")
    assert published and not published & {3, 8, 13, 18, 23, 28}
    markers = {path: path.read_bytes() for path in (out / "raw").glob("r0001*-*.json")}
    Web.gone = set()
    assert main([*command, *flag]) == 0
    asked = {n for n in Web.asked if n >= 0}
    assert asked == fetched - published if fetched == LOST else {35}
    assert set().union(*of_round(out, 1).values()) == fetched
    same = {path: path.read_bytes() for path in markers if path.exists()}
    assert (same == markers) == (fetched == LOST), "what was published stays, unless it is of another round"
    assert (download(out)["in"], download(out)["out"]) == (40, 5 + len(fetched))
    assert verify(str(out), level="full").problems == ()


def test_a_round_that_an_earlier_version_began_as_one_partition_goes_on_as_one(
    command_of_several: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command, out = command_of_several, tmp_path / "out"
    first_download(command)
    with monkeypatch.context() as patched:
        patched.setattr(retry, "rows_of_a_partition", lambda begun, rows: float("inf"))
        published = killed_by_the_end(command, patched)
    assert main([*command, "--retry-failed"]) == 0
    assert of_round(out, 1) == {"r0001": LOST} and not {n for n in Web.asked if n >= 0} & published
    assert verify(str(out), level="full").problems == ()


def killed_by_the_end(command: list[str], patched: pytest.MonkeyPatch) -> set[int]:
    """Ends a round when its downloads are there and its manifest is not."""
    Web.broken = set()
    patched.setattr(StageDir, "finish", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main([*command, "--retry-failed"])
    Web.asked = []
    return LOST
