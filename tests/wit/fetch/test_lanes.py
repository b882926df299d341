"""Politeness: how many requests, how often, and when a host is left alone."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace

from wit.fetch.config import FetchConfig, for_local_web
from wit.fetch.outcome import Outcome
from wit.records import Reason

hostile = sys.modules["hostile"]  # loaded by conftest
FetchAll = Callable[..., dict[str, Outcome]]
JPEG = hostile.picture()


def slowly(ask: object) -> bytes:
    time.sleep(0.05)
    return bytes(hostile.ok(JPEG))


def polite(web: object, *hosts: str, **changes: object) -> FetchConfig:
    return replace(for_local_web(web.endpoints(*hosts)), **changes)  # type: ignore[attr-defined,arg-type]


def test_requests_in_flight_are_bounded_by_host_domain_and_address(fetch_all: FetchAll) -> None:
    hosts = [f"{sub}.{name}.example" for sub in "ab" for name in "xyz"]
    with hostile.hostile_web() as web:
        web.routes |= {f"/{n}.jpg": slowly for n in range(10)}
        urls = [f"http://{host}/{n}.jpg" for n in range(10) for host in hosts]
        config = polite(web, *hosts, per_host=2, per_domain=3, per_address=7)
        seen = {"domain": 0, "address": 0}

        def watch(engine: object) -> None:
            active = dict(web.active)
            by_domain: dict[str, int] = {}
            for host, count in active.items():
                by_domain[host[2:]] = by_domain.get(host[2:], 0) + count
            seen["domain"] = max(seen["domain"], *by_domain.values(), 0)
            seen["address"] = max(seen["address"], sum(active.values()))

        found = fetch_all(urls, config, during=watch)
    assert not [o.reason for o in found.values() if o.reason]
    assert max(web.most_active.values()) <= 2
    assert 0 < seen["address"] <= 7


def test_the_address_of_an_egress_proxy_is_no_servers(fetch_all: FetchAll) -> None:
    hosts = [f"h{n}.example" for n in range(30)]
    with hostile.hostile_web() as web:
        web.routes["/x.jpg"] = slowly
        config = replace(
            FetchConfig(), egress_proxy=f"http://127.0.0.1:{web.port()}", respect_robots=False, per_address=2
        )
        found = fetch_all([f"http://{host}/x.jpg" for host in hosts], config)
        assert {outcome.reason for outcome in found.values()} == {None}
    assert sum(web.counts.values()) == 30 and web.at_once > 2


def test_the_rate_of_a_host_is_bounded(fetch_all: FetchAll) -> None:
    with hostile.hostile_web() as web:
        web.routes |= {f"/{n}.jpg": hostile.ok(JPEG) for n in range(10)}
        urls = [f"http://a.example/{n}.jpg" for n in range(10)]
        fetch_all(urls, polite(web, "a.example", host_rate_per_s=20))
        times = web.times["a.example"]
    assert len(times) == 11  # robots.txt counts
    assert times[-1] - times[0] >= 10 / 20 * 0.9


def test_a_crawl_delay_is_kept(fetch_all: FetchAll) -> None:
    with hostile.hostile_web() as web:
        web.routes |= {f"/{n}.jpg": hostile.ok(JPEG) for n in range(4)}
        web.routes["/robots.txt"] = hostile.ok(b"User-agent: *\nCrawl-delay: 0.3")
        fetch_all([f"http://a.example/{n}.jpg" for n in range(4)], polite(web, "a.example"))
        times = web.times["a.example"]
    assert all(later - earlier >= 0.25 for earlier, later in zip(times[1:], times[2:], strict=False))


def test_a_host_that_fails_again_and_again_is_left_alone(fetch_all: FetchAll) -> None:
    with hostile.hostile_web() as web:
        web.routes |= {f"/{n}.jpg": hostile.ok(b"", status="503 Down") for n in range(50)}
        urls = [f"http://a.example/{n}.jpg" for n in range(50)]
        config = polite(web, "a.example", breaker_failures=5, backoff_s=0.01, per_host=2)
        found = fetch_all(urls, config)
        asked = sum(web.counts.values())
    reasons = {outcome.reason for outcome in found.values()}
    assert Reason.HOST_UNAVAILABLE in reasons
    assert asked <= 12


def test_a_short_retry_after_is_waited_for(fetch_all: FetchAll) -> None:
    with hostile.hostile_web() as web:
        busy = hostile.ok(b"", status="429 Slow", retry_after="1")
        web.routes["/x.jpg"] = lambda ask: busy if ask.count == 1 else hostile.ok(JPEG)
        found = fetch_all(["http://a.example/x.jpg"], polite(web, "a.example"))
        times = web.times["a.example"]
    assert found["http://a.example/x.jpg"].reason is None
    assert times[2] - times[1] >= 0.9


def test_a_long_retry_after_closes_the_host_and_blocks_nobody(fetch_all: FetchAll) -> None:
    with hostile.hostile_web() as web:
        web.routes |= {f"a.example/{n}.jpg": hostile.ok(b"", status="429 Slow", retry_after="600") for n in range(20)}
        web.routes |= {f"b.example/{n}.jpg": hostile.ok(JPEG) for n in range(20)}
        urls = [f"http://{host}.example/{n}.jpg" for n in range(20) for host in "ab"]
        began = time.monotonic()
        found = fetch_all(urls, polite(web, "a.example", "b.example", per_host=2))
        took = time.monotonic() - began
        asked = sum(count for (host, _), count in web.counts.items() if host == "a.example")
    assert {found[url].reason for url in urls if "b.example" in url} == {None}
    reasons = Counter(found[url].reason for url in urls if "a.example" in url)
    assert set(reasons) == {Reason.HTTP_RATE_LIMITED, Reason.HOST_UNAVAILABLE}
    assert reasons[Reason.HTTP_RATE_LIMITED] == asked - 1 <= 3  # robots.txt: of the others nothing was asked
    assert took < 15


def test_silent_hosts_do_not_slow_the_others(fetch_all: FetchAll) -> None:
    """More silent hosts than may be tried at a time: a host that answers goes on beside them."""

    def silent(ask: object) -> Iterator[bytes]:
        time.sleep(7)
        yield b""

    dead = [f"dead{n}.example" for n in range(60)]
    with hostile.hostile_web() as web:
        web.routes |= {f"{host}/robots.txt": silent for host in dead}
        web.routes |= {f"/{n}.jpg": hostile.ok(JPEG) for n in range(40)}
        live = [f"http://a.example/{n}.jpg" for n in range(40)]
        urls = live[:1] + [f"http://{host}/x.jpg" for host in dead] + live[1:]
        config = polite(web, "a.example", *dead, in_flight=4, timeout_s=6, retries=0)
        arrived: list[float] = []
        began = time.monotonic()

        def note(engine: object) -> None:
            if not arrived and time.monotonic() - began > 5:
                arrived.append(sum(web.counts["a.example", f"/{n}.jpg"] for n in range(40)))

        fetch_all(urls, config, during=note, timeout_s=8)
    assert arrived == [40]


def test_robots_is_asked_for_once_an_origin(fetch_all: FetchAll) -> None:
    with hostile.hostile_web() as web:
        web.routes |= {f"/{n}.jpg": hostile.ok(JPEG) for n in range(30)}
        urls = [f"http://a{n % 3}.example/{n}.jpg" for n in range(30)]
        fetch_all(urls, polite(web, "a0.example", "a1.example", "a2.example"))
    assert {web.counts[f"a{n}.example", "/robots.txt"] for n in range(3)} == {1}
