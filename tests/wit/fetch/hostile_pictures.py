"""Pictures that are small on the wire and large, long or slow in a decoder."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from wit.images.structure import boxes


def encoded(picture: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def blank(mode: str, side: int, kind: str, colour: Any = 0, **options: Any) -> bytes:
    """A square of one colour."""
    return encoded(Image.new(mode, (side, side), colour), kind, **options)


# PNG

CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
PASSES = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]


def chunk(kind: bytes, body: bytes = b"") -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(
    width: int, height: int, depth: int, colour: int, *, more: bytes = b"", late: bytes = b"", interlaced: bool = False
) -> bytes:
    """A PNG of zeros; `more` stands before its pixels, `late` behind them."""
    deflate, data = zlib.compressobj(9), b""
    for x, y, across, down in PASSES if interlaced else [(0, 0, 1, 1)]:
        columns, rows = -(-(width - x) // across), -(-(height - y) // down)
        row = bytes(1 + (columns * depth * CHANNELS[colour] + 7) // 8)
        data += b"".join(deflate.compress(row) for _ in range(rows))
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    more = (chunk(b"PLTE", bytes(768)) if colour == 3 else b"") + more
    pixels = chunk(b"IDAT", data + deflate.flush())
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + more + pixels + late + chunk(b"IEND")


# WebP


def riff(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) & 1)


DOT = encoded(Image.new("RGB", (1, 1)), "WEBP", lossless=True)[12:]


def webp(width: int, height: int, flags: int, *chunks: bytes) -> bytes:
    """An extended WebP (RFC 9649 section 2.7) of this canvas."""
    sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBP" + riff(b"VP8X", struct.pack("<I", flags) + sides) + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def animated_webp(side: int, frames: int = 2) -> bytes:
    frame = riff(b"ANMF", bytes(12) + b"\x64\0\0\0" + DOT)
    return webp(side, side, 2, riff(b"ANIM", bytes(6)), *[frame] * frames)


# JPEG


def profile(size: int, seed: int = 0) -> bytes:
    """A valid ICC profile that is not sRGB by name, with noise behind its tags."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    other = srgb.replace("sRGB".encode("utf-16-be"), "none".encode("utf-16-be"))
    grown = other + np.random.default_rng(seed).bytes(max(0, size - len(other)))
    return struct.pack(">I", len(grown)) + grown[4:]


def with_profile(jpeg: bytes, icc: bytes) -> bytes:
    parts = [icc[at : at + 65_519] for at in range(0, len(icc), 65_519)]
    heads = [b"ICC_PROFILE\0" + bytes([number, len(parts)]) for number in range(1, len(parts) + 1)]
    return jpeg[:2] + b"".join(segment(0xE2, head + part) for head, part in zip(heads, parts, strict=True)) + jpeg[2:]


def segment(marker: int, body: bytes) -> bytes:
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(body) + 2) + body


def with_scans(jpeg: bytes, scans: int) -> bytes:
    """A progressive JPEG with its last scan repeated until there are so many."""
    last = jpeg[jpeg.rindex(b"\xff\xda") : -2]
    return jpeg[:-2] + last * (scans - jpeg.count(b"\xff\xda")) + jpeg[-2:]


# TIFF and EXIF

DOT_TAGS = [(256, 3, 1, 1), (257, 3, 1, 1), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 0)]
DOT_TAGS += [(277, 3, 1, 1), (278, 3, 1, 1), (279, 4, 1, 1)]
Tag = tuple[int, int, int, int]  # its number, type, how many values, the value or where they are


def tiff(tags: list[Tag], *, body: bytes = b"", big: bool = False) -> bytes:
    """A little-endian TIFF of one directory, with `body` behind the header."""
    start = (16 if big else 8) + len(body)
    head = struct.pack("<2sHHHQ", b"II", 43, 8, 0, start) if big else struct.pack("<2sHI", b"II", 42, start)
    entries = b"".join(struct.pack("<HHQQ" if big else "<HHII", *tag) for tag in sorted(tags))
    return head + body + struct.pack("<Q" if big else "<H", len(tags)) + entries + bytes(8)


def shared_tags(count: int, size: int, first: list[Tag]) -> bytes:
    """A TIFF block with so many tags that all point at the same bytes."""
    return tiff(first + [(0xC000 + n, 7, size, 8) for n in range(count)], body=bytes(size))


HUGE_TILE = tiff(
    [(256, 3, 1, 16), (257, 3, 1, 16), (258, 3, 1, 8), (259, 3, 1, 8), (262, 3, 1, 1), (277, 3, 1, 1)]
    + [(322, 4, 1, 65_520), (323, 4, 1, 65_520), (324, 4, 1, 8), (325, 4, 1, 20)],
    body=zlib.compress(bytes(70_000)),
)


# GIF, BMP, AVIF


def gif(width: int, height: int, blocks: bytes = b"") -> bytes:
    """A screen of this size with one pixel on it, behind some blocks."""
    dot = b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\0"
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6) + blocks + dot + b";"


def bmp_rle(width: int, height: int, runs: bytes) -> bytes:
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(runs), 0, 0, 256, 0) + bytes(1024)
    return b"BM" + struct.pack("<IHHI", 14 + len(info) + len(runs), 0, 0, 14 + len(info)) + info + runs


def box(kind: bytes, body: bytes = b"") -> bytes:
    return struct.pack(">I", 8 + len(body)) + kind + body


def avif(*, items: int = 0, free: int = 0) -> bytes:
    """An AVIF whose list of items names so many more, or with so many empty boxes."""
    found = encoded(Image.new("RGB", (8, 8)), "AVIF")
    top = {kind: (start, end) for kind, start, end in boxes(found, 0, len(found))}
    head = found[: top[b"ftyp"][1]] + box(b"free") * free
    meta = b""
    for kind, start, end in boxes(found, top[b"meta"][0] + 4, top[b"meta"][1]):
        body = found[start:end]
        if kind == b"iloc":
            body = body.replace(struct.pack(">I", top[b"mdat"][0]), struct.pack(">I", len(head) + 8))
        if kind == b"iinf":
            more = (box(b"infe", struct.pack(">IIH", 3 << 24, 1000 + n, 0) + b"abcd\0") for n in range(items))
            body = b"\1\0\0\0" + struct.pack(">I", int.from_bytes(body[4:6], "big") + items) + body[6:] + b"".join(more)
        meta += box(kind, body)
    return head + box(b"mdat", found[slice(*top[b"mdat"])]) + box(b"meta", bytes(4) + meta)


def of_many_parts(parts: int) -> Iterator[tuple[str, bytes]]:
    """Pictures of so many parts, by name."""
    jpeg, cmyk = blank("RGB", 64, "JPEG"), blank("CMYK", 8, "JPEG")
    yield "png texts", png(8, 8, 8, 2, more=chunk(b"tEXt", b"a\0b") * parts)
    yield "png texts behind the pixels", png(8, 8, 8, 2, late=chunk(b"tEXt", b"a\0b") * parts)
    yield "png international texts", png(8, 8, 8, 2, more=chunk(b"iTXt", b"a\0\0\0\0\0b") * parts)
    yield "png pixels in pieces", png(8, 8, 8, 2, late=chunk(b"IDAT") * parts)
    yield "gif comments", gif(8, 8, b"!\xfe\x01x\0" * parts)
    yield "gif comment in pieces", gif(8, 8, b"!\xfe" + b"\x01x" * parts + b"\0")
    yield "gif bytes astray", gif(8, 8, bytes(parts))
    yield "webp chunks", webp(1, 1, 0, riff(b"VP8L", DOT[8:]), riff(b"ABCD", b"") * parts)
    yield "webp frames", animated_webp(1, parts)
    yield "jpg segments", jpeg[:2] + segment(0xE5, b"") * parts + jpeg[2:]
    yield "jpg EXIF segments", cmyk[:2] + segment(0xE1, b"Exif\0\0xx") * parts + cmyk[2:]
    yield "jpg scans", with_scans(blank("RGB", 64, "JPEG", progressive=True), parts)
    yield "tiff tags", tiff(DOT_TAGS + [(0xC000, 3, 1, 1)] * parts, big=True)
    yield "avif boxes", avif(free=parts)
    yield "avif items", avif(items=parts)
