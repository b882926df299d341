"""What answers mean: the status decides where there is one, and what is tried again is bounded."""

from __future__ import annotations

import pycurl
import pytest

from wit.fetch.verdicts import BAD_PORTS, pause_s, reason_for_request, reason_for_status, worth_another
from wit.reasons import Reason

R = Reason


@pytest.mark.parametrize(
    "status, verdict, code, reason",
    [
        (200, None, 0, None),
        (200, None, pycurl.E_OPERATION_TIMEDOUT, R.TIMEOUT),
        (200, R.BODY_TOO_LARGE, pycurl.E_WRITE_ERROR, R.BODY_TOO_LARGE),
        (200, None, pycurl.E_WRITE_ERROR, None),  # enough of a long robots.txt
        (200, None, 9_999, R.HTTP_INVALID),
        (0, None, pycurl.E_COULDNT_CONNECT, R.CONNECT_FAILED),
        (404, None, pycurl.E_OPERATION_TIMEDOUT, None),  # its status is known, however its body ended
        (302, R.BODY_TOO_LARGE, pycurl.E_WRITE_ERROR, None),
        (503, R.FETCHER_CRASHED, pycurl.E_WRITE_ERROR, R.FETCHER_CRASHED),
        (404, R.HOST_DENIED, 0, R.HOST_DENIED),
        (101, R.HTTP_INVALID, pycurl.E_WRITE_ERROR, R.HTTP_INVALID),
    ],
)
def test_why_a_request_brought_no_body(status: int, verdict: Reason | None, code: int, reason: Reason | None) -> None:
    assert reason_for_request(status, verdict, code) is reason


@pytest.mark.parametrize(
    "status, reason, again",
    [
        (200, None, False),
        (204, R.BODY_EMPTY, False),
        (304, R.HTTP_INVALID, False),
        (403, R.HTTP_FORBIDDEN, False),
        (404, R.HTTP_NOT_FOUND, False),
        (410, R.HTTP_GONE, False),
        (418, R.HTTP_CLIENT_ERROR, False),
        (429, R.HTTP_RATE_LIMITED, True),
        (500, R.HTTP_SERVER_ERROR, True),
        (501, R.HTTP_SERVER_ERROR, False),
        (503, R.HTTP_SERVER_ERROR, True),
    ],
)
def test_what_a_status_means_and_whether_it_is_asked_again(status: int, reason: Reason | None, again: bool) -> None:
    assert reason_for_status(status) is reason
    assert reason is None or worth_another(reason, status) == again


def test_pauses_double_and_differ_by_url() -> None:
    first, second = pause_s("http://a.example/1", 1, 0.5), pause_s("http://a.example/2", 1, 0.5)
    assert first != second and all(0.25 <= pause < 0.75 for pause in (first, second))
    assert all(2 <= pause_s("http://a.example/1", 4, 0.5) < 6 for _ in range(3))
    assert pause_s("http://a.example/\udcff", 1, 0.5) > 0  # a lone surrogate is no reason to raise


def test_ports_of_other_services_are_refused_and_those_of_the_web_are_not() -> None:
    assert BAD_PORTS.isdisjoint({80, 443, 8000, 8080, 8443})
    assert {22, 25, 6379, 11211, 6667} <= BAD_PORTS
