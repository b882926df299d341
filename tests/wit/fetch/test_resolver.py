"""Names to addresses, against a name server on loopback."""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from typing import Any

import hostile
import pytest

from wit.fetch import resolver as resolving
from wit.fetch.config import FetchConfig
from wit.fetch.resolver import Answer, Resolver
from wit.reasons import Reason

NAMES: dict[str, object] = {
    "one.example": [["192.0.2.1"]],
    "two.example": [["192.0.2.1", "192.0.2.2"]],
    "moving.example": [["192.0.2.1"], ["192.0.2.9"]],
    "none.example": [[]],
    "broken.example": "servfail",
}


def asked(resolver: Resolver, *hosts: str, seconds: float = 20) -> list[Answer]:
    """The answers, in the order of the hosts."""
    found: dict[int, Answer] = {}
    for place, host in enumerate(hosts):
        resolver.lookup(host, lambda answer, place=place: found.__setitem__(place, answer))  # type: ignore[misc]
    until = time.monotonic() + seconds
    while len(found) < len(hosts) and time.monotonic() < until:
        if select.select([resolver.fileno()], [], [], 0.1)[0]:
            resolver.deliver()
    return [found[place] for place in range(len(hosts))]


@pytest.fixture
def made() -> Any:
    """(a resolver that asks the name server, how often that was asked for each name)."""
    with hostile.dns(dict(NAMES)) as server:
        yield Resolver(FetchConfig(nameservers=(server.place,))), server.asked


def test_a_name_has_its_addresses_or_the_reason_why_there_are_none(made: Any) -> None:
    resolver, _ = made
    assert asked(resolver, "one.example", "two.example", "none.example", "broken.example") == [
        Answer(("192.0.2.1",)),
        Answer(("192.0.2.1", "192.0.2.2")),
        Answer(reason=Reason.DNS_NOT_FOUND),
        Answer(reason=Reason.DNS_FAILED),
    ]


def test_a_name_is_asked_once_for_all_who_want_it_and_then_known(made: Any) -> None:
    resolver, counts = made
    assert asked(resolver, *["one.example"] * 5) == [Answer(("192.0.2.1",))] * 5
    assert asked(resolver, "one.example") == [Answer(("192.0.2.1",))]
    assert counts["one.example"] == 1


def test_an_answer_is_asked_for_anew_once_its_time_is_over(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    resolver, counts = made
    monkeypatch.setattr(resolving, "MIN_TTL_S", 0)  # the server's own time to live is 0 s
    assert asked(resolver, "moving.example") == [Answer(("192.0.2.1",))]
    assert asked(resolver, "moving.example") == [Answer(("192.0.2.9",))] and counts["moving.example"] == 2


def test_failures_can_be_forgotten_and_addresses_stay(made: Any) -> None:
    resolver, counts = made
    asked(resolver, "one.example", "none.example")
    resolver.forget_failures()
    asked(resolver, "one.example", "none.example")
    assert (counts["one.example"], counts["none.example"]) == (1, 2)


def test_the_oldest_name_goes_where_there_are_too_many(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    resolver, counts = made
    monkeypatch.setattr(resolving, "MAX_NAMES", 2)
    for host in ("one.example", "two.example", "none.example", "two.example", "one.example"):
        asked(resolver, host)
    assert counts["one.example"] == 2 and counts["two.example"] == 1


@pytest.mark.parametrize(
    "host, answer",
    [
        ("192.0.2.7", Answer(("192.0.2.7",))),
        ("[2001:db8::1]", Answer(("2001:db8::1",))),
        ("given.example", Answer(("127.0.0.1",), 8_080)),
        ("nobody.example", Answer(reason=Reason.DNS_NOT_FOUND)),
        ("nobody.invalid.", Answer(reason=Reason.DNS_NOT_FOUND)),
    ],
)
def test_what_needs_no_server_is_answered_at_once(host: str, answer: Answer) -> None:
    resolver = Resolver(FetchConfig(endpoints=(("given.example", "127.0.0.1", 8_080),)))
    found: list[Answer] = []
    keep: Callable[[Answer], None] = found.append
    resolver.lookup(host, keep)
    assert found == [answer]
