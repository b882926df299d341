"""Pictures as tests of `wit.images` want them, and what became of one."""

from __future__ import annotations

import io
import zlib
from typing import Any

import numpy as np
from PIL import Image

from wit.images.config import ImageConfig
from wit.images.process import process
from wit.images.results import Processed


def scene(width: int = 640, height: int = 480, seed: int = 3) -> Image.Image:
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (9, 12, 3), np.uint8))
    return coarse.resize((width, height), Image.Resampling.BICUBIC)


def encoded(picture: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def done(data: bytes, **knobs: Any) -> Processed:
    result = process(data, ImageConfig(**knobs))
    assert isinstance(result, Processed), result
    return result


def pixels(result: Processed) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(result.data)).convert("RGB"), np.float64)


def psnr(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> float:
    return 10 * float(np.log10(255**2 / max(((a - b) ** 2).mean(), 1e-9)))


def told() -> Image.Exif:
    """EXIF that says how, when, where and by whom."""
    exif = Image.Exif()
    exif[0x010F], exif[0x0110], exif[0x0132], exif[0x013B] = "Camera", "One", "2024:01:02 03:04:05", "A. Person"
    exif.get_ifd(0x8769).update({0x829A: 0.5, 0x9003: "2024:01:02 03:04:05", 0xA431: "SN 1", 0x927C: b"note" * 300})
    exif.get_ifd(0x8825).update({1: "N", 2: (52.0, 1.0, 2.0)})
    return exif


def chunk(kind: bytes, content: bytes) -> bytes:
    return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")


KEPT = {
    "baseline": encoded(scene(200, 150), "JPEG"),
    "progressive": encoded(scene(200, 150), "JPEG", progressive=True),
    "gray": encoded(scene(200, 150).convert("L"), "JPEG"),
    "cmyk": encoded(scene(200, 150).convert("CMYK"), "JPEG"),
    "png": encoded(scene(200, 150), "PNG"),
    "palette": encoded(scene(200, 150).quantize(16), "PNG", bits=4),
    "deep": encoded(Image.fromarray(np.asarray(scene(200, 150).convert("L")).astype(np.uint16) * 257), "PNG"),
    "webp": encoded(scene(200, 150), "WEBP"),
    "lossless": encoded(scene(200, 150).convert("RGBA"), "WEBP", lossless=True),
}


ANEW = {
    "gif": encoded(scene(200, 150).quantize(32), "GIF"),
    "bmp": encoded(scene(200, 150), "BMP"),
    "tiff": encoded(scene(200, 150), "TIFF"),
    "lzw": encoded(scene(200, 150), "TIFF", compression="tiff_lzw"),
    "avif": encoded(scene(200, 150), "AVIF"),
}


KEEP = ImageConfig(keep_original=True, perceptual_hashes=False)


IEND = b"\0\0\0\0IEND\xaeB`\x82"
