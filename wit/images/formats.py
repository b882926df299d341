"""The picture formats that are taken, and what may become of each: one table for all who need to know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

EncodeFormat = Literal["jpg", "png", "webp"]
MAX_SIDE = (
    65_500  # libjpeg's, for every format: weights of the resizer and the hashes grow with a side (48 bytes a pixel)
)


@dataclass(frozen=True, slots=True)
class Format:
    """`name` is what tables and shards call it; files of it may bear any of `extensions`, of which shards use the first.

    Bytes a pixel are those of the worst moment of a step, over the modes that the format has; each was measured on 64 MP
    (docs/log.md)."""

    name: str
    media_type: str
    extensions: tuple[str, ...]
    pillow: str
    decoding: int
    """Bytes a pixel that its decoder holds; of JPEG `limits.decoding_bytes` knows more."""
    kept: bool = False
    """Stored as it came with --keep-original: what open_clip, webdataset and the trainer all read."""
    storing: int = 0
    """Bytes a pixel from pixels to encoded ones, turned on the way; 0 for what nothing is encoded to."""
    encoder_side: int = MAX_SIDE


FORMATS = {
    form.name: form
    for form in (
        Format("jpg", "image/jpeg", ("jpg", "jpeg"), "JPEG", decoding=3, kept=True, storing=13),
        Format(
            "png", "image/png", ("png",), "PNG", decoding=8, kept=True, storing=13
        ),  # Pillow's 4, or kornia-rs's 4 twice
        Format("webp", "image/webp", ("webp",), "WEBP", decoding=8, kept=True, storing=36, encoder_side=16_383),
        Format("gif", "image/gif", ("gif",), "GIF", decoding=8),
        Format("bmp", "image/bmp", ("bmp",), "BMP", decoding=8),
        # One strip of 16-bit RGBA, and Pillow's 4.
        Format("tiff", "image/tiff", ("tiff", "tif"), "TIFF", decoding=13),
        # Planes of 16 bits in 4:4:4, their RGBA, a copy of that, and Pillow's 4.
        Format("avif", "image/avif", ("avif",), "AVIF", decoding=17),
    )
}
EXTENSIONS = {extension: form for form in FORMATS.values() for extension in form.extensions}
# What a reader of shards takes for a sample's picture, the likeliest first; sets of version 0.2 and before may hold any.
SAMPLE_EXTENSIONS = tuple(EXTENSIONS)
