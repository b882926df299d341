from collections.abc import Iterator

import pytest

from wit.fetch.config import FetchConfig
from wit.fetch.lanes import Lane
from wit.fetch.origins import Job, Origin
from wit.fetch.places import Claim
from wit.fetch.scheduler import ORIGINS_MAX, STALLED_MAX, UNTRIED_MAX, Scheduler
from wit.fetch.transfers import Transfer

IN_FLIGHT = 4


class InFlight:
    """As many requests as the test says, without a network."""

    def __init__(self) -> None:
        self.all: list[Transfer] = []
        self.full = False

    def __len__(self) -> int:
        return len(self.all)

    def __iter__(self) -> Iterator[Transfer]:
        return iter(self.all)


class Turns(Scheduler):
    def __init__(self) -> None:
        self.under_way = InFlight()
        super().__init__(FetchConfig(in_flight=IN_FLIGHT), self.under_way)  # type: ignore[arg-type]

    def host(self, name: str, *, answers: bool = False) -> Origin:
        origin, _ = self.origin("http", name, 80, name)
        origin.answers = answers
        return origin

    def request(self, origin: Origin) -> Transfer:
        lane = Lane(Claim("host x", 1, 0.0))
        transfer = Transfer(Job(0, "u"), origin, (lane, lane, lane), (0, 0, 0), 0.0, untried=not origin.answers)
        self.under_way.all.append(transfer)
        self.started(transfer)
        return transfer

    def end(self, transfer: Transfer) -> None:
        self.under_way.all.remove(transfer)
        self.left(transfer)


@pytest.fixture
def turns() -> Turns:
    return Turns()


def test_an_origin_is_one_for_scheme_host_and_port(turns: Turns) -> None:
    one, is_new = turns.origin("http", "a.example.com", 80, "")
    assert is_new and one.domain == "example.com"
    assert turns.origin("http", "a.example.com", 80, "") == (one, False)
    assert turns.origin("https", "a.example.com", 80, "other.example")[0].domain == "other.example"
    assert turns.origin("http", "a.example.com", 81, "")[1] and len(list(turns)) == 3


def test_turns_come_in_order_and_an_origin_that_waits_is_woken_once(turns: Turns) -> None:
    first, second = turns.host("a", answers=True), turns.host("b", answers=True)
    for origin in (first, second, first):
        turns.wake(origin)
    assert [turns.next(), turns.next(), turns.next()] == [first, second, None]
    turns.wake(first)
    assert turns.next() is first


@pytest.mark.parametrize("obstacle", ["held_back", "full"])
def test_nothing_starts_while_pictures_wait_or_requests_are_as_many_as_may_be(turns: Turns, obstacle: str) -> None:
    turns.wake(turns.host("a", answers=True))
    setattr(turns if obstacle == "held_back" else turns.under_way, obstacle, True)
    assert turns.next() is None
    setattr(turns if obstacle == "held_back" else turns.under_way, obstacle, False)
    assert turns.next() is not None


def test_silent_hosts_take_no_places_of_those_that_answer(turns: Turns) -> None:
    for number in range(UNTRIED_MAX * IN_FLIGHT):
        turns.request(turns.host(f"silent{number}"))
    turns.wake(turns.host("another"))
    assert turns.next() is None, "as many untried hosts as may be"
    for number in range(IN_FLIGHT):
        turns.wake(turns.host(f"good{number}", answers=True))
        found = turns.next()
        assert found is not None and found.host == f"good{number}"
        turns.request(found)
    turns.wake(turns.host("late", answers=True))
    assert turns.next() is None, "as many requests as in_flight says"


def test_a_host_that_begins_to_answer_gives_the_place_of_an_untried_one_back(turns: Turns) -> None:
    silent = [turns.request(turns.host(f"silent{number}")) for number in range(UNTRIED_MAX * IN_FLIGHT)]
    turns.wake(turns.host("another"))
    turns.answered(silent[0])
    found = turns.next()
    assert found is not None and found.host == "another" and silent[0].origin.answers
    turns.answered(silent[0])  # a second answer gives nothing more
    turns.request(found)
    turns.wake(turns.host("third"))
    assert turns.next() is None
    turns.end(silent[1])
    assert turns.next() is not None


def test_an_origin_that_waits_as_untried_waits_with_the_others_once_it_answers(turns: Turns) -> None:
    origin = turns.host("a")
    request = turns.request(origin)
    turns.wake(origin)
    turns.answered(request)
    assert turns.next() is origin and turns.next() is None


def test_requests_without_a_first_byte_free_their_places_but_not_without_end(turns: Turns) -> None:
    for number in range(IN_FLIGHT):
        turns.request(turns.host(f"slow{number}", answers=True))
    turns.wake(turns.host("next", answers=True))
    assert turns.next() is None
    turns.tick(10.0)  # all began at 0 and have brought nothing
    found = turns.next()
    assert found is not None
    for number in range(STALLED_MAX * IN_FLIGHT):
        turns.request(turns.host(f"more{number}", answers=True))
    turns.tick(10.0)
    turns.wake(found)
    assert turns.next() is None


def test_calls_come_when_they_are_due_in_order_and_one_may_put_off_another(turns: Turns) -> None:
    job, heard = Job(0, "u"), []
    turns.later(2.0, job, lambda: heard.append("second"))
    turns.later(1.0, job, lambda: turns.later(1.5, job, lambda: heard.append("put off")))
    turns.later(9.0, job, lambda: heard.append("late"))
    assert turns.due == 1.0
    for of, call in turns.over(5.0):
        assert of is job
        call()
    assert heard == ["put off", "second"] and turns.due == 9.0
    assert [*turns.over(5.0)] == []


def test_what_waits_for_a_time_is_not_woken_before(turns: Turns) -> None:
    origin = turns.host("a", answers=True)
    turns.wait_until(3.0, origin)
    turns.wake(origin)
    assert turns.next() is None and turns.due == 3.0
    for _, call in turns.over(3.0):
        call()
    assert turns.next() is origin and turns.due is None


def test_who_waited_longest_for_a_lane_is_woken_first_one_for_each_place(turns: Turns) -> None:
    lane = Lane(Claim("host a", 1, 0.0))
    first, second = turns.host("a", answers=True), turns.host("b", answers=True)
    turns.wait_at(lane, first)
    turns.wait_at(lane, second)
    assert turns.next() is None
    turns.wake_next(lane)
    assert turns.next() is first and turns.next() is None
    turns.wake_next(lane)
    assert turns.next() is second
    turns.wake_next(lane)
    assert turns.next() is None


def test_a_lane_that_another_process_has_is_looked_at_again_in_a_moment(turns: Turns) -> None:
    lane, origin = Lane(Claim("host a", 1, 0.0)), turns.host("a", answers=True)
    turns.look_again_at(lane, origin, 1.0)
    assert lane.full and turns.next() is None
    due = turns.due
    assert due is not None and 1.0 < due < 1.1
    for _, call in turns.over(due):
        call()
    assert not lane.full and turns.next() is origin


def test_origins_with_something_to_do_or_a_failure_to_remember_are_kept(turns: Turns) -> None:
    idle, busy, failed = turns.host("idle"), turns.host("busy"), turns.host("failed")
    busy.queue.append(Job(0, "u"))
    failed.breaker.failed(0.0, 503, turns.config)
    for origin in (idle, busy, failed):
        turns.forget(origin)
    assert {origin.host for origin in turns} == {"busy", "failed"}


def test_the_origins_in_memory_are_bounded_and_the_oldest_go(turns: Turns) -> None:
    busy = turns.host("busy")
    busy.queue.append(Job(0, "u"))
    for number in range(ORIGINS_MAX):
        turns.host(f"h{number}")
    turns.tick(0.0)
    left = [origin.host for origin in turns]
    assert len(left) == ORIGINS_MAX // 2 and left[0] == "busy" and left[-1] == f"h{ORIGINS_MAX - 1}"


def test_an_origin_counts_its_requests_and_what_has_none_and_waits_for_nothing_may_go(turns: Turns) -> None:
    origin = turns.host("a", answers=True)
    one, other = turns.request(origin), turns.request(origin)
    assert origin.active == 2
    turns.end(one)
    turns.forget(origin)
    assert origin.active == 1 and origin in turns
    turns.end(other)
    turns.forget(origin)
    assert origin.active == 0 and origin not in turns


@pytest.mark.parametrize("status, untried, began", [(200, False, 0.0), (0, True, 0.0), (0, False, 9.8)])
def test_only_requests_of_hosts_that_had_answered_and_now_are_silent_for_long_give_up_their_places(
    turns: Turns, status: int, untried: bool, began: float
) -> None:
    for number in range(IN_FLIGHT):
        request = turns.request(turns.host(f"h{number}", answers=True))
        request.status, request.untried, request.began = status, untried, began
    turns.wake(turns.host("next", answers=True))
    turns.tick(10.0)
    assert turns.next() is None
