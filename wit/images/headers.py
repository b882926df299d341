"""Format, size, frames and orientation from the header alone: no pixel is decoded here."""

from __future__ import annotations

import io
import re
import struct
import warnings

from PIL import Image

from wit.images.results import Probe, Refused
from wit.reasons import Reason

Image.MAX_IMAGE_PIXELS = None  # the cap is ours, on every format, and comes from the configuration
PILLOW_FORMATS = ("PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG")
NAMES = {"JPEG": "jpg", "MPO": "jpg"}
HEAD = 1024  # bytes looked at to tell text from pictures
SVG = re.compile(rb"<svg[\s>]|<!DOCTYPE svg", re.I)
MARKUP = re.compile(rb"\s*(<!doctype|<html|<head|<body|<\?xml|<!--|<script|<[a-z]+[\s>]|\{|\[)", re.I)
KNOWN_BUT_UNSUPPORTED = (
    (b"\0\0\1\0", "ico"),
    (b"\0\0\2\0", "cur"),
    (b"8BPS", "psd"),
    (b"\xff\x0a", "jxl"),
    (b"\0\0\0\x0cJXL ", "jxl"),
    (b"\0\0\0\x0cjP  ", "jp2"),
    (b"\xff\x4f\xff\x51", "jp2"),
    (b"%PDF", "pdf"),
    (b"\xd7\xcd\xc6\x9a", "wmf"),
)
HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")


def sniff(data: bytes) -> str | Refused:
    """The format by its magic bytes, or why these bytes are no picture that we take."""
    if data[:3] == b"\xff\xd8\xff":
        return "jpg"
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return "png"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    if data[:6] in (b"GIF87a", b"GIF89a"):
        return "gif"
    if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "tiff"
    if data[4:8] == b"ftyp" and data[8:12] in (b"avif", b"avis"):
        return "avif"
    if data[:2] == b"BM" and len(data) > 26:
        return "bmp"
    return _not_a_picture(data)


def _not_a_picture(data: bytes) -> str | Refused:
    head = data[:HEAD]
    if head[4:8] == b"ftyp":
        brands = {data[8:12], *(data[i : i + 4] for i in range(16, min(_u32(data, 0), 64), 4))}
        if b"avif" in brands:
            return "avif"
        if brands & set(HEIF_BRANDS):
            return Refused(Reason.FORMAT_UNSUPPORTED, "heic")
    for magic, name in KNOWN_BUT_UNSUPPORTED:
        if head.startswith(magic):
            return Refused(Reason.FORMAT_UNSUPPORTED, name)
    if head[:2] == b"\x1f\x8b":
        return Refused(Reason.NOT_AN_IMAGE, "gzip")
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if SVG.search(text):
        return Refused(Reason.SVG_REFUSED)
    return Refused(Reason.NOT_AN_IMAGE, "markup" if MARKUP.match(text) else "")


def probe(data: bytes) -> Probe | Refused:
    """What the header says of a picture, or why these bytes are none; reads no pixel."""
    found = sniff(data)
    if isinstance(found, Refused):
        return found
    if found == "jpg":
        return probe_jpeg(data)
    if found == "webp":
        if len(data) < 8 + int.from_bytes(data[4:8], "little"):  # Pillow calls it corrupt
            return Refused(Reason.IMAGE_TRUNCATED)
        if plain := probe_plain_webp(data):
            return plain
    return _probe_with_pillow(data, found)


def probe_plain_webp(data: bytes) -> Probe | None:
    """The size of a WebP that is one bit stream and nothing else (RFC 9649 sections 2.5 and 2.6), as most are; None for others
    and broken ones. Pillow makes a decoder with room for the whole picture to answer the same."""
    if data[12:16] == b"VP8 " and data[23:26] == b"\x9d\x01\x2a" and not data[20] & 1:
        width, height = struct.unpack_from("<HH", data[:30].ljust(30, b"\0"), 26)
        width, height = width & 0x3FFF, height & 0x3FFF
    elif data[12:16] == b"VP8L" and data[20:21] == b"\x2f":
        bits = int.from_bytes(data[21:25], "little")
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    else:
        return None
    return Probe("webp", width, height) if width and height else None


def probe_jpeg(data: bytes) -> Probe | Refused:
    """Walks the marker segments up to the frame header (ITU T.81 B.2), collecting EXIF and ICC on the way."""
    exif, at = b"", 2
    icc: list[bytes] = []
    while True:
        while at < len(data) and data[at] == 0xFF and data[at + 1 : at + 2] == b"\xff":
            at += 1  # fill bytes
        if at + 4 > len(data):
            return Refused(Reason.IMAGE_TRUNCATED, "no frame header")
        if data[at] != 0xFF:
            return Refused(Reason.IMAGE_CORRUPT, "no marker where one must be")
        marker = data[at + 1]
        if marker in (0x01, 0xD8) or 0xD0 <= marker <= 0xD7:
            at += 2
            continue
        length = _u16(data, at + 2)
        body = at + 4
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return _frame_header(data, body, exif, b"".join(icc))
        if marker in (0xD9, 0xDA):
            return Refused(Reason.IMAGE_CORRUPT, "pixels before the frame header")
        if marker == 0xE1 and not exif and data[body : body + 6] == b"Exif\0\0":
            exif = data[body + 6 : at + 2 + length]
        if marker == 0xE2 and data[body : body + 12] == b"ICC_PROFILE\0":
            icc.append(data[body + 14 : at + 2 + length])
        at += 2 + max(length, 2)


def _frame_header(data: bytes, body: int, exif: bytes, icc: bytes) -> Probe | Refused:
    if body + 6 > len(data):
        return Refused(Reason.IMAGE_TRUNCATED, "no frame header")
    height, width, components = struct.unpack_from(">HHB", data, body + 1)
    if not height or not width:
        return Refused(Reason.IMAGE_CORRUPT, "no size")
    orientation = exif_orientation(exif)
    return Probe("jpg", width, height, 1, orientation, components, icc, exif)


def exif_orientation(exif: bytes) -> int:
    """Tag 0x0112 of the first directory of a TIFF block; 1 (upright) where it is absent or makes no sense."""
    if len(exif) < 14 or exif[:2] not in (b"II", b"MM"):
        return 1
    order = "<" if exif[:2] == b"II" else ">"
    (start,) = struct.unpack_from(order + "I", exif, 4)
    if start + 2 > len(exif):
        return 1
    (count,) = struct.unpack_from(order + "H", exif, start)
    for entry in range(start + 2, min(start + 2 + 12 * count, len(exif) - 11), 12):
        tag, kind, _, value = struct.unpack_from(order + "HHIH", exif, entry)
        if tag == 0x0112:
            return value if kind == 3 and 1 <= value <= 8 else 1
    return 1


def _probe_with_pillow(data: bytes, name: str) -> Probe | Refused:
    opened = open_with_pillow(data)
    if isinstance(opened, Refused):
        return opened
    width, height = opened.size
    orientation = 1
    if name in ("png", "webp"):  # TIFF and AVIF: Pillow turns the picture itself
        orientation = _pillow_orientation(opened, late=name == "png" and _has_late_tags(data))
    frames = getattr(opened, "n_frames", 1) if name in ("webp", "avif", "png") else 1 + _is_animated_gif(data, name)
    return Probe(name, width, height, frames, orientation)


def open_with_pillow(data: bytes) -> Image.Image | Refused:
    """The picture opened lazily (header only), or why it cannot be."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return Image.open(io.BytesIO(data), formats=PILLOW_FORMATS)
    except PILLOW_ERRORS as error:
        return refused_by(error)


# What Pillow's plugins raise on malformed files; a wider catch would hide bugs of ours.
PILLOW_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    EOFError,
    RuntimeError,
    OverflowError,
    MemoryError,
    struct.error,
    ZeroDivisionError,
    AssertionError,
)


def refused_by(error: BaseException) -> Refused:
    """Truncated where the decoder ran out of bytes, corrupt otherwise."""
    text = str(error).lower()
    short = "truncated" in text or isinstance(error, EOFError) or "premature" in text or "not enough" in text
    return Refused(Reason.IMAGE_TRUNCATED if short else Reason.IMAGE_CORRUPT)


def _has_late_tags(png: bytes) -> bool:
    """Whether text or EXIF stands behind the first pixels of a PNG."""
    at, pixels = 8, False
    while at + 8 <= len(png):
        kind = png[at + 4 : at + 8]
        if pixels and kind in (b"eXIf", b"iTXt", b"tEXt", b"zTXt"):
            return True
        pixels = pixels or kind == b"IDAT"
        at += 12 + _u32(png, at)
    return False


def _pillow_orientation(opened: Image.Image, *, late: bool) -> int:
    """Of EXIF or XMP. Pillow's PNG decodes the whole picture in search of tags, so it does only where there are `late` ones:
    half of a PNG's time."""
    try:
        value = (opened.getexif() if late else Image.Image.getexif(opened)).get(0x0112, 1)
    except PILLOW_ERRORS:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _is_animated_gif(data: bytes, name: str) -> bool:
    """Two image separators after graphic control extensions: counting frames properly would decode them."""
    return name == "gif" and data.count(b"\0\x21\xf9\x04") > 1


def _u16(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 2], "big")


def _u32(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "big")
