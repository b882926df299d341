"""One picture from fetched bytes to stored bytes: the header is judged, then the bytes are kept as they are, or decoded and
encoded by `wit.images.pixels`."""

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
    probed = probe(data)
    if isinstance(probed, Refused):
        return probed
    refused = too_many_pixels(probed, config) or cut_short(data, probed)
    if refused:
        return refused
    config = storable(probed, config)
    if config.keep_original and not config.perceptual_hashes and not blocked.looks_at_pixels:
        return _kept(data, probed, original_sha256, config)
    from wit.images.pixels import decoded  # not above: builds that keep original bytes save 60 ms and 15 MB

    return decoded(data, probed, original_sha256, config, blocked)


def looks_at_pixels(config: ImageConfig, blocked: Blocklist) -> bool:
    """Whether any picture is decoded at all, under these settings and with this block list."""
    kept_unseen = config.keep_original and not config.perceptual_hashes and config.check_pixels == "none"
    return not kept_unseen or blocked.looks_at_pixels


def storable(probed: Probe, config: ImageConfig) -> ImageConfig:
    """The settings for this picture. With --keep-original, a picture in a format that readers of shards do not know is encoded
    anew in its own size."""
    if not config.keep_original or FORMATS[probed.format].kept:
        return config
    return replace(config, keep_original=False, resize_mode="no")


def stored_formats(config: ImageConfig) -> list[Format]:
    """The formats that pictures may be stored in."""
    kept = [form.name for form in FORMATS.values() if form.kept] if config.keep_original else []
    return [FORMATS[name] for name in dict.fromkeys([config.encode_format, *kept])]


def too_many_pixels(probed: Probe, config: ImageConfig) -> Refused | None:
    if probed.width * probed.height > config.max_pixels:
        return Refused(Reason.IMAGE_TOO_MANY_PIXELS, f"{probed.width} x {probed.height}")
    return None


def cut_short(data: bytes, probed: Probe) -> Refused | None:
    """IMAGE_TRUNCATED for a JPEG or PNG without its end marker, which shows without decoding; else None."""
    tail = {"jpg": b"\xff\xd9", "png": b"IEND\xaeB`\x82"}.get(probed.format)
    if tail and data.rfind(tail) < 0:
        return Refused(Reason.IMAGE_TRUNCATED)
    return None


def _kept(data: bytes, probed: Probe, sha256: str, config: ImageConfig) -> Processed | Refused:
    if probed.extended and isinstance(opened := open_with_pillow(data), Refused):  # the header was not enough to tell
        return opened
    if config.check_pixels != "none":
        from wit.images.whole import not_whole  # not above, for the same reason

        if refused := not_whole(data, probed, config):
            return refused
    width, height = probed.size
    exif = exif_json(data, probed, config.exif)
    return Processed(data, probed.format, width, height, probed.format, width, height, sha256, sha256, exif=exif)
