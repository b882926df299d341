"""Opt-outs and Retry-After in all the forms that servers write them."""

from __future__ import annotations

import email.utils
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wit.fetch.headers import content_length, directives, opt_out, retry_after_s
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
