"""Format, size, frames and orientation from the header alone: no pixel is decoded here."""

from __future__ import annotations

import contextlib
import io
import re
import struct
import warnings
import zlib

from PIL import AvifImagePlugin, Image, _imaging

from wit.images.formats import FORMATS
from wit.images.results import Probe, Refused
from wit.images.structure import MAX_PARTS, is_one_scan, png_chunks, riff_chunks, too_many_parts, too_many_scans
from wit.reasons import Reason

Image.MAX_IMAGE_PIXELS = None  # our own cap, for every format, is --max-pixels
_imaging.set_block_size(64 << 20)  # above malloc's mmap threshold, so that large pictures leave no holes in the heap
AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # there is a decode process a core, and each thread holds frames of its own
PILLOW_FORMATS = tuple(form.pillow for form in FORMATS.values())
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
    """The format by its magic bytes, or why these bytes are refused."""
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
    """The header of a picture, or why these bytes are refused; no pixel is read."""
    sniffed = sniff(data)
    if isinstance(sniffed, Refused):
        return sniffed
    if refused := too_many_parts(data, sniffed):
        return refused
    if sniffed == "jpg":
        return probe_jpeg(data)
    if sniffed == "webp":
        if len(data) < 8 + int.from_bytes(data[4:8], "little"):  # Pillow calls it corrupt
            return Refused(Reason.IMAGE_TRUNCATED)
        if known := probe_plain_webp(data) or probe_extended_webp(data):
            return known
    return _probe_with_pillow(data, sniffed)


def probe_plain_webp(data: bytes) -> Probe | None:
    """The header of a WebP that is one bit stream and nothing else (RFC 9649 sections 2.5 and 2.6), as most are; None for
    others and broken ones. To tell the same, Pillow makes a decoder with room for the whole picture."""
    if data[12:16] == b"VP8 " and data[23:26] == b"\x9d\x01\x2a" and not data[20] & 1:
        width, height = struct.unpack_from("<HH", data[:30].ljust(30, b"\0"), 26)
        width, height = width & 0x3FFF, height & 0x3FFF
        transparent = False
    elif data[12:16] == b"VP8L" and data[20:21] == b"\x2f":
        bits = int.from_bytes(data[21:25], "little")
        width, height, transparent = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, bool(bits >> 28 & 1)
    else:
        return None
    return Probe("webp", width, height, extended=transparent) if width and height else None


def probe_extended_webp(data: bytes) -> Probe | None:
    """The header of an extended WebP (RFC 9649 section 2.7); None for others. To tell the same, Pillow makes room for the canvas
    twice, whatever its size."""
    if data[12:16] != b"VP8X" or len(data) < 30:
        return None
    width, height = (1 + int.from_bytes(data[at : at + 3], "little") for at in (24, 27))
    chunks = [(kind, data[start:end]) for kind, start, end in riff_chunks(data) if kind in (b"ANMF", b"EXIF", b"XMP ")]
    first = dict(reversed(chunks))
    frames = sum(kind == b"ANMF" for kind, _ in chunks) if data[20] & 2 else 1
    orientation = orientation_of(first.get(b"EXIF", b""), first.get(b"XMP ", b""))
    return Probe("webp", width, height, frames or 1, orientation, extended=bool(data[20] & 0x32))


def probe_jpeg(data: bytes) -> Probe | Refused:
    """Walks the marker segments up to the frame header (ITU T.81 B.2), collecting EXIF and ICC on the way."""
    exif, at = b"", 2
    icc: list[bytes] = []
    for _ in range(MAX_PARTS):
        at = max(FILL.match(data, at).end() - 1, at)  # type: ignore[union-attr]
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
            return _frame_header(data, at, exif, b"".join(icc))
        if marker in (0xD9, 0xDA):
            return Refused(Reason.IMAGE_CORRUPT, "pixels before the frame header")
        if marker == 0xE1 and not exif and data[body : body + 6] == b"Exif\0\0":
            exif = data[body + 6 : at + 2 + length]
        if marker == 0xE2 and data[body : body + 12] == b"ICC_PROFILE\0":
            icc.append(data[body + 14 : at + 2 + length])
        at += 2 + max(length, 2)
    return Refused(Reason.IMAGE_TOO_MANY_PARTS, f"more than {MAX_PARTS} segments")


FILL = re.compile(rb"\xff*")  # a marker may have any number of these before it


DCT_FRAMES = (0xC0, 0xC1, 0xC2, 0xC9, 0xCA)  # other frames are lossless or hierarchical, which no browser shows


def _frame_header(data: bytes, at: int, exif: bytes, icc: bytes) -> Probe | Refused:
    if at + 10 > len(data):
        return Refused(Reason.IMAGE_TRUNCATED, "no frame header")
    if data[at + 1] not in DCT_FRAMES or data[at + 4] != 8:
        return Refused(Reason.FORMAT_UNSUPPORTED, f"JPEG of {data[at + 4]} bits, frame {data[at + 1]:#x}")
    height, width, components = struct.unpack_from(">HHB", data, at + 5)
    if not height or not width:
        return Refused(Reason.IMAGE_CORRUPT, "no size")
    if components not in (1, 3, 4):
        return Refused(Reason.FORMAT_UNSUPPORTED, f"JPEG of {components} components")
    passes = data[at + 1] not in (0xC0, 0xC1) or not is_one_scan(data, at, components)
    if passes and (refused := too_many_scans(data, at, width * height)):
        return refused
    return Probe("jpg", width, height, 1, orientation_of(exif), components, icc, exif, passes=passes)


def bare_jpeg(data: bytes) -> bytes:
    """A JPEG that `probe_jpeg` accepts, without applications' segments, except those that tell its colours (JFIF, Adobe): Pillow
    would parse EXIF and MPF, and copy what each of their tags points at."""
    kept, at = [data[:2]], 2
    while True:
        at = max(FILL.match(data, at).end() - 1, at)  # type: ignore[union-attr]
        marker = data[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return b"".join((*kept, data[at:]))
        alone = marker in (0x01, 0xD8) or 0xD0 <= marker <= 0xD7
        end = at + 2 + (0 if alone else max(_u16(data, at + 2), 2))
        if marker not in range(0xE1, 0xEE) and marker not in (0xEF, 0xFE):
            kept.append(data[at:end])
        at = end


TEXTS = (b"tEXt", b"zTXt", b"iTXt", b"eXIf")
MAX_ICC_BYTES = 4 << 20  # larger profiles are ignored: printers' tables take 0.5 to 3 MB


def bare_png(data: bytes) -> bytes:
    """A PNG without texts, EXIF and profile: Pillow would inflate and keep them, or refuse the picture for their size."""
    chunks = list(png_chunks(data))
    if not any(kind in (*TEXTS, b"iCCP") for kind, _, _ in chunks):
        return data
    kept = (data[start - 8 : end + 4] for kind, start, end in chunks if kind not in (*TEXTS, b"iCCP"))
    return data[:8] + b"".join(kept)


def png_icc(data: bytes) -> bytes:
    """The profile of a PNG (specification, section 11.3.2.3); empty where there is none, or it is broken or too large."""
    for kind, start, end in png_chunks(data):
        if kind == b"IDAT":
            break
        if kind == b"iCCP":
            name_end = data.find(b"\0", start, min(start + 80, end))
            if name_end < 0:
                break
            try:
                profile = zlib.decompressobj().decompress(data[name_end + 2 : end], MAX_ICC_BYTES + 1)
            except zlib.error:
                break
            return profile if len(profile) <= MAX_ICC_BYTES else b""
    return b""


XMP_ORIENTATION = re.compile(rb"tiff:Orientation(?:=\"|>)([0-9])")


def orientation_of(exif: bytes, xmp: bytes = b"") -> int:
    """The orientation in EXIF, or in XMP if EXIF has none; 1 (upright) where neither makes sense."""
    value = exif_number(exif, 0x0112)
    if value is None and (in_xmp := XMP_ORIENTATION.search(xmp)):
        value = int(in_xmp[1])
    return value if value is not None and 1 <= value <= 8 else 1


def exif_number(exif: bytes, wanted: int) -> int | None:
    """The whole number in a tag of a TIFF block's first directory; None where there is no such tag."""
    exif = exif.removeprefix(b"Exif\0\0")
    if len(exif) < 14 or exif[:2] not in (b"II", b"MM"):
        return None
    order = "<" if exif[:2] == b"II" else ">"
    (start,) = struct.unpack_from(order + "I", exif, 4)
    if start + 2 > len(exif):
        return None
    (count,) = struct.unpack_from(order + "H", exif, start)
    for entry in range(start + 2, min(start + 2 + 12 * count, len(exif) - 11), 12):
        tag, kind = struct.unpack_from(order + "HH", exif, entry)
        if tag == wanted:
            form = {3: "H", 4: "I"}.get(kind)
            return int(struct.unpack_from(order + form, exif, entry + 8)[0]) if form else None
    return None


def _probe_with_pillow(data: bytes, name: str) -> Probe | Refused:
    opened = open_with_pillow(bare_png(data) if name == "png" else data)
    if isinstance(opened, Refused):
        return opened
    width, height = opened.size
    orientation = png_orientation(data) if name == "png" else 1  # TIFF: Pillow turns the picture itself
    # Only the boxes irot and imir count (MIAF section 7.3.6.7); Pillow returns them as EXIF.
    if name == "avif":
        orientation = orientation_of(opened.info.get("exif", b""))
    frames = getattr(opened, "n_frames", 1) if name in ("webp", "avif", "png") else 1 + _is_animated_gif(data, name)
    return Probe(name, width, height, frames, orientation, extended=name == "webp")


def open_with_pillow(data: bytes) -> Image.Image | Refused:
    """The picture opened lazily (header only), or why it cannot be opened."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return Image.open(io.BytesIO(data), formats=PILLOW_FORMATS)
    except PILLOW_ERRORS as error:
        return refused_by(error)


# The errors of Pillow's plugins on malformed files; a wider catch would hide bugs of ours.
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
    """IMAGE_NEEDS_MEMORY where the decoder ran out of memory, IMAGE_TRUNCATED where it ran out of bytes, else IMAGE_CORRUPT."""
    if isinstance(error, MemoryError):
        return Refused(Reason.IMAGE_NEEDS_MEMORY)
    text = str(error).lower()
    short = "truncated" in text or isinstance(error, EOFError) or "premature" in text or "not enough" in text
    return Refused(Reason.IMAGE_TRUNCATED if short else Reason.IMAGE_CORRUPT)


KEYWORDS = (b"XML:com.adobe.xmp\0", b"Raw profile type exif\0")


def png_tags(data: bytes) -> tuple[bytes, bytes]:
    """(EXIF, XMP) of a PNG, before or behind its pixels; empty where there is none. Texts may be compressed, so Pillow reads
    them, out of a file with nothing else in it: in the whole file it would decode the pixels on the way."""
    exif = b""
    texts: dict[bytes, bytes] = {}
    for kind, start, end in png_chunks(data):
        if kind == b"eXIf":
            exif = exif or data[start:end]
        elif kind in TEXTS and (word := next((w for w in KEYWORDS if data.startswith(w, start)), None)):
            texts.setdefault(word, data[start - 8 : end + 4])
    if not texts:
        return exif, b""
    opened = open_with_pillow(data[:33] + b"".join(texts.values()) + b"\0\0\0\0IEND\xaeB`\x82")
    if isinstance(opened, Refused):
        return exif, b""
    raw = opened.info.get("Raw profile type exif", "")
    xmp = opened.info.get("XML:com.adobe.xmp", "")
    with contextlib.suppress(ValueError):
        exif = exif or bytes.fromhex("".join(raw.split("\n")[3:]))
    return exif, xmp.encode("utf-8", "replace")


def png_orientation(data: bytes) -> int:
    return orientation_of(*png_tags(data))


def _is_animated_gif(data: bytes, name: str) -> bool:
    """Whether a GIF has two graphic control extensions, and so two frames: counting frames properly would decode them."""
    return name == "gif" and data.count(b"\0\x21\xf9\x04") > 1


def _u16(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 2], "big")


def _u32(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "big")
