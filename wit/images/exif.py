"""EXIF as a column."""

from __future__ import annotations

from collections.abc import Iterator

import orjson
from PIL import ExifTags, Image

from wit.images.config import ExifFields
from wit.images.headers import PILLOW_ERRORS, exif_number, open_with_pillow, png_tags
from wit.images.results import Probe, Refused
from wit.images.structure import riff_chunks, sane_tags

# These tell how a picture was taken; not where, when, by whom, or with which single device. A new tag stays out.
TECHNICAL = frozenset(
    (
        "ApertureValue BrightnessValue ColorSpace CompressedBitsPerPixel Contrast CustomRendered DigitalZoomRatio "
        "ExifImageHeight ExifImageWidth ExposureBiasValue ExposureMode ExposureProgram ExposureTime FNumber Flash FocalLength "
        "FocalLengthIn35mmFilm GainControl ISOSpeedRatings LensMake LensModel LensSpecification LightSource Make "
        "MaxApertureValue MeteringMode Model Orientation ResolutionUnit Saturation SceneCaptureType SensingMethod "
        "SensitivityType Sharpness ShutterSpeedValue SubjectDistanceRange WhiteBalance XResolution YCbCrPositioning "
        "YResolution"
    ).split()
)
EXPOSURE, PLACE = 0x8769, 0x8825  # tags that point to further directories
MAX_BLOCK_BYTES = 1 << 20  # of a block that is read: a JPEG segment, for which EXIF was made, holds 64 kB
MAX_VALUE_CHARS = 1_000  # longer ones are previews, or notes that only the camera's maker can read


def exif_json(data: bytes, probed: Probe, fields: ExifFields) -> str | None:
    """A JSON object of EXIF tag names and their values as text, sorted; None without EXIF, or where none is wanted."""
    if fields == "none":
        return None
    try:
        named = {name: text for name, value in _tags(data, probed) if len(text := str(value)) <= MAX_VALUE_CHARS}
    except PILLOW_ERRORS:
        return None
    if fields == "technical":
        named = {name: text for name, text in named.items() if name in TECHNICAL}
    return orjson.dumps(named, option=orjson.OPT_SORT_KEYS).decode() if named else None


def _tags(data: bytes, probed: Probe) -> Iterator[tuple[str, object]]:
    """(name, value) of every tag in the first directory, the exposure's and the place's."""
    block = data if probed.format == "tiff" else exif_block(data, probed).removeprefix(b"Exif\0\0")
    exposure, place = (exif_number(block, pointer) for pointer in (EXPOSURE, PLACE))
    if not all(sane_tags(block, start) for start in (None, exposure, place)):
        return
    if probed.format != "tiff" and not 8 < len(block) <= MAX_BLOCK_BYTES:
        return
    exif = Image.Exif()
    exif.load(block)
    yield from ((ExifTags.TAGS.get(tag, str(tag)), exif[tag]) for tag in exif if tag not in (EXPOSURE, PLACE))
    yield from ((ExifTags.TAGS.get(tag, str(tag)), value) for tag, value in exif.get_ifd(EXPOSURE).items())
    yield from ((ExifTags.GPSTAGS.get(tag, str(tag)), value) for tag, value in exif.get_ifd(PLACE).items())


def exif_block(data: bytes, probed: Probe) -> bytes:
    """The EXIF block of a picture; empty where there is none."""
    if probed.format == "jpg":
        return probed.exif
    if probed.format == "png":
        return png_tags(data)[0]
    if probed.format == "webp":
        return next((data[start:end] for kind, start, end in riff_chunks(data) if kind == b"EXIF"), b"")
    opened = open_with_pillow(data) if probed.format == "avif" else None
    return b"" if opened is None or isinstance(opened, Refused) else opened.info.get("exif", b"")
