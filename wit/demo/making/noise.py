"""The faults of the demonstration web: captions that say nothing, invalid addresses, servers that misbehave."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wit.demo.making.wording import certain_english, with_article
from wit.demo.tables import KEPT, SEED
from wit.hashing import keyed_hash
from wit.reasons import Reason

Found = tuple[str | None, str, str | None, str | None]  # alt, fate, src as written or None, URL or None
Resource = tuple[str, str, dict[str, Any]]  # url, kind, values

UNKNOWN_HOST = "nowhere.example"  # has no address
WITHOUT_ROBOTS = "news.example"  # has no robots.txt: its /private/ is open to all

CAPTION_NOISE: tuple[tuple[Reason, int, tuple[str | None, ...]], ...] = (
    (Reason.CAPTION_MISSING, 130, (None,)),
    (Reason.CAPTION_EMPTY, 130, ("", "   ", "&nbsp;")),
    (Reason.CAPTION_TOO_SHORT, 20, ("ab", "-", "x")),
    (
        Reason.CAPTION_BOILERPLATE,
        90,
        ("image", "Logo", "click to enlarge", "Placeholder image", "Add to cart", "profile picture", "thumbnail"),
    ),
    (
        Reason.CAPTION_IS_FILE_NAME,
        50,
        ("IMG_20190412_183012.jpg", "DSC00123.JPG", "banner-final-2.png", "a1b2c3d4e5f60718293a4b5c6d7e8f90.webp"),
    ),
    (Reason.CAPTION_IS_URL, 16, ("http://shop.example/items/12.html", "https://blog.example/posts/a-day-out")),
    (Reason.CAPTION_NOT_TEXT, 16, ("12 34 56 78 90", "$ 19.99 / 24.50 (-20 %)", "*** 4.8 *** 2019-07-01 ***")),
    (
        Reason.CAPTION_REPETITIVE,
        12,
        ("sale sale sale sale sale sale sale sale", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
    ),
    (Reason.CAPTION_TOO_LONG, 6, ("long",)),
    (Reason.NO_QUERY, 24, ("qxzvk wvkqj zzrtx", "xkqzj vwqpt", "zqxjw kvbqz jxqvk pzqkx")),
)
THINGS = tuple(
    thing.strip()
    for thing in """
    garden gate, wooden bridge, paper lantern, market stall, harbor light, village square, mountain path, river boat,
    kitchen table, school bus, brass kettle, winter coat, glass bottle, stone wall, apple orchard, railway station,
    clock tower, straw hat, music stand, garden bench, fishing net, sand castle, snow shovel, tea cup
    """.replace(",", "\n").split("\n")
    if thing.strip()
)


def some_url(urls: Sequence[str], purpose: str, number: int) -> str:
    return urls[keyed_hash(SEED, purpose, str(number)) % len(urls)]


def caption_noise(urls: Sequence[str]) -> Iterator[Found]:
    """Tags at good URLs whose alt text is no caption."""
    for reason, count, alts in CAPTION_NOISE:
        for number in range(count):
            alt = alts[number % len(alts)]
            yield long_text() if alt == "long" else alt, reason, None, some_url(urls, reason, number)


def long_text() -> str:
    """English text of more than 5,000 characters, in which no word prevails."""
    sentences = [f"Then we saw the {THINGS[n % 24]} beside the {THINGS[(n * 7 + 5) % 24]}." for n in range(110)]
    return " ".join(sentences)


def url_noise() -> Iterator[Found]:
    """Tags with a good caption whose src is no http address."""
    pixel = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
    broken: tuple[tuple[str, Reason], ...] = (
        ("", Reason.URL_MISSING),
        (pixel, Reason.URL_INLINE),
        ("blob:http://shop.example/5d9f8b2c", Reason.URL_INLINE),
        ("file:///C:/Users/me/Pictures/holiday.jpg", Reason.URL_SCHEME),
        ("javascript:void(0)", Reason.URL_SCHEME),
        ("ftp://files.example/pictures/holiday.jpg", Reason.URL_SCHEME),
        ("http://", Reason.URL_INVALID),
        ("http://[::1/holiday.jpg", Reason.URL_INVALID),
        ("http://pictures.example/" + "long/" * 4_000 + "holiday.jpg", Reason.URL_TOO_LONG),
    )
    for number in range(4 * len(broken)):
        src, reason = broken[number % len(broken)]
        yield caption(number, "this is a postcard with"), reason, src, None


def caption(number: int, start: str) -> str:
    text = f"{start} {with_article(THINGS[number % len(THINGS)])}"
    if not certain_english([text])[0]:
        raise ValueError(f"{text!r} may not pass for English")
    return text


@dataclass(frozen=True, slots=True)
class Trouble:
    """One tag whose URL does not simply answer with a picture, and the answers of the URLs behind it."""

    alt: str
    url: str
    fate: str
    resources: tuple[Resource, ...]


def trouble_items(special: Mapping[str, Mapping[str, Any]], hosts: Sequence[str]) -> Iterator[Trouble]:
    """One tag for each trouble. Hosts take turns: so no host looks broken as a whole, and slow answers wait side by side."""
    good = sorted(name for name, row in special.items() if row["role"] == "good")
    number = 0

    def turn(fate: str, kind: str, path: str, **values: Any) -> Trouble:
        nonlocal number
        host = hosts[number % len(hosts)]
        number += 1
        url = f"http://{host}/{path.format(number)}"
        return Trouble(caption(number, "here is a photograph of"), url, fate, ((url, kind, values),))

    for status, reason, count in STATUSES:
        for _ in range(count):
            yield turn(
                reason, "body", "old/picture-{}.jpg", status=status, content_type="text/html", body=b"<h1>Sorry</h1>"
            )
    for _ in range(3):
        yield turn(KEPT, "busy", "busy/picture-{}.png", picture=good.pop())
    for _ in range(2):
        yield turn(Reason.TIMEOUT, "drip", "slow/picture-{}.jpg")
        yield turn(Reason.BODY_TOO_LARGE, "endless", "camera/stream-{}.jpg")
        yield turn(Reason.BODY_INCOMPLETE, "short", "cut/line-{}.png", picture=good[0])
    for content_type, body, refused, count in BODIES:
        for _ in range(count):
            yield turn(refused, "body", "files/picture-{}.jpg", content_type=content_type, body=body)
    for name, row in sorted(special.items()):
        if row["role"] == "cut":
            yield turn(Reason.IMAGE_TRUNCATED, "cut", "cut/picture-{}." + row["format"], picture=name)
        if row["role"] == "strip":
            yield turn(Reason.ASPECT_RATIO, "picture", "banners/strip-{}." + row["format"], picture=name)
        if row["role"] == "tiny":
            yield turn(Reason.IMAGE_TOO_SMALL, "picture", "icons/tiny-{}." + row["format"], picture=name)
    for headers, fate, count in OPT_OUTS:
        for _ in range(count):
            picture = good.pop() if fate == KEPT else good[0]
            yield turn(fate, "picture", "rights/picture-{}.png", picture=picture, headers=json.dumps(headers))
    for _ in range(16):
        open_host = hosts[number % len(hosts)] == WITHOUT_ROBOTS
        fate, picture = (KEPT, good.pop()) if open_host else (Reason.ROBOTS_DISALLOWED, good[0])
        yield turn(fate, "picture", "private/picture-{}.png", picture=picture)
    for content_type in ("text/plain", "application/octet-stream", "image/jpeg"):  # wrong, but the bytes are a PNG
        yield turn(KEPT, "picture", "typed/picture-{}", picture=good.pop(), content_type=content_type)
    for hops in (1, 1, 2, 3, 4):
        yield chain(turn(KEPT, "picture", "moved/picture-{}.png", picture=good.pop()), hops)
    for hops in (12, 12):
        yield chain(turn(Reason.TOO_MANY_REDIRECTS, "picture", "moved/far-{}.png", picture=good[0]), hops)
    for _ in range(2):
        yield loop(turn(Reason.TOO_MANY_REDIRECTS, "redirect", "go/round-{}.png", status=302))
    for target, reason in REDIRECTS:
        yield turn(reason, "redirect", "go/picture-{}.png", status=302, location=target)
    for address in ("http://10.0.0.1/camera.jpg", "http://169.254.169.254/latest/meta-data/", "http://[fd00::1]/a.jpg"):
        number += 1
        yield Trouble(caption(number, "here is a photograph of"), address, Reason.ADDRESS_REFUSED, ())
    for _ in range(5):
        number += 1
        url = f"http://{UNKNOWN_HOST}/pictures/{number}.jpg"
        yield Trouble(caption(number, "here is a photograph of"), url, Reason.DNS_NOT_FOUND, ())


STATUSES = (
    (404, Reason.HTTP_NOT_FOUND, 40),
    (410, Reason.HTTP_GONE, 6),
    (403, Reason.HTTP_FORBIDDEN, 6),
    (400, Reason.HTTP_CLIENT_ERROR, 2),
    (500, Reason.HTTP_SERVER_ERROR, 3),
)
OPT_OUTS: tuple[tuple[dict[str, str], str, int], ...] = (
    ({"X-Robots-Tag": "noai"}, Reason.OPT_OUT_HEADER, 3),
    ({"X-Robots-Tag": "noimageai, noarchive"}, Reason.OPT_OUT_HEADER, 2),
    ({"X-Robots-Tag": "noindex"}, Reason.OPT_OUT_HEADER, 2),
    ({"X-Robots-Tag": "someotherbot: noai"}, KEPT, 2),
    ({"tdm-reservation": "1"}, Reason.TDM_RESERVED, 3),
    ({"tdm-reservation": "0"}, KEPT, 2),
)
REDIRECTS = (
    ("http://10.0.0.1/camera.jpg", Reason.ADDRESS_REFUSED),
    ("http://169.254.169.254/latest/meta-data/", Reason.ADDRESS_REFUSED),
    ("http://[::ffff:10.0.0.1]/camera.jpg", Reason.ADDRESS_REFUSED),
    ("file:///etc/hostname", Reason.SCHEME_REFUSED),
    ("ftp://files.example/holiday.jpg", Reason.SCHEME_REFUSED),
    ("http://shop.example/private/elsewhere.png", Reason.ROBOTS_DISALLOWED),
)


def chain(last: Trouble, hops: int) -> Trouble:
    """The trouble behind `hops` redirects: permanent and temporary, absolute and relative."""
    url, _, _ = last.resources[0]
    steps = []
    for hop in range(hops):
        start, end = (f"{url}?hop={hop}", f"{url}?hop={hop + 1}" if hop + 1 < hops else url)
        location = end if hop % 2 else "/" + end.split("/", 3)[3]
        steps.append((start, "redirect", {"status": (301, 302, 307, 308)[hop % 4], "location": location}))
    return Trouble(last.alt, steps[0][0], last.fate, (*steps, *last.resources))


def loop(item: Trouble) -> Trouble:
    """Two URLs that lead to each other."""
    ((url, kind, values),) = item.resources
    there, back = {**values, "location": f"{url}?again"}, {**values, "location": url}
    return Trouble(item.alt, url, item.fate, ((url, kind, there), (f"{url}?again", kind, back)))


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb(side_px: int = 20_000) -> bytes:
    """A valid start of a PNG of 400 million pixels; decoding it would take 1.2 GB."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", side_px, side_px, 8, 2, 0, 0, 0))
    rows = png_chunk(b"IDAT", zlib.compress(bytes(3 * side_px + 1) * 20))
    return b"\x89PNG\r\n\x1a\n" + header + rows + png_chunk(b"IEND", b"")


SVG = (
    b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg" width="80" height="80">'
    b'<circle cx="40" cy="40" r="30" fill="teal"/></svg>\n'
)
HTML = b"<!DOCTYPE html>\n<html><head><title>Not here</title></head><body><p>Please log in to see this.</p></body></html>\n"
BODIES: tuple[tuple[str, bytes, Reason, int], ...] = (
    ("image/jpeg", HTML, Reason.NOT_AN_IMAGE, 4),
    ("application/json", b'{"error": "no such picture"}', Reason.NOT_AN_IMAGE, 2),
    ("image/png", bomb(), Reason.IMAGE_TOO_MANY_PIXELS, 2),
    ("image/svg+xml", SVG, Reason.SVG_REFUSED, 3),
    ("image/jpeg", b"", Reason.BODY_EMPTY, 2),
)
