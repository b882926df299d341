"""robots.txt: what a response means, and for how long."""

from __future__ import annotations

import pytest

from wit.fetch.robots import Robots, from_json, from_response, to_json

RULES = b"User-agent: *\nDisallow: /private/\n\nUser-agent: wit\nDisallow: /for-wit/\nCrawl-delay: 2\n"


@pytest.mark.parametrize(
    "status, body, allowed",
    [
        (200, b"", True),
        (200, b"User-agent: *\nDisallow: /", False),
        (404, b"User-agent: *\nDisallow: /", True),  # unavailable: everything is allowed
        (403, b"", True),
        (500, b"", False),  # unreachable: nothing is
        (503, b"", False),
        (429, b"", False),
        (0, b"", False),
        (200, b"\xff\xfe\x00 nonsense \x80", True),
    ],
)
def test_what_a_response_means(status: int, body: bytes, allowed: bool) -> None:
    assert from_response(status, body).allows("http://a.example/x.jpg", "wit") == allowed


def test_our_own_group_replaces_the_general_one() -> None:
    robots = from_response(200, RULES)
    assert robots.allows("http://a.example/private/x.jpg", "wit")
    assert not robots.allows("http://a.example/for-wit/x.jpg", "wit")
    assert not robots.allows("http://a.example/private/x.jpg", "otherbot")
    assert robots.crawl_delay_s("wit") == 2
    assert from_response(200, b"User-agent: *\nCrawl-delay: 9999").crawl_delay_s("wit") == 30


def test_a_day_later_it_is_asked_again() -> None:
    robots = Robots(fetched=1_000, text="")
    assert robots.is_fresh(86_400, now=80_000)
    assert not robots.is_fresh(86_400, now=90_000)
    assert not Robots(fetched=1_000, text=None).is_fresh(86_400, now=1_100)


def test_what_was_not_reached_is_not_kept() -> None:
    kept = to_json(
        {"http://a.example:80": from_response(200, RULES, now=5), "http://b.example:80": from_response(0, b"")}
    )
    assert list(kept) == ["http://a.example:80"]
    assert from_json(kept)["http://a.example:80"].fetched == 5
