from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from wit.images.config import ImageConfig
from wit.images.resize import pad_or_crop, resize, stored_size, target_size, turn


@pytest.mark.parametrize(
    "mode, size, scaled, stored",
    [
        ("keep_ratio", (1000, 500), (512, 256), (512, 256)),
        ("keep_ratio_largest", (1000, 500), (256, 128), (256, 128)),
        ("border", (1000, 500), (256, 128), (256, 256)),
        ("center_crop", (1000, 500), (512, 256), (256, 256)),
        ("no", (1000, 500), (1000, 500), (1000, 500)),
        ("keep_ratio", (200, 100), (200, 100), (200, 100)),
        ("border", (200, 100), (200, 100), (200, 100)),
        ("keep_ratio_largest", (9_000, 1), (256, 1), (256, 1)),
    ],
)
def test_sizes_are_those_of_the_mode(mode: Any, size: tuple[int, int], scaled: Any, stored: Any) -> None:
    config = ImageConfig(resize_mode=mode)
    assert target_size(size, config) == scaled and stored_size(size, config) == stored


def test_small_pictures_grow_only_where_that_is_asked_for() -> None:
    config = ImageConfig(resize_mode="border", resize_only_if_bigger=False)
    assert target_size((200, 100), config) == (256, 128) and stored_size((200, 100), config) == (256, 256)
    assert stored_size((9, 9), ImageConfig(keep_original=True)) == (9, 9)


def ramp(width: int, height: int) -> Any:
    across = np.linspace(0, 255, width)[None, :, None] * np.ones((height, 1, 3))
    return across.astype(np.uint8)


def test_a_picture_is_scaled_as_pillow_scales_it() -> None:
    pixels = ramp(300, 200)
    found = resize(pixels, 120, 80)
    expected = np.asarray(Image.fromarray(pixels).resize((120, 80), Image.Resampling.LANCZOS))
    assert np.abs(found.astype(int) - expected).max() <= 1
    assert resize(pixels, 300, 200) is pixels


def test_of_a_box_only_the_box_is_scaled() -> None:
    pixels = ramp(300, 200)
    pixels[:, 150:] = 0
    assert resize(pixels, 50, 50, (150, 200))[:, -1].mean() > 110 > 10 > resize(pixels, 50, 50)[:, -1].mean()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_as_viewers_turn_it(orientation: int) -> None:
    pixels = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    image = Image.fromarray(pixels)
    image.getexif()[0x0112] = orientation
    assert np.array_equal(turn(pixels, orientation), np.asarray(ImageOps.exif_transpose(image)))


def test_a_border_is_of_the_background_and_a_crop_is_of_the_middle() -> None:
    wide = np.full((128, 256, 3), 7, np.uint8)
    padded = pad_or_crop(wide, ImageConfig(resize_mode="border", background="#ff0000"), scaled=True)
    assert padded.shape == (256, 256, 3) and padded[0, 0].tolist() == [255, 0, 0] == padded[-1, -1].tolist()
    assert (padded[64:192] == 7).all()
    marked = np.zeros((256, 512, 3), np.uint8)
    marked[:, 128:384] = 9
    assert (pad_or_crop(marked, ImageConfig(resize_mode="center_crop"), scaled=True) == 9).all()
    assert pad_or_crop(wide, ImageConfig(resize_mode="border"), scaled=False) is wide


@given(st.integers(1, 5000), st.integers(1, 5000), st.sampled_from(["border", "keep_ratio", "keep_ratio_largest"]))
def test_sizes_are_never_zero_and_never_grow_unasked(width: int, height: int, mode: Any) -> None:
    w, h = target_size((width, height), ImageConfig(resize_mode=mode))
    assert 1 <= w <= width and 1 <= h <= height
