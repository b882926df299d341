"""Image references out of WAT files, the JSON that Common Crawl's extractor wrote for every page.

A build spends most of its time here, so a page is not parsed whole: its record is cut at `"IMG@/src"`, and only those small
objects go through the JSON parser. That relies on how the file is written (compact, "path" first), which is checked for every
record; if it is written otherwise, the whole record is parsed, with the same result.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import orjson
from ahocorasick_rs import BytesAhoCorasick

from wit.sources.batch import PairBatch, SourceFile, SourceReport
from wit.sources.members import Record, read_records
from wit.sources.pages import Page, batches
from wit.sources.reading import RequestBudget, open_source
from wit.urls import base_url

_FIND_BASE = BytesAhoCorasick([b'"Base":']).find_matches_as_indexes
_FIND_IMAGES = BytesAhoCorasick([b'"IMG@/src"']).find_matches_as_indexes  # vectorised: a third of bytes.find's time
IMAGE_ESCAPED = b'"IMG@\\/src"'  # some JSON writers escape every slash
OPENING = b'{"path":'


def read_wat(file: SourceFile, report: SourceReport, budget: RequestBudget | None = None) -> Iterator[PairBatch]:
    """The pairs of a WAT file: every image with a `src`, with or without an alt text, in the order of the file."""
    with open_source(file.path, report, budget) as stream:
        yield from batches(read_records(stream, report), page_images, report)


def page_images(record: Record, report: SourceReport) -> Page | None:
    """The images of one WAT record; None if it describes no page with images or cannot be read (then it is counted)."""
    data, body, end = record.data, record.body, record.end
    if data.find(b'"HTML-Metadata"', body, end) < 0:
        return None
    report.pages += 1
    slices = _FIND_IMAGES(data)
    if not slices:
        return _parse_whole(record, report) if data.find(IMAGE_ESCAPED, body, end) >= 0 else None
    links = _parse_slices(data, slices)
    page_url = _header_url(record)
    if links is None or page_url is None or _FIND_BASE(data):
        return _parse_whole(record, report)
    return page_url, page_url, [link.url for link in links], [link.alt for link in links]


class _Link(msgspec.Struct, gc=False):
    """The attributes of a link that are read: each a text, or None where it is missing."""

    url: str | None = None
    alt: str | None = None


_LINKS = msgspec.json.Decoder(list[_Link]).decode


def _parse_slices(data: bytearray, slices: list[tuple[int, int, int]]) -> list[_Link] | None:
    """The link objects at these marks; None if they are not written as expected. A quote inside of a JSON string is escaped, so
    `"}` ends an object whose last value is a string. If it does not, the parse fails or the number of objects differs."""
    objects = []
    marks = [start for _, start, _ in slices[1:]]
    for (_, start, end), following in zip(slices, [*marks, len(data)], strict=True):
        # Searched up to the next mark only: a thousand objects without `"}` would be slices of megabytes.
        close = data.find(b'"}', end, following)
        if close < 0 or not data.startswith(OPENING, start - len(OPENING)):
            return None
        objects.append(data[end : close + 2])
    try:
        links = _LINKS(b'[{"":0' + b',{"":0'.join(objects) + b"]")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return links if len(links) == len(objects) else None


def _text(link: dict[str, Any], name: str) -> str | None:
    """The text of an attribute, of a list its first text; None where there is none. Lone surrogates, which no UTF-8 file could
    hold, are replaced."""
    value = link.get(name)
    if isinstance(value, list):
        value = next((item for item in value if isinstance(item, str)), None)
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else None


def _header_url(record: Record) -> str | None:
    """The page's URL from the WARC header of the WAT record."""
    data = record.data
    start = data.find(b"\nWARC-Target-URI:", record.start, record.body)
    if start < 0:
        return None
    return data[start + 17 : data.find(b"\n", start + 17)].strip().decode("utf-8", "replace")


def _parse_whole(record: Record, report: SourceReport) -> Page | None:
    """As `page_images`, from the whole JSON value."""
    envelope = _load(record.data[record.body : record.end], report)
    try:
        headers = envelope["Envelope"]["WARC-Header-Metadata"]
        html = envelope["Envelope"]["Payload-Metadata"]["HTTP-Response-Metadata"]["HTML-Metadata"]
        links = [link for link in html.get("Links", ()) if isinstance(link, dict) and link.get("path") == "IMG@/src"]
        head = html.get("Head")
        page_url = _header_url(record) or _text(headers, "WARC-Target-URI")
    except (KeyError, TypeError, AttributeError):
        report.lose("bad_json")
        return None
    base = _text(head, "Base") if isinstance(head, dict) else None
    page_url = page_url or ""
    srcs, alts = [_text(link, "url") for link in links], [_text(link, "alt") for link in links]
    return page_url, base_url(page_url, base), srcs, alts


def _load(body: bytearray, report: SourceReport) -> Any:
    """The JSON value of a record, read leniently: bad UTF-8 and control characters pass. None where it is no JSON."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        pass
    text = body.decode("utf-8", "replace")
    try:
        value = json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return None
    report.repair("bad_encoding")
    return value
