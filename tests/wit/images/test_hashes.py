from __future__ import annotations

from typing import Any

import imagehash
import numpy as np
import pytest
from pictures import done, encoded, scene
from PIL import Image

from wit.images.hashes import CANVAS, luma, pdq, pdq_quality, pdq_rows, phash


def test_hashes_survive_sizes_and_encodings() -> None:
    reference = done(encoded(scene(1200, 900), "PNG"))
    for data in (encoded(scene(600, 450), "JPEG", quality=80), encoded(scene(1200, 900), "WEBP", quality=70)):
        other = done(data)
        assert (reference.phash ^ other.phash).bit_count() <= 6  # type: ignore[operator]
        assert (int.from_bytes(reference.pdq) ^ int.from_bytes(other.pdq)).bit_count() <= 31  # type: ignore[arg-type]
    different = done(encoded(scene(seed=9), "PNG"))
    assert (int.from_bytes(reference.pdq) ^ int.from_bytes(different.pdq)).bit_count() > 80  # type: ignore[arg-type]


def obvious_pdq(gray: np.ndarray[Any, Any]) -> bytes:
    """PDQ by its definition, step by step: two lopsided box passes along both sides, 64 samples, DCT, median."""

    def box(values: np.ndarray[Any, Any], window: int) -> np.ndarray[Any, Any]:
        half = (window + 2) // 2
        return np.array([values[max(0, i - window + half) : i + half].mean(0) for i in range(len(values))])

    for _ in range(2):
        gray = box(gray, (gray.shape[0] + 127) // 128)
        gray = box(gray.T, (gray.shape[1] + 127) // 128).T
    rows, columns = (((np.arange(64) + 0.5) * side / 64).astype(int) for side in gray.shape)
    d = np.cos(np.pi / 128 * (2 * np.arange(64) + 1) * np.arange(1, 17)[:, None])
    dct = d @ gray[np.ix_(rows, columns)] @ d.T
    return np.packbits((dct > np.median(dct)).ravel()[::-1]).tobytes()


@pytest.mark.parametrize("size", [(640, 480), (1000, 700), (256, 256), (300, 900)])
def test_pdq_is_near_its_definition_on_every_pixel(size: tuple[int, int]) -> None:
    picture = scene(*size, seed=5)
    result = done(encoded(picture, "PNG"))
    gray = np.asarray(picture, np.float64) @ (0.299, 0.587, 0.114)
    assert result.pdq_quality is not None and result.pdq_quality >= 80
    assert (int.from_bytes(obvious_pdq(gray)) ^ int.from_bytes(result.pdq or b"")).bit_count() <= 10


def test_a_flat_picture_has_a_worthless_pdq() -> None:
    assert pdq(np.full((256, 256), 77, np.float32), 256, 256)[1] == 0


def test_gray_is_pillows() -> None:
    picture = scene(64, 48)
    assert np.abs(luma(np.asarray(picture)) - np.asarray(picture.convert("L"), np.float32)).max() <= 1


@pytest.mark.parametrize("seed", range(5))
def test_phash_is_imagehashs(seed: int) -> None:
    gray = np.asarray(scene(32, 32, seed).convert("L"))
    assert f"{phash(gray.astype(np.float32)):016x}" == str(imagehash.phash(Image.fromarray(gray), 8, 4))


@pytest.mark.parametrize("size", [1, 2, 64, 127, 128, 129, 256, 300, 1_000, 5_000])
def test_a_filter_of_pdq_keeps_the_mean_and_mirrors_nothing(size: int) -> None:
    rows = pdq_rows(size)
    assert rows.shape == (64, CANVAS) and np.allclose(rows.sum(1), 1) and (rows >= 0).all()
    centre = rows @ np.arange(CANVAS)
    assert (np.diff(centre) >= 0).all() and centre[0] < CANVAS / 16 + CANVAS / size / 2


def obvious_rows(size: int) -> np.ndarray[Any, Any]:
    """[64, size]: what PDQ's two box passes and its sampling make of each pixel of one side of a picture."""
    window = (size + 127) // 128
    half = (window + 2) // 2
    pick = ((np.arange(64) + 0.5) * size / 64).astype(int)
    weights = np.zeros((size + 4 * window, size + 4 * window))
    for at in range(2 * window, size + 3 * window):
        weights[at, at - window + half : at + half] = 1 / window
    return (weights @ weights)[2 * window : -2 * window, 2 * window : -2 * window][pick]


@pytest.mark.parametrize("size", [1, 2, 64, 127, 129, 256, 300, 1_001])
def test_the_filter_of_pdq_is_the_definitions_seen_between_the_pixels_of_the_canvas(size: int) -> None:
    """Of the windows at an edge what lies within counts."""
    weights = obvious_rows(size)
    canvas = np.arange(CANVAS)
    centres = (np.arange(size) + 0.5) * CANVAS / size - 0.5
    between = np.array([np.interp(centres, canvas, canvas == pixel) for pixel in canvas]).T
    assert np.allclose(pdq_rows(size), weights / weights.sum(1, keepdims=True) @ between, atol=1e-6)


@pytest.mark.parametrize(
    "buffer, quality",
    [
        (np.zeros((64, 64)), 0),
        (np.tile([0, 255], (64, 32)), 100),
        (np.tile([0, 2], (64, 32)), 0),  # steps of less than a hundredth are none
        (np.eye(64)[:, :1] * 255 * np.ones(64), 71),  # one step down: 64 times 100, over 90
        (np.eye(64)[:1].T * np.ones(64) * 255, 71),
        (np.tile(np.eye(64)[63] * 255, (64, 1)), 71),  # one across
        (np.eye(64)[:1].T * np.ones(64) * 51.05, 14),  # 64 times 20, of 20.02
        (np.tile(np.eye(64)[63] * 51.05, (64, 1)), 14),
        (np.full((64, 64), 255.0), 0),
    ],
)
def test_quality_is_the_sum_of_the_steps(buffer: np.ndarray[Any, Any], quality: int) -> None:
    assert pdq_quality(buffer.astype(np.float32)) == quality


def test_the_sides_of_a_picture_are_not_mixed_up() -> None:
    gray = np.asarray(scene(CANVAS, CANVAS, 7).convert("L"), np.float32)
    assert pdq(gray, 256, 4_000)[0] != pdq(gray, 4_000, 256)[0]


def test_a_pdq_is_of_32_bytes_half_of_whose_bits_are_set() -> None:
    bits, quality = pdq(np.asarray(scene(CANVAS, CANVAS).convert("L"), np.float32), CANVAS, CANVAS)
    assert len(bits) == 32 and int.from_bytes(bits).bit_count() == 128 and 0 < quality <= 100
