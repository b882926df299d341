"""Survival: whoever dies, every URL comes out once, and only a picture that is at fault is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import psutil
import pytest

import wit.fetch.engine
from tests.loopback import serving
from wit.errors import EngineError
from wit.fetch.config import for_local_web
from wit.fetch.engine import Engine
from wit.fetch.outcome import Outcome, Request
from wit.images.config import ImageConfig
from wit.records import Reason

hostile = sys.modules["hostile"]  # loaded by conftest
FetchAll = Callable[..., dict[str, Outcome]]

DANGEROUS = """
import os, signal, time
from wit.images.process import process as real

def process(data, config, blocked):
    if b"CRASH" in data:
        os.kill(os.getpid(), signal.SIGSEGV)
    if b"HANG" in data:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
        while True:
            time.sleep(60)
    return real(data, config, blocked)
"""


@pytest.fixture
def dangerous(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A decoder that some pictures crash or hang, as a native library might."""
    (tmp_path / "dangerous.py").write_text(DANGEROUS)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "dangerous:process"


def serve(web: object, pictures: int) -> list[str]:
    web.routes |= {f"/{n}.jpg": hostile.ok(hostile.picture(seed=n)) for n in range(pictures)}  # type: ignore[attr-defined]
    return [f"http://a{n % 4}.example/{n}.jpg" for n in range(pictures)]


def config_for(web: object) -> object:
    return for_local_web(web.endpoints(*(f"a{n}.example" for n in range(4))))  # type: ignore[attr-defined]


def test_a_picture_that_crashes_the_decoder_costs_itself_alone(fetch_all: FetchAll, dangerous: str) -> None:
    with hostile.hostile_web() as web:
        urls = serve(web, 12)
        web.routes["/5.jpg"] = hostile.ok(b"CRASH")
        found = fetch_all(urls, config_for(web), work=dangerous)
    assert [n for n, url in enumerate(urls) if found[url].reason is not None] == [5]
    assert found[urls[5]].reason is Reason.DECODER_CRASHED


def test_a_picture_that_hangs_the_decoder_costs_itself_alone(fetch_all: FetchAll, dangerous: str) -> None:
    with hostile.hostile_web() as web:
        urls = serve(web, 12)
        web.routes["/5.jpg"] = hostile.ok(b"HANG")
        found = fetch_all(urls, config_for(web), ImageConfig(decode_timeout_s=1), work=dangerous)
    assert [n for n, url in enumerate(urls) if found[url].reason is not None] == [5]
    assert found[urls[5]].reason is Reason.DECODER_TIMEOUT


def test_a_supervisor_that_was_away_blames_no_picture(tmp_path: Path) -> None:
    with hostile.hostile_web() as web:
        urls = serve(web, 12)
        config = config_for(web)
        with Engine(config, ImageConfig(decode_timeout_s=1), str(tmp_path)) as one:  # type: ignore[arg-type]
            one.submit([Request(number, url) for number, url in enumerate(urls)])
            time.sleep(3)  # by now both children wait for us
            found: list[Outcome] = []
            deadline = time.monotonic() + 20
            while len(found) < len(urls) and time.monotonic() < deadline:
                found += one.poll(0.1)
    assert [outcome.reason for outcome in found] == [None] * 12


@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGSEGV])
@pytest.mark.parametrize("victim", ["fetcher", "decoder"])
def test_a_killed_child_loses_nothing(fetch_all: FetchAll, victim: str, signal_number: int) -> None:
    kills = iter((3, 40, 60))
    due = [next(kills)]

    def kill(engine: Engine) -> None:
        child = getattr(engine, victim)
        done = 120 - engine.pending
        if due and child is not None and done >= due[0]:
            os.kill(child.process.pid, signal_number)
            due[:] = [n for n in (next(kills, 0),) if n]

    with hostile.hostile_web() as web:
        urls = serve(web, 120)
        found = fetch_all(urls, config_for(web), during=kill)
    assert len(found) == 120
    assert [outcome.reason for outcome in found.values() if outcome.reason] == []


def test_a_fetch_process_that_is_killed_while_it_waits_blames_no_request(tmp_path: Path) -> None:
    arrived, released = threading.Semaphore(0), threading.Event()

    class Slow(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            arrived.release()
            released.wait(20)
            self.send_error(404)

        def log_message(self, *_: object) -> None: ...

    with serving(Slow) as port:
        local = for_local_web([("slow.example", "127.0.0.1", port)])
        config = replace(local, respect_robots=False, respect_opt_out=False, timeout_s=20)
        with Engine(config, ImageConfig(), str(tmp_path)) as one:
            one.submit([Request(0, "http://slow.example/a.jpg")])
            ended: list[Outcome] = []
            for _ in range(3):
                while not arrived.acquire(blocking=False) and one.pending:
                    ended += one.poll(0.05)
                assert one.fetcher is not None and not ended
                process = psutil.Process(one.fetcher.process.pid)
                while process.status() != psutil.STATUS_SLEEPING:
                    time.sleep(0.01)
                process.kill()
                while one.fetcher is not None and one.fetcher.process.pid == process.pid:
                    ended += one.poll(0.05)
            released.set()
            while one.pending:
                ended += one.poll(0.05)
    assert [outcome.reason for outcome in ended] == [Reason.HTTP_NOT_FOUND]


def test_a_fetch_process_without_room_on_the_disk_for_what_it_maps_blames_no_request(fetch_all: FetchAll) -> None:
    def starve(engine: Engine) -> None:
        if engine.fetcher is not None and engine.decoder_ready:
            os.kill(engine.fetcher.process.pid, signal.SIGBUS)

    with hostile.hostile_web() as web, pytest.raises(OSError, match="No space left on device"):
        fetch_all(serve(web, 120), config_for(web), during=starve)


def test_a_fetch_process_that_falls_silent_is_replaced(fetch_all: FetchAll, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wit.fetch.engine, "SILENCE_S", 3)
    stopped: list[int] = []

    def stop(engine: Engine) -> None:
        if not stopped and engine.fetcher is not None and engine.decoder_ready:
            stopped.append(engine.fetcher.process.pid)
            os.kill(engine.fetcher.process.pid, signal.SIGSTOP)

    with hostile.hostile_web() as web:
        found = fetch_all(serve(web, 30), config_for(web), during=stop)
    assert len(found) == 30 and stopped


def test_children_end_with_their_supervisor() -> None:
    code = (
        "import os, time; from wit.fetch.config import FetchConfig; from wit.fetch.engine import Engine; "
        "from wit.images.config import ImageConfig; e = Engine(FetchConfig(), ImageConfig(), '/tmp'); "
        "print(e.fetcher.process.pid, e.decoder.process.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        children = [int(word) for word in parent.stdout.readline().split()]
        time.sleep(0.5)
        parent.kill()
    deadline = time.monotonic() + 10
    while any(psutil.pid_exists(pid) for pid in children) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not [pid for pid in children if psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie"]


def test_a_child_that_never_starts_is_an_error_and_no_hang(fetch_all: FetchAll) -> None:
    with hostile.hostile_web() as web, pytest.raises(EngineError, match="decode process died"):
        fetch_all(serve(web, 2), config_for(web), work="no.such.module:process")


def test_what_was_not_sent_yet_is_taken_back_and_what_was_sent_ends(tmp_path: Path) -> None:
    with hostile.hostile_web() as web:
        urls = [url.replace("a1", "a0").replace("a2", "a0").replace("a3", "a0") for url in serve(web, 60)]
        config = replace(config_for(web), host_rate_per_s=10, per_host=2)  # type: ignore[type-var]
        with Engine(config, ImageConfig(), str(tmp_path)) as one:  # type: ignore[arg-type]
            one.submit([Request(number, url) for number, url in enumerate(urls)])
            ended = []
            while len(ended) < 5:
                ended += one.poll(0.1)
            one.recall()
            deadline = time.monotonic() + 20
            while one.pending and time.monotonic() < deadline:
                ended += one.poll(0.1)
                one.recall()
            assert not one.pending and 5 <= len(ended) <= 20
        asked = [path for _, _, path in web.asked if path.endswith(".jpg")]
    assert sorted(f"http://a0.example{path}" for path in asked) == sorted(urls[outcome.id] for outcome in ended)
    assert {outcome.reason for outcome in ended} == {None}
