"""The picture formats that are taken, and what may become of each: one table for all who need to know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from wit.knobs import Range

EncodeFormat = Literal["jpg", "png", "webp"]
MAX_SIDE = (
    65_500  # libjpeg's, for every format: weights of the resizer and the hashes grow with a side (48 bytes a pixel)
)


@dataclass(frozen=True, slots=True)
class Encoder:
    """What it takes to store pictures in a format."""

    memory: int
    """Bytes a pixel from pixels to encoded ones, turned on the way."""
    stored: float
    """Bytes a pixel of a usual picture. Of JPEG, LAION-400M's: 10 TB at 256 x 256 in quality 95 (img2dataset's
    dataset_examples), of which our 92 with all colour has the size (docs/log.md)."""
    knob: str = "quality"
    """What Pillow calls the knob that --encode-quality sets."""
    qualities: Range = Range(1, 100)
    side: int = MAX_SIDE
    """The longest that it writes."""


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
    encoder: Encoder | None = None
    """None for what nothing is encoded to."""


FORMATS = {
    form.name: form
    for form in (
        Format("jpg", "image/jpeg", ("jpg", "jpeg"), "JPEG", decoding=3, kept=True, encoder=Encoder(13, 0.38)),
        # Pillow's 4, or kornia-rs's 4 twice.
        Format("png", "image/png", ("png",), "PNG", 8, True, Encoder(13, 1.8, "compress_level", Range(0, 9))),
        Format("webp", "image/webp", ("webp",), "WEBP", 8, True, Encoder(36, 0.25, side=16_383)),
        Format("gif", "image/gif", ("gif",), "GIF", decoding=8),
        Format("bmp", "image/bmp", ("bmp",), "BMP", decoding=8),
        # One strip of 16-bit RGBA, and Pillow's 4.
        Format("tiff", "image/tiff", ("tiff", "tif"), "TIFF", decoding=13),
        # Planes of 16 bits in 4:4:4, their RGBA, a copy of that, and Pillow's 4.
        Format("avif", "image/avif", ("avif",), "AVIF", decoding=17),
    )
}
ENCODERS = {name: form.encoder for name, form in FORMATS.items() if form.encoder is not None}
EXTENSIONS = {extension: form for form in FORMATS.values() for extension in form.extensions}
# What a reader of shards takes for a sample's picture, the likeliest first; sets of version 0.2 and before may hold any.
SAMPLE_EXTENSIONS = tuple(EXTENSIONS)
