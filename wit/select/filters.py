"""Which pictures are too poor to keep, judged by size and scores alone. A filter answers "why drop it?" for a whole table.

To add one: a function here, a knob in `FilterConfig`, and a row in `FILTERS`; and one row in its test.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from wit.arrays import Mask
from wit.knobs import Range
from wit.reasons import Reason


@dataclass(frozen=True, slots=True)
class FilterConfig:
    """The bounds of the filters; at None a filter is off."""

    min_image_side_px: int = 32
    """pictures whose shorter side, as fetched, is below this are dropped"""
    max_aspect_ratio: float = 3.0
    """pictures whose longer side is more than this times the shorter are dropped (DataComp's bound)"""
    min_clip_score: float | None = None
    """pairs whose cosine similarity (-1 to 1) is below this are dropped (needs scores; useful values depend on the model)"""

    BOUNDS: ClassVar[dict[str, Range]] = {
        "min_image_side_px": Range(0, 100_000),
        "max_aspect_ratio": Range(1, 100_000),
        "min_clip_score": Range(-1, 1),
    }


@dataclass(frozen=True, slots=True)
class ImageFilter:
    """`objects` takes a RAW table with scores and the value of the knob; it is True where a picture is dropped for the Reason."""

    reason: Reason
    knob: str
    objects: Callable[[pa.Table, Any], Mask]
    score: str = ""
    """The column of scores that the filter reads; empty if it reads none."""


def too_small(images: pa.Table, min_side_px: int) -> Mask:
    """True where the shorter side of the picture as fetched is below the limit."""
    return np.minimum(*_original_size(images)) < min_side_px


def too_narrow(images: pa.Table, max_aspect_ratio: float) -> Mask:
    """True where the longer side is more than `max_aspect_ratio` times the shorter: banners, rulers, spacers."""
    width, height = _original_size(images)
    return np.maximum(width, height) > max_aspect_ratio * np.minimum(width, height)


def _original_size(images: pa.Table) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    width, height = (images[f"original_{side}"].to_numpy().astype(np.int64) for side in ("width", "height"))
    return width, height


def too_low(images: pa.Table, least: float, *, score: str) -> Mask:
    """True where a score is below the limit; a picture without a score passes."""
    scores: npt.NDArray[np.float64] = images[score].to_numpy().astype(np.float64)  # null is NaN, below nothing
    return scores < least


def by_score(reason: Reason, knob: str, score: str) -> ImageFilter:
    """The filter that drops pictures below a bound in a column of scores."""
    return ImageFilter(reason, knob, partial(too_low, score=score), score)


FILTERS = (  # in the order they are asked; the first that objects names the Reason
    ImageFilter(Reason.IMAGE_TOO_SMALL, "min_image_side_px", too_small),
    ImageFilter(Reason.ASPECT_RATIO, "max_aspect_ratio", too_narrow),
    by_score(Reason.LOW_SCORE, "min_clip_score", "clip_score"),
)


def filters_on(config: FilterConfig) -> list[ImageFilter]:
    """The filters that are on under these knobs, in their order."""
    return [one for one in FILTERS if getattr(config, one.knob) is not None]


def scores_read(config: FilterConfig) -> list[str]:
    """The columns of scores that the filters need."""
    return list(dict.fromkeys(one.score for one in filters_on(config) if one.score))


def first_reasons(images: pa.Table, config: FilterConfig) -> npt.NDArray[np.object_]:
    """Per row the Reason of the first filter that objects, or None."""
    reasons = np.full(len(images), None, dtype=object)
    for one in reversed(filters_on(config)):
        reasons[one.objects(images, getattr(config, one.knob))] = one.reason
    return reasons
