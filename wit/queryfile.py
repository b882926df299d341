"""The forms of a query list: one query a line, a JSON array, `query<TAB>count`; UTF-8 or UTF-16, gzip or not."""

from __future__ import annotations

import codecs
import gzip
import json
import re
import zlib
from typing import NamedTuple

from wit.errors import InputError
from wit.store import fs

UNREADABLE = {  # first bytes of files given by mistake: what they are, and what to do
    b"BZh": ("compressed by bzip2", "decompress it with `bunzip2`"),
    b"\x28\xb5\x2f\xfd": ("compressed by zstd", "decompress it with `zstd -d`"),
    b"\xfd7zXZ\0": ("compressed by xz", "decompress it with `unxz`"),
    b"PK\x03\x04": ("a zip archive", "take the list out of it with `unzip`"),
    b"PAR1": ("a Parquet table", "write its column of queries as text, one a line"),
}
UTF_32, UTF_16 = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE), (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
ARRAY, OBJECT = re.compile(r'\s*\[\s*(["\]{\[\d-]|true|false|null)'), re.compile(r'\s*\{\s*["}]')
COUNTED, COUNT_FIRST = re.compile(r"(.*\S)\s*\t\s*\d+(?:\.\d+)?\s*"), re.compile(r"\s*\d+\s*\t\s*\S.*")
NEARLY_ALL = 0.95  # of the lines: a few may have no count


class QueryFile(NamedTuple):
    """The lines of a file, or the items of its array, as they stand there, without counts."""

    texts: list[str]
    unit: str  # what the texts are: line or item
    note: str | None  # which part of the file is ignored


def read_queries(data: bytes, path: str) -> QueryFile:
    """The queries of a file in any of these forms; raises InputError, with the remedy, for a file in none of them."""
    text = _decode(_unzipped(data, path), path)
    if ARRAY.match(text) or OBJECT.match(text):
        return QueryFile(_items(text, path), "item", None)
    lines = text.split("\n") if "\n" in text else text.split("\r")  # the latter as on a Macintosh of the last century
    return _without_counts(lines, path) or QueryFile(lines, "line", None)


def _unzipped(data: bytes, path: str) -> bytes:
    for magic, (what, remedy) in UNREADABLE.items():
        if data.startswith(magic):
            raise InputError(f"the query list {path} is {what}: {remedy}")
    if not data.startswith(b"\x1f\x8b"):
        return data
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"the query list {path} is damaged gzip ({error}): copy it again") from None


def _decode(data: bytes, path: str) -> str:
    encoding = "utf-32" if data.startswith(UTF_32) else "utf-16" if data.startswith(UTF_16) else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        remedy = "save it as UTF-8, for example with `iconv -f windows-1252 -t utf-8`"
        raise InputError(
            f"the query list {path} is not {encoding.removesuffix('-sig').upper()} at line {line}: {remedy}"
        ) from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise InputError(
            f"the query list {path} holds a NUL character at line {line}, as UTF-16 without its mark does: save it as UTF-8, "
            f"for example with `iconv -f utf-16le -t utf-8`"
        )
    return text


def _items(text: str, path: str) -> list[str]:
    """The strings of a JSON array, such as MetaCLIP's metadata.json, line ends in them turned into spaces."""
    fix = "give an array of strings, as MetaCLIP's metadata.json is, or text of one query a line"
    try:
        items = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"the query list {path} begins as JSON and is none ({error}): {fix}") from None
    if not isinstance(items, list):
        raise InputError(f"the query list {path} is a JSON object: {fix}")
    for number, item in enumerate(items, 1):
        if not isinstance(item, str):
            raise InputError(f"the query list {path} is a JSON array, but its item {number} is no string: {fix}")
        if not fs.is_text(item):
            raise InputError(f"the query list {path} is a JSON array, but its item {number} is half a character: {fix}")
    return [" ".join(item.splitlines()) for item in items]


def _without_counts(lines: list[str], path: str) -> QueryFile | None:
    """The queries of lines `query<TAB>count`; None where the lines have another form."""
    if not any("\t" in line for line in lines[:100]):
        return None
    wanted = [line for line in lines if line.strip()]
    if sum(COUNT_FIRST.fullmatch(line) is not None for line in wanted) >= NEARLY_ALL * len(wanted):
        raise InputError(
            f"the query list {path} has numbers before its queries: take them off, for example with `cut -f2-`"
        )
    matches = [COUNTED.fullmatch(line) for line in lines]
    counted = sum(match is not None for match in matches)
    header = len(wanted) > 1 and lines[0].count("\t") == 1 and matches[0] is None
    if not counted or counted < NEARLY_ALL * (len(wanted) - header):
        return None
    texts = [match[1] if match else line for match, line in zip(matches, lines, strict=True)]
    ignored = f"{counted:,} counts after a TAB are not used" + (
        f", nor is the header {lines[0].strip()!r}" if header else ""
    )
    return QueryFile(["", *texts[1:]] if header else texts, "line", f"{path}: {ignored}")
