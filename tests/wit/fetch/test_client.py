"""A hostile web: every URL ends under its own Reason, and nothing is sent where nothing may be sent."""

from __future__ import annotations

import gzip
import io
import ssl
import struct
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from wit.fetch.config import FetchConfig, for_local_web
from wit.fetch.outcome import Outcome
from wit.images.config import ImageConfig
from wit.records import Reason

hostile = sys.modules["hostile"]  # loaded by conftest
picture, ok, redirect = hostile.picture, hostile.ok, hostile.redirect
JPEG = picture(width=320, height=200)


def png_bomb(side: int, color: int) -> bytes:
    """A PNG whose header promises side x side pixels; the data is honest and tiny."""
    depth = {0: 1, 2: 3}[color]
    row = b"\0" + bytes(side * depth)
    pack = zlib.compressobj(9)
    data = b"".join(pack.compress(row) for _ in range(side // 50)) + pack.flush()

    def chunk(kind: bytes, body: bytes) -> bytes:
        return len(body).to_bytes(4, "big") + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", side, side, 8, color, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def exif_turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return picture(width=320, height=200, exif=exif)


def gray_16() -> bytes:
    out = io.BytesIO()
    ramp = np.linspace(0, 65535, 100 * 100).reshape(100, 100).astype(np.uint16)
    Image.fromarray(ramp).save(out, "PNG")
    return out.getvalue()


def drip(ask: object) -> Iterator[bytes]:
    yield ok(JPEG)[: -len(JPEG)]
    for at in range(len(JPEG)):
        yield JPEG[at : at + 1]
        time.sleep(0.1)


def endless(ask: object) -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\ncontent-type: image/jpeg\r\n\r\n" + JPEG
    while True:
        yield bytes(65536)


def silent(ask: object) -> Iterator[bytes]:
    time.sleep(6)
    yield b""


def endless_headers(ask: object) -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\n"
    while True:
        yield b"x-more: " + b"y" * 1000 + b"\r\n"


def endless_gzip(ask: object) -> Iterator[bytes]:
    pack = zlib.compressobj(9, zlib.DEFLATED, 31)
    yield b"HTTP/1.1 200 OK\r\ncontent-type: image/jpeg\r\ncontent-encoding: gzip\r\n\r\n"
    while True:
        yield pack.compress(bytes(4_000_000))


def chunked(ask: object) -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\ncontent-type: image/jpeg\r\ntransfer-encoding: chunked\r\n\r\n"
    for at in range(0, len(JPEG), 1000):
        piece = JPEG[at : at + 1000]
        yield b"%x\r\n%b\r\n" % (len(piece), piece)
    yield b"0\r\n\r\n"


def trailer(ask: object) -> Iterator[bytes]:
    *most, _ = chunked(ask)
    yield from most
    yield b"0\r\nHTTP/1.1 404 Not: Found\r\nx-robots-tag: noai\r\n\r\n"


def drip_after(head: bytes) -> Callable[[object], Iterator[bytes]]:
    """An error page or redirect whose body never ends."""

    def reply(ask: object) -> Iterator[bytes]:
        yield head + b"content-length: 1000\r\n\r\n"
        for _ in range(60):
            yield b"x"
            time.sleep(0.1)

    return reply


SENT: Counter[str] = Counter()  # bytes by path


def flood(path: str, first: bytes, more: bytes) -> Callable[[object], Iterator[bytes]]:
    """`more` without end, in pieces of a megabyte; how much went out is counted."""

    def reply(ask: object) -> Iterator[bytes]:
        yield first
        piece = more * (1_000_000 // len(more))
        while SENT[path] < 3_000_000_000:
            yield piece
            SENT[path] += len(piece)

    return reply


CHUNKED = b"HTTP/1.1 200 OK\r\ncontent-type: image/jpeg\r\ntransfer-encoding: chunked\r\n\r\n"
GZIP_WITH_NAME = b"\x1f\x8b\x08\x08" + bytes(6)  # a header whose file name has no end
FLOODS: dict[str, object] = {
    "/flood-gzip-name": flood(
        "/flood-gzip-name", b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n\r\n" + GZIP_WITH_NAME, b"name"
    ),
    "/flood-chunk-extension": flood("/flood-chunk-extension", CHUNKED + b"5;", b"extension"),
    "/flood-trailers": flood("/flood-trailers", CHUNKED + b"0\r\n", b"x-more: yes\r\n"),
    "/flood-interim": flood("/flood-interim", b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
}


def cut(ask: object) -> Iterator[bytes]:
    yield ok(JPEG)[:-500]


def reset(ask: object) -> Iterator[bytes]:
    yield b""


def once(first: bytes, then: bytes) -> Callable[[object], bytes]:
    return lambda ask: first if ask.count == 1 else then  # type: ignore[attr-defined]


HTML = b"<!doctype html><html><body>no picture here</body></html>"
SVG = b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>'
R = Reason
NEVER = "Wed, 21 Oct 99999999999 07:28:00 GMT"

# path -> (reply, reason or None). The path is asked for at http://web.example.
PROBES: dict[str, tuple[object, Reason | None]] = {
    "/good.jpg": (ok(JPEG), None),
    "/good.png": (ok(picture("PNG")), None),
    "/good.webp": (ok(picture("WEBP")), None),
    "/good.gif": (ok(picture("GIF")), None),
    "/good.bmp": (ok(picture("BMP")), None),
    "/good.tiff": (ok(picture("TIFF")), None),
    "/good.avif": (ok(picture("AVIF")), None),
    "/exif6.jpg": (ok(exif_turned()), None),
    "/gray16.png": (ok(gray_16()), None),
    "/wrong-type": (ok(JPEG, content_type="text/html"), None),
    "/no-type": (ok(JPEG, content_type=None), None),
    "/no-length": (lambda ask: iter([ok(JPEG, content_length=None)]), None),
    "/chunked": (chunked, None),
    "/gzip": (ok(gzip.compress(JPEG), content_encoding="gzip"), None),
    "/203": (ok(JPEG, status="203 Non-Authoritative"), None),
    "/redirect": (redirect("/good.jpg"), None),
    "/redirect-308": (redirect("http://web.example/good.jpg", "308 Permanent"), None),
    "/redirect-relative/x": (redirect("../good.jpg"), None),
    "/redirect-no-scheme": (redirect("//web.example/good.jpg"), None),
    "/chain0": (redirect("/chain1"), None),
    "/chain1": (redirect("/chain2"), None),
    "/chain2": (redirect("/good.jpg"), None),
    "/%C3%BC%20b.jpg": (ok(JPEG), None),
    "/flaky-503": (once(ok(b"", status="503 Busy"), ok(JPEG)), None),
    "/flaky-cut": (lambda ask: cut(ask) if ask.count == 1 else ok(JPEG), None),  # type: ignore[attr-defined]
    "/flaky-429": (once(ok(b"", status="429 Slow down", retry_after="0"), ok(JPEG)), None),
    "/404": (ok(HTML, status="404 Not Found"), R.HTTP_NOT_FOUND),
    "/410": (ok(HTML, status="410 Gone"), R.HTTP_GONE),
    "/401": (ok(HTML, status="401 Unauthorized"), R.HTTP_FORBIDDEN),
    "/403": (ok(HTML, status="403 Forbidden"), R.HTTP_FORBIDDEN),
    "/451": (ok(HTML, status="451 Unavailable"), R.HTTP_FORBIDDEN),
    "/418": (ok(HTML, status="418 Teapot"), R.HTTP_CLIENT_ERROR),
    "/500": (ok(HTML, status="500 Oops"), R.HTTP_SERVER_ERROR),
    "/501": (ok(HTML, status="501 Never"), R.HTTP_SERVER_ERROR),
    "/304": (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 0\r\n\r\n", R.HTTP_INVALID),
    "/300": (ok(HTML, status="300 Choose"), R.HTTP_INVALID),
    "/302-nowhere": (ok(b"", status="302 Found"), R.HTTP_INVALID),
    "/204": (b"HTTP/1.1 204 No Content\r\n\r\n", R.BODY_EMPTY),
    "/empty": (ok(b""), R.BODY_EMPTY),
    "/loop": (redirect("/loop"), R.TOO_MANY_REDIRECTS),
    "/loop-a": (redirect("/loop-b"), R.TOO_MANY_REDIRECTS),
    "/loop-b": (redirect("/loop-a"), R.TOO_MANY_REDIRECTS),
    "/to-private": (redirect("http://private.example/secret.jpg"), R.ADDRESS_REFUSED),
    "/to-metadata": (redirect("http://169.254.169.254/latest/meta-data"), R.ADDRESS_REFUSED),
    "/to-decimal": (redirect("http://2130706434/"), R.ADDRESS_REFUSED),
    "/to-v6": (redirect("http://[::1]/"), R.ADDRESS_REFUSED),
    "/to-file": (redirect("file:///etc/hostname"), R.SCHEME_REFUSED),
    "/to-ftp": (redirect("ftp://web.example/x"), R.SCHEME_REFUSED),
    "/to-data": (redirect("data:image/png;base64,AAAA"), R.SCHEME_REFUSED),
    "/to-nonsense": (redirect("http://[nonsense"), R.HTTP_INVALID),
    "/to-closed": (redirect("http://closed.example/x.jpg"), R.ROBOTS_DISALLOWED),
    "/html": (ok(HTML), R.NOT_AN_IMAGE),
    "/json": (ok(b'{"error": 1}'), R.NOT_AN_IMAGE),
    "/text": (ok(b"hello"), R.NOT_AN_IMAGE),
    "/svg": (ok(SVG, content_type="image/svg+xml"), R.SVG_REFUSED),
    "/ico": (ok(b"\0\0\1\0\1\0" + bytes(60)), R.FORMAT_UNSUPPORTED),
    "/psd": (ok(b"8BPS" + bytes(60)), R.FORMAT_UNSUPPORTED),
    "/truncated.jpg": (ok(JPEG[: len(JPEG) // 2]), R.IMAGE_TRUNCATED),
    "/truncated.png": (ok(picture("PNG", 200, 200)[:-300]), R.IMAGE_TRUNCATED),
    "/truncated.webp": (ok(picture("WEBP", 200, 200)[:-60]), R.IMAGE_TRUNCATED),
    "/truncated.gif": (ok(picture("GIF", 200, 200)[:-900]), R.IMAGE_TRUNCATED),
    "/corrupt.jpg": (ok(JPEG[:20] + bytes(range(256)) * 4 + JPEG[-2:]), R.IMAGE_CORRUPT),
    "/magic-only.jpg": (ok(b"\xff\xd8\xff\xd9"), None),  # truncated or corrupt: see below
    "/polyglot.jpg": (ok(JPEG + HTML), None),
    "/bomb-rgb.png": (ok(png_bomb(20_000, 2)), R.IMAGE_TOO_MANY_PIXELS),
    "/bomb-gray.png": (ok(png_bomb(30_000, 0)), R.IMAGE_TOO_MANY_PIXELS),
    "/100mb": (lambda ask: iter([ok(b"", content_length="100000000")]), R.BODY_TOO_LARGE),
    "/endless": (endless, R.BODY_TOO_LARGE),
    "/endless-gzip": (endless_gzip, R.BODY_TOO_LARGE),
    "/bad-gzip": (ok(b"not gzip at all", content_encoding="gzip"), R.HTTP_INVALID),
    "/drip": (drip, R.TIMEOUT),
    "/silent": (silent, R.TIMEOUT),
    "/endless-headers": (endless_headers, R.HEADERS_TOO_LARGE),
    "/many-headers": (b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 20_000 + b"\r\n", R.HEADERS_TOO_LARGE),
    "/cut": (cut, R.BODY_INCOMPLETE),
    "/reset": (reset, R.BODY_INCOMPLETE),
    "/not-http": (b"SSH-2.0-OpenSSH_9.6\r\n", R.HTTP_INVALID),
    "/length-5000": (ok(b"x", content_length="9" * 5_000), R.BODY_TOO_LARGE),
    "/length-20": (ok(b"x", content_length="9" * 20), R.BODY_TOO_LARGE),
    "/404-100mb": (lambda ask: iter([ok(b"", status="404 No", content_length="100000000")]), R.HTTP_NOT_FOUND),
    "/101": (b"HTTP/1.1 101 Switching\r\nupgrade: x\r\n\r\n", R.HTTP_INVALID),
    "/trailer": (trailer, None),
    "/drip-404": (drip_after(b"HTTP/1.1 404 Not Found\r\n"), R.HTTP_NOT_FOUND),
    "/drip-302": (drip_after(b"HTTP/1.1 302 Found\r\nlocation: /good.jpg\r\n"), None),
    "/drip-503": (drip_after(b"HTTP/1.1 503 Busy\r\n"), R.HTTP_SERVER_ERROR),
    "/to-port": (redirect("http://web.example:6379/x.jpg"), R.PORT_REFUSED),
    "/to-credentials": (redirect("http://me:secret@web.example/good.jpg"), None),
    "/retry-after-never": (ok(b"", status="429 Later", retry_after=NEVER), R.HTTP_RATE_LIMITED),
    "/503-retry-after-never": (ok(b"", status="503 Later", retry_after=NEVER), R.HTTP_SERVER_ERROR),
    "/unavailable-after": (
        ok(JPEG, x_robots_tag="unavailable_after: Friday, 25 Jun 2010 15:00:00 PST"),
        R.OPT_OUT_HEADER,
    ),
    "/flood-gzip-name": (FLOODS["/flood-gzip-name"], R.BODY_TOO_LARGE),
    "/flood-chunk-extension": (FLOODS["/flood-chunk-extension"], R.BODY_TOO_LARGE),
    "/flood-trailers": (FLOODS["/flood-trailers"], R.HEADERS_TOO_LARGE),
    "/flood-interim": (FLOODS["/flood-interim"], R.HEADERS_TOO_LARGE),
    "/429": (ok(b"", status="429 Slow down"), R.HTTP_RATE_LIMITED),
    "/noai": (ok(JPEG, x_robots_tag="noai"), R.OPT_OUT_HEADER),
    "/otherbot": (ok(JPEG, x_robots_tag="otherbot: noai"), None),
    "/wit-only": (ok(JPEG, x_robots_tag="wit: noimageindex"), R.OPT_OUT_HEADER),
    "/tdm": (ok(JPEG, tdm_reservation="1"), R.TDM_RESERVED),
    "/noai-empty": (ok(b"", x_robots_tag="noai"), R.OPT_OUT_HEADER),
}
OTHERS: dict[str, Reason | None] = {
    "http://web.example/ü b.jpg": None,
    "http://WEB.example:80/good.jpg?x=1#part": None,
    "http://web.example/a/../good.jpg": None,
    "http://bücher.example/good.jpg": None,
    "HTTP://web.example/good.jpg?upper": None,
    "ftp://web.example/x.jpg": R.SCHEME_REFUSED,
    "file:///etc/hostname": R.SCHEME_REFUSED,
    "data:image/png;base64,AAAA": R.SCHEME_REFUSED,
    "gopher://web.example/": R.SCHEME_REFUSED,
    "javascript:alert(1)": R.SCHEME_REFUSED,
    "http://me:secret@web.example/good.jpg?credentials": None,
    **{f"http://web.example:{port}/x.jpg": R.PORT_REFUSED for port in (22, 25, 6379, 11211, 6000, 1)},
    "https://web.example:22/x.jpg": R.PORT_REFUSED,
    "http://never-robots.example/x.jpg": R.ROBOTS_UNREACHABLE,
    "http://marked-robots.example/closed/x.jpg": R.ROBOTS_DISALLOWED,
    "http://no-robots.example/x.jpg": None,
    "http://": R.HTTP_INVALID,
    "no url": R.HTTP_INVALID,
    "http://private.example/secret.jpg": R.ADDRESS_REFUSED,
    "http://10.0.0.1/": R.ADDRESS_REFUSED,
    "http://[::ffff:10.0.0.1]/": R.ADDRESS_REFUSED,
    "http://0x7f000002/": R.ADDRESS_REFUSED,
    "http://closed.example/x.jpg": R.ROBOTS_DISALLOWED,
    "http://half.example/open/x.jpg": None,
    "http://half.example/closed/x.jpg": R.ROBOTS_DISALLOWED,
    "http://broken-robots.example/x.jpg": R.ROBOTS_UNREACHABLE,
    "http://moved-robots.example/x.jpg": R.ROBOTS_DISALLOWED,
    "http://long-robots.example/x.jpg": None,
    "http://later.example/x.jpg": R.HTTP_RATE_LIMITED,
    "http://refused.example/x.jpg": R.CONNECT_FAILED,
}
HOSTS = "web closed half broken-robots moved-robots long-robots never-robots marked-robots no-robots later xn--bcher-kva".split()


@pytest.fixture(scope="module")
def ends(fetch_all: Callable[..., dict[str, Outcome]]) -> dict[str, Outcome]:
    with hostile.hostile_web("127.0.0.1", "127.0.0.2") as web:
        web.routes |= {path: reply for path, (reply, _) in PROBES.items()}
        web.routes |= {"closed.example/robots.txt": ok(b"User-agent: *\nDisallow: /", content_type="text/plain")}
        web.routes |= {"half.example/robots.txt": ok(b"User-agent: wit\nDisallow: /closed/")}
        web.routes |= {"broken-robots.example/robots.txt": ok(b"", status="500 Oops")}
        web.routes |= {"moved-robots.example/robots.txt": redirect("http://closed.example/robots.txt")}
        web.routes |= {"long-robots.example/robots.txt": ok(b"#" * 600_000 + b"\nUser-agent: *\nDisallow: /")}
        web.routes |= {"never-robots.example/robots.txt": ok(b"", status="429 Later", retry_after=NEVER)}
        web.routes |= {"marked-robots.example/robots.txt": ok(b"\xef\xbb\xbfUser-agent: *\nDisallow: /closed/")}
        web.routes |= {"no-robots.example/robots.txt": b"HTTP/1.1 204 No Content\r\n\r\n"}
        web.routes |= {"later.example/x.jpg": ok(b"", status="429 Later", retry_after="3600")}
        web.routes |= {path: ok(JPEG) for path in ("/x.jpg", "/open/x.jpg", "/closed/x.jpg", "/secret.jpg")}
        endpoints = web.endpoints(*(f"{host}.example" for host in HOSTS))
        secret = web.endpoints("private.example", address="127.0.0.2")
        nobody = (("refused.example", "127.0.0.1", 1),)
        config = replace(
            for_local_web(endpoints),
            endpoints=endpoints + secret + nobody,
            timeout_s=2,
            backoff_s=0.05,
            breaker_failures=1000,
            max_body_bytes=5_000_000,
        )
        urls = [f"http://web.example{path}" for path in PROBES] + list(OTHERS)
        found = fetch_all(urls, config)
        assert not [asked for asked in web.asked if asked[0] == "127.0.0.2"], "a refused address was connected to"
        assert web.agents == {config.user_agent_header}
        assert not web.headers["authorization"]
    return found


@pytest.mark.parametrize("path", PROBES)
def test_every_probe_ends_as_it_should(ends: dict[str, Outcome], path: str) -> None:
    outcome, expected = ends[f"http://web.example{path}"], PROBES[path][1]
    if path == "/magic-only.jpg":
        assert outcome.reason in (R.IMAGE_TRUNCATED, R.IMAGE_CORRUPT)
        return
    assert outcome.reason == expected, (outcome.detail, outcome.error)
    assert (outcome.picture is None) == (expected is not None)


@pytest.mark.parametrize("url", OTHERS)
def test_every_url_ends_as_it_should(ends: dict[str, Outcome], url: str) -> None:
    assert ends[url].reason == OTHERS[url], (ends[url].detail, ends[url].error)


def test_redirects_are_told(ends: dict[str, Outcome]) -> None:
    assert ends["http://web.example/chain0"].final_url == "http://web.example/good.jpg"
    assert ends["http://web.example/flaky-503"].attempts == 2


def test_names_and_passwords_are_neither_sent_nor_kept(ends: dict[str, Outcome]) -> None:
    assert not [o.final_url for o in ends.values() if "secret@" in o.final_url]


def test_what_is_sent_without_end_is_not_taken(ends: dict[str, Outcome]) -> None:
    """2.4 GB came over the wire for one picture: what is decoded was counted, not what arrives."""
    assert {path: SENT[path] for path in FLOODS if SENT[path] > 150_000_000} == {}
    assert ends["http://web.example/flood-gzip-name"].wire_bytes > 5_000_000
    assert ends["http://web.example/flood-chunk-extension"].wire_bytes > 5_000_000


@pytest.mark.parametrize("path, attempts", [("/101", 1), ("/drip-404", 1), ("/drip-302", 1), ("/drip-503", 3)])
def test_a_status_that_is_known_is_no_timeout(ends: dict[str, Outcome], path: str, attempts: int) -> None:
    assert ends[f"http://web.example{path}"].attempts == attempts


def test_details_hold_no_addresses_ports_or_times(ends: dict[str, Outcome]) -> None:
    assert not [o.detail for o in ends.values() if "127.0.0" in o.detail]


def test_names_are_resolved_checked_and_pinned(fetch_all: Callable[..., dict[str, Outcome]]) -> None:
    """A name that answers with a private address, at once or only at the second question, is never connected to there."""
    names = {
        "good.test": [["127.0.0.1"]],
        "private.test": [["127.0.0.2"]],
        "mixed.test": [["127.0.0.2", "127.0.0.1"]],
        "rebinding.test": [["127.0.0.1"], ["127.0.0.2"]],
        "broken.test": "servfail",
    }
    with hostile.hostile_web("127.0.0.1", "127.0.0.2") as web, hostile.dns(names) as server:
        web.routes["/x.jpg"] = ok(JPEG)
        port = web.port()
        config = replace(
            FetchConfig(),
            allow_addresses=("127.0.0.1",),
            nameservers=(server.place,),
            backoff_s=0.01,
            host_rate_per_s=0,
        )
        urls = {name: f"http://{name}:{port}/x.jpg" for name in [*names, "missing.test"]}
        second = f"http://rebinding.test:{port}/x.jpg?again"
        found = fetch_all([*urls.values(), second], config)
        assert not [asked for asked in web.asked if asked[0] == "127.0.0.2"]
        assert server.asked["good.test"] == 1
    reasons = {name: found[url].reason for name, url in urls.items()}
    assert reasons == {
        "good.test": None,
        "private.test": R.ADDRESS_REFUSED,
        "mixed.test": None,
        "rebinding.test": None,
        "broken.test": R.DNS_FAILED,
        "missing.test": R.DNS_NOT_FOUND,
    }


def test_proxy_variables_are_ignored(
    fetch_all: Callable[..., dict[str, Outcome]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.9:1")
    with hostile.hostile_web() as web:
        web.routes["/x.jpg"] = ok(JPEG)
        found = fetch_all(["http://a.example/x.jpg"], for_local_web(web.endpoints("a.example")))
    assert found["http://a.example/x.jpg"].reason is None


def test_an_egress_proxy_gets_every_request(fetch_all: Callable[..., dict[str, Outcome]]) -> None:
    with hostile.hostile_web() as web:
        web.routes["/x.jpg"] = ok(JPEG)
        config = replace(FetchConfig(), egress_proxy=f"http://127.0.0.1:{web.port()}")
        found = fetch_all(["http://far.example/x.jpg"], config)
        assert ("far.example", "/x.jpg") in web.counts
    assert found["http://far.example/x.jpg"].reason is None


def test_caps_end_what_is_left_under_their_own_reason(fetch_all: Callable[..., dict[str, Outcome]]) -> None:
    with hostile.hostile_web() as web:
        urls = [f"http://a.example/{n}.jpg" for n in range(40)]
        web.routes |= {f"/{n}.jpg": ok(JPEG) for n in range(40)}
        config = replace(for_local_web(web.endpoints("a.example")), max_requests=11, per_host=1)
        found = fetch_all(urls, config)
    reasons = [outcome.reason for outcome in found.values()]
    assert reasons.count(None) == 10  # and robots.txt
    assert reasons.count(R.BUDGET_SPENT) == 30


def test_blocked_pictures_never_reach_the_disk(
    fetch_all: Callable[..., dict[str, Outcome]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    import hashlib

    listed = tmp_path_factory.mktemp("lists") / "hashes.txt"
    listed.write_text(f"# a list\n{hashlib.sha256(JPEG).hexdigest()}\n")
    with hostile.hostile_web() as web:
        web.routes["/x.jpg"] = ok(JPEG)
        config = for_local_web(web.endpoints("a.example"))
        found = fetch_all(["http://a.example/x.jpg"], config, ImageConfig(blocked_hashes=(str(listed),)))
    outcome = found["http://a.example/x.jpg"]
    assert outcome.reason is R.BLOCKED_HASH
    assert outcome.picture is None and not outcome.spool_size


SELF_SIGNED = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg5TdOc5HmE4RUmFCI
67FxF/1UxSG2CyAQJE40dHxvSgyhRANCAATrC/p0antwjvdrxtzM1jRhHd89WWSK
rybZW0Nyuf/73LPUj+stzb7yZmfRtjEzBJLa544odTtQMfoDC6jxYFG7
-----END PRIVATE KEY-----
-----BEGIN CERTIFICATE-----
MIIBpDCCAUqgAwIBAgIUE23UnnY9cBSOIrgO45uZRyGxhtIwCgYIKoZIzj0EAwIw
GTEXMBUGA1UEAwwOc2VjdXJlLmV4YW1wbGUwIBcNMjYxMTIxMDk1MTIyWhgPMjEy
NjEwMjgwOTUxMjJaMBkxFzAVBgNVBAMMDnNlY3VyZS5leGFtcGxlMFkwEwYHKoZI
zj0CAQYIKoZIzj0DAQcDQgAE6wv6dGp7cI73a8bczNY0YR3fPVlkiq8m2VtDcrn/
+9yz1I/rLc2+8mZn0bYxMwSS2ueOKHU7UDH6Awuo8WBRu6NuMGwwHQYDVR0OBBYE
FJX8gID2fPbdVHSLjy4TVSrztFUXMB8GA1UdIwQYMBaAFJX8gID2fPbdVHSLjy4T
VSrztFUXMA8GA1UdEwEB/wQFMAMBAf8wGQYDVR0RBBIwEIIOc2VjdXJlLmV4YW1w
bGUwCgYIKoZIzj0EAwIDSAAwRQIhAPxlvgJnizR4GTl1ba5Y3vxtJwUxk0ULQjeO
FPiwJmiQAiAxpRbdor0Vrb2EPAOdI1g4xzzb8vy29Sg++WWQrI8r2A==
-----END CERTIFICATE-----
"""  # for secure.example and these tests alone, valid for a hundred years


@pytest.mark.parametrize("trusted, reason", [(False, R.TLS_FAILED), (True, None)])
def test_certificates_are_verified(
    fetch_all: Callable[..., dict[str, Outcome]],
    tmp_path_factory: pytest.TempPathFactory,
    trusted: bool,
    reason: object,
) -> None:
    pem = tmp_path_factory.mktemp("tls") / "both.pem"
    pem.write_text(SELF_SIGNED)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)

    def wrap(server: Any) -> None:
        server.socket = context.wrap_socket(server.socket, server_side=True)

    with hostile.hostile_web(wrap=wrap) as web:
        web.routes["/x.jpg"] = ok(JPEG)
        config = replace(for_local_web(web.endpoints("secure.example")), ca_file=str(pem) if trusted else "")
        found = fetch_all(["https://secure.example/x.jpg"], config)
    assert found["https://secure.example/x.jpg"].reason is reason
