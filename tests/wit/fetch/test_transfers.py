"""Bodies in memory: a few that hold it and fall silent do not hold up the others."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace

import pycurl
import pytest

from wit.fetch.config import for_local_web
from wit.fetch.outcome import Outcome
from wit.fetch.transfers import Transfers
from wit.reasons import Reason

hostile = sys.modules["hostile"]  # loaded by conftest
FetchAll = Callable[..., dict[str, Outcome]]
JPEG = hostile.picture()
LARGE = bytes(19_900_000)


def silent(ask: object) -> Iterator[bytes]:
    yield hostile.ok(b"", content_length="20000000") + LARGE
    time.sleep(18)


def dripping(ask: object) -> Iterator[bytes]:
    yield hostile.ok(b"", content_length="20000000") + LARGE
    for _ in range(80):
        yield b"x"
        time.sleep(0.25)


@pytest.mark.parametrize("reply", [silent, dripping])
def test_large_bodies_that_fall_silent_give_their_memory_back(fetch_all: FetchAll, reply: object) -> None:
    """Eight URLs that send 19.9 MB and fall silent held the memory of all for a minute: 300 pictures took 60.8 s for 1.9."""
    slow = [f"http://slow{n}.example/large.jpg" for n in range(8)]
    good = [f"http://good{n % 10}.example/{n}.jpg" for n in range(300)]
    hosts = {url.split("/")[2] for url in slow + good}
    with hostile.hostile_web() as web:
        web.routes |= {f"/{n}.jpg": hostile.ok(JPEG) for n in range(300)}
        web.routes["/large.jpg"] = reply
        config = replace(for_local_web(web.endpoints(*hosts)), respect_robots=False, timeout_s=16, retries=0)
        plain = took(lambda: fetch_all(good, config))
        found = fetch_all(slow + good, config)
        last = max(found[url].started + found[url].duration_s for url in good) - min(o.started for o in found.values())
    assert {found[url].reason for url in good} == {None}
    # 3 are what others may lose, the rest is for other work on the machine: without the rule it is the time-out.
    assert last < plain + 12
    assert {found[url].reason for url in slow} == {Reason.TIMEOUT}
    assert Reason.TIMEOUT.transient


def took(work: Callable[[], object]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


def test_a_transfer_that_ended_while_it_was_paused_keeps_no_other_from_going_on() -> None:
    class Over:
        def pause(self, _: int) -> None:
            raise pycurl.error(43, "pause/unpause failed")

    class Going:
        paused = True

        def pause(self, _: int) -> None:
            self.paused = False

    going, transfers = Going(), object.__new__(Transfers)
    transfers._held = 10
    waiting = (SimpleNamespace(paused=True, moved=0.0, easy=easy) for easy in (Over(), going, Over()))
    transfers._transfers = dict(enumerate(waiting))  # type: ignore[arg-type]
    transfers.let_go(10)
    assert not going.paused
