from __future__ import annotations

import io
from typing import Any

import imagehash
import numpy as np
import pytest
from pictures import done, encoded, pixels, psnr, scene
from PIL import Image, ImageOps


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_exif_orientation_is_applied(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(scene(), kind, exif=exif)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    result = done(data, image_size=120)
    assert (result.original_width, result.original_height) == upright.size
    reference = upright.resize((result.width, result.height), Image.Resampling.LANCZOS)
    assert psnr(pixels(result), np.asarray(reference, np.float64)) > 34
    assert (result.phash ^ int(str(imagehash.phash(upright)), 16)).bit_count() <= 4  # type: ignore[operator]


MODES = "mode, size, bigger_only, expected"


@pytest.mark.parametrize(
    MODES,
    [
        ("no", (640, 480), True, (640, 480)),
        ("border", (640, 480), True, (256, 256)),
        ("keep_ratio", (640, 480), True, (341, 256)),
        ("keep_ratio_largest", (640, 480), True, (256, 192)),
        ("center_crop", (640, 480), True, (256, 256)),
        ("border", (100, 50), True, (100, 50)),
        ("keep_ratio", (100, 50), True, (100, 50)),
        ("center_crop", (100, 50), True, (100, 50)),
        ("border", (100, 50), False, (256, 256)),
        ("keep_ratio", (100, 50), False, (512, 256)),
        ("keep_ratio_largest", (100, 50), False, (256, 128)),
        ("center_crop", (100, 50), False, (256, 256)),
        ("keep_ratio", (3000, 20), False, (38400, 256)),
        ("keep_ratio_largest", (3000, 2), True, (256, 1)),
    ],
)
def test_resize_modes_are_img2datasets(
    mode: Any, size: tuple[int, int], bigger_only: bool, expected: tuple[int, int]
) -> None:
    result = done(encoded(scene(*size), "PNG"), resize_mode=mode, resize_only_if_bigger=bigger_only)
    assert (result.width, result.height) == expected


def test_border_is_white_and_the_picture_in_the_middle() -> None:
    stored = pixels(
        done(
            encoded(Image.new("RGB", (400, 200), "black"), "PNG"),
            resize_mode="border",
            encode_format="png",
            encode_quality=6,
        )
    )
    assert (stored[:64] == 255).all() and (stored[-64:] == 255).all()
    assert (stored[70:186] == 0).all()


def test_a_jpeg_scaled_while_decoding_is_not_stretched() -> None:
    """1001 columns at 1/2 are 500.5, which the decoder rounds up to 501."""
    sharp = Image.fromarray((np.indices((667, 1001)).sum(0) // 8 % 2 * 200 + 20).astype(np.uint8)).convert("RGB")
    data = encoded(sharp, "JPEG", quality=95)
    reference = Image.open(io.BytesIO(data)).resize((384, 256), Image.Resampling.LANCZOS)
    stored = pixels(done(data, encode_format="png", encode_quality=6, perceptual_hashes=False))
    assert psnr(stored, np.asarray(reference, np.float64)) > 30  # 16 where the whole array is taken for the picture
