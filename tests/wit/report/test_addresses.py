"""Addresses that several partitions met at a time, and what went to them by all of these together."""

from __future__ import annotations

from wit.download.met import Met
from wit.report.addresses import TOP, MetIn, SharedAddress, added, shared


def seen(partition: str, address: str, requests: int, at_once: int, first_s: float, last_s: float) -> MetIn:
    return MetIn(partition, Met(address, requests, at_once, first_s, last_s))


def test_raw_shards_of_one_partition_are_one() -> None:
    some = [
        seen("p", "a", 10, 2, 5, 9),
        seen("p", "a", 30, 1, 8, 20),
        seen("q", "a", 1, 1, 0, 1),
        seen("p", "b", 2, 1, 0, 1),
    ]
    assert added(some) == [seen("p", "a", 40, 2, 5, 20), seen("p", "b", 2, 1, 0, 1), seen("q", "a", 1, 1, 0, 1)]
    assert added(some, 1) == [seen("p", "a", 40, 2, 5, 20)]


def test_a_partition_that_comes_back_later_was_not_there_meanwhile() -> None:
    some = [seen("p", "a", 100, 1, 0, 1), seen("p", "a", 100, 1, 1000, 1001), seen("q", "a", 1, 1, 500, 501)]
    assert added(some) == [some[0], some[1], some[2]] and shared(added(some)) == []
    both = [seen(p, "a", 100, 1, begin, begin + 1) for p in ("p", "q") for begin in (0, 3600)]
    assert shared(added(both)) == [SharedAddress("a", 2, 400, 2, 200.0)]


def test_an_address_that_partitions_met_one_after_the_other_is_not_named() -> None:
    assert shared([seen("p", "a", 9, 2, 0, 10), seen("q", "a", 9, 2, 11, 20), seen("p", "b", 9, 9, 0, 9)]) == []


def test_rates_and_requests_in_flight_add_up_over_those_that_were_there_at_a_time() -> None:
    some = [seen("p", "a", 100, 4, 0, 10), seen("q", "a", 50, 2, 5, 15), seen("r", "a", 300, 8, 20, 30)]
    assert shared(some) == [SharedAddress("a", 2, 450, 8, 30.0)]


def test_the_page_gets_the_fastest() -> None:
    many = [seen(p, f"a{n:02d}", 10 * n, 1, 0, 10) for n in range(1, TOP + 6) for p in ("p", "q")]
    found = shared(many)
    assert len(found) == TOP and found[0] == SharedAddress(f"a{TOP + 5}", 2, 20 * (TOP + 5), 2, 2.0 * (TOP + 5))
