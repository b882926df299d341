"""The fetch process: a fault of ours costs the request that brought it out, at whatever step of the loop it comes."""

from __future__ import annotations

import dataclasses
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
import wit.fetch.fetcher
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
from wit.fetch.ring import FETCHING, USUAL_BYTES, WAITING, create_segment, map_segment, progress_of
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


class Supervised:
    """A fetch process that is a thread of this one, with what its supervisor sees of it."""

    def __init__(self, config: FetchConfig, tmp_path: Path, *, known: dict[str, Any] | None = None) -> None:
        ours, theirs = socket.socketpair()
        self.channel = Channel(ours)
        fd = create_segment(USUAL_BYTES)
        self.memory = map_segment(fd, USUAL_BYTES)
        self.fetcher = Fetcher(Channel(theirs), fd, USUAL_BYTES)
        known = {"robots": {}, "hosts": {}} | (known or {})
        self.thread = threading.Thread(target=self.fetcher.run, args=(config, known, str(tmp_path / "places")))
        self.heard: list[tuple[Any, ...]] = []
        self.thread.start()

    def fetch(self, *urls: str, first: int = 0) -> None:
        self.channel.send(("fetch", [(first + number, url, "") for number, url in enumerate(urls)]))

    def hear(self, there_is: Callable[[], Any], seconds: float = 20) -> Any:
        """Listens until something is so, and returns it; None after the time."""
        until = time.monotonic() + seconds
        while not (found := there_is()) and time.monotonic() < until and self.thread.is_alive():
            self.heard += self.channel.receive()
            time.sleep(0.005)
        return found

    def outcome(self, number: int, seconds: float = 20) -> Outcome | None:
        def found() -> Outcome | None:
            return next((m[1] for m in self.heard if m[0] == "outcome" and m[1].id == number), None)

        outcome: Outcome | None = self.hear(found, seconds)
        return outcome

    def told(self, kind: str) -> list[tuple[Any, ...]]:
        return [message for message in self.heard if message[0] == kind]

    def end(self) -> None:
        self.channel.close()
        self.thread.join(20)
        self.fetcher.channel.close()
        assert not self.thread.is_alive(), "the fetch process ends with its supervisor"


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Callable[..., Supervised]]:
    started: list[Supervised] = []

    def start(config: FetchConfig, **named: Any) -> Supervised:
        started.append(Supervised(config, tmp_path, **named))
        return started[-1]

    yield start
    for one in started:
        one.end()


def large(number: int, size: int) -> bytes:
    return bytes([number]) * size


def test_bodies_wait_for_room_and_stand_where_their_outcomes_say(
    web: Any, supervised: Callable[..., Supervised]
) -> None:
    """Two of them fit into the ring."""
    bodies = {number: large(number + 1, USUAL_BYTES * 2 // 5) for number in range(5)}
    web.routes |= {f"/large{number}": hostile.ok(body) for number, body in bodies.items()}
    one = supervised(for_local_web(web.endpoints("good0.example")))
    one.fetch(*(f"http://good0.example/large{number}" for number in bodies))

    def here() -> list[Outcome]:
        return [message[1] for message in one.told("outcome")]

    for arrived in (2, 4, 5):
        assert one.hear(lambda arrived=arrived: len(here()) == arrived)  # type: ignore[misc]
        assert not one.hear(lambda arrived=arrived: len(here()) > arrived, seconds=0.2), "no room"  # type: ignore[misc]
        for outcome in here()[arrived - (arrived % 2 or 2) :]:
            assert one.memory[outcome.region : outcome.region + outcome.bytes] == bodies[outcome.id]
            one.channel.send(("free", outcome.region))
    assert sorted(outcome.id for outcome in here()) == sorted(bodies)
    assert {outcome.reason for outcome in here()} == {None}


def test_what_brought_no_body_needs_no_room(web: Any, supervised: Callable[..., Supervised]) -> None:
    web.routes["/all"] = hostile.ok(large(1, USUAL_BYTES))
    one = supervised(for_local_web(web.endpoints("good0.example")))
    one.fetch("http://good0.example/all")
    assert one.outcome(0)
    one.fetch("http://good0.example/1.jpg", "http://good0.example/none.jpg", first=1)
    lost = one.outcome(2)
    assert lost and lost.reason is Reason.HTTP_NOT_FOUND and lost.region == -1 and not one.outcome(1, seconds=0.2)


def test_its_supervisor_hears_that_it_lives_and_sees_when_it_waits(
    web: Any, supervised: Callable[..., Supervised]
) -> None:
    one = supervised(for_local_web(web.endpoints("good0.example")))
    assert one.hear(lambda: one.told("beat"))
    one.fetch("http://good0.example/0.jpg", first=41)
    assert one.outcome(41) and one.hear(lambda: progress_of(one.memory)[FETCHING] == WAITING)
    assert one.hear(lambda: len(one.told("beat")) > 1, seconds=10)


def test_what_servers_ask_for_is_told_and_a_later_process_knows_it(
    web: Any, supervised: Callable[..., Supervised]
) -> None:
    config = for_local_web(web.endpoints("good0.example", "poison.example"))
    one = supervised(config)
    one.fetch("http://poison.example/later", "http://good0.example/0.jpg")
    assert one.outcome(0) and one.outcome(1)
    assert one.hear(lambda: len(one.told("robots")) == 2 and one.told("wish"))
    robots = {origin: entry for _, origin, entry in one.told("robots")}
    (poison,) = (entry for origin, entry in robots.items() if "poison" in origin)
    assert "disallow: /poison" in poison["text"] and poison["agent"] == "wit"
    wishes = {host: entry for _, host, entry in one.told("wish")}
    assert wishes["poison.example"]["status"] == 429 and wishes["poison.example"]["closed_until"] > time.time() + 3_000

    asked = web.counts["poison.example", "/robots.txt"], web.counts["poison.example", "/x.jpg"]
    other = supervised(config, known={"robots": robots, "hosts": wishes})
    other.fetch("http://poison.example/poison.jpg", "http://poison.example/x.jpg")
    closed, later = other.outcome(0), other.outcome(1)
    assert {closed and closed.reason, later and later.reason} & {Reason.ROBOTS_DISALLOWED, Reason.HOST_UNAVAILABLE}
    assert asked == (web.counts["poison.example", "/robots.txt"], web.counts["poison.example", "/x.jpg"])


def test_failures_can_be_forgotten(web: Any, supervised: Callable[..., Supervised]) -> None:
    names: dict[str, object] = {"a.test": "servfail"}
    with hostile.dns(names) as server:
        port = web.port()
        config = FetchConfig(allow_addresses=("127.0.0.1",), nameservers=(server.place,), retries=0)
        one = supervised(config)
        url = f"http://a.test:{port}/0.jpg"
        one.fetch(url)
        lost = one.outcome(0)
        assert lost and lost.reason is Reason.DNS_FAILED
        names["a.test"] = [["127.0.0.1"]] * 9
        one.channel.send(("forget failures",))
        one.fetch(url, first=1)
        found = one.outcome(1)
        assert found and found.reason is None


def test_three_faults_of_ours_are_shown_and_the_others_counted(
    web: Any, supervised: Callable[..., Supervised], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(wit.fetch.transfers, "opt_out", poisoned(wit.fetch.transfers.opt_out))
    one = supervised(for_local_web(web.endpoints("good0.example")))
    one.fetch(*(f"http://good0.example/x.jpg?{n}" for n in range(5)))
    assert {outcome and outcome.reason for outcome in map(one.outcome, range(5))} == {Reason.FETCHER_CRASHED}
    assert capfd.readouterr().err.count("ZeroDivisionError: a fault of ours") == 3


def test_limits_are_read_again_and_what_is_malformed_changes_nothing(
    web: Any,
    supervised: Callable[..., Supervised],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(wit.fetch.fetcher, "LIMITS_S", 0.05)
    file = tmp_path / "limits.toml"
    file.write_text('["good0.example"]\ndeny = true\n', encoding="utf-8")
    config = for_local_web(web.endpoints("good0.example", "good1.example"))
    one = supervised(dataclasses.replace(config, host_limits=str(file)))

    def reason(number: int, host: str) -> Reason | None:
        one.fetch(f"http://{host}.example/{number}.jpg", first=number)
        outcome = one.outcome(number)
        assert outcome
        if outcome.reason is None:
            one.channel.send(("free", outcome.region))
        return outcome.reason

    assert (reason(0, "good0"), reason(1, "good1")) == (Reason.HOST_DENIED, None)
    for text, words in (("[", "is not TOML"), (None, "no such file")):
        if text is None:
            file.unlink()
        else:
            file.write_text(text, encoding="utf-8")
        heard: list[str] = []
        assert one.hear(
            lambda heard=heard, words=words: heard.append(capfd.readouterr().err) or words in "".join(heard)
        )  # type: ignore[misc]
        one.hear(lambda: False, seconds=0.3)
        assert ("".join(heard) + capfd.readouterr().err).count("; what it said before goes on") == 1, (
            "once, not each time"
        )
    assert reason(2, "good0") is Reason.HOST_DENIED
    file.write_text('["good1.example"]\ndeny = true\n', encoding="utf-8")
    until = time.monotonic() + 20
    numbers = iter(range(3, 12))
    while reason(next(numbers), "good0") is not None and time.monotonic() < until:
        time.sleep(0.1)
    assert reason(next(numbers), "good1") is Reason.HOST_DENIED
