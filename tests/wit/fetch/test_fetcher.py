"""The fetch process: a fault of ours costs the request that brought it out, at whatever step of the loop it comes."""

from __future__ import annotations

import functools
import gc
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import wit.fetch.client
import wit.fetch.lanes
import wit.fetch.resolver
import wit.fetch.robots
import wit.fetch.scheduler
import wit.fetch.transfers
import wit.fetch.wishes
from wit.fetch.channel import Channel
from wit.fetch.client import Client
from wit.fetch.config import FetchConfig, for_local_web
from wit.fetch.engine import Engine
from wit.fetch.fetcher import Fetcher
from wit.fetch.outcome import Outcome, Request
from wit.fetch.ring import USUAL_BYTES, create_segment
from wit.images.config import ImageConfig
from wit.reasons import Reason

hostile = sys.modules["hostile"]  # loaded by conftest
JPEG = hostile.picture()
# pycurl takes sockets by their number and lets the objects go; elsewhere that happens in a process of its own.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

STEPS: list[tuple[object, str]] = [
    *[
        (Client, name)
        for name in "_route _advance _resolve _address _robots_ready _lanes_of _robots_arrived _take_robots _next_allowed "
        "_refused _start _judge _redirected _tell_breaker _failed".split()
    ],
    (wit.fetch.client, "last"),
    (wit.fetch.client, "retry_after_s"),
    (wit.fetch.transfers, "opt_out"),
    (wit.fetch.transfers, "content_length"),
    (wit.fetch.transfers, "text_of"),
    (wit.fetch.transfers.Transfers, "start"),
    (wit.fetch.transfers.Transfers, "_configure"),
    (wit.fetch.transfers.Transfers, "_verdict_on_headers"),
    (wit.fetch.transfers.Transfers, "_must_pause"),
    (wit.fetch.robots, "our_group"),
    (wit.fetch.robots.Robots, "allows"),
    (wit.fetch.scheduler.Scheduler, "origin"),
    (wit.fetch.scheduler.Scheduler, "wake"),
    (wit.fetch.lanes.Lanes, "of"),
    (wit.fetch.wishes.Wishes, "delay"),
    (wit.fetch.wishes.Wishes, "delay_s"),
    (wit.fetch.wishes.Wishes, "closed_by"),
    (wit.fetch.wishes.Wishes, "close"),
    (wit.fetch.resolver.Resolver, "lookup"),
]
POISON = [f"http://poison.example/{name}" for name in ("x.jpg", "404.jpg", "redirect", "busy", "later", "x.jpg?again")]
GOOD = [f"http://good{n % 3}.example/{n}.jpg" for n in range(12)]


def poisoned(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, which raises where anything that it is given speaks of the poisoned host."""

    @functools.wraps(function)
    def step(*given: Any, **named: Any) -> Any:
        if "poison" in repr((given, named)):
            raise ZeroDivisionError("a fault of ours")
        return function(*given, **named)

    return step


def fetch_here(urls: Sequence[str], config: FetchConfig, tmp_path: Path) -> dict[str, Outcome]:
    """The URLs through a fetch process that is a thread of this one; each of them must come out once."""
    ours, theirs = socket.socketpair()
    channel = Channel(ours)
    fetcher = Fetcher(Channel(theirs), create_segment(USUAL_BYTES), USUAL_BYTES)
    thread = threading.Thread(target=fetcher.run, args=(config, {"robots": {}, "hosts": {}}, str(tmp_path / "places")))
    thread.start()
    channel.send(("fetch", [(number, url, "") for number, url in enumerate(urls)]))
    found: dict[str, Outcome] = {}
    deadline = time.monotonic() + 30
    while len(found) < len(urls) and time.monotonic() < deadline and thread.is_alive():
        for message in channel.receive():
            if message[0] == "outcome":
                outcome = message[1]
                assert urls[outcome.id] not in found
                found[urls[outcome.id]] = outcome
                if outcome.reason is None:
                    channel.send(("free", outcome.region))
        time.sleep(0.01)
    channel.close()
    thread.join()
    return found


@pytest.fixture(autouse=True)
def sockets_end_here() -> Iterator[None]:
    yield
    gc.collect()


@pytest.fixture(scope="module")
def web() -> Iterator[Any]:
    with hostile.hostile_web() as one:
        one.routes |= {f"/{n}.jpg": hostile.ok(JPEG) for n in range(12)}
        one.routes |= {
            "/x.jpg": hostile.ok(JPEG, x_poison="poison"),
        }
        moved = hostile.ok(b"", status="302 Found", location="/x.jpg", x_poison="poison")
        one.routes["/redirect"] = moved
        one.routes["/busy"] = hostile.ok(b"", status="503 poison", x_poison="poison", retry_after="0")
        one.routes["/later"] = hostile.ok(b"", status="429 poison", x_poison="poison", retry_after="3600")
        one.routes["poison.example/robots.txt"] = hostile.ok(b"User-agent: *\nDisallow: /poison\nCrawl-delay: 0.01")
        yield one


@pytest.mark.parametrize("owner, name", STEPS, ids=[f"{getattr(o, '__name__', '')}.{name}" for o, name in STEPS])
def test_a_fault_at_any_step_costs_only_what_brought_it_out(
    web: Any, owner: Any, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(owner, name, poisoned(getattr(owner, name)))
    hosts = {url.split("/")[2] for url in POISON + GOOD}
    found = fetch_here(POISON + GOOD, for_local_web(web.endpoints(*hosts)), tmp_path)
    assert set(found) == {*POISON, *GOOD}
    assert {found[url].reason for url in GOOD} == {None}
    assert Reason.FETCHER_CRASHED in {found[url].reason for url in POISON}
    assert "a fault of ours" in capfd.readouterr().err  # its makers hear of it


DEADLY = """
import os, sys
if any("wit.fetch.child" in argument for argument in sys.orig_argv):
    import wit.fetch.client
    real = wit.fetch.client.Client._judge
    def judge(self, transfer, *more):
        if "poison" in transfer.job.url:
            os.kill(os.getpid(), 9)
        return real(self, transfer, *more)
    wit.fetch.client.Client._judge = judge
"""


def test_a_request_that_kills_the_fetch_process_twice_is_blamed_for_it(
    web: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(DEADLY)
    monkeypatch.syspath_prepend(str(tmp_path))
    urls = [*GOOD, "http://poison.example/x.jpg", "http://poison.example/404.jpg"]
    config = for_local_web(web.endpoints(*{url.split("/")[2] for url in urls}))
    found: dict[str, Outcome] = {}
    with Engine(config, ImageConfig(), str(tmp_path)) as engine:
        engine.submit([Request(number, url) for number, url in enumerate(urls)])
        deadline = time.monotonic() + 60
        while len(found) < len(urls) and time.monotonic() < deadline:
            found |= {urls[outcome.id]: outcome for outcome in engine.poll(0.05)}
    assert {found[url].reason for url in GOOD} == {None}
    assert {found[url].reason for url in urls[-2:]} == {Reason.FETCHER_CRASHED}
