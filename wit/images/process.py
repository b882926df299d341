"""One picture from fetched bytes to stored bytes: what the header forbids, then either the bytes as they are or
`wit.images.pixels`."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from wit.images.blocklist import Blocklist
from wit.images.config import ImageConfig
from wit.images.exif import exif_json
from wit.images.formats import FORMATS, Format
from wit.images.headers import open_with_pillow, probe
from wit.images.results import Probe, Processed, Refused
from wit.reasons import Reason

NOTHING_BLOCKED = Blocklist(())


def process(data: bytes, config: ImageConfig, blocked: Blocklist = NOTHING_BLOCKED) -> Processed | Refused:
    """The stored form of a fetched picture with its columns, or why there is none. A pure function of its arguments;
    calls native decoders, so hostile bytes belong in a child process (`wit.fetch.decoder`)."""
    original_sha256 = hashlib.sha256(data).hexdigest()
    if hit := blocked.match(original_sha256):
        return Refused(Reason.BLOCKED_HASH, hit)
    found = probe(data)
    if isinstance(found, Refused):
        return found
    refused = too_many_pixels(found, config) or cut_short(data, found)
    if refused:
        return refused
    config = storable(found, config)
    if config.keep_original and not config.perceptual_hashes and not blocked.looks_at_pixels:
        return _kept(data, found, original_sha256, config)
    from wit.images.pixels import decoded  # here, since who keeps original bytes is spared 60 ms and 15 MB of libraries

    return decoded(data, found, original_sha256, config, blocked)


def looks_at_pixels(config: ImageConfig, blocked: Blocklist) -> bool:
    """Whether any picture is decoded at all."""
    kept_unseen = config.keep_original and not config.perceptual_hashes and config.check_pixels == "none"
    return not kept_unseen or blocked.looks_at_pixels


def storable(found: Probe, config: ImageConfig) -> ImageConfig:
    """How this picture is stored: one that is to be kept as it came, in a format that readers of shards do not know, is
    encoded anew in its own size."""
    if not config.keep_original or FORMATS[found.format].kept:
        return config
    return replace(config, keep_original=False, resize_mode="no")


def stored_formats(config: ImageConfig) -> list[Format]:
    """What pictures may be stored as."""
    kept = [form.name for form in FORMATS.values() if form.kept] if config.keep_original else []
    return [FORMATS[name] for name in dict.fromkeys([config.encode_format, *kept])]


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


def _kept(data: bytes, found: Probe, sha256: str, config: ImageConfig) -> Processed | Refused:
    if found.extended and isinstance(opened := open_with_pillow(data), Refused):  # the header was not enough to tell
        return opened
    if config.check_pixels != "none":
        from wit.images.whole import not_whole  # here, for the same reason

        if refused := not_whole(data, found, config):
            return refused
    width, height = found.size
    exif = exif_json(data, found, config.exif)
    return Processed(data, found.format, width, height, found.format, width, height, sha256, sha256, exif=exif)
