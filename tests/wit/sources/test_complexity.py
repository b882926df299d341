"""Hostile markup: ten times more of it takes ten times longer, or is refused by name."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import pytest
from selectolax.lexbor import LexborHTMLParser

from wit.sources.complexity import MAX_NESTING, TooComplex, check_complexity, nesting
from wit.sources.html import decode_html, page_images, split_srcset
from wit.sources.warc import headers_of

PAGES: dict[str, Callable[[int], str]] = {
    "sources and images in a picture": lambda n: f"<picture>{'<source srcset=a>' * n}{'<img src=b>' * n}</picture>",
    "pictures in pictures": lambda n: "<picture><source srcset=a>" * n + "<img src=b>" * n,
    "images in a figure without caption": lambda n: (
        "<figcaption></figcaption><figure>" + "<p>x</p>" * n + "<img src=b>" * n + "</figure>"
    ),
    "a long caption of many images": lambda n: (
        "<figure>" + "<img src=b>" * n + "<figcaption>" + "x <b>y</b>" * n + "</figcaption></figure>"
    ),
    "figures in figures": lambda n: "<figure><img src=b>" * n + "<figcaption>x</figcaption>",
    "nested div": lambda n: "<div>" * n + "<img src=a>",
    "nested lists": lambda n: "<ul><li>" * n,
    "end tags that close nothing": lambda n: "<div>" * n + "</p>" * n,
    "end tags of nothing": lambda n: "<x>" * n + "</y>" * n,
    "end tags out of scope": lambda n: "<div><object></div></object>" * n,
    "end tags in attributes": lambda n: '<div title="</div>">' * n,
    "tags hidden in a style of an svg": lambda n: "<svg><style>" + "<div>" * n,
    "tags hidden in a comment that is over": lambda n: "<!-->" + "<div>" * n + "-->",
    "attributes": lambda n: "<img " + " ".join(f"a{i}=b" for i in range(4 * n)) + ">",
    "attributes of the root": lambda n: "".join(f"<html a{i}=b>" for i in range(2 * n)),
    "open comments": lambda n: "<!--" * n,
    "open scripts": lambda n: "<script>" + "<!--<script" * n,
    "open tags": lambda n: "<a " * 1_900 + "x" * (20 * n),
    "open quotes": lambda n: '<a b="' * n,
}


def seconds(action: Callable[[], object]) -> float:
    began = time.process_time()
    action()
    return time.process_time() - began


def images_or_refused(html: str) -> None:
    try:
        page_images(html, "https://a.example/")
    except TooComplex:
        return


@pytest.mark.parametrize("name", PAGES)
def test_a_page_takes_time_by_its_length(name: str) -> None:
    few, many = (seconds(lambda count=count: images_or_refused(PAGES[name](count))) for count in (4_000, 40_000))  # type: ignore[misc]
    assert many < 40 * max(few, 0.04)  # some took 20 s and more


TEXTS: dict[str, Callable[[int], object]] = {
    "srcset": lambda n: split_srcset("a.jpg 1w, " * 20 * n),
    "folded headers": lambda n: headers_of(b"H: 1\r\nA: x\r\n" + b" yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n" * 10 * n),
    "spaces in a content type": lambda n: decode_html(b"", "charset=" + " " * n),
    "tags without end": lambda n: decode_html(b"<" * n + b"\xe9", "text/html"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_takes_time_by_its_length(name: str) -> None:
    few, many = (seconds(lambda count=count: TEXTS[name](count)) for count in (4_000, 40_000))  # type: ignore[misc]
    assert many < 40 * max(few, 0.02)


ROW = (
    '<tr><td class="a b"><p>text<li>x<span title="a > b">x</span><a href="/x/y?z=1"><img src=a.jpg alt="<b>"></a><br>'
    "<svg viewBox='0 0 9 9'><g><path d='M0 0'/><circle r=1 /></g></svg><script>if (a<b) x = '<div>'</script><!-- <b> -->"
)


@pytest.mark.parametrize(
    "html",
    [
        f"<html><body><table>{ROW * 20_000}</table>",
        "<div><span>never closed</div>" * 20_000,
        "<div " + " ".join(f"data-{i}={i}" for i in range(500)) + ">" + "x" * 200_000,
        f"<img src='data:image/gif;base64,{'A ' * 200_000}'>",
    ],
)
def test_large_pages_as_people_write_them_are_read(html: str) -> None:
    check_complexity(html)


PIECES = [
    "<div>", "</div>", "<b>", "</b>", "<object>", "</object>", "<svg>", "</svg>", "<path/>", "<p>", "<table>", "<td>", "</table>",
    "<style>", "</style>", "<!--", "-->", "<select>", "</select>", "<form>", "</form>", "<i a='</div>'>", "</i>", "x", "<li>",
    "<ul>", "</ul>", "<title>", "</title>", "<template>", "</template>", "<foreignObject>", "<x>", "</x>",
]  # fmt: skip


def depth_of(html: str) -> int:
    """How deep the parser's tree is, without html, head and body, and elements that are not counted."""
    deepest = 0
    for node in LexborHTMLParser(html).css("div, object, svg, table, form, ul, x, path"):
        depth, parent = 0, node
        while parent is not None and parent.tag not in ("body", "head", "html"):
            depth += parent.tag in ("div", "object", "svg", "table", "form", "ul", "x", "path")
            parent = parent.parent  # type: ignore[assignment]
        deepest = max(deepest, depth)
    return deepest


def test_no_pattern_of_markup_nests_deeply_unseen() -> None:
    """Whatever is repeated: where the parser's tree grows with it, so does the count."""
    rng = random.Random(5)
    for _ in range(400):
        pattern = "".join(rng.choices(PIECES, k=rng.randint(1, 7)))
        if depth_of(pattern * 60) >= 50:
            assert nesting(pattern * 600) > 600 * 600 / 4, pattern
    assert nesting("<div>" * 2 * int(MAX_NESTING**0.5)) > MAX_NESTING
