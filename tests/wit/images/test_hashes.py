from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pictures import done, encoded, scene

from wit.images.hashes import pdq


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
