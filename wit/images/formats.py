"""The picture formats that are accepted, and how each is decoded and stored: one table for all who need to know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from wit.knobs import Range

EncodeFormat = Literal["jpg", "png", "webp"]
MAX_SIDE = 65_500  # libjpeg's, for every format: the tables of resizer and hashes grow with the side (48 bytes a pixel)


@dataclass(frozen=True, slots=True)
class Encoder:
    """The cost and the limits of storing pictures in a format."""

    memory: int
    """Bytes a pixel that turning and encoding hold at most."""
    stored: float
    """Bytes a pixel of a usual stored picture. For JPEG it is LAION-400M's: 10 TB at 256 x 256 in quality 95 (img2dataset's
    dataset_examples); our quality 92 with all colour has the same size (docs/log.md)."""
    knob: str = "quality"
    """Pillow's name for the knob that --encode-quality sets."""
    qualities: Range = Range(1, 100)
    side: int = MAX_SIDE
    """The longest side that it can write, in pixels."""


@dataclass(frozen=True, slots=True)
class Format:
    """`name` is the name in tables and shards. Files may have any of `extensions`; shards use the first.

    Bytes a pixel are those of the worst moment of a step, in the worst mode of the format, measured on 64 MP (docs/log.md)."""

    name: str
    media_type: str
    extensions: tuple[str, ...]
    pillow: str
    decoding: int
    """Bytes a pixel that its decoder holds at most; for JPEG `limits.decoding_bytes` is more exact."""
    kept: bool = False
    """Whether --keep-original stores it as it came: open_clip, webdataset and the trainer can all read it."""
    encoder: Encoder | None = None
    """None if pictures are never encoded to this format."""


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
# The extensions that a reader takes for a sample's picture, the likeliest first; sets up to version 0.2 may hold any of them.
SAMPLE_EXTENSIONS = tuple(EXTENSIONS)
