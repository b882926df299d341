"""The half of `process` that decodes: it scales, turns upright, hashes, pads or crops, and encodes."""

from __future__ import annotations

import hashlib
import io
import math

import numpy as np
import simplejpeg

from wit.images.blocklist import Blocklist
from wit.images.config import ImageConfig
from wit.images.decode import RGB, decode, jpeg_scale
from wit.images.exif import exif_json
from wit.images.formats import ENCODERS, FORMATS
from wit.images.hashes import CANVAS, luma, pdq, phash
from wit.images.limits import beyond_limits
from wit.images.resize import as_picture, pad_or_crop, resize, target_size, turn
from wit.images.results import Probe, Processed, Refused
from wit.reasons import Reason

# JPEG is decoded at no less than this many times the wanted size. At 1 the 5th percentile of SSIM falls below img2dataset's
# (docs/log.md).
MARGIN = 1.1
HASH_MIN = CANVAS  # a JPEG that is hashed is decoded at no less than this, whatever its stored size


def decoded(
    data: bytes, probed: Probe, original_sha256: str, config: ImageConfig, blocked: Blocklist
) -> Processed | Refused:
    """The result of `process` for a picture whose header has passed."""
    hashing = config.perceptual_hashes or blocked.looks_at_pixels
    scale = decoding_scale(probed, config, hashing)
    if refused := beyond_limits(probed, scale, config):
        return refused
    pixels = decode(data, probed, scale=scale, background=config.background)
    if isinstance(pixels, Refused):
        return pixels
    hashes = picture_hashes(pixels, probed) if hashing else (None, None, None)
    if hit := blocked.match(original_sha256, hashes[1]):
        return Refused(Reason.BLOCKED_HASH, hit)
    if not config.perceptual_hashes:
        hashes = (None, None, None)
    exif = exif_json(data, probed, config.exif)
    if config.keep_original:
        stored, kind, (width, height), sha256 = data, probed.format, probed.size, original_sha256
    else:
        picture = stored_picture(pixels, probed, config)
        del pixels  # every copy of a large picture counts
        stored, kind, (height, width) = encode(picture, config), config.encode_format, picture.shape[:2]
        sha256 = hashlib.sha256(stored).hexdigest()
    bits, code, quality = hashes
    return Processed(
        stored, kind, width, height, probed.format, *probed.size, sha256, original_sha256, bits, code, quality, exif
    )


def decoding_scale(probed: Probe, config: ImageConfig, hashing: bool) -> int:
    """By how much a JPEG may be decoded smaller (1, 2, 4 or 8) and still be large enough for what is stored and hashed."""
    if config.keep_original:
        return jpeg_scale(probed, HASH_MIN, HASH_MIN, 1)
    width, height = target_size(probed.size, config)
    wanted = (max(width, HASH_MIN), max(height, HASH_MIN)) if hashing else (width, height)
    return jpeg_scale(probed, min(wanted), max(wanted), MARGIN)


def stored_picture(pixels: RGB, probed: Probe, config: ImageConfig) -> RGB:
    """The picture to be stored: scaled, turned upright, padded or cropped."""
    width, height = target_size(probed.size, config)
    scaled = (width, height) != probed.size
    if probed.turned:
        width, height = height, width
    small = resize(pixels, width, height, picture_box(pixels, probed))
    return pad_or_crop(turn(small, probed.orientation) if probed.orientation != 1 else small, config, scaled)


def picture_box(pixels: RGB, probed: Probe) -> tuple[float, float] | None:
    """(width, height) of the picture within an array decoded at 1 / scale: part of the last column and row may be filling. None
    where it fills the array."""
    height, width = pixels.shape[:2]
    for scale in (2, 4, 8):
        sides = probed.width / scale, probed.height / scale
        if (width, height) != (probed.width, probed.height) and (width, height) == tuple(
            map(math.ceil, sides)
        ) != sides:
            return sides
    return None


def encode(pixels: RGB, config: ImageConfig) -> bytes:
    """The picture in the stored format. A jpg keeps all its colour (4:4:4): at quality 92 it is smaller, and 1.4 dB nearer the
    picture, than img2dataset's 4:2:0 at 95 (docs/log.md). Other formats are written by Pillow."""
    if config.encode_format == "jpg":
        return bytes(simplejpeg.encode_jpeg(pixels, config.encode_quality, "RGB", "444"))
    out = io.BytesIO()
    knob = {ENCODERS[config.encode_format].knob: config.encode_quality}
    as_picture(pixels).save(out, FORMATS[config.encode_format].pillow, **knob)
    return out.getvalue()


def picture_hashes(pixels: RGB, probed: Probe) -> tuple[int, bytes, int]:
    """(pHash, PDQ, PDQ quality) of a decoded picture, upright and unpadded."""
    canvas = resize(pixels, CANVAS, CANVAS, picture_box(pixels, probed))
    if probed.orientation != 1:
        canvas = turn(canvas, probed.orientation)
    bits, quality = pdq(luma(canvas), *probed.size)
    return phash(np.round(luma(resize(canvas, 32, 32)))), bits, quality
