"""What answers mean: the status decides where there is one, and what is tried again is bounded."""

from __future__ import annotations

import pycurl
import pytest

from wit.fetch.verdicts import (
    BAD_PORTS,
    HOST_AT_FAULT,
    PATIENCE_STATUS,
    REDIRECTS,
    TIRED_STATUS,
    is_shared,
    pause_s,
    reason_for_request,
    reason_for_status,
    worth_another,
)
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


@pytest.mark.parametrize(
    "code, reason",
    [
        (pycurl.E_OPERATION_TIMEDOUT, R.TIMEOUT),
        (pycurl.E_COULDNT_CONNECT, R.CONNECT_FAILED),
        (pycurl.E_COULDNT_RESOLVE_PROXY, R.CONNECT_FAILED),
        (pycurl.E_COULDNT_RESOLVE_HOST, R.DNS_FAILED),
        (pycurl.E_PARTIAL_FILE, R.BODY_INCOMPLETE),
        (pycurl.E_GOT_NOTHING, R.BODY_INCOMPLETE),
        (pycurl.E_RECV_ERROR, R.BODY_INCOMPLETE),
        (pycurl.E_SEND_ERROR, R.BODY_INCOMPLETE),
        (pycurl.E_ABORTED_BY_CALLBACK, R.BODY_INCOMPLETE),
        (pycurl.E_HTTP2, R.BODY_INCOMPLETE),
        (92, R.BODY_INCOMPLETE),  # CURLE_HTTP2_STREAM
        (pycurl.E_SSL_CONNECT_ERROR, R.TLS_FAILED),
        (pycurl.E_PEER_FAILED_VERIFICATION, R.TLS_FAILED),
        (pycurl.E_SSL_CIPHER, R.TLS_FAILED),
        (pycurl.E_SSL_CERTPROBLEM, R.TLS_FAILED),
        (pycurl.E_FILESIZE_EXCEEDED, R.BODY_TOO_LARGE),
        (100, R.HEADERS_TOO_LARGE),  # CURLE_TOO_LARGE
    ],
)
def test_each_way_to_fail_has_its_word(code: int, reason: Reason) -> None:
    assert reason_for_request(0, None, code) is reason
    assert reason_for_request(299, None, code) is reason and reason_for_request(300, None, code) is None
    assert reason_for_request(0, R.BODY_TOO_LARGE, code) is R.BODY_TOO_LARGE, "what we broke off is ours to name"


@pytest.mark.parametrize(
    "words, reason",
    [
        ("Recv failure: Connection reset by peer", R.CONNECT_FAILED),
        ("OpenSSL: error:0A000126:SSL routines::unexpected eof while reading", R.CONNECT_FAILED),
        ("OpenSSL SSL_connect: SSL_ERROR_SYSCALL", R.CONNECT_FAILED),
        ("Connection CLOSED abruptly", R.CONNECT_FAILED),
        ("Send failure: Broken pipe", R.CONNECT_FAILED),
        ("SSL alert number 40", R.TLS_FAILED),
        ("", R.TLS_FAILED),
    ],
)
def test_a_handshake_that_nobody_answered_is_no_fault_of_tls(words: str, reason: Reason) -> None:
    assert reason_for_request(0, None, pycurl.E_SSL_CONNECT_ERROR, words) is reason
    assert reason_for_request(0, None, pycurl.E_PEER_FAILED_VERIFICATION, words) is R.TLS_FAILED


@pytest.mark.parametrize(
    "reason, status, shared",
    [
        *((reason, 0, True) for reason in (R.FETCHER_CRASHED, R.HOST_DENIED, R.CONNECT_FAILED, R.TIMEOUT)),
        *((reason, 0, True) for reason in (R.TLS_FAILED, R.DNS_FAILED, R.DNS_NOT_FOUND, R.BODY_INCOMPLETE)),
        (R.TIMEOUT, 200, True),
        (R.BODY_INCOMPLETE, 200, False),
        (R.BODY_TOO_LARGE, 0, False),
        (R.HTTP_SERVER_ERROR, 500, False),
        (R.HTTP_INVALID, 0, False),
    ],
)
def test_what_befell_robots_txt_befalls_its_pictures_where_nobody_answered(
    reason: Reason, status: int, shared: bool
) -> None:
    assert is_shared(reason, status) == shared


def test_every_status_has_one_meaning() -> None:
    meant = {status: reason_for_status(status) for status in range(1_000)}
    assert {status for status, reason in meant.items() if reason is None} == {*range(200, 300)} - {204, 205}
    assert {status for status, reason in meant.items() if reason is R.BODY_EMPTY} == {204, 205}
    assert {status for status, reason in meant.items() if reason is R.HTTP_INVALID} == {*range(200), *range(300, 400)}
    assert {status for status, reason in meant.items() if reason is R.HTTP_FORBIDDEN} == {401, 403, 451}
    assert {status for status, reason in meant.items() if reason is R.HTTP_SERVER_ERROR} == {407, *range(500, 1_000)}
    others = {R.HTTP_CLIENT_ERROR, R.HTTP_NOT_FOUND, R.HTTP_GONE, R.HTTP_RATE_LIMITED, R.HTTP_FORBIDDEN}
    assert {meant[status] for status in range(400, 500) if status != 407} == others


def test_what_is_asked_again_is_what_another_time_may_bring() -> None:
    again = {reason for reason in Reason if worth_another(reason, 0)}
    assert again == {R.DNS_FAILED, R.CONNECT_FAILED, R.TIMEOUT, R.BODY_INCOMPLETE, R.HTTP_RATE_LIMITED}
    assert {status for status in range(600) if worth_another(R.HTTP_SERVER_ERROR, status)} == {500, 502, 503, 504}
    assert not worth_another(R.HTTP_FORBIDDEN, 503)


def test_what_a_host_is_spared_for() -> None:
    assert set(REDIRECTS) == {301, 302, 303, 307, 308}
    assert set(PATIENCE_STATUS) == {429, 503} and set(TIRED_STATUS) == {429, 502, 503, 504}
    assert {R.CONNECT_FAILED, R.TIMEOUT} == HOST_AT_FAULT


@pytest.mark.parametrize("attempts, least, most", [(1, 1, 3), (2, 2, 6), (3, 4, 12)])
def test_a_pause_is_somewhere_around_its_double(attempts: int, least: float, most: float) -> None:
    pauses = [pause_s(f"http://a.example/{n}", attempts, 2.0) for n in range(200)]
    assert all(least <= pause < most for pause in pauses)
    assert min(pauses) < least + 0.1 * (most - least) and max(pauses) > most - 0.1 * (most - least)
    assert pauses[0] == pause_s("http://a.example/0", attempts, 2.0)
    assert pauses[0] * 2 != pause_s("http://a.example/0", attempts + 1, 2.0)  # jitter is anew each time
