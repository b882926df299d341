"""Limits on a picture that are checked by its header alone: the length of its sides, and the memory that decoding and storing it
will use. Together with the process's own limit (`wit.fetch.decoder`) they keep a decode process below 1 GB."""

from __future__ import annotations

import math

from wit.arithmetic import ceil_div
from wit.images.config import ImageConfig
from wit.images.formats import ENCODERS, FORMATS, MAX_SIDE
from wit.images.resize import stored_size, target_size
from wit.images.results import Probe, Refused
from wit.reasons import Reason

WORKING_BYTES = 850_000_000  # besides some 65 MB of libraries, and 20 MB of a body
EXTENDED_WEBP = 20  # the animation decoder's two canvases, its answer, a copy of that, and Pillow's 4
BLOCK = 32  # pixels: a JPEG's sides are padded to a multiple of at most this
RESIZING = 9  # bytes a pixel: the decoded picture, and two copies for the resizer


def beyond_limits(probed: Probe, scale: int, config: ImageConfig) -> Refused | None:
    """Why a picture must not be decoded; None if it may be. `scale`: a JPEG would be decoded at 1 / `scale` of its size."""
    scaled, stored = target_size(probed.size, config), stored_size(probed.size, config)
    limit = MAX_SIDE if config.keep_original else ENCODERS[config.encode_format].side
    for (width, height), most in ((probed.size, MAX_SIDE), (stored, limit)):
        if max(width, height) > most:
            return Refused(Reason.IMAGE_SIDE_TOO_LONG, f"{width} x {height}")
    target = 0 if config.keep_original else max(math.prod(scaled), math.prod(stored))
    needed = working_bytes(probed, scale, target, config)
    if needed > WORKING_BYTES:
        return Refused(Reason.IMAGE_NEEDS_MEMORY, f"{probed.width} x {probed.height}: {needed / 1e6:.0f} MB")
    return None


def working_bytes(probed: Probe, scale: int, target: int, config: ImageConfig) -> float:
    """The most bytes held at once in any step from fetched bytes to pixels, hashes and a stored picture of `target` pixels."""
    decoded = probed.width * probed.height / scale**2
    return max(
        decoding_bytes(probed, scale),
        RESIZING * decoded + 3 * target,
        3 * decoded + 6 * target,
        ENCODERS[config.encode_format].memory * target,
    )


def decoding_bytes(probed: Probe, scale: int) -> float:
    """The most bytes that a decoder holds at once."""
    if probed.format != "jpg":
        return probed.width * probed.height * (EXTENDED_WEBP if probed.extended else FORMATS[probed.format].decoding)
    blocks = math.prod(ceil_div(side, BLOCK) * BLOCK for side in probed.size)
    coefficients = 2 * probed.components if probed.passes else 0  # 16 bits each, of the whole picture
    if probed.components in (1, 3):
        return blocks * (coefficients + 3 / scale**2)
    return blocks * max(coefficients + 4, 7)  # in Pillow, and then in turning its picture into ours
