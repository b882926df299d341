"""Bytes to an upright-or-not RGB array no smaller than asked for: scaled in the DCT domain for JPEG, whole otherwise."""

from __future__ import annotations

import functools
import io
import warnings

import numpy as np
import simplejpeg
from imagecodecs import webp_decode
from kornia_rs.io import decode_image_png_u8
from numpy.typing import NDArray
from PIL import Image, ImageCms

from wit.images.headers import PILLOW_ERRORS, open_with_pillow, refused_by
from wit.images.results import Probe, Refused
from wit.reasons import Reason

RGB = NDArray[np.uint8]  # [height, width, 3]
SRGB = ImageCms.createProfile("sRGB")
BENIGN = ("extraneous bytes before marker", "Invalid SOS parameters")  # libjpeg warnings on pictures that are whole


def jpeg_scale(probe: Probe, shorter: int, longer: int, margin: float) -> int:
    """The largest of 1, 2, 4, 8 that leaves `margin` times the wanted sides. Powers of two only: libjpeg's other M/8
    factors are no faster and 15 dB further from the full decode (docs/log.md)."""
    low, high = sorted((probe.width, probe.height))
    for scale in (8, 4, 2):
        if low >= shorter * margin * scale and high >= longer * margin * scale:
            return scale
    return 1


def decode(data: bytes, probe: Probe, *, scale: int, background: str) -> RGB | Refused:
    """The first frame in sRGB with transparency laid on `background`, not yet turned; JPEG at 1 / `scale`."""
    if probe.format == "jpg" and probe.components in (1, 3):
        pixels = _decode_jpeg(data, probe, scale)
        if not isinstance(pixels, Refused) or pixels.detail != "other":
            return pixels if isinstance(pixels, Refused) else to_srgb(pixels, probe.icc)
    plain = _decode_plain(data, probe, background)
    return _decode_with_pillow(data, background) if plain is None else plain


def _decode_jpeg(data: bytes, probe: Probe, scale: int) -> RGB | Refused:
    """simplejpeg takes the smallest factor that leaves at least the sides given: naming 1/scale's own sides picks it."""
    sides = {"min_height": -(-probe.height // scale), "min_width": -(-probe.width // scale)} if scale > 1 else {}
    try:
        return simplejpeg.decode_jpeg(data, "RGB", **sides)  # type: ignore[no-any-return]
    except ValueError as error:
        text = str(error)
    if "premature end" in text.lower():
        return Refused(Reason.IMAGE_TRUNCATED)
    if any(word in text for word in BENIGN):
        try:
            return simplejpeg.decode_jpeg(data, "RGB", strict=False, **sides)  # type: ignore[no-any-return]
        except ValueError:
            return Refused(Reason.IMAGE_CORRUPT)
    if "Corrupt JPEG data" in text or "corrupt" in text.lower():
        return Refused(Reason.IMAGE_CORRUPT)
    return Refused(Reason.IMAGE_CORRUPT, "other")  # a variant that TurboJPEG does not take: Pillow decides


def _decode_plain(data: bytes, probe: Probe, background: str) -> RGB | None:
    """The plain kinds of PNG and WebP, which are most, by faster decoders than Pillow's to the same pixels (docs/log.md). None
    for anything else, broken files included: Pillow is the judge of those. kornia-rs checks the CRC of every chunk, but not the
    Adler-32 within them: a file that only that speaks against counts as whole."""
    try:
        if probe.format == "png" and (mode := plain_png(data)):
            pixels: RGB = decode_image_png_u8(data, (probe.height, probe.width), mode)
            return np.asarray(_on_paper(Image.fromarray(pixels), background, b"")) if mode == "rgba" else pixels
        if probe.format == "webp" and is_plain_webp(data):
            pixels = webp_decode(data)
            return pixels if pixels.shape == (probe.height, probe.width, 3) else None
    except Exception:  # kornia-rs raises nothing narrower
        return None
    return None


def plain_png(data: bytes) -> str:
    """kornia-rs' word for the pixels of an 8-bit RGB or RGBA picture without key colour, profile or animation; else empty."""
    mode = {b"\x08\x02": "rgb", b"\x08\x06": "rgba"}.get(data[24:26], "")  # bit depth and colour type
    at = 8
    while at + 8 <= len(data) and data[at + 4 : at + 8] != b"IDAT":
        if data[at + 4 : at + 8] in (b"tRNS", b"iCCP", b"acTL"):
            return ""
        at += 12 + int.from_bytes(data[at : at + 4], "big")
    return mode


def is_plain_webp(data: bytes) -> bool:
    """One frame without transparency or profile (RFC 9649 sections 2.5 to 2.7)."""
    kind = data[12:16]
    if kind == b"VP8L":
        return not data[24] & 0x10
    return kind == b"VP8 " or (kind == b"VP8X" and not data[20] & 0x32)


def _decode_with_pillow(data: bytes, background: str) -> RGB | Refused:
    opened = open_with_pillow(data)
    if isinstance(opened, Refused):
        return opened
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            opened.load()
            return np.asarray(flatten(opened, background))
    except PILLOW_ERRORS as error:
        return refused_by(error)


def flatten(picture: Image.Image, background: str) -> Image.Image:
    """The picture as 8-bit sRGB: deep grays scaled, palettes looked up, CMYK converted, transparency laid on paper."""
    icc = picture.info.get("icc_profile") or b""
    if picture.mode.startswith("I") or picture.mode == "F":
        return _eight_bits(picture).convert("RGB")
    if picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info:
        return _on_paper(picture.convert("RGBA"), background, icc)
    if picture.mode == "CMYK":
        return _cmyk_to_rgb(picture, icc)
    rgb = picture.convert("RGB")
    return Image.fromarray(to_srgb(np.asarray(rgb), icc)) if icc else rgb


def _eight_bits(picture: Image.Image) -> Image.Image:
    values = np.asarray(picture).astype(np.float64)
    top = 65535.0 if picture.mode.startswith("I") else (1.0 if np.nanmax(values, initial=0) <= 1 else 255.0)
    return Image.fromarray(np.nan_to_num(values / top * 255).round().clip(0, 255).astype(np.uint8))


def _on_paper(picture: Image.Image, background: str, icc: bytes) -> Image.Image:
    colours = Image.fromarray(to_srgb(np.asarray(picture.convert("RGB")), icc)) if icc else picture.convert("RGB")
    paper = Image.new("RGB", picture.size, background)
    paper.paste(colours, mask=picture.getchannel("A"))
    return paper


def _cmyk_to_rgb(picture: Image.Image, icc: bytes) -> Image.Image:
    transform = icc_transform(icc, "CMYK") if icc else None
    if transform is not None:
        return ImageCms.applyTransform(picture, transform) or picture.convert("RGB")
    return picture.convert("RGB")


def to_srgb(pixels: RGB, icc: bytes) -> RGB:
    """The same picture in sRGB; unchanged where the profile is sRGB already, or unreadable."""
    transform = icc_transform(icc, "RGB") if icc else None
    if transform is None:
        return pixels
    turned = ImageCms.applyTransform(Image.fromarray(pixels), transform)
    return pixels if turned is None else np.asarray(turned)


@functools.lru_cache(maxsize=64)
def icc_transform(icc: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """To sRGB from the profile, or None where there is nothing to do or the profile is broken or of another mode."""
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        if mode == "RGB" and "sRGB" in ImageCms.getProfileDescription(profile):
            return None
        return ImageCms.buildTransform(profile, SRGB, mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
