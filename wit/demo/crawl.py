"""The demonstration web as Common Crawl would have crawled it: WARC files of its pages, and the WAT files that describe them.

Each record is a gzip member. The files have the same bytes every time.
"""

from __future__ import annotations

import base64
import hashlib
import uuid
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import orjson

from wit.demo.pages import html_metadata, page_html, pages
from wit.demo.tables import pick
from wit.store import fs

CRAWL = "CC-DEMO-2026-01"
DATE = "2026-01-12T08:30:00Z"
NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "http://pictures.example/")


class Record(NamedTuple):
    """One WARC record."""

    headers: list[tuple[str, str]]
    block: bytes

    def encode(self) -> bytes:
        lines = "".join(f"{name}: {value}\r\n" for name, value in self.headers)
        return f"WARC/1.0\r\n{lines}\r\n".encode() + self.block + b"\r\n\r\n"


def write_wat(directory: str) -> list[str]:
    """Writes the WAT files into the directory and returns their paths."""
    return [write(directory, number, "wat") for number in numbers()]


def write_warc(directory: str) -> list[str]:
    """Writes the WARC files with the pages themselves into the directory and returns their paths."""
    return [write(directory, number, "warc") for number in numbers()]


def numbers() -> list[int]:
    return sorted({page["crawl_file"] for page in pages().values()})


def write(directory: str, number: int, kind: str) -> str:
    """Writes one WAT or WARC file and returns its path."""
    path = fs.join(directory, file_name(number, kind))
    fs.write_changed(path, b"".join(gzip_member(record.encode()) for record in RECORDS[kind](number)))
    return path


def file_name(number: int, kind: str) -> str:
    return f"{CRAWL}-{number:05}.{'warc.gz' if kind == 'warc' else 'warc.wat.gz'}"


def gzip_member(data: bytes) -> bytes:
    packer = zlib.compressobj(6, zlib.DEFLATED, 31)  # 31: with a gzip header, whose time is 0
    return packer.compress(data) + packer.flush()


def warc_records(number: int) -> Iterator[Record]:
    name = file_name(number, "warc")
    fields = f"isPartOf: {CRAWL}\r\nsoftware: wit.demo\r\ndescription: The demonstration web\r\n"
    yield record("warcinfo", name, fields.encode(), "application/warc-fields", [("WARC-Filename", name)])
    for page_url in pages_of(number):
        yield from page_records(page_url)


def pages_of(number: int) -> list[str]:
    return [url for url, page in pages().items() if page["crawl_file"] == number]


def page_records(page_url: str) -> tuple[Record, Record, Record]:
    """The request, the response and the crawler's own notes on one page."""
    target = [("WARC-Target-URI", page_url)]
    asked = record("request", page_url, request_block(page_url), "application/http; msgtype=request", target)
    html = response_block(page_url)
    more = [*target, ("WARC-Payload-Digest", digest(page_html(page_url).encode())), *protocols(page_url)]
    answered = record("response", page_url, html, "application/http; msgtype=response", more)
    notes = b"fetchTimeMs: 120\r\ncharset-detected: UTF-8\r\n"
    noted = record("metadata", page_url, notes, "application/warc-fields", target)
    return asked, answered, noted


def protocols(page_url: str) -> list[tuple[str, str]]:
    """The header WARC-Protocol, on some pages twice, as in crawls since CC-MAIN-2024-51."""
    twice = [("WARC-Protocol", "http/1.1"), ("WARC-Protocol", "plain")]
    return twice if pick("protocol", page_url, 4) == 0 else twice[:1]


def record(kind: str, name: str, block: bytes, content_type: str, more: list[tuple[str, str]]) -> Record:
    headers = [
        ("WARC-Type", kind),
        ("WARC-Record-ID", f"<urn:uuid:{uuid.uuid5(NAMESPACE, f'{kind} {name}')}>"),
        ("WARC-Date", DATE),
        ("Content-Length", str(len(block))),
        ("Content-Type", content_type),
        *more,
        ("WARC-Block-Digest", digest(block)),
    ]
    return Record(headers, block)


def digest(data: bytes) -> str:
    return "sha1:" + base64.b32encode(hashlib.sha1(data).digest()).decode()


def request_headers(page_url: str) -> list[tuple[str, str]]:
    return [("User-Agent", "DemoBot/1.0"), ("Accept", "text/html"), ("Host", urlsplit(page_url).netloc)]


def response_headers(page_url: str) -> list[tuple[str, str]]:
    """The headers of the server's answer. Some pages set two cookies, so that a header is a list in the WAT."""
    cookies = [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")] if pick("cookies", page_url, 5) == 0 else []
    length = str(len(page_html(page_url).encode()))
    return [("Content-Type", "text/html; charset=utf-8"), *cookies, ("Content-Length", length)]


def request_block(page_url: str) -> bytes:
    parts = urlsplit(page_url)
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    return http_head(f"GET {path} HTTP/1.1", request_headers(page_url))


def response_block(page_url: str) -> bytes:
    return http_head("HTTP/1.1 200 OK", response_headers(page_url)) + page_html(page_url).encode()


def http_head(start: str, headers: list[tuple[str, str]]) -> bytes:
    return "".join(f"{line}\r\n" for line in (start, *(f"{k}: {v}" for k, v in headers), "")).encode()


# --- WAT ---------------------------------------------------------------------------------------------------------------


def wat_records(number: int) -> Iterator[Record]:
    name = file_name(number, "wat")
    fields = f"Software-Info: wit.demo\r\nExtracted-Date: {DATE}\r\nisPartOf: {CRAWL}\r\n"
    yield record("warcinfo", name, fields.encode(), "application/warc-fields", [("WARC-Filename", name)])
    offset = 0
    for described in warc_records(number):
        packed = gzip_member(described.encode())
        block = orjson.dumps(
            {"Container": container(number, offset, described, packed), "Envelope": envelope(described)}
        )
        target = dict(described.headers).get("WARC-Target-URI", file_name(number, "warc"))
        refers = [("WARC-Target-URI", target), ("WARC-Refers-To", dict(described.headers)["WARC-Record-ID"])]
        kind = dict(described.headers)["WARC-Type"]
        yield record("metadata", f"{kind} {target}", block, "application/json", refers)
        offset += len(packed)


def container(number: int, offset: int, described: Record, packed: bytes) -> dict[str, Any]:
    plain = described.encode()
    lengths = {
        "Inflated-Length": str(len(plain)),
        "Footer-Length": "8",
        "Inflated-CRC": str(zlib.crc32(plain)),
        "Deflate-Length": str(len(packed)),
        "Header-Length": "10",
    }
    name = file_name(number, "warc")
    return {"Filename": name, "Compressed": True, "Offset": str(offset), "Gzip-Metadata": lengths}


def envelope(described: Record) -> dict[str, Any]:
    headers = dict(described.headers)
    return {
        "Format": "WARC",
        "WARC-Header-Length": str(len(described.encode()) - len(described.block) - 4),
        "Actual-Content-Length": headers["Content-Length"],
        "WARC-Header-Metadata": as_object(described.headers),
        "Block-Digest": headers["WARC-Block-Digest"],
        "Payload-Metadata": payload_metadata(described, headers),
    }


def as_object(headers: list[tuple[str, str]]) -> dict[str, str | list[str]]:
    """Headers as a WAT holds them: a string, or a list where the header is repeated."""
    fields: dict[str, str | list[str]] = {}
    for name, value in headers:
        before = fields.get(name)
        fields[name] = value if before is None else [*(before if isinstance(before, list) else [before]), value]
    return fields


def payload_metadata(described: Record, headers: dict[str, str]) -> dict[str, Any]:
    kind, page_url = headers["WARC-Type"], headers.get("WARC-Target-URI", "")
    if kind == "request":
        message = {"Method": "GET", "Path": urlsplit(page_url).path, "Version": "HTTP/1.1"}
        body = {"Request-Message": message, "Headers": as_object(request_headers(page_url))}
        return {"Actual-Content-Type": headers["Content-Type"], "HTTP-Request-Metadata": body}
    if kind == "response":
        return {
            "Actual-Content-Type": headers["Content-Type"],
            "HTTP-Response-Metadata": response_metadata(described, page_url),
        }
    fields = [line.partition(": ") for line in described.block.decode().splitlines()]
    noted = {"Metadata-Records": [{"Name": name, "Value": value} for name, _, value in fields]}
    return {"Actual-Content-Type": headers["Content-Type"], "WARC-Metadata-Metadata": noted}


def response_metadata(described: Record, page_url: str) -> dict[str, Any]:
    html = page_html(page_url).encode()
    return {
        "Response-Message": {"Status": "200", "Version": "HTTP/1.1", "Reason": "OK"},
        "Headers": as_object(response_headers(page_url)),
        "Headers-Length": str(len(described.block) - len(html)),
        "Entity-Length": str(len(html)),
        "Entity-Digest": digest(html),
        "Entity-Trailing-Slop-Length": "0",
        "HTML-Metadata": html_metadata(page_url),
    }


RECORDS = {"warc": warc_records, "wat": wat_records}
