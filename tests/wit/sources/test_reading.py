"""Remote files of a source: asked for again within the budget, gone on with where they broke off."""

from __future__ import annotations

import http.server
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.loopback import serving
from wit.sources import RequestBudget, SourceReport, reading
from wit.sources.reading import open_source

ROOT = Path(__file__).parents[3]
DATA = b"0123456789" * 50_000
FAST = RequestBudget(requests_per_s=1_000, backoff_s=0.001, attempts=4)


class Breaking(http.server.BaseHTTPRequestHandler):
    """Sends half of what is missing each time, then the rest."""

    breaks: int
    asked: list[str]
    after = ""

    def do_GET(self) -> None:
        given = self.headers.get("Range", "")
        start = int(given.removeprefix("bytes=").rstrip("-") or 0)
        self.asked.append(given)
        if type(self).after:
            self.send_response(503)
            self.send_header("Retry-After", type(self).after)
            self.send_header("Content-Length", "0")
            self.end_headers()
            type(self).after = ""
            return
        left = len(DATA) - start
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(DATA) - 1}/{len(DATA)}")
        self.send_header("ETag", '"v1"')
        self.send_header("Content-Length", str(left))
        self.end_headers()
        if type(self).breaks:
            type(self).breaks -= 1
            left //= 2
        self.wfile.write(DATA[start : start + left])
        self.close_connection = True

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def server() -> Iterator[tuple[type[Breaking], str]]:
    handler = type("One", (Breaking,), {"breaks": 0, "asked": []})
    with serving(handler) as port:
        yield handler, f"http://127.0.0.1:{port}/t.csv"


def test_a_file_that_breaks_off_costs_what_is_missing_and_a_request_each(server: tuple[type[Breaking], str]) -> None:
    handler, url = server
    handler.breaks = 3
    with open_source(url, SourceReport(url), FAST) as stream:
        assert stream.read() == DATA
    assert handler.asked == ["", "bytes=250000-", "bytes=375000-", "bytes=437500-"]


def test_a_file_that_keeps_breaking_off_is_given_up_within_the_budget(server: tuple[type[Breaking], str]) -> None:
    handler, url = server
    handler.breaks = 99
    with pytest.raises(OSError, match="broke off"), open_source(url, SourceReport(url), FAST):
        pass
    assert len(handler.asked) == FAST.attempts


@pytest.mark.parametrize("asked, waited", [("30", 30.0), ("86400", reading.MOST_PATIENCE_S), ("soon", 0.001)])
def test_a_server_is_left_alone_for_as_long_as_it_asks(
    server: tuple[type[Breaking], str], monkeypatch: pytest.MonkeyPatch, asked: str, waited: float
) -> None:
    handler, url = server
    handler.after = asked
    pauses: list[float] = []
    monkeypatch.setattr(reading.time, "sleep", pauses.append)
    with open_source(url, SourceReport(url), FAST) as stream:
        assert stream.read() == DATA
    assert max(pauses) == waited


class Counting(http.server.BaseHTTPRequestHandler):
    """Notes when it was asked, and how many askers it has at a time."""

    at_once: int
    most: int
    times: list[float]
    lock = threading.Lock()

    def do_GET(self) -> None:
        with self.lock:
            type(self).at_once += 1
            type(self).most = max(self.most, self.at_once)
            self.times.append(time.monotonic())
        time.sleep(0.05)
        with self.lock:
            type(self).at_once -= 1
        self.send_response(200)
        self.send_header("Content-Length", "1")
        self.end_headers()
        self.wfile.write(b"x")

    def log_message(self, *_: object) -> None: ...


READERS = """
import os
import sys
import requests  # before the clock runs
from wit.sources import RequestBudget, SourceReport
from wit.sources.reading import open_source
from wit.store import turns
turns.WAIT_S = 0.02
out, *urls = sys.argv[1:]
budget = RequestBudget(requests_per_s=5, workers=2, shares_in=out)
for url in urls:
    if not os.fork():
        with open_source(url, SourceReport(url), budget) as stream:
            os._exit(stream.read() != b"x")
sys.exit(sum(os.wait()[1] for _ in urls))
"""


def test_workers_that_do_not_see_each_other_keep_the_budget_of_the_job(tmp_path: Path) -> None:
    """Fifteen processes that read a file each, and two shares of five requests a second in all. By its own clock none of them
    waits; the last of fifteen is due 2.8 s after the first."""
    handler = type("One", (Counting,), {"at_once": 0, "most": 0, "times": []})
    with serving(handler) as port:
        urls = [f"http://127.0.0.1:{port}/{number}" for number in range(15)]
        subprocess.run([sys.executable, "-c", READERS, str(tmp_path), *urls], cwd=ROOT, check=True, timeout=60)
    assert len(handler.times) == 15 and handler.most <= 2
    assert max(handler.times) - min(handler.times) > 2.8 - 0.4  # the first may take a while to arrive


def test_who_takes_the_share_of_one_that_died_waits_for_what_that_may_have_asked(tmp_path: Path) -> None:
    handler = type("One", (Counting,), {"at_once": 0, "most": 0, "times": []})
    dying = READERS.replace(
        "budget = RequestBudget(requests_per_s=5, workers=2", "budget = RequestBudget(requests_per_s=0.5, workers=1"
    )
    dying = dying.replace(
        "os._exit(stream.read()", "os.kill(os.getpid(), 9) if url.endswith('die') else os._exit(stream.read()"
    )
    with serving(handler) as port:
        for name, status in (("die", 9), ("live", 0)):
            url = f"http://127.0.0.1:{port}/{name}"
            done = subprocess.run([sys.executable, "-c", dying, str(tmp_path), url], cwd=ROOT, check=False, timeout=60)
            assert done.returncode == status
    assert len(handler.times) == 2 and handler.times[1] - handler.times[0] > 2 - 0.1
    assert list((tmp_path / "_turns").glob("*.asked")) == []


def test_threads_of_one_process_hold_one_share(tmp_path: Path) -> None:
    handler = type("One", (Counting,), {"at_once": 0, "most": 0, "times": []})
    budget, held = RequestBudget(requests_per_s=1_000, workers=3, shares_in=str(tmp_path)), set[str]()
    with serving(handler) as port, ThreadPoolExecutor(6) as pool:

        def read(number: int) -> bytes:
            url = f"http://127.0.0.1:{port}/{number}"
            with open_source(url, SourceReport(url), budget) as stream:
                return stream.read()

        def look() -> None:
            while not over.wait(0.005):
                held.update({path.name for path in (tmp_path / "_turns").glob("*.asked")})

        over = threading.Event()
        looker = threading.Thread(target=look)
        looker.start()
        assert [*pool.map(read, range(12))] == [b"x"] * 12
        over.set()
        looker.join()
    assert handler.most > 1, "they fetch side by side"
    assert reading._Share.users == 0 and len(handler.times) == 12 and held
