"""Opt-outs and Retry-After in all the forms that servers write them."""

from __future__ import annotations

import email.utils
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wit.fetch.headers import closes, content_length, directives, last, opt_out, retry_after_s, when
from wit.records import Reason


@pytest.mark.parametrize(
    "directive", ["noai", "noimageai", "noindex", "noimageindex", "none", "noml", "NoAI", " noai "]
)
def test_every_opt_out_is_respected(directive: str) -> None:
    assert opt_out([("x-robots-tag", directive)], "wit") is Reason.OPT_OUT_HEADER


@pytest.mark.parametrize(
    "value, closed",
    [
        ("all", False),
        ("nofollow, nosnippet", False),
        ("nofollow, noai", True),
        ("wit: noindex", True),
        ("Wit: nofollow, noai", True),
        ("otherbot: noindex", False),
        ("otherbot: noindex, noai", False),
        ("otherbot: noindex, wit: noai", True),
        ("noai, otherbot: all", True),
        ("*: noai", True),
        ("unavailable_after: 25 Jun 2010 15:00:00 PST", True),  # past
        ("unavailable_after: Friday, 25 Jun 2010 15:00:00 PST, noarchive", True),
        ("unavailable_after: Friday, 25-Jun-10 15:00:00 PST", True),
        ("unavailable_after: 2010-06-25T15:00:00-08:00", True),
        ("unavailable_after: Friday, 25 Jun 2060 15:00:00 PST", False),
        ("unavailable_after: Friday, 25 Jun 2060 15:00:00 PST, noai", True),
        ("unavailable_after: 25 Jun 2060 15:00:00 PST noai", True),
        ("unavailable_after: Wed, 21 Oct 99999999999 07:28:00 GMT, noai", True),
        ("unavailable_after: one day", False),
        ("otherbot: unavailable_after: 25 Jun 2010 15:00:00 PST", False),
        ("wit: unavailable_after: 25 Jun 2010 15:00:00 PST", True),
        ("noai noimageai", True),
        ("noarchive; noai", True),
        ("noarchive;noai noimageai", True),
        ("max-image-preview: none", False),
        ("otherbot : noindex", False),
        ("otherbot:noindex, wit:noai", True),
        ("otherbot: noindex, unavailable_after: 25 Jun 2010 15:00:00 PST", False),
        ("wit: max-image-preview: none", False),
        ("max-image-preview: none noai", True),
        ("max-snippet: 20, noai", True),
        ("otherbot: nofollow, max-snippet: 5, noai", False),
        ("", False),
    ],
)
def test_agent_scoped_forms(value: str, closed: bool) -> None:
    assert (opt_out([("x-robots-tag", value)], "wit") is not None) == closed


def test_each_header_starts_anew() -> None:
    headers = [("x-robots-tag", "otherbot: noindex"), ("x-robots-tag", "noai")]
    assert opt_out(headers, "wit") is Reason.OPT_OUT_HEADER


@pytest.mark.parametrize("value, reason", [("1", Reason.TDM_RESERVED), ("0", None), (" 1 ", Reason.TDM_RESERVED)])
def test_tdm_reservation(value: str, reason: Reason | None) -> None:
    assert opt_out([("tdm-reservation", value)], "wit") is reason


def test_retry_after_in_seconds_and_as_a_date() -> None:
    assert retry_after_s([("retry-after", "120")]) == 120
    date = email.utils.formatdate(1_000_060, usegmt=True)
    assert retry_after_s([("retry-after", date)], now=1_000_000) == 60
    assert retry_after_s([("retry-after", date)], now=2_000_000) == 0
    assert retry_after_s([("retry-after", "soon")]) is None
    assert retry_after_s([("retry-after", "Wed, 21 Oct 99999999999 07:28:00 GMT")]) is None
    assert retry_after_s([("retry-after", "9" * 5_000)]) == 30 * 86_400
    assert retry_after_s([("retry-after", "Fri, 31 Dec 9999 23:59:59 GMT")]) == 30 * 86_400
    assert retry_after_s([]) is None


@pytest.mark.parametrize(
    "piece", ["a: ", "a:", "max-snippet: a ", "unavailable_after: 1,", " ", ":", "a, ", "noai ", ";,:"]
)
def test_a_header_takes_time_by_its_length(piece: str) -> None:
    """63 kB of "a: " took 16 s."""

    def seconds(size: int) -> float:
        began = time.process_time()
        directives(piece * (size // len(piece)), "wit")
        return time.process_time() - began

    seconds(1_000)
    assert seconds(64_000) < 0.02 + 40 * min(seconds(8_000) for _ in range(3))  # 64 times as long if it is quadratic


@pytest.mark.parametrize(
    "value, length", [("12", 12), ("9" * 5_000, 10**18), ("-1", None), ("1e3", None), ("٣", None), ("", None)]
)
def test_content_length(value: str, length: int | None) -> None:
    assert content_length([("content-length", value)]) == length


DATE = st.from_regex(
    r"(Wed, )?[0-9]{1,12} (Oct|Foo)[ -][0-9]{1,12} [0-9]{2}:[0-9]{1,3}:[0-9]{2} (GMT|PST|[+-][0-9]{1,9})"
)


@given(st.text(max_size=60) | DATE | DATE.map(lambda date: f"unavailable_after: {date}, noai"))
def test_no_header_value_raises(value: str) -> None:
    content_length([("content-length", value)])
    opt_out([("x-robots-tag", value), ("tdm-reservation", value)], "wit")
    retry_after_s([("retry-after", value)])


NOON = 1_277_467_200.0  # 25 June 2010, 12:00 UTC


@pytest.mark.parametrize(
    "text, seconds",
    [
        ("Fri, 25 Jun 2010 12:00:00 GMT", NOON),
        ("Friday, 25-Jun-10 12:00:00 GMT", NOON),
        ("Fri Jun 25 12:00:00 2010", NOON),
        ("25 Jun 2010 04:00:00 PST", NOON),
        (" fri, 25 jun 2010 12:00:00 gmt ", NOON),
        ("2010-06-25T12:00:00Z", NOON),
        ("2010-06-25t12:00:00z", NOON),
        ("2010-06-25 12:00:00", NOON),  # of no time zone: UTC
        ("2010-06-25T14:00:00+02:00", NOON),
        ("2010-06-25", NOON - 12 * 3600),
        ("25 Jun 2010 12:00:00", NOON),
        ("noon", None),
        ("", None),
        ("0", None),
    ],
)
def test_a_date_is_read_in_any_of_its_forms(text: str, seconds: float | None) -> None:
    assert when(text) == seconds


def test_a_date_of_no_time_zone_is_of_greenwich_wherever_we_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert when("2010-06-25 12:00:00") == when("25 Jun 2010 12:00:00") == NOON
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("after, closed", [(-1, False), (0, True), (1, True)])
def test_a_picture_is_closed_from_the_moment_on_that_was_named(after: float, closed: bool) -> None:
    assert closes({"unavailable_after": "Fri, 25 Jun 2010 12:00:00 GMT"}, NOON + after) == closed
    headers = [("x-robots-tag", "unavailable_after: Fri, 25 Jun 2010 12:00:00 GMT")]
    assert (opt_out(headers, "wit", NOON + after) is Reason.OPT_OUT_HEADER) == closed
    assert closes({}, NOON) is False


@pytest.mark.parametrize(
    "value, found",
    [
        ("NoAI, NoFollow", {"noai": "", "nofollow": ""}),
        (
            "max-snippet: 5, max-image-preview:large, max-video-preview : -1",
            {"max-snippet": "5", "max-image-preview": "large", "max-video-preview": "-1"},
        ),
        ("max-snippet:", {"max-snippet": ""}),
        (
            "unavailable_after: Friday, 25 Jun 2010 15:00:00 PST; noai",
            {"unavailable_after": "friday, 25 jun 2010 15:00:00 pst", "noai": ""},
        ),
        (
            "unavailable_after: 25 Jun 2010 15:00:00 PST, 7 more",
            {"unavailable_after": "25 jun 2010 15:00:00 pst, 7 more"},
        ),
        ("unavailable_after: 25 Jun 2010, noai, 7", {"unavailable_after": "25 jun 2010", "noai": "", "7": ""}),
        ("unavailable_after: 2010-06-25T15:00:00 noml", {"unavailable_after": "2010-06-25t15:00:00", "noml": ""}),
        ("otherbot: noindex, wit: noai, nofollow", {"noai": "", "nofollow": ""}),
        ("otherbot: noindex, *: noai", {"noai": ""}),
        ("wit: noai, otherbot: noindex", {"noai": ""}),
        ("otherbot: max-snippet: 5 noai", {}),
        (" ; , ", {}),
    ],
)
def test_the_directives_that_concern_us_with_their_values(value: str, found: dict[str, str]) -> None:
    assert directives(value, "wit") == found == directives(value, "WIT")


def test_every_word_that_is_not_of_the_list_lets_us_in() -> None:
    for word in (
        "all",
        "nofollow",
        "noarchive",
        "nosnippet",
        "notranslate",
        "index",
        "ai",
        "max-snippet",
        "unavailable_after",
    ):
        assert opt_out([("x-robots-tag", word)], "wit") is None
        assert opt_out([("robots", "noai"), ("x-robots", "noai"), ("x-robots-tag", word)], "wit") is None


@pytest.mark.parametrize("value", ["2", "", "01", "true", "0, 1"])
def test_a_reservation_is_a_one(value: str) -> None:
    assert opt_out([("tdm-reservation", value), ("tdm-policy", "1")], "wit") is None


def test_the_first_header_that_forbids_names_the_reason() -> None:
    opted, reserved = ("x-robots-tag", "noai"), ("tdm-reservation", "1")
    assert opt_out([("tdm-reservation", "0"), opted, reserved], "wit") is Reason.OPT_OUT_HEADER
    assert opt_out([("x-robots-tag", "all"), reserved, opted], "wit") is Reason.TDM_RESERVED


@pytest.mark.parametrize(
    "value, seconds",
    [
        ("0", 0),
        (" 7 ", 7),
        ("2592000", 2_592_000),
        ("2592001", 2_592_000),
        ("-1", None),
        ("1.5", None),
        ("٣", None),
        ("", None),
    ],
)
def test_seconds_to_wait_are_bounded_by_a_month(value: str, seconds: float | None) -> None:
    assert retry_after_s([("retry-after", value)]) == seconds


def test_a_date_to_come_back_at_counts_from_now() -> None:
    date = email.utils.formatdate(time.time() + 1_000, usegmt=True)
    assert 900 < (retry_after_s([("retry-after", date)]) or 0) <= 1_000


@pytest.mark.parametrize("digits, length", [("9" * 18, 10**18 - 1), ("9" * 19, 10**18), ("0" * 19, 10**18), ("0", 0)])
def test_a_length_of_many_digits_is_larger_than_any_limit(digits: str, length: int) -> None:
    assert content_length([("content-length", f" {digits} ")]) == length


def test_of_several_headers_of_a_name_the_last_counts() -> None:
    headers = [("retry-after", "1"), ("content-length", "5"), ("retry-after", " 2 "), ("location", "/")]
    assert last(headers, "retry-after") == "2" and last(headers, "refresh") is None
    assert retry_after_s(headers) == 2 and content_length(headers) == 5
