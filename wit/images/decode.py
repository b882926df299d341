"""Bytes -> an RGB array, not yet upright and no smaller than asked for: JPEG scaled in the DCT domain, others whole."""

from __future__ import annotations

import functools
import io
import warnings
from collections.abc import Iterator

import numpy as np
import simplejpeg
from imagecodecs import webp_decode
from kornia_rs.io import decode_image_png_u8
from numpy.typing import NDArray
from PIL import Image, ImageCms

from wit.arithmetic import ceil_div
from wit.images.headers import MAX_ICC_BYTES, PILLOW_ERRORS, bare_jpeg, bare_png, open_with_pillow, png_icc, refused_by
from wit.images.results import Probe, Refused
from wit.reasons import Reason

RGB = NDArray[np.uint8]  # [height, width, 3]
SRGB = ImageCms.createProfile("sRGB")
STRIP_PIXELS = 1 << 21  # converted at a time: 8 MB in Pillow, and most pictures are one strip
BENIGN = ("extraneous bytes before marker", "Invalid SOS parameters")  # libjpeg warnings on pictures that are whole


def jpeg_scale(probe: Probe, shorter: int, longer: int, margin: float) -> int:
    """The largest scale of 1, 2, 4, 8 that leaves at least `margin` times the wanted sides. Powers of two only: libjpeg's other
    M/8 factors are no faster and 15 dB further from the full decode (docs/log.md)."""
    low, high = sorted((probe.width, probe.height))
    for scale in (8, 4, 2):
        if low >= shorter * margin * scale and high >= longer * margin * scale:
            return scale
    return 1


def decode(data: bytes, probe: Probe, *, scale: int, background: str) -> RGB | Refused:
    """The first frame in sRGB, transparency laid on `background`, not yet turned upright; a JPEG at 1 / `scale` of its size."""
    if probe.format == "jpg" and probe.components in (1, 3, 4):
        # Pillow converts the colours of CMYK; here such a picture is only checked to be whole.
        cmyk = probe.components == 4
        pixels = decode_jpeg(data, probe, 8 if cmyk else scale)
        if isinstance(pixels, Refused) and pixels.detail != "other":
            return pixels
        if not isinstance(pixels, Refused) and not cmyk:
            return to_srgb(pixels, probe.icc)
    plain = _decode_plain(data, probe, background)
    if plain is not None:
        return plain
    if probe.format == "png":
        return _decode_with_pillow(bare_png(data), background, png_icc(data))
    return _decode_with_pillow(bare_jpeg(data) if probe.format == "jpg" else data, background, probe.icc)


def decode_jpeg(data: bytes, probe: Probe, scale: int, space: str = "RGB") -> RGB | Refused:
    """A JPEG at 1 / `scale` of its size. simplejpeg takes the smallest factor that leaves at least the given sides, so it is
    given exactly those of 1 / `scale`."""
    sides = (
        {"min_height": ceil_div(probe.height, scale), "min_width": ceil_div(probe.width, scale)} if scale > 1 else {}
    )
    space = "CMYK" if probe.components == 4 else space
    try:
        return simplejpeg.decode_jpeg(data, space, **sides)  # type: ignore[no-any-return]
    except ValueError as error:
        text = str(error)
    if "premature end" in text.lower():
        return Refused(Reason.IMAGE_TRUNCATED)
    if "memory" in text.lower():
        return Refused(Reason.IMAGE_NEEDS_MEMORY)
    if any(word in text for word in BENIGN):
        try:
            return simplejpeg.decode_jpeg(data, space, strict=False, **sides)  # type: ignore[no-any-return]
        except ValueError:
            return Refused(Reason.IMAGE_CORRUPT)
    if "Corrupt JPEG data" in text or "corrupt" in text.lower():
        return Refused(Reason.IMAGE_CORRUPT)
    return Refused(Reason.IMAGE_CORRUPT, "other")  # a variant that TurboJPEG does not take: Pillow decides


def _decode_plain(data: bytes, probe: Probe, background: str) -> RGB | None:
    """Plain PNG and WebP, which most are, by decoders that are faster than Pillow and give the same pixels (docs/log.md). None
    for anything else, broken files included: Pillow judges those. kornia-rs checks the CRC of every chunk, but not the Adler-32
    within them, so a file in which only that is wrong counts as whole."""
    try:
        if probe.format == "png" and (mode := plain_png(data)):
            pixels: RGB = decode_image_png_u8(data, (probe.height, probe.width), mode)
            return flatten(pixels, background) if mode == "rgba" else pixels
        if probe.format == "webp" and is_plain_webp(data):
            pixels = webp_decode(data)
            return pixels if pixels.shape == (probe.height, probe.width, 3) else None
    except Exception:  # kornia-rs raises nothing narrower
        return None
    return None


def plain_png(data: bytes) -> str:
    """kornia-rs' mode, "rgb" or "rgba", of an 8-bit PNG without key colour, profile or animation; empty for any other."""
    mode = {b"\x08\x02": "rgb", b"\x08\x06": "rgba"}.get(data[24:26], "")  # bit depth and colour type
    at = 8
    while at + 8 <= len(data) and data[at + 4 : at + 8] != b"IDAT":
        if data[at + 4 : at + 8] in (b"tRNS", b"iCCP", b"acTL"):
            return ""
        at += 12 + int.from_bytes(data[at : at + 4], "big")
    return mode


def is_plain_webp(data: bytes) -> bool:
    """Whether a WebP has one frame, without transparency or profile (RFC 9649 sections 2.5 to 2.7)."""
    kind = data[12:16]
    if kind == b"VP8L":
        return not data[24] & 0x10
    return kind == b"VP8 " or (kind == b"VP8X" and not data[20] & 0x32)


def _decode_with_pillow(data: bytes, background: str, icc: bytes = b"") -> RGB | Refused:
    """The picture by Pillow's decoder; `icc` is the profile, if it was taken out of the bytes."""
    opened = open_with_pillow(data)
    if isinstance(opened, Refused):
        return opened
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            opened.load()
            _set_key(opened, data)
            return flatten(opened, background, icc or opened.info.get("icc_profile") or b"")
    except PILLOW_ERRORS as error:
        return refused_by(error)


def _set_key(picture: Image.Image, data: bytes) -> None:
    """Brings the transparent colour of a PNG (specification, section 11.3.1.1) to the depth of Pillow's pixels."""
    key = picture.info.get("transparency")
    if picture.format != "PNG" or key is None or isinstance(key, bytes):
        return
    depth, colours = data[24], data[25]
    if colours == 0 and depth in (2, 4):
        picture.info["transparency"] = key * (255 // ((1 << depth) - 1))
    if colours == 2 and depth == 16:
        picture.info["transparency"] = tuple(value >> 8 for value in key)


def flatten(picture: Image.Image | NDArray[np.uint8], background: str, icc: bytes = b"") -> RGB:
    """The picture as 8-bit sRGB: deep grays scaled, palettes looked up, CMYK converted, transparency laid on `background`. It
    is done strip by strip, so that memory never holds more than the source and the result."""
    width, height = picture.size if isinstance(picture, Image.Image) else picture.shape[1::-1]
    rows = max(STRIP_PIXELS // width, 1)
    top = _top(picture, rows) if isinstance(picture, Image.Image) else 0.0
    if height <= rows:
        whole = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
        return np.asarray(_flat(whole, background, icc, top))
    flat = np.empty((height, width, 3), np.uint8)
    for y, strip in _strips(picture, rows):
        flat[y : y + strip.height] = np.asarray(_flat(strip, background, icc, top))
    return flat


def _strips(picture: Image.Image | NDArray[np.uint8], rows: int) -> Iterator[tuple[int, Image.Image]]:
    """(first row, strip) of the picture in strips of `rows` rows."""
    if isinstance(picture, Image.Image):
        for y in range(0, picture.height, rows):
            yield y, picture.crop((0, y, picture.width, min(y + rows, picture.height)))
    else:
        for y in range(0, len(picture), rows):
            yield y, Image.fromarray(picture[y : y + rows])


def _flat(picture: Image.Image, background: str, icc: bytes, top: float) -> Image.Image:
    if top:
        return _deep(picture, background, top)
    if picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info:
        return _on_paper(picture.convert("RGBA"), background, icc)
    if picture.mode == "CMYK":
        return _cmyk_to_rgb(picture, icc)
    rgb = picture.convert("RGB")
    return _with_profile(rgb, icc) if icc else rgb


def _top(picture: Image.Image, rows: int) -> float:
    """The value that means white in a picture of deep grays; 0 for other pictures."""
    if picture.mode.startswith("I"):
        return 65535.0
    if picture.mode != "F":
        return 0.0
    return 1.0 if max(np.nanmax(np.asarray(strip), initial=0) for _, strip in _strips(picture, rows)) <= 1 else 255.0


def _deep(picture: Image.Image, background: str, top: float) -> Image.Image:
    """A strip of deep grays in eight bits; one gray may be transparent (PNG specification, section 11.3.1.1)."""
    values = np.asarray(picture)
    flat = np.nan_to_num(values.astype(np.float64) / top * 255).round().clip(0, 255).astype(np.uint8)
    rgb, key = Image.fromarray(flat).convert("RGB"), picture.info.get("transparency")
    if not isinstance(key, int):
        return rgb
    paper = Image.new("RGB", picture.size, background)
    paper.paste(rgb, mask=Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8)))
    return paper


def _on_paper(picture: Image.Image, background: str, icc: bytes) -> Image.Image:
    colours = picture.convert("RGB")
    paper = Image.new("RGB", picture.size, background)
    paper.paste(_with_profile(colours, icc) if icc else colours, mask=picture.getchannel("A"))
    return paper


def _cmyk_to_rgb(picture: Image.Image, icc: bytes) -> Image.Image:
    transform = icc_transform(icc, "CMYK") if icc else None
    if transform is not None:
        return ImageCms.applyTransform(picture, transform) or picture.convert("RGB")
    return picture.convert("RGB")


def _with_profile(picture: Image.Image, icc: bytes) -> Image.Image:
    """An RGB picture in sRGB; unchanged where the profile is sRGB already, or unreadable."""
    transform = icc_transform(icc, "RGB")
    return picture if transform is None else ImageCms.applyTransform(picture, transform) or picture


def to_srgb(pixels: RGB, icc: bytes) -> RGB:
    """The same picture in sRGB; unchanged where the profile is sRGB already, or unreadable."""
    if not icc or icc_transform(icc, "RGB") is None:
        return pixels
    return flatten(pixels, "", icc)


CACHED_ICC_BYTES = 64 << 10  # transforms of profiles up to this size are cached: those of screens and cameras are few


def icc_transform(icc: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The transform from the profile to sRGB; None if none is needed, or the profile is too large, broken or of another mode."""
    if len(icc) > MAX_ICC_BYTES:
        return None
    return _known_transform(icc, mode) if len(icc) <= CACHED_ICC_BYTES else _transform(icc, mode)


def _transform(icc: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        if mode == "RGB" and "sRGB" in ImageCms.getProfileDescription(profile):
            return None
        return ImageCms.buildTransform(profile, SRGB, mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None


_known_transform = functools.lru_cache(maxsize=32)(_transform)  # 2 MB each at most: 23 ** 4 points of a CMYK profile
