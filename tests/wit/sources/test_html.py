"""HTML pages: the picture a reader would see, and the text that goes with it."""

from __future__ import annotations

import gzip
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wit.sources.html import dechunk, decode_body, decode_html, largest_candidate, page_images, split_srcset

PAGE = "https://www.page.example/blog/post"


def pairs(html: str) -> list[tuple[str | None, str | None]]:
    found = page_images(html, PAGE)
    return list(zip(found.srcs, found.alts, strict=True))


@pytest.mark.parametrize(
    "html, src",
    [
        ("<img src=a.jpg>", "a.jpg"),
        ("<img>", None),
        ("<img src>", ""),
        ('<img src="a.jpg?x=1&amp;y=2">', "a.jpg?x=1&y=2"),
        ('<img src=s.jpg srcset="a.jpg 480w, b.jpg 1200w, c.jpg 800w">', "b.jpg"),
        ('<img src=s.jpg srcset="a.jpg, b.jpg 2x">', "b.jpg"),
        ('<img src=s.jpg srcset="">', "s.jpg"),
        ('<img src=s.jpg srcset=" , ">', "s.jpg"),
        ('<img src=s.gif data-srcset="a.jpg 480w, b.jpg 1200w">', "b.jpg"),
        ("<img src=data:image/gif;base64,R0 data-src=a.jpg>", "a.jpg"),
        ("<img src=blank.gif data-original=a.jpg>", "a.jpg"),
        ("<img data-lazy-src=a.jpg>", "a.jpg"),
        ("<img src=a.jpg data-lazy=true>", "a.jpg"),
        ("""<img src=a.jpg data-image='{"id": 1}'>""", "a.jpg"),
        ("<img src=a.jpg data-src=''>", "a.jpg"),
        ('<picture><source srcset="w.webp 900w"><source srcset="x.avif 1800w"><img src=a.jpg></picture>', "x.avif"),
        ('<picture><source srcset="w.webp"><img src=a.jpg></picture>', "w.webp"),
        ("<picture><img src=a.jpg></picture><video><source src=v.mp4></video>", "a.jpg"),
        ("<noscript><img src=a.jpg></noscript>", "a.jpg"),
        ("<IMG SRC=a.jpg>", "a.jpg"),
        ("<p><img src='a.jpg' <b>unclosed", "a.jpg"),
    ],
)
def test_source_of_an_image(html: str, src: str | None) -> None:
    assert [found for found, _ in pairs(html)] == [src]


@pytest.mark.parametrize(
    "html, alt",
    [
        ("<img src=a alt='a &quot;red&quot; fox &amp; more'>", 'a "red" fox & more'),
        ("<img src=a>", None),
        ("<img src=a alt>", ""),
        ("<img src=a alt=''>", ""),
        ("<img src=a alt='  '>", "  "),
        ("<img src=a alt=fox title=bear>", "fox"),
        ("<img src=a alt='' title=bear>", "bear"),
        ("<img src=a title=bear>", "bear"),
        ("<figure><img src=a><figcaption>A <b>red</b>\n fox</figcaption></figure>", "A red fox"),
        ("<figure><a href=x><picture><img src=a></picture></a><figcaption>A fox</figcaption></figure>", "A fox"),
        ("<figure><img src=a alt=fox><figcaption>bear</figcaption></figure>", "fox"),
        ("<figure><img src=a title=wolf><figcaption>bear</figcaption></figure>", "wolf"),
        ("<figure><img src=a alt=''><figcaption> </figcaption></figure>", ""),
        ("<img src=a><figure><figcaption>of another</figcaption></figure>", None),
    ],
)
def test_text_of_an_image(html: str, alt: str | None) -> None:
    assert [found for _, found in pairs(html)] == [alt]


def test_images_come_in_document_order() -> None:
    assert pairs(
        "<img src=1 alt=a><div><img src=2 alt=b></div><table><tr><td><img src=3></table><img src=1 alt=a>"
    ) == [
        ("1", "a"),
        ("2", "b"),
        ("3", None),
        ("1", "a"),
    ]


@pytest.mark.parametrize(
    "head, pair",
    [
        ("<meta property=og:image content=o.jpg><meta property=og:title content='A fox'>", [("o.jpg", "A fox")]),
        ("<meta name=og:title content='A fox'><meta property='og:image:url' content=o.jpg>", [("o.jpg", "A fox")]),
        ("<meta property=og:image content=1.jpg><meta property=og:image content=2.jpg>", [("1.jpg", None)]),
        ("<meta property=og:title content='A fox'>", []),
        ("<meta property=og:image content=''>", []),
    ],
)
def test_the_picture_that_a_page_shows_of_itself(head: str, pair: list[tuple[str, str | None]]) -> None:
    assert pairs(f"<head>{head}</head><img src=a>") == [("a", None), *pair]


@pytest.mark.parametrize(
    "html, base",
    [
        ("<img src=a>", PAGE),
        ("<base href=/x/><img src=a>", "https://www.page.example/x/"),
        ("<base target=_blank><base href=https://cdn.example/y/><base href=/z/>", "https://cdn.example/y/"),
        ("<base href=javascript:0>", PAGE),
    ],
)
def test_base(html: str, base: str) -> None:
    assert page_images(html, PAGE).base == base


@pytest.mark.parametrize(
    "srcset, candidates",
    [
        ("a.jpg", [("a.jpg", 1.0, "x")]),
        ("a.jpg, b.jpg 2x,c.jpg 1.5x", [("a.jpg", 1.0, "x"), ("b.jpg", 2.0, "x"), ("c.jpg", 1.5, "x")]),
        ("a,b.jpg 100w, c.jpg 200w 50h", [("a,b.jpg", 100.0, "w"), ("c.jpg", 200.0, "w")]),
        ("data:image/gif;base64,AA 1w, b.jpg 2w", [("b.jpg", 2.0, "w")]),
        ("a.jpg nonsense, b.jpg 2w", [("a.jpg", 1.0, "x"), ("b.jpg", 2.0, "w")]),
        ("a.jpg nanw", [("a.jpg", 1.0, "x")]),
        (",,a.jpg,,", [("a.jpg", 1.0, "x")]),
        ("", []),
    ],
)
def test_split_srcset(srcset: str, candidates: list[tuple[str, float, str]]) -> None:
    assert split_srcset(srcset) == candidates


def test_widths_win_over_densities_and_the_first_of_equals_wins() -> None:
    assert largest_candidate(["a 3x, b 2x", "c 10w, d 10w"]) == ((1, 10.0), "c")


@pytest.mark.parametrize(
    "body, content_type",
    [
        ("<p>é 狐".encode(), "text/html"),
        ("<p>é 狐".encode("utf-8-sig"), "text/html; charset=iso-8859-1"),
        ("<p>é 狐".encode("utf-16"), "text/html"),
        ("<p>é 狐".encode("gb18030"), 'text/html; charset="GB2312"'),
        ("<meta charset=utf-8><p>é 狐".encode(), "text/html"),
        ('<meta http-equiv="Content-Type" content="text/html; charset=gbk"><p>é 狐'.encode("gbk"), "text/html"),
        ("<meta charset=no-such-thing><p>é 狐".encode(), "text/html"),
        ("<meta charset=utf-16><p>é 狐".encode(), "text/html"),
        ("<p>é 狐".encode(), "text/html; charset=none"),
    ],
)
def test_character_sets(body: bytes, content_type: str) -> None:
    assert decode_html(body, content_type).endswith("<p>é 狐")


@pytest.mark.parametrize(
    "text, encoding",
    [
        ("Это рыжая лиса, которая живёт в лесу и охотится на мышей. Она очень красивая.", "cp1251"),
        ("これは森に住んでいる赤い狐です。とても美しい動物で、ねずみを捕まえます。", "shift_jis"),
        ("Überall große Füchse, die im Wald über die Wiesen laufen und Mäuse jagen. Schöne Grüße!", "cp1252"),
    ],
)
def test_character_sets_are_detected_where_none_is_declared(text: str, encoding: str) -> None:
    assert text in decode_html(f"<p>{text}</p>".encode(encoding), "text/html")


def test_labels_mean_what_browsers_take_them_for() -> None:
    assert decode_html(b"\x93fox\x94", "text/html; charset=ISO-8859-1") == "“fox”"


HTML = b"<p>" + b"fox " * 1000


@pytest.mark.parametrize(
    "body, encoding, result",
    [
        (HTML, "", HTML),
        (HTML, "identity", HTML),
        (gzip.compress(HTML), "gzip", HTML),
        (zlib.compress(HTML), "deflate", HTML),
        (zlib.compress(HTML, wbits=-15), "deflate", HTML),
        (gzip.compress(HTML)[:-20], "gzip", None),
        (HTML, "gzip", HTML),
        (HTML, "br", None),
        (gzip.compress(b"\0" * 200_000), "gzip", None),
    ],
)
def test_content_encodings(body: bytes, encoding: str, result: bytes | None) -> None:
    found = decode_body(body, encoding, max_bytes=100_000)
    assert found == result if result is not None else found is None or HTML.startswith(found)


@pytest.mark.parametrize(
    "body, result",
    [
        (b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n", b"abcde"),
        (b"3\r\nabc\r\n2\r\nd", b"abcd"),
        (b"<html>not chunked", b"<html>not chunked"),
        (b"", b""),
        (b"FFFFFFFFFFFF\r\nabc", b"FFFFFFFFFFFF\r\nabc"),
    ],
)
def test_chunks(body: bytes, result: bytes) -> None:
    assert dechunk(body) == result


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [
                "<img ",
                "src=",
                "alt",
                "=",
                "'",
                '"',
                ">",
                "srcset=",
                "a 2w,",
                "<picture>",
                "<source ",
                "<figure>",
                "<figcaption>",
            ]
            + [
                "</figure>",
                "x",
                " ",
                "\0",
                "é",
                "<base href=",
                "<meta property=og:image content=",
                "&amp;",
                "<!--",
                "<svg>",
                "</",
            ]
        ),
        max_size=30,
    ).map("".join)
    | st.text(max_size=50)
)
def test_any_markup_is_survived(html: str) -> None:
    found = page_images(html, PAGE)
    assert len(found.srcs) == len(found.alts)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.text(max_size=30))
def test_any_bytes_are_decoded(body: bytes, content_type: str) -> None:
    decode_html(body, content_type).encode("utf-8", "strict")
    decode_html(b"<meta charset=" + body, "")
    decode_html(body, f"text/html; charset={content_type}")
