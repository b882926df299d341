"""Perceptual hashes of a picture: the 64-bit DCT pHash and the 256-bit PDQ with its quality.

Both are linear maps of the gray picture up to their last step, so each is two small matrix products; the matrices are
built once per size from the definition's own steps.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

Gray = NDArray[np.float32]  # [height, width], 0 to 255
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


@functools.lru_cache(maxsize=4096)
def pdq_rows(size: int) -> NDArray[np.float32]:
    """[64, size]: two passes of PDQ's box filter along one side of a picture, then its 64 sample points."""
    window = (size + 127) // 128  # the reference's jarosz window: size / (2 * 64), rounded up
    passes = box_filter(size, window)
    sampled = ((np.arange(64) + 0.5) * size / 64).astype(np.int64)
    return np.ascontiguousarray((passes @ passes)[sampled]).astype(np.float32)


def box_filter(size: int, window: int) -> NDArray[np.float64]:
    """[size, size]: the running mean of PDQ's `box1DFloat`, shorter at both ends."""
    half = (window + 2) // 2
    at = np.arange(size)
    low = np.maximum(at - (window - half), 0)
    high = np.minimum(at + half, size)
    inside = (at[None, :] >= low[:, None]) & (at[None, :] < high[:, None])
    means: NDArray[np.float64] = inside / inside.sum(1, keepdims=True)
    return means


def pdq(gray: Gray) -> tuple[bytes, int]:
    """(32 bytes, quality 0 to 100) of a gray picture of any size, by Meta's PDQ definition; 50 and more is trustworthy."""
    buffer = np.asarray(pdq_rows(gray.shape[0]) @ gray @ pdq_rows(gray.shape[1]).T, np.float32)
    dct = PDQ_DCT @ buffer @ PDQ_DCT.T
    bits = (dct > np.median(dct)).reshape(-1)
    return np.packbits(bits[::-1]).tobytes(), pdq_quality(buffer)


def pdq_quality(buffer: Gray) -> int:
    """Sum of the truncated steps between neighbours, over 90, at most 100: flat pictures have meaningless hashes."""
    down = np.abs(np.trunc(np.diff(buffer, axis=0) * (100 / 255)))
    across = np.abs(np.trunc(np.diff(buffer, axis=1) * (100 / 255)))
    return min(100, int((down.sum() + across.sum()) / 90))
