"""What we promise to servers, as a server measures it: under several workers, idleness, restarts and kills."""

from __future__ import annotations

import itertools
import signal
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from wit.fetch.config import FetchConfig, for_local_web
from wit.fetch.engine import Engine
from wit.fetch.outcome import Outcome, Request
from wit.images.config import ImageConfig
from wit.reasons import Reason

hostile = sys.modules["hostile"]  # loaded by conftest
JPEG = hostile.picture()
HOSTS = [f"{host}.{domain}.example" for host in "abc" for domain in ("x", "y", "z")]


@dataclass
class Measured:
    """Requests as the server saw them: when each came, and when its answer was about to end."""

    seconds: float = 0.03  # that an answer takes
    spans: list[tuple[str, float, float]] = field(default_factory=list)  # (host, came, ended)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, ask: object) -> bytes:
        came = time.monotonic()
        time.sleep(self.seconds)
        with self.lock:
            self.spans.append((ask.host, came, time.monotonic()))  # type: ignore[attr-defined]
        return bytes(hostile.ok(JPEG))

    def by(self, name: Callable[[str], str]) -> dict[str, list[tuple[float, float]]]:
        found: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for host, came, ended in self.spans:
            found[name(host)].append((came, ended))
        return found


def most_at_a_time(spans: Sequence[tuple[float, float]]) -> int:
    changes = sorted([(came, 1) for came, _ in spans] + [(ended, -1) for _, ended in spans])
    return max(itertools.accumulate(step for _, step in changes))


def most_in_a_second(spans: Sequence[tuple[float, float]]) -> int:
    times = sorted(came for came, _ in spans)
    return max(sum(first <= later < first + 1 for later in times[at:]) for at, first in enumerate(times))


KINDS: dict[str, Callable[[str], str]] = {
    "host": lambda host: host,
    "domain": lambda host: host.partition(".")[2],
    "address": lambda host: "",
}


def run(engine: Engine, urls: Sequence[str], *, first: int = 0, timeout_s: float = 60) -> dict[str, Outcome]:
    """Fetches the URLs; {URL: outcome}."""
    found: dict[str, Outcome] = {}
    engine.submit([Request(first + number, url) for number, url in enumerate(urls)])
    deadline = time.monotonic() + timeout_s
    while len(found) < len(urls) and time.monotonic() < deadline:
        found |= {urls[outcome.id - first]: outcome for outcome in engine.poll(0.05)}
    return found


def all_at_once(config: FetchConfig, shares: Sequence[Sequence[str]], tmp_path: Path) -> None:
    """One worker a share, all with the same file of places."""

    def work(number: int, urls: Sequence[str]) -> None:
        scratch = tmp_path / str(number)
        scratch.mkdir()
        with Engine(config, ImageConfig(), str(scratch), places=str(tmp_path / "places")) as engine:
            found = run(engine, urls)
            assert {outcome.reason for outcome in found.values()} == {None}

    threads = [threading.Thread(target=work, args=pair) for pair in enumerate(shares)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_what_a_server_sees_is_within_the_limits_whatever_the_number_of_workers(tmp_path: Path, workers: int) -> None:
    """Every worker asks every host, as they do where redirects lead. 4 workers gave one address 56 requests at a time where 16
    are promised, and one domain 16 a second for 4."""
    measured = Measured()
    with hostile.hostile_web() as web:
        web.routes |= {f"/{n}.jpg": measured.answer for n in range(12)}
        config = replace(
            for_local_web(web.endpoints(*HOSTS)),
            respect_robots=False,
            per_host=2,
            per_domain=3,
            per_address=5,
            host_rate_per_s=10,
            domain_rate_per_s=15,
            address_rate_per_s=40,
        )
        urls = [f"http://{host}/{n}.jpg" for n in range(12) for host in HOSTS]
        all_at_once(config, [urls[number::workers] for number in range(workers)], tmp_path)
    assert len(measured.spans) == len(urls)
    limits = {"host": (2, 10), "domain": (3, 15), "address": (5, 40)}
    for kind, (at_a_time, in_a_second) in limits.items():
        seen = measured.by(KINDS[kind]).values()
        assert max(map(most_at_a_time, seen)) <= at_a_time, kind
        assert max(map(most_in_a_second, seen)) <= in_a_second * 1.1 + 1, kind


def test_the_places_of_a_killed_worker_are_free_again(tmp_path: Path) -> None:
    measured = Measured(0.2)
    with hostile.hostile_web() as web:
        web.routes |= {f"/{n}.jpg": measured.answer for n in range(40)}
        config = replace(for_local_web(web.endpoints("a.x.example")), respect_robots=False, per_host=4)
        urls = [f"http://a.x.example/{n}.jpg" for n in range(40)]
        scratches = [tmp_path / "one", tmp_path / "two"]
        for scratch in scratches:
            scratch.mkdir()
        places = str(tmp_path / "places")
        with Engine(config, ImageConfig(), str(scratches[0]), places=places) as one:
            one.submit([Request(number, url) for number, url in enumerate(urls)])
            while not measured.spans:
                one.poll(0.05)
            assert one.fetcher is not None
            one.fetcher.process.send_signal(signal.SIGKILL)
            one.fetcher.process.wait()
            killed = time.monotonic()
            with Engine(config, ImageConfig(), str(scratches[1]), places=places) as two:
                assert {o.reason for o in run(two, urls).values()} == {None}
    after = [(came, ended) for _, came, ended in measured.spans if came > killed]
    assert most_at_a_time(after) == 4


def asked(web: object, host: str) -> list[float]:
    """When anything but robots.txt was asked of the host."""
    return list(web.times.get(host, [])[1:])  # type: ignore[attr-defined]


def test_a_crawl_delay_is_kept_through_idleness_and_restarts(tmp_path: Path) -> None:
    with hostile.hostile_web() as web:
        web.routes |= {f"/{n}.jpg": hostile.ok(JPEG) for n in range(6)}
        web.routes["/robots.txt"] = hostile.ok(b"User-agent: *\nCrawl-delay: 0.8")
        config = for_local_web(web.endpoints("a.example"))
        urls = [f"http://a.example/{n}.jpg" for n in range(6)]
        with Engine(config, ImageConfig(), str(tmp_path)) as one:
            run(one, urls[:2])
            time.sleep(1.2)  # the host falls idle, and all that is derived of it is forgotten
            run(one, urls[2:4], first=2)
            known = one.known
        with Engine(config, ImageConfig(), str(tmp_path), known=known) as two:
            run(two, urls[4:], first=4)
        assert web.counts["a.example", "/robots.txt"] == 1
        gaps = [later - earlier for earlier, later in itertools.pairwise(asked(web, "a.example"))]
    assert len(gaps) == 5
    assert min(gaps) >= 0.75, gaps


def test_a_host_that_asked_for_an_hour_is_left_alone_for_it(tmp_path: Path) -> None:
    """40 pictures were fetched at once after "3600", since the 200 of another request had undone it."""

    def moody(ask: object) -> bytes:
        if ask.path == "/0.jpg":  # type: ignore[attr-defined]
            return bytes(hostile.ok(b"", status="429 Later", retry_after="3600"))
        time.sleep(0.3)
        return bytes(hostile.ok(JPEG))

    with hostile.hostile_web() as web:
        web.routes |= {f"/{n}.jpg": moody for n in range(50)}
        config = for_local_web(web.endpoints("a.example"))
        urls = [f"http://a.example/{n}.jpg" for n in range(50)]
        with Engine(config, ImageConfig(), str(tmp_path)) as one:
            first = run(one, urls[:2])  # at a time: the second ends well after the first was refused
            later = run(one, urls[2:40], first=2)
            known = one.known
        with Engine(config, ImageConfig(), str(tmp_path), known=known) as two:
            restarted = run(two, urls[40:], first=40)
        assert len(asked(web, "a.example")) == 2
    assert [first[url].reason for url in urls[:2]] == [Reason.HTTP_RATE_LIMITED, None]
    assert {o.reason for o in [*later.values(), *restarted.values()]} == {Reason.HOST_UNAVAILABLE}
    assert {o.detail for o in later.values()} == {"429"}


def test_a_lone_429_is_not_asked_again_at_every_feed(tmp_path: Path) -> None:
    with hostile.hostile_web() as web:
        web.routes |= {f"/{n}.jpg": hostile.ok(b"", status="429 Later", retry_after="3600") for n in range(10)}
        with Engine(for_local_web(web.endpoints("a.example")), ImageConfig(), str(tmp_path)) as one:
            for number in range(10):
                run(one, [f"http://a.example/{number}.jpg"], first=number)
        assert len(asked(web, "a.example")) == 1


def test_what_one_worker_was_asked_others_keep_to(tmp_path: Path) -> None:
    with hostile.hostile_web() as web:
        web.routes |= {"/0.jpg": hostile.ok(b"", status="503 Later", retry_after="3600"), "/1.jpg": hostile.ok(JPEG)}
        config = replace(for_local_web(web.endpoints("a.example")), respect_robots=False)
        places = str(tmp_path / "places")
        with Engine(config, ImageConfig(), str(tmp_path), places=places) as one:
            run(one, ["http://a.example/0.jpg"])
            with Engine(config, ImageConfig(), str(tmp_path), places=places) as two:
                found = run(two, ["http://a.example/1.jpg"])
        assert web.counts["a.example", "/1.jpg"] == 0
    assert found["http://a.example/1.jpg"].reason is Reason.HOST_UNAVAILABLE


def test_no_request_is_sent_again_that_nobody_counts(tmp_path: Path) -> None:
    """Where a connection that was used before died, libcurl asked again at once: two requests a turn, at twice the rate."""

    def dies(ask: object) -> Iterator[bytes] | bytes:
        odd = int(ask.path[1:].partition(".")[0]) % 2  # type: ignore[attr-defined]
        return iter(()) if odd and ask.count == 1 else bytes(hostile.ok(JPEG))  # type: ignore[attr-defined]

    with hostile.hostile_web() as web:
        web.routes |= {f"/{n}.jpg": dies for n in range(6)}
        config = replace(for_local_web(web.endpoints("a.example")), host_rate_per_s=4, respect_robots=False, per_host=1)
        urls = [f"http://a.example/{n}.jpg" for n in range(6)]
        with Engine(config, ImageConfig(), str(tmp_path)) as one:
            found = run(one, urls)
        times = web.times["a.example"]
    assert {outcome.reason for outcome in found.values()} == {None}
    assert len(times) == 9
    assert min(later - earlier for earlier, later in itertools.pairwise(times)) >= 0.2


@pytest.mark.parametrize("second", ["http://a.example.:{port}/2.jpg", "http://A.example:{port}/2.jpg"])
def test_a_host_is_one_however_it_is_written(tmp_path: Path, second: str) -> None:
    with hostile.hostile_web() as web:
        web.routes |= {"/1.jpg": hostile.ok(b"", status="429 Later", retry_after="3600"), "/2.jpg": hostile.ok(JPEG)}
        config = replace(for_local_web(web.endpoints("a.example")), respect_robots=False)
        with Engine(config, ImageConfig(), str(tmp_path)) as one:
            run(one, ["http://a.example/1.jpg"])
            url = second.format(port=web.port())
            found = run(one, [url], first=1)
    assert found[url].reason is Reason.HOST_UNAVAILABLE


@pytest.mark.parametrize("hops", ["http://d.example:{other}/{n}.jpg", "http://img.d.example/{n}.jpg"])
def test_redirects_into_an_origin_whose_robots_txt_waits_for_its_turn_all_end(tmp_path: Path, hops: str) -> None:
    """The redirected request stood before that for robots.txt, and waited for it for ever."""
    with hostile.hostile_web("127.0.0.1", "127.0.0.2") as web:
        other = web.port("127.0.0.2")
        web.routes |= {f"/{n}.jpg": hostile.ok(JPEG) for n in range(20)}
        moved = {f"www.d.example/{n}.jpg": hostile.redirect(hops.format(other=other, n=n)) for n in range(20)}
        web.routes |= moved
        ends = web.endpoints("www.d.example", "img.d.example") + (("d.example", "127.0.0.2", other),)
        config = replace(for_local_web(ends), domain_rate_per_s=40)
        urls = [url for n in range(20) for url in (f"http://www.d.example/{n}.jpg", f"http://img.d.example/{n}.jpg")]
        with Engine(config, ImageConfig(), str(tmp_path)) as one:
            found = run(one, urls, timeout_s=20)
    assert len(found) == len(urls) and {outcome.reason for outcome in found.values()} == {None}


def test_the_reason_of_a_row_is_what_its_own_requests_met(tmp_path: Path) -> None:
    """A few 503 among good answers were recorded as host_unavailable, without a status."""
    with hostile.hostile_web() as web:
        web.routes |= {f"/{n}.jpg": hostile.ok(JPEG) for n in range(60)}
        bad = [f"http://a.example/bad{n}.jpg" for n in range(6)]
        web.routes |= {f"/bad{n}.jpg": hostile.ok(b"", status="503 Busy") for n in range(6)}
        config = replace(for_local_web(web.endpoints("a.example")), backoff_s=0.05)
        urls = [*bad, *(f"http://a.example/{n}.jpg" for n in range(60))]
        with Engine(config, ImageConfig(), str(tmp_path)) as one:
            found = run(one, urls)
    assert {(found[url].reason, found[url].http_status) for url in bad} == {(Reason.HTTP_SERVER_ERROR, 503)}


def test_host_limits_are_read_again_while_it_runs(tmp_path: Path) -> None:
    """A complaint at night needs no restart."""
    measured = Measured(0.05)
    limits = tmp_path / "limits.toml"
    limits.write_text('["slow.example"]\nrate = 5\nconcurrency = 1\n')
    with hostile.hostile_web() as web:
        web.routes |= {f"/{n}.jpg": measured.answer for n in range(600)}
        hosts = ["a.slow.example", "b.slow.example", "angry.example"]
        config = replace(
            for_local_web(web.endpoints(*hosts)), respect_robots=False, host_limits=str(limits), per_host=2
        )
        slow = [f"http://{host}/{n}.jpg" for n in range(6) for host in hosts[:2]]
        angry = [f"http://angry.example/{n}.jpg" for n in range(600)]
        urls = [*slow, *angry]
        found: dict[str, Outcome] = {}
        with Engine(config, ImageConfig(), str(tmp_path)) as one:
            one.submit([Request(number, url) for number, url in enumerate(urls)])
            began, complained = time.monotonic(), 0.0
            while len(found) < len(urls) and time.monotonic() < began + 60:
                found |= {urls[outcome.id]: outcome for outcome in one.poll(0.05)}
                if not complained and len(measured.spans) > 30:
                    complained = time.monotonic()
                    limits.write_text('["slow.example"]\nrate = 5\nconcurrency = 1\n["ANGRY.example"]\ndeny = true\n')
    spans = measured.by(KINDS["domain"])["slow.example"]
    assert most_at_a_time(spans) == 1
    assert most_in_a_second(spans) <= 6
    reasons = [found[url].reason for url in angry]
    assert reasons.count(Reason.HOST_DENIED) > 50
    assert set(reasons) == {None, Reason.HOST_DENIED}
    assert max(came for host, came, _ in measured.spans if host == "angry.example") < complained + 7
