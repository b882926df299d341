"""Perceptual hashes of a picture: the 64-bit DCT pHash and the 256-bit PDQ with its quality.

Up to their last step both are linear maps of the gray picture, so each is two small matrix products. The matrices are built
from the steps of the definition, once a size.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

Gray = NDArray[np.float32]  # [height, width], 0 to 255
CANVAS = 256  # pixels a side; with 128, one PDQ bit in ten differs
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R 601, as Pillow's "L" and PDQ's reference


def luma(rgb: NDArray[np.uint8]) -> Gray:
    """The gray picture [height, width] of an RGB one [height, width, 3]."""
    return np.asarray(rgb.astype(np.float32) @ LUMA, dtype=np.float32)


def dct_matrix(size: int, rows: int, first: int = 0) -> NDArray[np.float32]:
    """Rows `first` to `first + rows` of the DCT-II of `size` points, unscaled."""
    k = np.arange(first, first + rows)[:, None]
    angles = np.pi / size * (np.arange(size)[None, :] + 0.5) * k
    return np.asarray(np.cos(angles), dtype=np.float32)


PHASH_DCT = dct_matrix(32, 8)


def phash(gray32: Gray) -> int:
    """imagehash's phash of a [32, 32] gray picture: signs of the low 8 x 8 DCT against their median, first bit highest."""
    low = PHASH_DCT @ gray32 @ PHASH_DCT.T
    return int.from_bytes(np.packbits(low > np.median(low)).tobytes(), "big")


PDQ_DCT = dct_matrix(64, 16, first=1) * np.float32(np.sqrt(2 / 64))


@functools.lru_cache(maxsize=256)  # 64 kB each
def pdq_rows(size: int) -> NDArray[np.float32]:
    """[64, CANVAS] weights: PDQ's filter along one side of a picture of `size` pixels, for a rendering of CANVAS pixels.

    The definition runs a box filter of `window` pixels twice over all pixels of the picture, and samples 64 points. Its window is
    lopsided by half a pixel and its points are rounded down, so the result depends on the size of the picture. Here the same
    weights are laid over the canvas, shared between two pixels where they fall between them."""
    window = (size + 127) // 128  # the reference's: size / (2 * 64), rounded up
    ahead = (window + 2) // 2 - 1  # pixels of its window after the current one
    offsets = np.arange(-2 * (window - 1 - ahead), 2 * ahead + 1)
    weights = np.convolve(np.ones(window), np.ones(window))
    at = ((np.arange(64) + 0.5) * size / 64).astype(np.int64)[:, None] + offsets
    inside = (at >= 0) & (at < size)
    place = (at + 0.5) * CANVAS / size - 0.5
    below = np.floor(place)
    rows = np.zeros((64, CANVAS))
    owner = np.broadcast_to(np.arange(64)[:, None], at.shape)
    for column, share in ((below, 1 - (place - below)), (below + 1, place - below)):
        np.add.at(rows, (owner, column.clip(0, CANVAS - 1).astype(np.int64)), weights * share * inside)
    return np.asarray(rows / rows.sum(1, keepdims=True), dtype=np.float32)


def pdq(canvas: Gray, width: int, height: int) -> tuple[bytes, int]:
    """(32 bytes, quality 0 to 100) of a picture of width x height, from its gray [CANVAS, CANVAS] rendering.

    It is Meta's PDQ: where quality is 80 or more, within 10 of 256 bits of the reference, which filters every pixel of the
    whole picture (docs/log.md). A quality of 50 or more is trustworthy."""
    buffer = np.asarray(pdq_rows(height) @ canvas @ pdq_rows(width).T, np.float32)
    dct = PDQ_DCT @ buffer @ PDQ_DCT.T
    bits = (dct > np.median(dct)).reshape(-1)
    return np.packbits(bits[::-1]).tobytes(), pdq_quality(buffer)


def pdq_quality(buffer: Gray) -> int:
    """The sum of truncated steps between neighbours, divided by 90, at most 100. Hashes of flat pictures mean nothing."""
    down = np.abs(np.trunc(np.diff(buffer, axis=0) * (100 / 255)))
    across = np.abs(np.trunc(np.diff(buffer, axis=1) * (100 / 255)))
    return min(100, int((down.sum() + across.sum()) / 90))
