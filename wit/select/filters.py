"""Which pictures are too poor to keep, judged by measures and scores alone. A filter answers "why drop it?" for a whole table.

To add one: a function here, an entry in `image_filters`, a knob in `SelectConfig`, and one row in its test.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from wit.arrays import Mask
from wit.records import Reason

ImageFilter = tuple[Reason, Callable[[pa.Table], Mask]]


def too_small(images: pa.Table, *, min_side_px: int) -> Mask:
    """True where the shorter side of the picture as fetched is below the limit."""
    return np.minimum(*_original_size(images)) < min_side_px


def too_narrow(images: pa.Table, *, max_aspect_ratio: float) -> Mask:
    """True where the longer side is more than `max_aspect_ratio` times the shorter: banners, rulers, spacers."""
    width, height = _original_size(images)
    return np.maximum(width, height) > max_aspect_ratio * np.minimum(width, height)


def _original_size(images: pa.Table) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    width, height = (images[f"original_{side}"].to_numpy().astype(np.int64) for side in ("width", "height"))
    return width, height


def low_score(images: pa.Table, *, min_clip_score: float) -> Mask:
    """True where the caption fits the picture worse than the limit; what has no score passes."""
    scores: npt.NDArray[np.float64] = images["clip_score"].to_numpy().astype(np.float64)  # null is NaN, below nothing
    return scores < min_clip_score


def image_filters(
    *, min_side_px: int, max_aspect_ratio: float, min_clip_score: float | None = None
) -> tuple[ImageFilter, ...]:
    """The filters in the order they are asked; the first that objects names the Reason."""
    of_scores = (
        () if min_clip_score is None else ((Reason.LOW_SCORE, partial(low_score, min_clip_score=min_clip_score)),)
    )
    return (
        (Reason.IMAGE_TOO_SMALL, partial(too_small, min_side_px=min_side_px)),
        (Reason.ASPECT_RATIO, partial(too_narrow, max_aspect_ratio=max_aspect_ratio)),
        *of_scores,
    )


def first_reasons(images: pa.Table, filters: Sequence[ImageFilter]) -> npt.NDArray[np.object_]:
    """Per row the Reason of the first filter that objects, or None."""
    reasons = np.full(len(images), None, dtype=object)
    for reason, objects in reversed(filters):
        reasons[objects(images)] = reason
    return reasons
