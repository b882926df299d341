"""One request at a time to a server on loopback, and many whose bodies fill the memory."""

from __future__ import annotations

import contextlib
import gc
import gzip
import os
import selectors
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pycurl
import pytest

from wit.fetch import transfers as transferring
from wit.fetch.config import FetchConfig, for_local_web
from wit.fetch.origins import Job, Origin
from wit.fetch.outcome import Outcome
from wit.fetch.transfers import Transfer, Transfers, bytes_received, text_of
from wit.fetch.verdicts import reason_for_request
from wit.reasons import Reason

hostile = sys.modules["hostile"]  # loaded by conftest
FetchAll = Callable[..., dict[str, Outcome]]
JPEG = hostile.picture()
LARGE = bytes(19_900_000)
# pycurl takes sockets by their number and lets the objects go; elsewhere that happens in a process of its own.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def silent(ask: object) -> Iterator[bytes]:
    yield hostile.ok(b"", content_length="20000000") + LARGE
    time.sleep(18)


def dripping(ask: object) -> Iterator[bytes]:
    yield hostile.ok(b"", content_length="20000000") + LARGE
    for _ in range(80):
        yield b"x"
        time.sleep(0.25)


@pytest.mark.variants(1)
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


class Loop:
    """Transfers with the sockets that they wait for, and what they told of."""

    def __init__(self, **knobs: Any) -> None:
        self.selector = selectors.DefaultSelector()
        self.answered: list[str] = []
        self.crashes: list[Exception] = []
        self.at: list[int] = []
        config = FetchConfig(**{"allow_addresses": ("127.0.0.1",), **knobs})
        self.transfers = Transfers(
            config,
            watch=self.watch,
            answered=lambda transfer: self.answered.append(transfer.job.target),
            crashed=self.crashes.append,
            at=lambda job: self.at.append(job.id),
        )

    def watch(self, fd: int, what: int) -> None:
        with contextlib.suppress(KeyError):
            self.selector.unregister(fd)
        if what in (pycurl.POLL_IN, pycurl.POLL_OUT, pycurl.POLL_INOUT):
            self.selector.register(fd, what)  # both count alike: 1 to read, 2 to write

    def start(
        self, web: Any, path: str, *, number: int = 0, host: str = "a.example", limit: int = 1_000_000, **job: Any
    ) -> Transfer:
        target = f"http://{host}{path}"
        origin = Origin(f"http://{host}:80", "http", host, 80)
        transfer = Transfer(Job(number, target, target=target, **job), origin, (), (), time.monotonic(), limit=limit)  # type: ignore[arg-type]
        self.transfers.start(transfer, "127.0.0.1", web.port())
        return transfer

    def turn(self) -> list[tuple[Transfer, int]]:
        for key, mask in self.selector.select(0.02):
            self.transfers.on_socket(key.fd, mask)
        if self.transfers.due is not None and self.transfers.due <= time.monotonic():
            self.transfers.on_timer()
        return [(transfer, code) for transfer, code, _ in self.transfers.over()]

    def until(self, there_is: Callable[[], bool]) -> None:
        """Until something is so, or ten seconds are over."""
        until = time.monotonic() + 10
        while not there_is() and time.monotonic() < until:
            assert not self.turn()
        assert there_is()

    def end(self) -> tuple[Transfer, int]:
        """The next transfer to end, and libcurl's code."""
        until = time.monotonic() + 20
        while time.monotonic() < until:
            if found := self.turn():
                (one,) = found
                return one
        raise AssertionError("nothing ended")

    def ask(self, web: Any, path: str, **named: Any) -> tuple[Transfer, int]:
        self.start(web, path, **named)
        return self.end()


@pytest.fixture(scope="module")
def web() -> Iterator[Any]:
    with hostile.hostile_web() as one:
        yield one


@pytest.fixture(autouse=True)
def sockets_end_here() -> Iterator[None]:
    yield
    gc.collect()


HEAD = b"HTTP/1.1 200 OK\r\n"


def test_an_answer_is_kept_piece_by_piece_with_what_it_took(web: Any) -> None:
    web.routes["/fine"] = hostile.ok(JPEG, x_more=" two  words ", X_MORE="\xfcber")
    loop = Loop()
    transfer, code = loop.ask(web, "/fine", number=9)
    assert (code, transfer.status, transfer.verdict, transfer.sent, transfer.stale) == (0, 200, None, True, False)
    assert b"".join(transfer.chunks) == JPEG and transfer.received == len(JPEG)
    assert ("content-length", str(len(JPEG))) in transfer.headers
    assert [value for name, value in transfer.headers if name == "x-more"] == ["two  words", "\xfcber"]
    whole = len(hostile.ok(JPEG, x_more=" two  words ", X_MORE="\xfcber"))
    assert transfer.wire_bytes == loop.transfers.bytes == whole and transfer.header_bytes == whole - len(JPEG)
    assert (loop.transfers.requests, loop.answered, loop.at) == (1, ["http://a.example/fine"], [9])
    assert len(loop.transfers) == 0 and not loop.crashes


def test_requests_say_who_asks_and_what_for(web: Any) -> None:
    seen: list[Any] = []
    web.routes["/asked"] = lambda ask: seen.append(ask) or hostile.ok(JPEG)
    loop = Loop(user_agent="wit-test", contact="you@example.org")
    loop.ask(web, "/asked?a=../b", host="b.example")
    assert seen[0].host == "b.example" and seen[0].headers["user-agent"] == loop.transfers.config.user_agent_header
    assert (
        seen[0].headers["accept"] == "image/*,*/*;q=0.8" and seen[0].headers["accept-encoding"] == "gzip, deflate, br"
    )
    assert set(seen[0].headers) == {"host", "user-agent", "accept", "accept-encoding"}


def test_dots_in_a_path_are_sent_as_they_are(web: Any) -> None:
    web.routes["/a/../dots"] = hostile.ok(JPEG)
    assert Loop().ask(web, "/a/../dots")[0].status == 200


def test_a_connection_is_used_again_and_counted_each_time(web: Any) -> None:
    web.routes["/again"] = hostile.ok(JPEG)
    loop = Loop()
    sockets = set()
    for number in range(3):
        transfer, _ = loop.ask(web, "/again", number=number)
        assert b"".join(transfer.chunks) == JPEG
        sockets.add(transfer.easy.getinfo(pycurl.LOCAL_PORT))
    assert len(sockets) == 1 and loop.transfers.requests == 3 and loop.at == [0, 1, 2]
    transfer, _ = loop.ask(web, "/again", fresh=True)
    assert transfer.easy.getinfo(pycurl.LOCAL_PORT) not in sockets


@pytest.mark.parametrize("over, reason", [(0, None), (1, Reason.BODY_TOO_LARGE)])
@pytest.mark.parametrize("length", [True, False])
def test_a_body_may_have_so_many_bytes_announced_or_not(
    web: Any, over: int, reason: Reason | None, length: bool
) -> None:
    body = JPEG + bytes(over)
    web.routes["/sized"] = hostile.ok(body) if length else lambda ask: iter([HEAD + b"\r\n" + body])
    transfer, code = Loop().ask(web, "/sized", limit=len(JPEG))
    assert reason_for_request(transfer.status, transfer.verdict, code) is reason
    assert reason or b"".join(transfer.chunks) == JPEG


def test_what_is_packed_is_unpacked_and_counted_unpacked(web: Any) -> None:
    web.routes["/packed"] = hostile.ok(gzip.compress(bytes(50_000)), content_encoding="gzip")
    loop = Loop()
    transfer, _ = loop.ask(web, "/packed", limit=50_000)
    assert b"".join(transfer.chunks) == bytes(50_000) and transfer.verdict is None
    assert transfer.wire_bytes < 1_000 and loop.transfers.bytes == 50_000
    transfer, code = loop.ask(web, "/packed", limit=49_999)
    assert reason_for_request(transfer.status, transfer.verdict, code) is Reason.BODY_TOO_LARGE


@pytest.mark.parametrize("over, verdict", [(0, None), (1, Reason.HEADERS_TOO_LARGE)])
def test_headers_may_have_so_many_bytes(web: Any, over: int, verdict: Reason | None) -> None:
    reply = hostile.ok(b"", x_filling="")
    web.routes["/headers"] = hostile.ok(b"", x_filling="x" * (2_000 - len(reply) + over))
    assert Loop(max_header_bytes=2_000).ask(web, "/headers")[0].verdict is verdict


@pytest.mark.parametrize(
    "headers, knobs, verdict",
    [
        ({"x_robots_tag": "noai"}, {}, Reason.OPT_OUT_HEADER),
        ({"tdm_reservation": "1"}, {}, Reason.TDM_RESERVED),
        ({"x_robots_tag": "noai"}, {"respect_opt_out": False}, None),
        ({"x_robots_tag": "wit: noai"}, {}, Reason.OPT_OUT_HEADER),
        ({"x_robots_tag": "wit: noai"}, {"user_agent": "other"}, None),
        ({"x_robots_tag": "noai", "status": "404 No"}, {}, None),
        ({"x_robots_tag": "noai", "status": "299 Odd"}, {}, Reason.OPT_OUT_HEADER),
        ({"x_robots_tag": "noai", "status": "300 Many"}, {}, None),
    ],
)
def test_an_owner_who_opts_out_is_heard_before_the_body(
    web: Any, headers: Any, knobs: Any, verdict: Reason | None
) -> None:
    web.routes["/opted"] = hostile.ok(JPEG, **headers)
    transfer, _ = Loop(**knobs).ask(web, "/opted")
    assert transfer.verdict is verdict and (verdict is None or not transfer.received)


def test_of_robots_txt_counts_what_was_read(web: Any) -> None:
    """However long it is, and whatever its headers say of indexing."""
    web.routes["/robots"] = hostile.ok(b"x" * 300_000, x_robots_tag="noai")
    origin = Origin("http://a.example:80", "http", "a.example", 80)
    transfer, code = Loop().ask(web, "/robots", limit=100_000, robots_of=origin)
    assert (transfer.verdict, code) == (None, pycurl.E_WRITE_ERROR)
    assert 0 < sum(map(len, transfer.chunks)) <= 100_000


@pytest.mark.parametrize("size, whole", [(65_536, True), (200_000, False)])
def test_an_error_page_is_read_to_its_end_where_that_is_near(web: Any, size: int, whole: bool) -> None:
    """So that its connection can be used again; nothing of it is kept."""
    web.routes["/error"] = hostile.ok(bytes(size), status="404 Not Found")
    loop = Loop()
    transfer, code = loop.ask(web, "/error")
    assert (transfer.status, transfer.chunks, transfer.verdict) == (404, [], None)
    assert (transfer.received == size and code == 0) == whole
    assert transfer.received <= 65_536 + 131_072 and not loop.transfers._held


@pytest.mark.parametrize(
    "lines, status, headers, verdict",
    [
        (b"HTTP/1.1 103 Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\na: b\r\n", 200, [("a", "b")], None),
        (b"HTTP/1.1 200\r\na:b\r\nA : c \r\n", 200, [("a", "b"), ("a", "c")], None),
        (b"HTTP/1.1 101 Switching\r\nupgrade: x\r\n", 101, [("upgrade", "x")], Reason.HTTP_INVALID),
        (b"HTTP/1.0 200 OK\r\na: \xc3\xbc\r\nb: \xfc\r\n", 200, [("a", "\xfc"), ("b", "\xfc")], None),
    ],
)
def test_lines_of_an_answer(web: Any, lines: bytes, status: int, headers: Any, verdict: Reason | None) -> None:
    web.routes["/lines"] = lambda ask: iter([lines + b"\r\n" + JPEG])
    loop = Loop()
    transfer, _ = loop.ask(web, "/lines")
    assert (transfer.status, transfer.headers, transfer.verdict) == (status, headers, verdict)
    assert loop.answered == ["http://a.example/lines"], "once, whatever comes before the final answer"
    assert verdict or b"".join(transfer.chunks) == JPEG


def test_trailers_are_no_headers(web: Any) -> None:
    body = b"5\r\nhello\r\n0\r\nx-robots-tag: noai\r\n\r\n"
    web.routes["/trailer"] = lambda ask: iter([HEAD + b"transfer-encoding: chunked\r\n\r\n" + body])
    transfer, code = Loop().ask(web, "/trailer")
    assert (code, transfer.verdict, transfer.headers) == (0, None, [("transfer-encoding", "chunked")])


@pytest.mark.parametrize(
    "allowed, verdict", [(("127.0.0.1",), None), (("127.0.0.2",), Reason.ADDRESS_REFUSED), ((), Reason.ADDRESS_REFUSED)]
)
def test_the_address_itself_is_looked_at_before_it_is_connected_to(
    web: Any, allowed: Any, verdict: Reason | None
) -> None:
    web.routes["/gate"] = hostile.ok(JPEG)
    asked = len(web.asked)
    transfer, code = Loop(allow_addresses=allowed).ask(web, "/gate")
    assert transfer.verdict is verdict and bool(code) == (len(web.asked) == asked) == bool(verdict)


def test_a_fault_of_ours_in_a_callback_is_the_verdict_on_its_request_alone(
    web: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    web.routes |= {"/fault": hostile.ok(JPEG, x_fault="1"), "/no-fault": hostile.ok(JPEG)}

    def found(headers: list[tuple[str, str]], agent: str) -> None:
        if ("x-fault", "1") in headers:
            raise ZeroDivisionError("a fault of ours")

    monkeypatch.setattr(transferring, "opt_out", found)
    loop = Loop()
    transfer, _ = loop.ask(web, "/fault")
    assert (transfer.verdict, transfer.words) == (Reason.FETCHER_CRASHED, "ZeroDivisionError: a fault of ours")
    assert [type(error) for error in loop.crashes] == [ZeroDivisionError]
    assert loop.ask(web, "/no-fault")[0].verdict is None


def test_a_request_is_not_sent_again_by_itself_where_its_connection_had_died(web: Any) -> None:
    """It comes by as stale, for a connection of its own."""

    def dying(ask: Any) -> Any:
        """Announces that the connection stays, and closes it."""
        return iter([hostile.ok(JPEG)])

    web.routes["/dying"] = dying
    loop = Loop()
    loop.ask(web, "/dying")
    before = len(web.asked)
    transfer, code = loop.ask(web, "/dying")
    assert (transfer.stale and code == pycurl.E_ABORTED_BY_CALLBACK) or (code == 0 and len(web.asked) == before + 1)
    assert len(web.asked) <= before + 1
    again, code = loop.ask(web, "/dying", fresh=True)
    assert code == 0 and b"".join(again.chunks) == JPEG


def dripped(first: bytes) -> Callable[[object], Iterator[bytes]]:
    """The first bytes, and then for a while nothing."""

    def reply(ask: object) -> Iterator[bytes]:
        yield first
        time.sleep(20)

    return reply


def test_what_is_broken_off_is_over_once(web: Any) -> None:
    web.routes["/slow"] = dripped(hostile.ok(bytes(100))[:-50])
    loop = Loop()
    transfer = loop.start(web, "/slow")
    loop.until(lambda: transfer.received == 50)
    assert list(loop.transfers) == [transfer] and len(loop.transfers) == 1
    loop.transfers.break_off(transfer, Reason.HOST_DENIED)
    loop.transfers.break_off(transfer)
    assert loop.end() == (transfer, 0) and transfer.verdict is Reason.HOST_DENIED
    assert not loop.turn() and len(loop.transfers) == 0


@pytest.mark.parametrize(
    "status, waited_s, is_over",
    [
        ("404 No", 0.9, False),
        ("404 No", 1.1, True),
        ("302 Found", 1.1, True),
        ("300 Many", 1.1, True),
        ("299 Odd", 9, False),
        ("200 OK", 9, False),
    ],
)
def test_an_error_page_that_does_not_end_is_broken_off(web: Any, status: str, waited_s: float, is_over: bool) -> None:
    web.routes["/page"] = dripped(hostile.ok(bytes(100), status=status)[:-50])
    loop = Loop()
    transfer = loop.start(web, "/page")
    loop.until(lambda: transfer.received == 50)
    loop.transfers.tick(transfer.headed + waited_s)
    assert [one for one, _ in loop.turn()] == ([transfer] if is_over else []) and transfer.verdict is None
    loop.transfers.break_off(transfer)
    loop.turn()


def test_while_memory_is_full_one_goes_on_and_the_others_wait(web: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transferring, "BODY_BUDGET_BYTES", 100)
    web.routes["/first"] = dripped(hostile.ok(bytes(300))[:-100])
    web.routes["/second"] = hostile.ok(bytes(60))
    loop = Loop()
    first = loop.start(web, "/first", number=1)
    assert not loop.transfers.full
    loop.until(lambda: first.received == 200)
    assert loop.transfers.full and not first.paused
    second = loop.start(web, "/second", number=2)
    loop.until(lambda: second.paused)
    assert second.received == 0 and not second.chunks
    loop.transfers.let_go(100)
    assert loop.transfers.full and second.paused, "there is no room yet"
    loop.transfers.tick(first.moved + 0.9)
    assert not loop.turn()
    loop.transfers.tick(first.moved + 1.1)
    (ended,) = loop.turn()
    assert ended[0] is first and first.verdict is Reason.TIMEOUT and first.job.hopeless
    assert first.words == "too slow for the memory it held"
    loop.transfers.let_go(100)
    assert not loop.transfers.full and not second.paused
    transfer, code = loop.end()
    assert (transfer, code, transfer.received, transfer.wire_bytes > 60) == (second, 0, 60, True)


def test_a_body_larger_than_the_memory_goes_on_where_no_other_holds_any(
    web: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transferring, "BODY_BUDGET_BYTES", 100)
    web.routes |= {"/alone": hostile.ok(bytes(900_000)), "/nothing-yet": dripped(HEAD)}
    loop = Loop()
    other = loop.start(web, "/nothing-yet", number=1)
    loop.until(lambda: bool(other.status))
    transfer, code = loop.ask(web, "/alone")
    assert (code, transfer.received, transfer.paused) == (0, 900_000, False)


def test_of_two_bodies_that_fill_the_memory_one_goes_on_and_then_the_other(
    web: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transferring, "BODY_BUDGET_BYTES", 200)
    both_began = threading.Event()

    def two(ask: object) -> Iterator[bytes]:
        whole = hostile.ok(bytes(900_000))
        yield whole[:-899_900]
        both_began.wait(20)
        yield whole[-899_900:]

    web.routes["/two"] = two
    loop = Loop()
    ones = [loop.start(web, "/two", number=number) for number in range(2)]
    loop.until(lambda: [one.received for one in ones] == [100, 100])
    both_began.set()
    for _ in range(2):
        transfer, code = loop.end()
        assert (code, transfer.received) == (0, 900_000)
        loop.transfers.let_go(transfer.received)


@pytest.mark.parametrize("first", [b"HTTP/1.1 abc\r\n", b"HTTP/1.1\r\n", b"HTTP/1.1 2\xb2\xb3 OK\r\n"])
def test_a_status_that_is_no_number_is_no_fault_of_ours(web: Any, first: bytes) -> None:
    web.routes["/odd"] = lambda ask: iter([first + b"\r\n" + JPEG])
    loop = Loop()
    transfer, code = loop.ask(web, "/odd")
    assert transfer.verdict is not Reason.FETCHER_CRASHED and not loop.crashes and (code or transfer.status in (0, 200))


def test_a_body_that_moves_is_not_slow(web: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transferring, "BODY_BUDGET_BYTES", 100)
    monkeypatch.setattr(transferring, "SLOW_BYTES", 150)
    web.routes["/moves"] = dripped(hostile.ok(bytes(300))[:-150])
    loop = Loop()
    transfer = loop.start(web, "/moves")
    loop.until(lambda: transfer.received == 150)
    assert transfer.moved_at == 150 and transfer.moved > transfer.headed
    loop.transfers.break_off(transfer)
    loop.turn()


def test_what_reaches_no_callback_is_counted_on_the_wire(web: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Extensions of chunks without an end: libcurl counts none of them."""
    monkeypatch.setattr(transferring, "WIRE_EXTRA_BYTES", 100_000)

    def extending(ask: object) -> Iterator[bytes]:
        yield HEAD + b"transfer-encoding: chunked\r\n\r\n5;"
        while True:
            yield b"extension" * 10_000

    web.routes["/extending"] = extending
    loop = Loop(max_header_bytes=10_000)
    transfer, code = loop.ask(web, "/extending", limit=100_000)
    assert (transfer.verdict, code, transfer.received) == (Reason.BODY_TOO_LARGE, 0, 0)
    assert transfer.wire_bytes > 220_000 and loop.transfers.bytes == transfer.wire_bytes


def test_the_kernel_tells_how_much_a_connection_brought() -> None:
    ours, theirs = socket.socketpair()
    assert bytes_received(ours.fileno()) is None, "no TCP"
    fd = os.dup(ours.fileno())
    os.close(fd)
    assert bytes_received(fd) is None
    ours.close()
    theirs.close()
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        there, _ = server.accept()
        for size, total in ((10, 10), (5_000, 5_010)):
            there.sendall(bytes(size))
            left = size
            while left:
                left -= len(client.recv(left))
            assert bytes_received(client.fileno()) == total
        there.close()


@pytest.mark.parametrize("value, text", [(b"plain", "plain"), ("\xfc".encode(), "\xfc"), (b"\xfc", "\xfc"), (b"", "")])
def test_headers_are_text_in_either_encoding(value: bytes, text: str) -> None:
    assert text_of(value) == text


def test_a_timer_that_was_taken_back_is_none() -> None:
    transfers = Loop().transfers
    transfers._set_timer(50)
    assert transfers.due is not None and transfers.due > time.monotonic()
    transfers._set_timer(-1)
    assert transfers.due is None
    transfers._set_timer(0)
    assert transfers.due is not None and transfers.due <= time.monotonic()
