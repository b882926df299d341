"""WAT files: what Common Crawl's extractor wrote of a page becomes pairs, fast way and slow way alike."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wit import ledger
from wit.sources import PairBatch, SourceFile, SourceReport, read_pairs

PAGE = "https://www.page.example/blog/post?p=1"


def envelope(html: Any, url: str = PAGE) -> dict[str, Any]:
    """The JSON value of a WAT record that describes a page."""
    return {
        "Container": {"Filename": "a.warc.gz", "Offset": "0"},
        "Envelope": {
            "WARC-Header-Metadata": {"WARC-Type": "response", "WARC-Target-URI": url},
            "Payload-Metadata": {
                "HTTP-Response-Metadata": {"Headers": {"Set-Cookie": ["a=1", "b=2"]}, "HTML-Metadata": html}
            },
        },
    }


def record(body: bytes, *, url: str | None = PAGE, newline: str = "\r\n") -> bytes:
    lines = [
        "WARC/1.0",
        "WARC-Type: metadata",
        *([f"WARC-Target-URI: {url}"] if url else []),
        f"Content-Length: {len(body)}",
    ]
    return newline.join([*lines, "", ""]).encode() + body + (newline * 2).encode()


def page(links: list[Any], *, head: Any = None, compact: bool = True, **knobs: Any) -> bytes:
    """A WAT record of a page with these links."""
    value = envelope({"Head": head if head is not None else {"Title": "t"}, "Links": links})
    separators = (",", ":") if compact else (", ", ": ")
    return record(
        json.dumps(value, ensure_ascii=False, separators=separators).encode("utf-8", "surrogatepass"), **knobs
    )


def img(url: Any = "https://cdn.example/a.jpg", **attributes: Any) -> dict[str, Any]:
    return {"path": "IMG@/src", "url": url, **attributes}


def read(folder: Path, *records: bytes) -> tuple[list[PairBatch], SourceReport]:
    path = folder / "test.warc.wat.gz"
    path.write_bytes(b"".join(gzip.compress(one, 1, mtime=0) for one in records))
    report = SourceReport(str(path))
    batches = list(read_pairs(SourceFile("wat", str(path)), report))
    assert report.pairs == sum(map(len, batches))
    return batches, report


def pairs(folder: Path, *records: bytes) -> list[tuple[str | None, str | None]]:
    """(URL, alt) of all images."""
    return [pair for batch in read(folder, *records)[0] for pair in zip(batch.url, batch.alt, strict=True)]


def test_every_image_is_a_pair_with_or_without_text(tmp_path: Path) -> None:
    links = [
        {"path": "A@/href", "url": "/x", "text": "IMG@/src"},
        img(alt="a red fox"),
        img("//cdn.example/b.jpg", alt=""),
        img("/c.jpg"),
        img("d.jpg", title="only a title"),
        img("data:image/gif;base64,R0", alt="dot"),
        img("ftp://f.example/x.jpg", alt="old"),
        {"path": "IMG@/src", "alt": "no source"},
        {"path": "IMG@/longdesc", "url": "/no"},
    ]
    assert pairs(tmp_path, page(links)) == [
        ("https://cdn.example/a.jpg", "a red fox"),
        ("https://cdn.example/b.jpg", ""),
        ("https://www.page.example/c.jpg", None),
        ("https://www.page.example/blog/d.jpg", None),
        (None, "dot"),
        (None, "old"),
        (None, "no source"),
    ]


def test_a_pair_says_where_it_stood(tmp_path: Path) -> None:
    first, second = page([img("data:,x"), img()]), page([img("/b.jpg", alt="b")])
    (batch,), report = read(tmp_path, record(b"{}"), first, second)
    start = [len(gzip.compress(one, 1, mtime=0)) for one in (record(b"{}"), first)]
    assert batch.offset == [start[0], start[0], start[0] + start[1]]
    assert batch.index == [0, 1, 0]
    assert batch.page_url == [PAGE] * 3
    assert batch.src == ["data:,x", "https://cdn.example/a.jpg", "/b.jpg"]
    assert batch.extra == [None] * 3
    assert (report.records, report.pages, report.pairs) == (3, 2, 3)


def test_images_of_one_member_with_many_records_are_numbered_on(tmp_path: Path) -> None:
    (batch,), _ = read(tmp_path, page([img(), img()]) + page([img()]))
    assert batch.offset == [0, 0, 0]
    assert batch.index == [0, 1, 2]


@pytest.mark.parametrize(
    "base, url",
    [
        ("https://cdn.example/x/", "https://cdn.example/x/a.jpg"),
        ("/x/", "https://www.page.example/x/a.jpg"),
        (["https://cdn.example/x/", "/y/"], "https://cdn.example/x/a.jpg"),
        ("javascript:0", "https://www.page.example/blog/a.jpg"),
        (7, "https://www.page.example/blog/a.jpg"),
    ],
)
def test_relative_sources_are_relative_to_the_base(tmp_path: Path, base: Any, url: str) -> None:
    assert pairs(tmp_path, page([img("a.jpg")], head={"Base": base})) == [(url, None)]


def test_the_base_may_stand_behind_the_links(tmp_path: Path) -> None:
    body = json.dumps(envelope({"Links": [img("a.jpg"), img("b.jpg")], "Head": {"Base": "/x/"}}), separators=(",", ":"))
    assert [url for url, _ in pairs(tmp_path, record(body.encode()))] == [
        "https://www.page.example/x/a.jpg",
        "https://www.page.example/x/b.jpg",
    ]


TRICKY = [
    pytest.param([img(alt='a "quoted" fox"}')], id="quotes and braces"),
    pytest.param([img(alt='"}'), img(alt="}"), img(alt='\\"}')], id="what looks like an end"),
    pytest.param([img(alt="a\\")], id="a backslash at the end"),
    pytest.param([img(alt="IMG@/src"), img(alt='{"path":"IMG@/src"')], id="what looks like a beginning"),
    pytest.param([{"url": "https://a.example/x", "path": "IMG@/src", "alt": "x"}], id="path is not first"),
    pytest.param([img(alt="x", width=5), img(alt="y")], id="a number at the end"),
    pytest.param([img(width=5), {"path": "A@/href", "url": "/x"}], id="a number at the end, then a link"),
    pytest.param([{"path": "IMG@/src"}, img(alt="y"), {"path": "A@/href", "url": "z"}], id="an image with nothing"),
    pytest.param([img(alt=["first", "second"]), img(url=["https://a.example/1", "/2"])], id="lists"),
    pytest.param([img(alt=None), img(url=None, alt="x"), img(url=7, alt=8)], id="no texts"),
    pytest.param([img(more={"alt": "no"}), img(alt="y")], id="an object in it"),
    pytest.param([img(alt="naïve 狐 🦊 \u2028")], id="not ASCII"),
    pytest.param([], id="no links"),
]


@pytest.mark.parametrize("links", TRICKY)
@pytest.mark.parametrize("compact", [True, False])
def test_slices_give_what_the_whole_value_gives(tmp_path: Path, links: list[Any], compact: bool) -> None:
    """The twin: the whole record through the standard library's parser."""

    def text(value: Any) -> str | None:
        value = next((v for v in value if isinstance(v, str)), None) if isinstance(value, list) else value
        return value if isinstance(value, str) else None

    images = [link for link in links if link.get("path") == "IMG@/src"]
    batches, report = read(tmp_path, page(links, compact=compact))
    found = [pair for batch in batches for pair in zip(batch.src, batch.alt, strict=True)]
    assert found == [(text(link.get("url")), text(link.get("alt"))) for link in images]
    assert report.lost == {}


LINK = st.fixed_dictionaries(
    {"path": st.sampled_from(["IMG@/src", "A@/href", "IMG@/longdesc"])},
    optional={
        "url": st.text('ab"}{\\/:,é', max_size=6) | st.none() | st.integers(),
        "alt": st.text('ab"}{\\/:,é\n', max_size=8) | st.lists(st.text(max_size=2), max_size=2),
        "title": st.text('"}\\', max_size=3)
        | st.booleans()
        | st.dictionaries(st.text(max_size=2), st.text(max_size=2), max_size=2),
    },
)


@settings(max_examples=300, deadline=None)
@given(st.lists(LINK, max_size=6), st.booleans())
def test_slices_give_what_the_whole_value_gives_for_any_links(
    tmp_path_factory: pytest.TempPathFactory, links: list[Any], compact: bool
) -> None:
    test_slices_give_what_the_whole_value_gives(tmp_path_factory.getbasetemp(), links, compact)


def test_slashes_may_be_escaped(tmp_path: Path) -> None:
    assert pairs(tmp_path, page([img(alt="x")]).replace(b"/", b"\\/").replace(b"WARC\\/1.0", b"WARC/1.0")) == [
        ("https://cdn.example/a.jpg", "x")
    ]


def test_the_page_may_be_named_in_the_json_alone(tmp_path: Path) -> None:
    assert pairs(tmp_path, page([img("/a.jpg")], url=None)) == [("https://www.page.example/a.jpg", None)]


def test_headers_may_be_lists(tmp_path: Path) -> None:
    body = json.dumps(envelope({"Links": [img("/a.jpg")]}, url=["https://a.example/", "https://b.example/"]))  # type: ignore[arg-type]
    assert pairs(tmp_path, record(body.encode(), url=None)) == [("https://a.example/a.jpg", None)]


def test_lines_may_end_in_a_line_feed_alone(tmp_path: Path) -> None:
    assert pairs(tmp_path, page([img("/a.jpg")], newline="\n"), page([img()])) == [
        ("https://www.page.example/a.jpg", None),
        ("https://cdn.example/a.jpg", None),
    ]


@pytest.mark.parametrize(
    "body",
    [
        b'{"HTML-Metadata" "IMG@/src"',
        b'{"HTML-Metadata":{"Links":[{"path":"IMG@/src","url":"/a.jpg"',
        b'"HTML-Metadata" "IMG@/src"' + b"[" * 100_000,
        b'{"Envelope":["HTML-Metadata","IMG@/src"]}',
        b'{"Envelope":{"Payload-Metadata":{"HTTP-Response-Metadata":{"HTML-Metadata":[{"path": "IMG@/src"}]}}}}',
    ],
)
def test_bad_json_is_counted_and_the_rest_is_read(tmp_path: Path, body: bytes) -> None:
    batches, report = read(tmp_path, page([img()]), record(body), page([img()]))
    assert sum(map(len, batches)) == 2
    assert report.lost == {"bad_json": 1}


@pytest.mark.parametrize(
    "text, alt",
    [(b"caf\xe9", "caf\ufffd"), (b"\xed\xa0\x80", "\ufffd\ufffd\ufffd"), (rb"\ud83d", "?"), (b"a\x01b", "a\x01b")],
)
def test_bad_encodings_are_repaired_and_counted(tmp_path: Path, text: bytes, alt: str) -> None:
    batches, report = read(tmp_path, page([img(alt="ALT"), img(alt="x")]).replace(b"ALT", text))
    assert [batch.alt for batch in batches] == [[alt, "x"]]
    assert report.repaired["bad_encoding"] == 1


def test_an_alt_text_of_ten_megabytes_is_a_pair(tmp_path: Path) -> None:
    (batch,), report = read(tmp_path, page([img(alt="x" * 10_000_000), img(alt="y")]))
    assert [len(alt or "") for alt in batch.alt] == [10_000_000, 1]
    assert report.lost == {}


def test_a_record_of_fifty_megabytes_is_skipped_by_name(tmp_path: Path) -> None:
    batches, report = read(tmp_path, page([img()]), page([img(alt="x" * (50 << 20))]), page([img()]))
    assert sum(map(len, batches)) == 2
    assert report.lost == {"oversized_record": 1}


def test_batches_hold_some_thousands(tmp_path: Path) -> None:
    batches, report = read(tmp_path, *[page([img(alt=str(n))] * 100) for n in range(200)])
    assert [len(batch) for batch in batches] == [8200, 8200, 3600]
    assert report.pairs == 20_000


def test_a_file_that_is_not_there_is_reported(tmp_path: Path) -> None:
    report = SourceReport("x")
    assert list(read_pairs(SourceFile("wat", str(tmp_path / "none.wat.gz")), report)) == []
    assert report.error is not None and "none.wat.gz" in report.error
    assert "none.wat.gz" in ledger.source_problems([{"source": "x", **report.facts()}])[0]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5_000), st.integers(1, 255)), min_size=1, max_size=3))
def test_random_bytes_in_the_json_never_crash(
    tmp_path_factory: pytest.TempPathFactory, flips: list[tuple[int, int]]
) -> None:
    data = bytearray(page([img(alt="a red fox"), img("/b", alt="b")], head={"Base": "/x/"}))
    for at, bits in flips:
        data[at % len(data)] ^= bits
    batches, report = read(tmp_path_factory.getbasetemp(), bytes(data), page([img(alt="end")]))
    assert batches[-1].alt[-1] == "end"
    assert report.records == 2 or report.lost
