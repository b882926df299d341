"""robots.txt: what a response means, and for how long."""

from __future__ import annotations

import gc
import tracemalloc

import pytest

from wit.fetch.robots import (
    KEPT_BYTES,
    MAX_GROUP_CHARS,
    PARSED_BYTES,
    Robots,
    from_json,
    from_response,
    kept,
    our_group,
    to_json,
)

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
        (407, b"", False),  # a proxy's word, not the site's
        (0, b"", False),
        (200, b"\xff\xfe\x00 nonsense \x80", True),
        (200, b"\xef\xbb\xbfUser-agent: *\nDisallow: /", False),  # a byte order mark is no part of the first line
        (204, b"", True),
    ],
)
def test_what_a_response_means(status: int, body: bytes, allowed: bool) -> None:
    assert from_response(status, body, "wit").allows("http://a.example/x.jpg", "wit") == allowed


@pytest.mark.parametrize(
    "lines, seconds",
    [
        ("Crawl-delay: 2,5", 2.5),
        ("Crawl-delay: 2.5s", 2.5),
        ("Crawl-delay: 20\nCrawl-delay: 1", 20),
        ("Crawl-delay: 1\nDisallow: /x\nCrawl-delay: 20", 20),
        ("Crawl-delay: soon\nCrawl-delay: 3", 3),
        ("Crawl-delay: inf", 0),
        ("Crawl-delay: 999999999", 30),
    ],
)
def test_a_crawl_delay_is_what_its_writer_meant(lines: str, seconds: float) -> None:
    robots = from_response(200, f"User-agent: *\n{lines}\n".encode(), "wit")
    assert robots.crawl_delay_s("wit") == seconds


@pytest.mark.parametrize("odd", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c"])
def test_a_rule_ends_where_the_standard_says(odd: str) -> None:
    allow = from_response(200, f"User-agent: *\nDisallow: /\nAllow: /{odd}x\n".encode(), "wit")
    assert not allow.allows("http://a.example/y.jpg", "wit")
    closed = from_response(200, f"User-agent: *\nDisallow: /a{odd}b\n".encode(), "wit")
    assert not closed.allows("http://a.example/a.jpg", "wit")


def test_our_own_group_replaces_the_general_one() -> None:
    robots = from_response(200, RULES, "wit")
    assert robots.allows("http://a.example/private/x.jpg", "wit")
    assert not robots.allows("http://a.example/for-wit/x.jpg", "wit")
    other = from_response(200, RULES, "otherbot")
    assert not other.allows("http://a.example/private/x.jpg", "otherbot")
    assert robots.crawl_delay_s("wit") == 2
    assert from_response(200, b"User-agent: *\nCrawl-delay: 9999", "wit").crawl_delay_s("wit") == 30


def test_a_day_later_it_is_asked_again() -> None:
    robots = Robots(fetched=1_000, text="")
    assert robots.is_fresh(86_400, now=80_000)
    assert not robots.is_fresh(86_400, now=90_000)
    assert not Robots(fetched=1_000, text=None).is_fresh(86_400, now=1_100)


def test_what_was_not_reached_is_not_kept() -> None:
    reached = to_json(from_response(200, RULES, "wit", now=5), "wit")
    assert reached and from_json({"http://a.example:80": reached}, "wit")["http://a.example:80"].fetched == 5
    assert to_json(from_response(0, b"", "wit"), "wit") is None


def test_what_another_agent_was_told_is_asked_again() -> None:
    reached = to_json(from_response(200, RULES, "wit"), "wit")
    assert reached and not from_json({"http://a.example:80": reached}, "otherbot")


def test_whole_files_that_version_0_1_kept_are_read() -> None:
    old = {"http://a.example:80": {"fetched": 5, "text": RULES.decode()}}
    assert not from_json(old, "wit")["http://a.example:80"].allows("http://a.example/for-wit/x.jpg", "wit")


@pytest.mark.parametrize(
    "text, closed",
    [
        ("User-agent: a\nUser-agent: wit\nDisallow: /x", True),
        ("User-agent: wit/2.0\nDisallow: /x", True),
        ("User-agent: WIT\nDisallow: /x", True),
        ("User-agent: it\nDisallow: /x", False),  # a part of our name is not our name
        ("User-agent: witness\nDisallow: /x", False),
        ("User-agent: wit\nDisallow:\n\nUser-agent: *\nDisallow: /x", False),
        ("User-agent: wit\n\nUser-agent: *\nDisallow: /x", True),  # one group of two agents: a blank line ends none
        ("User-agent: wit\nAllow: /y\n\nUser-agent: b\nDisallow: /x\n\nUser-agent: wit\nDisallow: /x", True),
        ("Disallow: /x", False),  # belongs to no group
        ("User-agent: *\nDisallow: /x # a comment", True),
        ("user-AGENT : *\ndisallow : /x", True),
        ("User-agent: *\nSitemap: http://a.example/s.xml\nDisallow: /x", True),
        ("User-agent: *\nDisallow: /" + "x" * 9_000, False),
        ("User-agent: *\nDisallow: /x" + "*" * 9_000, True),
    ],
)
def test_which_group_speaks_to_us(text: str, closed: bool) -> None:
    assert from_response(200, text.encode(), "wit").allows("http://a.example/x.jpg", "wit") != closed


@pytest.mark.parametrize(
    "agent, group, closed",
    [
        ("img2dataset", "img2dataset", True),
        ("img2dataset", "img", False),
        ("img2dataset", "IMG2Dataset/1.0", True),
        ("wit-2", "wit-2", True),
    ],
)
def test_names_with_digits_are_whole_names(agent: str, group: str, closed: bool) -> None:
    text = f"User-agent: {group}\nDisallow: /x"
    assert from_response(200, text.encode(), agent).allows("http://a.example/x.jpg", agent) != closed


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_file_is_read_as_its_byte_order_mark_says(encoding: str) -> None:
    found = from_response(200, "User-agent: *\nDisallow: /x".encode(encoding), "wit")
    assert not found.allows("http://a.example/x.jpg", "wit")


def test_reading_again_what_was_kept_changes_nothing() -> None:
    once = our_group(RULES.decode(), "wit")
    assert our_group(once, "wit") == once


def test_a_site_with_more_rules_than_are_read_is_closed() -> None:
    body = b"User-agent: *\n" + b"".join(b"Disallow: /%d/\n" % n for n in range(20_000))
    found = from_response(200, body, "wit")
    assert not found.allows("http://a.example/open.jpg", "wit")
    assert found.note and len(found.text or "") < 100


def test_rules_of_many_hosts_take_bounded_memory() -> None:
    """A wildcard DNS makes any number of hosts of files of half a megabyte: 16 MB each, parsed."""
    found, held = kept(), []
    tracemalloc.start()
    for host in range(40):
        rules = b"".join(b"Disallow: /%d/%d*.jpg\n" % (host, n) for n in range(3_500))
        robots = from_response(200, b"User-agent: *\n" + rules + b"#" * 400_000, "wit")
        assert robots.allows("http://a.example/x.jpg", "wit") and not robots.note
        found.put(f"http://h{host}.example:80", robots)
        held.append(robots)  # as origins with work to do hold theirs
    gc.collect()  # what parsing left behind in circles
    grown = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert found.bytes <= KEPT_BYTES
    assert grown < 40 * MAX_GROUP_CHARS + 2 * PARSED_BYTES
