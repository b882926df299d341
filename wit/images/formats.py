"""The picture formats that are taken, and what may become of each: one table for all who need to know."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Format:
    """`name` is what tables and shards call it; files of it may bear any of `extensions`, of which shards use the first."""

    name: str
    media_type: str
    extensions: tuple[str, ...]
    pillow: str
    kept: bool  # stored as it came with --keep-original: what open_clip, webdataset and the trainer all read


FORMATS = {
    form.name: form
    for form in (
        Format("jpg", "image/jpeg", ("jpg", "jpeg"), "JPEG", kept=True),
        Format("png", "image/png", ("png",), "PNG", kept=True),
        Format("webp", "image/webp", ("webp",), "WEBP", kept=True),
        Format("gif", "image/gif", ("gif",), "GIF", kept=False),
        Format("bmp", "image/bmp", ("bmp",), "BMP", kept=False),
        Format("tiff", "image/tiff", ("tiff", "tif"), "TIFF", kept=False),
        Format("avif", "image/avif", ("avif",), "AVIF", kept=False),
    )
}
EXTENSIONS = {extension: form for form in FORMATS.values() for extension in form.extensions}
# What a reader of shards takes for a sample's picture, the likeliest first; sets of version 0.2 and before may hold any.
SAMPLE_EXTENSIONS = tuple(EXTENSIONS)
