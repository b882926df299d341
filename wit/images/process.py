"""One picture from fetched bytes to stored bytes: probe, decode, hash, resize, encode."""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Collection

import numpy as np
import orjson
import simplejpeg
from PIL import ExifTags

from wit.images.config import ImageConfig
from wit.images.decode import RGB, decode, jpeg_scale
from wit.images.hashes import CANVAS, luma, pdq, phash
from wit.images.headers import PILLOW_ERRORS, open_with_pillow, probe
from wit.images.resize import as_picture, pad_or_crop, resize, target_size, turn
from wit.images.results import Probe, Processed, Refused
from wit.reasons import Reason

# JPEG is decoded at no less than this many times the wanted size. At 1 the 5th percentile of SSIM falls below img2dataset's
# (docs/log.md).
MARGIN = 1.1
HASH_MIN = CANVAS  # JPEG that is hashed is decoded at no less than this, whatever the stored size
PDQ_CLOSE = 31  # PDQ's own match distance


class Blocklist:
    """Hashes of pictures that must never be stored: sha256 by equality, PDQ within its match distance."""

    def __init__(self, hashes: Collection[str]) -> None:
        self.sha256 = frozenset(h for h in hashes if len(h) == 64 and not h.startswith("pdq:"))
        near = [bytes.fromhex(h.removeprefix("pdq:")) for h in hashes if h.startswith("pdq:")]
        self.pdq = np.frombuffer(b"".join(near), np.uint8).reshape(-1, 32)

    def __contains__(self, found: tuple[str, bytes | None]) -> bool:
        sha256, pdq_hash = found
        if sha256 in self.sha256:
            return True
        if pdq_hash is None or not len(self.pdq):
            return False
        apart = np.unpackbits(self.pdq ^ np.frombuffer(pdq_hash, np.uint8), axis=1).sum(1)
        return bool(apart.min() <= PDQ_CLOSE)


NOTHING_BLOCKED = Blocklist(())


def process(data: bytes, config: ImageConfig, blocked: Blocklist = NOTHING_BLOCKED) -> Processed | Refused:
    """The stored form of a fetched picture with its columns, or why there is none. A pure function of its arguments;
    calls native decoders, so hostile bytes belong in a child process (`wit.fetch.decoder`)."""
    original_sha256 = hashlib.sha256(data).hexdigest()
    if (original_sha256, None) in blocked:
        return Refused(Reason.BLOCKED_HASH)
    found = probe(data)
    if isinstance(found, Refused):
        return found
    refused = too_many_pixels(found, config) or cut_short(data, found)
    if refused:
        return refused
    if config.keep_original and not config.perceptual_hashes:
        return _kept(data, found, original_sha256, config)
    return _decoded(data, found, original_sha256, config, blocked)


def too_many_pixels(found: Probe, config: ImageConfig) -> Refused | None:
    if found.width * found.height > config.max_pixels:
        return Refused(Reason.IMAGE_TOO_MANY_PIXELS, f"{found.width} x {found.height}")
    return None


def cut_short(data: bytes, found: Probe) -> Refused | None:
    """Truncation that shows without decoding: the end marker is missing."""
    tail = {"jpg": b"\xff\xd9", "png": b"IEND\xaeB`\x82"}.get(found.format)
    if tail and data.rfind(tail) < 0:
        return Refused(Reason.IMAGE_TRUNCATED)
    return None


def _kept(data: bytes, found: Probe, sha256: str, config: ImageConfig) -> Processed:
    width, height = found.size
    exif = exif_json(data, found) if config.extract_exif else None
    return Processed(data, found.format, width, height, found.format, width, height, sha256, sha256, exif=exif)


def _decoded(
    data: bytes, found: Probe, original_sha256: str, config: ImageConfig, blocked: Blocklist
) -> Processed | Refused:
    width, height = target_size(found.size, config)
    wanted = (max(width, HASH_MIN), max(height, HASH_MIN)) if config.perceptual_hashes else (width, height)
    scale = jpeg_scale(found, min(wanted), max(wanted), MARGIN)
    if config.keep_original:
        scale = jpeg_scale(found, HASH_MIN, HASH_MIN, 1)
    pixels = decode(data, found, scale=scale, background=config.background)
    if isinstance(pixels, Refused):
        return pixels
    hashes = picture_hashes(pixels, found) if config.perceptual_hashes else (None, None, None)
    if (original_sha256, hashes[1]) in blocked:
        return Refused(Reason.BLOCKED_HASH)
    exif = exif_json(data, found) if config.extract_exif else None
    if config.keep_original:
        stored, kind, (width, height), sha256 = data, found.format, found.size, original_sha256
    else:
        picture = stored_picture(pixels, found, config)
        stored, kind, (height, width) = encode(picture, config), config.encode_format, picture.shape[:2]
        sha256 = hashlib.sha256(stored).hexdigest()
    was_width, was_height = found.size
    return Processed(
        stored,
        kind,
        width,
        height,
        found.format,
        was_width,
        was_height,
        sha256,
        original_sha256,
        phash=hashes[0],
        pdq=hashes[1],
        pdq_quality=hashes[2],
        exif=exif,
    )


def stored_picture(pixels: RGB, found: Probe, config: ImageConfig) -> RGB:
    """Scaled, turned upright, padded or cropped."""
    width, height = target_size(found.size, config)
    scaled = (width, height) != found.size
    if found.turned:
        width, height = height, width
    small = resize(pixels, width, height, picture_box(pixels, found))
    return pad_or_crop(turn(small, found.orientation) if found.orientation != 1 else small, config, scaled)


def picture_box(pixels: RGB, found: Probe) -> tuple[float, float] | None:
    """(width, height) of what is picture in an array decoded at 1 / scale, whose last column and row may be part filling."""
    height, width = pixels.shape[:2]
    for scale in (2, 4, 8):
        sides = found.width / scale, found.height / scale
        if (width, height) != (found.width, found.height) and (width, height) == tuple(map(math.ceil, sides)) != sides:
            return sides
    return None


def encode(pixels: RGB, config: ImageConfig) -> bytes:
    """jpg with all its colour (4:4:4): at quality 92 smaller, and 1.4 dB nearer the picture, than the 4:2:0 at 95 that
    img2dataset writes (docs/log.md); png and webp by Pillow."""
    if config.encode_format == "jpg":
        return bytes(simplejpeg.encode_jpeg(pixels, config.encode_quality, "RGB", "444"))
    out = io.BytesIO()
    if config.encode_format == "png":
        as_picture(pixels).save(out, "PNG", compress_level=config.encode_quality)
    else:
        as_picture(pixels).save(out, "WEBP", quality=config.encode_quality)
    return out.getvalue()


def picture_hashes(pixels: RGB, found: Probe) -> tuple[int, bytes, int]:
    """(pHash, PDQ, PDQ quality) of a decoded picture, upright and unpadded."""
    canvas = resize(pixels, CANVAS, CANVAS, picture_box(pixels, found))
    if found.orientation != 1:
        canvas = turn(canvas, found.orientation)
    bits, quality = pdq(luma(canvas), *found.size)
    return phash(np.round(luma(resize(canvas, 32, 32)))), bits, quality


def phash_of(data: bytes, config: ImageConfig | None = None) -> int | Refused:
    """The pHash that `process` would give a picture: for telling which files are accidental duplicates."""
    done = process(data, config or ImageConfig())
    return done if isinstance(done, Refused) else done.phash or 0


def exif_json(data: bytes, found: Probe) -> str | None:
    """A JSON object of EXIF tag names and their values as text, sorted; null without EXIF."""
    opened = open_with_pillow(data)
    if isinstance(opened, Refused):
        return None
    try:
        tags = opened.getexif()
        named = {ExifTags.TAGS.get(tag, str(tag)): str(value) for tag, value in tags.items()}
    except PILLOW_ERRORS:
        return None
    return orjson.dumps(named, option=orjson.OPT_SORT_KEYS).decode() if named else None
