"""Perceptual hashes of a picture: the 64-bit DCT pHash and the 256-bit PDQ with its quality.

Both are linear maps of the gray picture up to their last step, so each is two small matrix products; the matrices are
built once per size from the definition's own steps.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

Gray = NDArray[np.float32]  # [height, width], 0 to 255
CANVAS = 256  # pixels a side; from 128, one PDQ bit in ten is another
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R 601, as Pillow's "L" and PDQ's reference


def luma(rgb: NDArray[np.uint8]) -> Gray:
    """[height, width, 3] to [height, width]."""
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
    """[64, CANVAS]: PDQ's filter along one side of a picture of `size` pixels, as seen on a canvas of CANVAS.

    The definition runs a box filter of `window` pixels twice and samples 64 points, on all pixels of the picture. Its
    window is lopsided by half a pixel and its points are rounded down, so the result depends on the size of the picture:
    the same weights are laid over the canvas here, between its pixels where need be."""
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

    Meta's PDQ: within 10 of 256 bits of the reference, which filters every pixel of the whole picture, wherever quality is
    80 or more (docs/log.md); a quality of 50 and more is trustworthy."""
    buffer = np.asarray(pdq_rows(height) @ canvas @ pdq_rows(width).T, np.float32)
    dct = PDQ_DCT @ buffer @ PDQ_DCT.T
    bits = (dct > np.median(dct)).reshape(-1)
    return np.packbits(bits[::-1]).tobytes(), pdq_quality(buffer)


def pdq_quality(buffer: Gray) -> int:
    """Sum of the truncated steps between neighbours, over 90, at most 100: flat pictures have meaningless hashes."""
    down = np.abs(np.trunc(np.diff(buffer, axis=0) * (100 / 255)))
    across = np.abs(np.trunc(np.diff(buffer, axis=1) * (100 / 255)))
    return min(100, int((down.sum() + across.sum()) / 90))
