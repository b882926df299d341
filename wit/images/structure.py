"""Counts the parts of a picture before any library walks them. A part may take a byte or two on the wire, yet microseconds or a
copy in a parser that was not written for a million of them (docs/log.md has seconds and gigabytes)."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator

from wit.images.results import Refused
from wit.reasons import Reason

MAX_PARTS = 20_000  # chunks, segments, blocks: 20 MB of PNG in pieces of 1 kB, where more than 8 kB is usual
USUAL_SCANS = 12  # of a progressive JPEG; each costs a pass over all coefficients
MAX_SCANS = 100
MAX_SCANNED = 1_500_000_000  # scans x pixels: 12 scans of 64 MP take half of it; 100 scans are allowed up to 15 MP
MAX_TAGS = 4_096  # of a TIFF directory: libtiff's own limit
MAX_TAG_BYTES = 32_000_000  # of their values: more than a whole body
MAX_TAG_VALUES = 1_000_000  # numbers in tags, each a Python object in Pillow: 16 x 16 tiles of 64 MP take half of it
MAX_ITEM_TABLE = 1 << 16  # bytes of an AVIF's list of items: 3,000 tiles. libavif searches it for each item
MAX_RLE_PIXELS = 16_000_000  # Pillow writes run lengths out in Python: 0.1 us a pixel

Chunk = tuple[bytes, int, int]  # its kind; where its content begins and ends


def png_chunks(data: bytes) -> Iterator[Chunk]:
    """The chunks of a PNG, in order; the last may be cut off."""
    at = 8
    while at + 8 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        yield data[at + 4 : at + 8], at + 8, at + 8 + length
        if data[at + 4 : at + 8] == b"IEND":  # what follows is no part of it
            return
        at += 12 + length


def riff_chunks(data: bytes) -> Iterator[Chunk]:
    """The top chunks of a WebP (RFC 9649 section 2.3), in order; the last may be cut off. Bytes beyond the length in its header
    are no part of it."""
    at, stop = 12, min(len(data), int.from_bytes(data[4:8], "little") + 8)
    while at + 8 <= stop:
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        yield data[at : at + 4], at + 8, at + 8 + length
        at += 8 + length + (length & 1)


def gif_parts(data: bytes) -> Iterator[int]:
    """One number for each part that Pillow reads of a GIF up to its first picture: blocks of extensions, and stray bytes."""
    at = 13 + (3 << ((data[10] & 7) + 1) if len(data) > 10 and data[10] & 0x80 else 0)
    while at < len(data) and data[at] not in b",;":
        extension = data[at] == 0x21
        at += 2 if extension else 1
        while extension and at < len(data) and data[at]:
            at += 1 + data[at]
            yield at
        at += extension
        yield at


_SCAN_END = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # the next marker that ends an entropy-coded segment


def jpeg_scans(data: bytes, frame: int) -> Iterator[int]:
    """The places where the scans of a JPEG begin; its frame header stands at `frame`."""
    at = frame
    while scan_end := _SCAN_END.search(data, at):
        at = scan_end.start()
        marker = data[at + 1]
        if marker == 0xD9:
            return
        if marker == 0xDA:
            yield at
        at += 2 + max(int.from_bytes(data[at + 2 : at + 4], "big"), 2)


def is_one_scan(data: bytes, frame: int, components: int) -> bool:
    """Whether the first scan of a sequential JPEG has all its components: libjpeg then reads no further scan."""
    at = frame
    for _ in range(MAX_PARTS):
        if data[at : at + 1] != b"\xff" or at + 5 > len(data):
            return False
        if data[at + 1] == 0xDA:
            return data[at + 4] == components
        at += 2 + max(int.from_bytes(data[at + 2 : at + 4], "big"), 2)
    return False


_SCAN_START = re.compile(rb"\xff\xda")  # finds twice as fast as `bytes.count`


def too_many_scans(data: bytes, frame: int, pixels: int) -> Refused | None:
    """Refuses a JPEG whose decoding would pass over the coefficients too often. Pairs of bytes that look like scans are counted
    first, which is fast; real scans only where those are too many."""
    limit = min(MAX_SCANS, max(MAX_SCANNED // pixels, USUAL_SCANS))
    if _more_than(_SCAN_START.finditer(data, frame), limit) and _more_than(jpeg_scans(data, frame), limit):
        return Refused(Reason.IMAGE_TOO_MANY_PARTS, f"more than {limit} scans")
    return None


def boxes(data: bytes, at: int, end: int) -> Iterator[Chunk]:
    """The boxes of an AVIF between two places (ISO/IEC 14496-12 section 4.2)."""
    while at + 8 <= end:
        size, kind, head = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8], 8
        if size == 1:
            size, head = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        if size == 0:
            size = end - at
        if size < head:
            return
        yield kind, at + head, min(at + size, end)
        at += size


def _avif_parts(data: bytes) -> Iterator[int]:
    """One number for each box that libavif reads at the top and in `meta`; more than MAX_PARTS for too long a list of items."""
    for kind, start, end in boxes(data, 0, len(data)):
        yield start
        if kind != b"meta":
            continue
        for inner, begin, stop in boxes(data, start + 4, end):
            lists = boxes(data, begin, stop) if inner == b"iprp" else [(inner, begin, stop)]
            for name, first, last in lists:
                yield first
                if name in (b"iloc", b"iinf", b"iref", b"ipma") and last - first > MAX_ITEM_TABLE:
                    yield from range(MAX_PARTS + 1)
                if name == b"ipco":
                    yield from (at for _, at, _ in boxes(data, first, last))


_PARTS: dict[str, Callable[[bytes], Iterator[object]]] = {
    "png": png_chunks,
    "webp": riff_chunks,
    "gif": gif_parts,
    "avif": _avif_parts,
}


def too_many_parts(data: bytes, format: str) -> Refused | None:
    """Refuses a picture whose parts would take too much time. A JPEG's are counted elsewhere: segments on the way to its frame
    header, scans in `too_many_scans`."""
    if format in _PARTS and _more_than(_PARTS[format](data), MAX_PARTS):
        return Refused(Reason.IMAGE_TOO_MANY_PARTS, f"more than {MAX_PARTS} chunks or blocks")
    if format == "tiff" and not sane_tags(data):
        return Refused(Reason.IMAGE_TOO_MANY_PARTS, "too many tags, or of more than the file holds")
    if format == "bmp" and _is_long_rle(data):
        return Refused(Reason.IMAGE_TOO_MANY_PARTS, f"run lengths of more than {MAX_RLE_PIXELS} pixels")
    return None


def _more_than(parts: Iterator[object], limit: int) -> bool:
    return any(count > limit for count, _ in enumerate(parts, 1))


def _is_long_rle(bmp: bytes) -> bool:
    if len(bmp) < 34:
        return False
    size, width, height, _, _, compression = struct.unpack_from("<IiiHHI", bmp, 14)
    return size >= 40 and compression in (1, 2) and max(abs(width * height), len(bmp) * 4) > MAX_RLE_PIXELS


_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8}


def sane_tags(tiff: bytes, start: int | None = None) -> bool:
    """Whether a directory of a TIFF or EXIF block (classic or BigTIFF) may be read: the one at `start`, or the first. Pillow
    copies the value of each tag, so a thousand tags that point at the same megabytes make gigabytes."""
    order = "<" if tiff[:2] == b"II" else ">"
    big = tiff[2:4] in (b"+\0", b"\0+")
    entry, counter, word = (20, "Q", 8) if big else (12, "H", 4)
    try:
        if start is None:
            (start,) = struct.unpack_from(order + ("Q" if big else "I"), tiff, word)
        (count,) = struct.unpack_from(order + counter, tiff, start)
    except (struct.error, OverflowError):
        return True  # no directory, so nothing to copy
    first = start + struct.calcsize("=" + counter)
    count = min(count, (len(tiff) - first) // entry)
    if count > MAX_TAGS:
        return False
    total = values = 0
    for place in range(first, first + count * entry, entry):
        _, kind, number, where = struct.unpack_from(order + ("HHQQ" if big else "HHII"), tiff, place)
        size = number * _TYPE_BYTES.get(kind, 0)
        if size > word and where + size > len(tiff):
            break  # beyond the end, where Pillow stops reading tags
        total += size
        values += number if size and kind not in (1, 2, 7) else 0
    return total <= MAX_TAG_BYTES and values <= MAX_TAG_VALUES
