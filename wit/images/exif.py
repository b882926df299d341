"""EXIF as a column."""

from __future__ import annotations

import orjson
from PIL import ExifTags

from wit.images.headers import PILLOW_ERRORS, open_with_pillow
from wit.images.results import Probe, Refused


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
