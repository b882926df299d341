"""Opt-outs and Retry-After in all the forms that servers write them."""

from __future__ import annotations

import email.utils

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wit.fetch.headers import opt_out, retry_after_s
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
        ("unavailable_after: 25 Jun 2010 15:00:00 PST", False),
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
    assert retry_after_s([]) is None


@given(st.text(max_size=60))
def test_no_header_value_raises(value: str) -> None:
    opt_out([("x-robots-tag", value), ("tdm-reservation", value)], "wit")
    retry_after_s([("retry-after", value)])
