"""Names to addresses, against a name server on loopback."""

from __future__ import annotations

import ipaddress
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


@pytest.mark.parametrize(
    "ttl_s, least_s, asked_twice",
    [
        (0, 60, False),  # less than a minute is a minute
        (1_000, 0, False),
        (0, 0, True),
    ],
)
def test_an_answer_is_kept_for_its_own_time_and_a_minute_at_least(
    monkeypatch: pytest.MonkeyPatch, ttl_s: int, least_s: int, asked_twice: bool
) -> None:
    monkeypatch.setattr(resolving, "MIN_TTL_S", least_s)
    with hostile.dns(dict(NAMES)) as server:
        server.ttl_s = ttl_s
        resolver = Resolver(FetchConfig(nameservers=(server.place,)))
        assert asked(resolver, "one.example") == asked(resolver, "one.example") == [Answer(("192.0.2.1",))]
        assert server.asked["one.example"] == 1 + asked_twice


@pytest.mark.parametrize("host, name", [("none.example", "NOT_FOUND_TTL_S"), ("broken.example", "FAILED_TTL_S")])
def test_what_failed_is_remembered_for_a_while_too(
    made: Any, monkeypatch: pytest.MonkeyPatch, host: str, name: str
) -> None:
    resolver, counts = made
    first = asked(resolver, host)
    before = counts[host]
    assert asked(resolver, host) == first and counts[host] == before
    resolver.forget_failures()
    monkeypatch.setattr(resolving, name, 0)
    asked(resolver, host)
    now = counts[host]
    assert now > before and asked(resolver, host) == first and counts[host] > now


def test_a_name_that_can_be_none_is_not_found(made: Any) -> None:
    resolver, _ = made
    assert asked(resolver, "x" * 64 + ".test") == [Answer(reason=Reason.DNS_NOT_FOUND)]


def test_addresses_come_once_each_and_in_order() -> None:
    with hostile.dns({"many.test": [["192.0.2.7", "192.0.2.3", "192.0.2.7"]]}) as server:
        (found,) = asked(Resolver(FetchConfig(nameservers=(server.place,))), "many.test")
    assert sorted(found.addresses) == ["192.0.2.3", "192.0.2.7"] and found.port == 0 and found.reason is None


@pytest.mark.parametrize("host", ["a.example", "a.invalid", "a.test", "test", "a.test."])
def test_reserved_names_are_asked_of_servers_of_ones_own_alone(host: str) -> None:
    answers: list[Answer] = []
    Resolver(FetchConfig()).lookup(host, answers.append)
    assert answers == [Answer(reason=Reason.DNS_NOT_FOUND)]
    with hostile.dns({host.rstrip("."): [["192.0.2.1"]]}) as server:
        assert asked(Resolver(FetchConfig(nameservers=(server.place,))), host) == [Answer(("192.0.2.1",))]


@pytest.mark.parametrize("host", ["example.org", "a.tests", "invalid.org", "testing"])
def test_others_wait_for_their_answer(host: str) -> None:
    """Which never comes here: nobody delivers it."""
    with hostile.dns({}) as server:
        resolver = Resolver(FetchConfig(nameservers=(server.place,)))
        answers: list[Answer] = []
        resolver.lookup(host, answers.append)
        assert answers == []
        asked(resolver, host)
        assert answers == [Answer(reason=Reason.DNS_NOT_FOUND)], "who asked first hears it too"


def test_a_place_that_was_given_goes_before_everything() -> None:
    resolver = Resolver(FetchConfig(endpoints=(("192.0.2.7", "127.0.0.1", 1), ("a.test", "127.0.0.2", 2))))
    found: list[Answer] = []
    for host in ("192.0.2.7", "a.test", "b.test"):
        resolver.lookup(host, found.append)
    assert found == [Answer(("127.0.0.1",), 1), Answer(("127.0.0.2",), 2), Answer(reason=Reason.DNS_NOT_FOUND)]


def test_this_machine_knows_itself_without_any_server() -> None:
    (found,) = asked(Resolver(FetchConfig()), "localhost")
    assert found.addresses and all(ipaddress.ip_address(address).is_loopback for address in found.addresses)


def test_what_was_delivered_wakes_nobody_again(made: Any) -> None:
    resolver, _ = made
    asked(resolver, "one.example", "two.example")
    resolver.deliver()
    assert select.select([resolver.fileno()], [], [], 0)[0] == []
