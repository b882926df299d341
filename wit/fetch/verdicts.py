"""What answers mean: Reasons, pauses, and which requests are tried again. Pure: nothing is sent or kept."""

from __future__ import annotations

import re
import zlib

import pycurl

from wit.reasons import Reason

REDIRECTS = (301, 302, 303, 307, 308)
RETRIED = frozenset(
    (Reason.DNS_FAILED, Reason.CONNECT_FAILED, Reason.TIMEOUT, Reason.BODY_INCOMPLETE, Reason.HTTP_RATE_LIMITED)
)
RETRIED_STATUS = (500, 502, 503, 504)
PATIENCE_STATUS = (429, 503)  # the whole host asks for patience
TIRED_STATUS = (429, 502, 503, 504)  # a breaker counts these, and silence
HOST_AT_FAULT = frozenset((Reason.CONNECT_FAILED, Reason.TIMEOUT))
OURS = frozenset((Reason.FETCHER_CRASHED, Reason.HOST_DENIED))  # verdicts that no status overrules
SAME_FATE = OURS | {  # if robots.txt is lost to these, so are the pictures, under the same Reason
    *(Reason.CONNECT_FAILED, Reason.TIMEOUT, Reason.TLS_FAILED, Reason.DNS_FAILED, Reason.DNS_NOT_FOUND)
}

# https://fetch.spec.whatwg.org/#port-blocking: services that might take an HTTP request for a command.
BAD_PORTS = frozenset(
    int(port)
    for port in (
        "0 1 7 9 11 13 15 17 19 20 21 22 23 25 37 42 43 53 69 77 79 87 95 101 102 103 104 109 110 111 113 115 117 119 123 135 "
        "137 139 143 161 179 389 427 465 512 513 514 515 526 530 531 532 540 548 554 556 563 587 601 636 989 990 993 995 1719 "
        "1720 1723 2049 3659 4045 4190 5060 5061 6000 6566 6665 6666 6667 6668 6669 6679 6697 10080"
    ).split()
) | frozenset((6379, 11211))  # ours: Redis and memcached, which speak lines too

E_HTTP2_STREAM, E_TOO_LARGE = 92, 100  # libcurl's, unnamed in pycurl

CURL_REASONS = {
    pycurl.E_OPERATION_TIMEDOUT: Reason.TIMEOUT,
    pycurl.E_COULDNT_CONNECT: Reason.CONNECT_FAILED,
    pycurl.E_COULDNT_RESOLVE_HOST: Reason.DNS_FAILED,
    pycurl.E_COULDNT_RESOLVE_PROXY: Reason.CONNECT_FAILED,
    pycurl.E_PARTIAL_FILE: Reason.BODY_INCOMPLETE,
    pycurl.E_GOT_NOTHING: Reason.BODY_INCOMPLETE,
    pycurl.E_RECV_ERROR: Reason.BODY_INCOMPLETE,
    pycurl.E_SEND_ERROR: Reason.BODY_INCOMPLETE,
    pycurl.E_ABORTED_BY_CALLBACK: Reason.BODY_INCOMPLETE,  # it would have been sent again
    pycurl.E_HTTP2: Reason.BODY_INCOMPLETE,
    E_HTTP2_STREAM: Reason.BODY_INCOMPLETE,
    pycurl.E_SSL_CONNECT_ERROR: Reason.TLS_FAILED,
    pycurl.E_PEER_FAILED_VERIFICATION: Reason.TLS_FAILED,
    pycurl.E_SSL_CIPHER: Reason.TLS_FAILED,
    pycurl.E_SSL_CERTPROBLEM: Reason.TLS_FAILED,
    pycurl.E_FILESIZE_EXCEEDED: Reason.BODY_TOO_LARGE,
    E_TOO_LARGE: Reason.HEADERS_TOO_LARGE,
}


def is_shared(reason: Reason, status: int) -> bool:
    """Whether pictures are lost under the same Reason as their robots.txt: there was no answer at all."""
    return reason in SAME_FATE or (reason is Reason.BODY_INCOMPLETE and not status)


def reason_for_request(status: int, verdict: Reason | None, code: int, error: str = "") -> Reason | None:
    """Why a request brought no body; None where the status alone decides. `verdict` is why we broke it off, `code` and `error`
    are libcurl's. Every final status but success decides alone, however its body ended: nobody wants that body."""
    if verdict in OURS:
        return verdict
    if status >= 300:
        return None
    if verdict is not None or not code:
        return verdict
    if code == pycurl.E_WRITE_ERROR:  # we had read enough of a long robots.txt
        return None
    if code == pycurl.E_SSL_CONNECT_ERROR and BROKEN_OFF.search(error):
        return Reason.CONNECT_FAILED
    return CURL_REASONS.get(code, Reason.HTTP_INVALID)


# libcurl's words, from OpenSSL and others, for a TLS handshake that nobody answered. (An alert is an answer.)
BROKEN_OFF = re.compile(r"reset|unexpected eof|SSL_ERROR_SYSCALL|closed|Broken pipe", re.IGNORECASE)


def reason_for_status(status: int) -> Reason | None:
    """Why the body of a final status is no picture; None where it may be one."""
    if 200 <= status < 300:
        return Reason.BODY_EMPTY if status in (204, 205) else None
    if status == 407:  # a proxy's, which may let us pass the next time
        return Reason.HTTP_SERVER_ERROR
    exact = {404: Reason.HTTP_NOT_FOUND, 410: Reason.HTTP_GONE, 429: Reason.HTTP_RATE_LIMITED}
    if status in exact:
        return exact[status]
    if status in (401, 403, 451):
        return Reason.HTTP_FORBIDDEN
    if 400 <= status < 500:
        return Reason.HTTP_CLIENT_ERROR
    return Reason.HTTP_SERVER_ERROR if status >= 500 else Reason.HTTP_INVALID


def worth_another(reason: Reason, status: int) -> bool:
    """Whether another attempt may help."""
    return reason in RETRIED or (reason is Reason.HTTP_SERVER_ERROR and status in RETRIED_STATUS)


def pause_s(url: str, attempts: int, backoff_s: float) -> float:
    """Seconds before the next attempt. They double with every attempt, with a jitter that is a hash of URL and attempt: no
    thundering herd, and no random number either."""
    jitter = zlib.crc32(f"{url} {attempts}".encode("utf-8", "replace")) / 2**32
    return float(backoff_s * 2 ** (attempts - 1) * (0.5 + jitter))
