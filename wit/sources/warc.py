"""Image references out of WARC files: the HTML responses of a crawl, parsed."""

from __future__ import annotations

from collections.abc import Iterator

from wit.sources.batch import PairBatch, SourceFile, SourceReport
from wit.sources.complexity import TooComplex
from wit.sources.html import dechunk, decode_body, decode_html, page_images
from wit.sources.members import MAX_RECORD_BYTES, Record, read_records
from wit.sources.pages import Page, batches
from wit.sources.reading import RequestBudget, open_source

HTML_TYPES = ("text/html", "application/xhtml+xml")


def read_warc(file: SourceFile, report: SourceReport, budget: RequestBudget | None = None) -> Iterator[PairBatch]:
    """The pairs of every HTML response in a WARC file, by the rules of `wit.sources.html`."""
    with open_source(file.path, report, budget) as stream:
        yield from batches(read_records(stream, report), record_images, report)


def record_images(record: Record, report: SourceReport) -> Page | None:
    """The images of one WARC record; None if it is no HTML page, or cannot be read (then it is counted)."""
    warc = headers_of(bytes(record.data[record.start : record.body]))
    if warc.get("warc-type") not in ("response", "resource"):
        return None
    url = warc.get("warc-target-uri", "").strip("<>")
    block = bytes(record.data[record.body : record.end])
    http, body = _split_http(block) if warc["warc-type"] == "response" else (warc, block)
    content_type = http.get("content-type", "")
    if not _is_html(content_type, body):
        return None
    report.pages += 1
    if "chunked" in http.get("transfer-encoding", "").lower():
        body = dechunk(body)
    content = decode_body(body, http.get("content-encoding", "").strip().lower(), max_bytes=MAX_RECORD_BYTES)
    if content is None:
        report.lose("content_encoding")
        return None
    try:
        images = page_images(decode_html(content, content_type), url)
    except TooComplex:
        report.lose("html_too_complex")
        return None
    return url, images.base, images.srcs, images.alts


def headers_of(head: bytes) -> dict[str, str]:
    """Header fields by lower-case name; of fields alike the first. Continuation lines are joined, the first line is skipped."""
    fields: dict[str, list[str]] = {}
    pieces: list[str] = []  # of the field last begun
    for line in head.decode("utf-8", "replace").splitlines()[1:]:
        if line[:1] in (" ", "\t") and pieces:
            pieces.append(line.strip())
            continue
        name, colon, value = line.partition(":")
        if colon:
            pieces = [value.strip()]
            fields.setdefault(name.strip().lower(), pieces)
    return {name: " ".join(values) for name, values in fields.items()}


def _split_http(block: bytes) -> tuple[dict[str, str], bytes]:
    """Headers and body of an HTTP response; some archives hold the body alone."""
    if not block.startswith(b"HTTP/"):
        return {}, block
    ends = [(at, size) for mark, size in ((b"\r\n\r\n", 4), (b"\n\n", 2)) if (at := block.find(mark)) >= 0]
    at, size = min(ends, default=(len(block), 0))
    return headers_of(block[:at]), block[at + size :]


def _is_html(content_type: str, body: bytes) -> bool:
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type:
        return media_type in HTML_TYPES
    start = body[:512].lstrip().lower()
    return start.startswith((b"<!doctype html", b"<html", b"<head", b"<body"))
