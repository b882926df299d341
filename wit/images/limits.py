"""What a picture may take of a decode process, known from its header: the length of its sides, and the memory that decoding
and storing it will use. With the process's own limit behind it (`wit.fetch.decoder`), a decode process stays below 1 GB."""

from __future__ import annotations

import math

from wit.arithmetic import ceil_div
from wit.images.config import ImageConfig
from wit.images.formats import ENCODERS, FORMATS, MAX_SIDE
from wit.images.resize import stored_size, target_size
from wit.images.results import Probe, Refused
from wit.reasons import Reason

WORKING_BYTES = 850_000_000  # beside some 65 MB of libraries and 20 MB of a body
EXTENDED_WEBP = 20  # the animation decoder's two canvases, its answer, a copy of that, and Pillow's 4
BLOCK = 32  # pixels a side that JPEG pads to at most
RESIZING = 9  # decoded pixels, and two copies for the resizer


def beyond_limits(probed: Probe, scale: int, config: ImageConfig) -> Refused | None:
    """Why a picture, a JPEG decoded at 1 / `scale`, is not decoded at all."""
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
    """The most that any step from the bytes to pixels, hashes and a stored picture of `target` pixels holds at once."""
    decoded = probed.width * probed.height / scale**2
    return max(
        decoding_bytes(probed, scale),
        RESIZING * decoded + 3 * target,
        3 * decoded + 6 * target,
        ENCODERS[config.encode_format].memory * target,
    )


def decoding_bytes(probed: Probe, scale: int) -> float:
    """The most that a decoder holds at once."""
    if probed.format != "jpg":
        return probed.width * probed.height * (EXTENDED_WEBP if probed.extended else FORMATS[probed.format].decoding)
    blocks = math.prod(ceil_div(side, BLOCK) * BLOCK for side in probed.size)
    coefficients = 2 * probed.components if probed.passes else 0  # 16 bits each, of the whole picture
    if probed.components in (1, 3):
        return blocks * (coefficients + 3 / scale**2)
    return blocks * max(coefficients + 4, 7)  # by Pillow, and from its picture to ours
