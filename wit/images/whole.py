"""Whether a picture is whole, for pictures whose bytes are kept and whose pixels nothing else decodes."""

from __future__ import annotations

import contextlib
import zlib

import deflate

from wit.arithmetic import ceil_div
from wit.images.config import ImageConfig
from wit.images.decode import decode, decode_jpeg
from wit.images.limits import WORKING_BYTES, decoding_bytes
from wit.images.results import Probe, Refused
from wit.images.structure import png_chunks, riff_chunks
from wit.images.whole_jpeg import not_whole_jpeg
from wit.reasons import Reason

CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type (PNG specification, section 11.2.1)
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
USUAL = (b"VP8X", b"ICCP", b"VP8 ", b"EXIF", b"XMP ")
METADATA = 0x2C  # flags of a VP8X for ICC, EXIF and XMP; not those for transparency and animation, nor unnamed ones
VP8_HEADER = 10  # bytes before the first partition of a key frame
LEAST_BITS = (
    3  # a macroblock's modes take 3.4 at least: their probabilities are fixed (RFC 6386 sections 11.2 and 11.5)
)
AT_ONCE_BYTES = 64 << 20
PIECE_BYTES = 1 << 20


def not_whole(data: bytes, probed: Probe, config: ImageConfig) -> Refused | None:
    """Why a picture is not whole, as far as `check_pixels` looks; None if it seems whole."""
    if config.check_pixels == "none":
        return None
    fast = config.check_pixels == "fast"
    if probed.format == "png" and ((refused := not_whole_png(data)) or fast):
        return refused
    if probed.format == "jpg" and ((refused := not_whole_jpeg(data)) or fast):
        return refused
    if fast and probed.format == "webp" and is_whole_lossy_webp(data, probed):
        return None
    # At an eighth of the size every coefficient is decoded too: damage shows, in less time and memory.
    scale = 8 if probed.format == "jpg" else 1
    if decoding_bytes(probed, scale) > WORKING_BYTES:
        return Refused(Reason.IMAGE_NEEDS_MEMORY, f"{probed.width} x {probed.height}")
    if probed.format == "jpg" and probed.components in (1, 3, 4):
        pixels = decode_jpeg(data, probed, scale, "GRAY")
        if not isinstance(pixels, Refused) or pixels.detail != "other":
            return pixels if isinstance(pixels, Refused) else None
    pixels = decode(data, probed, scale=scale, background=config.background)
    return pixels if isinstance(pixels, Refused) else None


def not_whole_png(data: bytes) -> Refused | None:
    """Why a PNG is not whole: its pixels, which are inflated and thrown away, must be enough, and the CRC of every critical chunk
    right. Other chunks are not compared with their CRC, as in libpng."""
    pieces: list[bytes] = []
    for kind, start, end in png_chunks(data):
        if end + 4 > len(data):
            return Refused(Reason.IMAGE_TRUNCATED)
        critical = not kind[0] & 0x20
        if critical and zlib.crc32(data[start - 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            return Refused(Reason.IMAGE_CORRUPT, "wrong CRC")
        if kind == b"IDAT":
            pieces.append(data[start:end])
    try:
        short = inflated(b"".join(pieces), pixel_bytes(data)) < pixel_bytes(data)
    except zlib.error:
        return Refused(Reason.IMAGE_CORRUPT, "pixels do not inflate")
    return Refused(Reason.IMAGE_TRUNCATED) if short else None


def is_whole_lossy_webp(data: bytes, probed: Probe) -> bool:
    """Whether a VP8 picture without transparency, as most are, is whole by its sizes alone. Its chunks must stand in the usual
    order and fill the file as it says (RFC 9649 sections 2.5 and 2.7), its frame must be one that is shown (RFC 6386 section
    9.1), and its first partition, which has all but the coefficients, must fit. That saves nearly all of 12 ms of CPU; where it
    is False, the picture has to be decoded.

    It does not notice flipped bits, nor a cut behind the first partition after which somebody corrected all sizes."""
    chunks = list(riff_chunks(data))
    kinds = [kind for kind, _, _ in chunks]
    extended = kinds[:1] == [b"VP8X"] and chunks[0][2] == 30 and not data[20] & ~METADATA
    if b"VP8 " not in kinds or kinds != [kind for kind in USUAL if kind in kinds] or not (extended or len(kinds) == 1):
        return False
    last = chunks[-1][2]
    if last + (last & 1) != int.from_bytes(data[4:8], "little") + 8 or last > len(data):
        return False
    _, start, end = chunks[kinds.index(b"VP8 ")]
    tag = int.from_bytes(data[start : start + 3], "little")
    width, height = (int.from_bytes(data[start + at : start + at + 2], "little") & 0x3FFF for at in (6, 8))
    least = ceil_div(probed.width, 16) * ceil_div(probed.height, 16) * LEAST_BITS // 8
    return (
        tag & 0x19 == 0x10  # a key frame, of one of four profiles, that is shown
        and data[start + 3 : start + 6] == b"\x9d\x01\x2a"
        and (width, height) == (probed.width, probed.height)
        and max(least, 1) <= tag >> 5 < end - start - VP8_HEADER
    )


def inflated(data: bytes, expected: int) -> int:
    """How many bytes the data inflate to: in one piece, in half the time, if that fits; else piece by piece. Raises
    zlib.error."""
    if expected <= AT_ONCE_BYTES:
        # DeflateError: for instance where there is more than was expected, which libpng ignores.
        with contextlib.suppress(deflate.DeflateError):
            return len(deflate.zlib_decompress(data, expected))
    inflater, count = zlib.decompressobj(), 0
    while data and not inflater.eof:
        count += len(inflater.decompress(data, PIECE_BYTES))
        data = inflater.unconsumed_tail
    return count


def pixel_bytes(png: bytes) -> int:
    """How many bytes the pixels of a PNG inflate to: its rows, each with a filter byte before it."""
    width, height = int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")
    bits = png[24] * CHANNELS.get(png[25], 1)
    passes = ADAM7 if png[28] else ((0, 0, 1, 1),)
    sides = ((ceil_div(width - x, across), ceil_div(height - y, down)) for x, y, across, down in passes)
    return sum(rows * (1 + ceil_div(columns * bits, 8)) for columns, rows in sides if columns > 0 and rows > 0)
