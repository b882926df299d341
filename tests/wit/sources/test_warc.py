"""WARC files: HTML responses become pairs, everything else is passed over."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path

import pytest
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

from wit.sources import PairBatch, SourceFile, SourceReport, read_pairs

pytestmark = pytest.mark.filterwarnings(  # warcio leaves its temporary files to the garbage collector
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
PAGE = "https://www.page.example/blog/post"


def read(path: Path, kind: str = "warc") -> tuple[list[PairBatch], SourceReport]:
    report = SourceReport(str(path))
    return list(read_pairs(SourceFile(kind, str(path)), report)), report  # type: ignore[arg-type]


def write(path: Path, *responses: tuple[list[tuple[str, str]], bytes], gz: bool = True) -> None:
    """A WARC file of these HTTP responses (headers, body), written by warcio."""
    with path.open("wb") as out:
        writer = WARCWriter(out, gzip=gz)
        writer.write_record(writer.create_warcinfo_record(path.name, {"software": "test"}))
        for headers, body in responses:
            request = StatusAndHeaders("GET / HTTP/1.1", [("Host", "www.page.example")], is_http_request=True)
            writer.write_record(writer.create_warc_record(PAGE, "request", http_headers=request))
            http = StatusAndHeaders("200 OK", headers, protocol="HTTP/1.1")
            writer.write_record(
                writer.create_warc_record(PAGE, "response", payload=io.BytesIO(body), http_headers=http)
            )


HTML = [("Content-Type", "text/html; charset=utf-8")]


def test_html_responses_become_pairs(tmp_path: Path) -> None:
    path = tmp_path / "a.warc.gz"
    write(
        path,
        (HTML, "<img src=/a.jpg alt='a fox é'><img src=b.jpg>".encode()),
        ([("Content-Type", "image/jpeg")], b"<img src=no.jpg>"),
        ([("content-type", "application/xhtml+xml")], b"<base href=//cdn.example/x/><img src=c.jpg title=t>"),
        ([], b"\n<!DOCTYPE html><img src=d.jpg alt=d>"),
        ([], b"%PDF <img src=no.jpg>"),
    )
    (batch,), report = read(path)
    assert list(zip(batch.url, batch.alt, strict=True)) == [
        ("https://www.page.example/a.jpg", "a fox é"),
        ("https://www.page.example/blog/b.jpg", None),
        ("https://cdn.example/x/c.jpg", "t"),
        ("https://www.page.example/blog/d.jpg", "d"),
    ]
    assert batch.page_url == [PAGE] * 4
    assert batch.index == [0, 1, 0, 0]
    assert path.read_bytes()[batch.offset[2] :][:2] == b"\x1f\x8b"
    assert (report.records, report.pages, report.pairs, report.lost) == (11, 3, 4, {})


@pytest.mark.parametrize(
    "headers, body",
    [
        ([*HTML, ("Transfer-Encoding", "chunked")], b"4\r\n<img\r\n11\r\n src=a.jpg alt=x>\r\n0\r\n\r\n"),
        ([*HTML, ("Transfer-Encoding", "chunked")], b"<img src=a.jpg alt=x>"),
        ([*HTML, ("Content-Encoding", "gzip")], gzip.compress(b"<img src=a.jpg alt=x>")),
        ([*HTML, ("Content-Encoding", "gzip")], b"<img src=a.jpg alt=x>"),
        ([*HTML, ("X-Crawler-Content-Encoding", "br")], b"<img src=a.jpg alt=x>"),
        ([("Content-Type", "TEXT/HTML;charset=utf-16")], "<img src=a.jpg alt=x>".encode("utf-16")),
    ],
)
@pytest.mark.parametrize("gz", [True, False])
def test_transfer_and_content_encodings(tmp_path: Path, headers: list[tuple[str, str]], body: bytes, gz: bool) -> None:
    write(tmp_path / "a.warc", (headers, body), gz=gz)
    (batch,), report = read(tmp_path / "a.warc")
    assert list(zip(batch.src, batch.alt, strict=True)) == [("a.jpg", "x")]
    assert report.lost == {}


def test_an_encoding_that_cannot_be_undone_is_a_named_loss(tmp_path: Path) -> None:
    write(tmp_path / "a.warc.gz", ([*HTML, ("Content-Encoding", "br")], b"\x0b\x02\x80abc\x03"))
    batches, report = read(tmp_path / "a.warc.gz")
    assert (batches, report.pages, report.lost) == ([], 1, {"content_encoding": 1})


def test_bare_line_feeds_and_folded_headers(tmp_path: Path) -> None:
    block = b"HTTP/1.1 200 OK\nContent-Type:\n text/html\n\n<img src=a.jpg alt=x>"
    head = f"WARC/1.0\nWARC-Type: response\nWARC-Target-URI: <{PAGE}>\nContent-Length: {len(block)}\n\n"
    (tmp_path / "a.warc").write_bytes(head.encode() + block + b"\n\n")
    (batch,), _ = read(tmp_path / "a.warc")
    assert batch.url == ["https://www.page.example/blog/a.jpg"]


def test_plain_pages_give_the_pairs_of_their_wat(tmp_path: Path) -> None:
    """What a page of plain img tags gives must not depend on which of the two files is read."""
    images = [
        ("/a.jpg", "a red fox"),
        ("b.jpg", ""),
        ("//cdn.example/c.jpg", None),
        ("data:image/gif;base64,R0", "x"),
        ("", "y"),
    ]
    html = (
        "".join(f'<img src="{src}"' + ("" if alt is None else f' alt="{alt}"') + ">" for src, alt in images)
        + "<img alt=z>"
    )
    write(tmp_path / "a.warc.gz", (HTML, html.encode()))
    links = [{"path": "IMG@/src", "url": src} | ({} if alt is None else {"alt": alt}) for src, alt in images]
    value = {
        "Envelope": {
            "WARC-Header-Metadata": {"WARC-Target-URI": PAGE},
            "Payload-Metadata": {
                "HTTP-Response-Metadata": {"HTML-Metadata": {"Links": [*links, {"path": "IMG@/src", "alt": "z"}]}}
            },
        }
    }
    body = json.dumps(value, separators=(",", ":")).encode()
    record = b"WARC/1.0\r\nWARC-Type: metadata\r\nContent-Length: %d\r\n\r\n%b\r\n\r\n" % (len(body), body)
    (tmp_path / "a.wat.gz").write_bytes(gzip.compress(record))
    (warc,), _ = read(tmp_path / "a.warc.gz")
    (wat,), _ = read(tmp_path / "a.wat.gz", "wat")
    assert list(zip(warc.src, warc.url, warc.alt, strict=True)) == list(zip(wat.src, wat.url, wat.alt, strict=True))


def test_a_damaged_member_costs_its_page_alone(tmp_path: Path) -> None:
    pages = [(HTML, f"<img src={number}.jpg alt=x{number}>".encode()) for number in range(5)]
    write(tmp_path / "a.warc.gz", *pages)
    data = bytearray((tmp_path / "a.warc.gz").read_bytes())
    (batch,), _ = read(tmp_path / "a.warc.gz")
    data[batch.offset[2] + 30] ^= 0xFF
    (tmp_path / "b.warc.gz").write_bytes(data[:-5])
    (batch,), report = read(tmp_path / "b.warc.gz")
    assert batch.alt == ["x0", "x1", "x3"]
    assert report.lost == {"corrupt_member": 1, "truncated_member": 1}


def test_a_warc_in_zstd_that_somebody_had_is_read() -> None:
    path = Path(__file__).parents[2] / "cases/tables/zst.warc.zst"
    report = SourceReport("w")
    batches = list(read_pairs(SourceFile("warc", str(path)), report))
    assert (report.lost, report.error) == ({}, None)
    assert report.records and sum(map(len, batches)) == report.pairs > 0
