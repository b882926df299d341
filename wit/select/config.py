"""The knobs of what is kept of what arrived."""

from __future__ import annotations

from dataclasses import dataclass

from wit.ranges import Range, check_ranges

RANGES = {
    "min_image_side_px": Range(0, 100_000),
    "max_aspect_ratio": Range(1, 100_000),
    "min_clip_score": Range(-1, 1),
    "max_captions_per_sample": Range(1, 10_000),
    "rows_per_dedup_bucket": Range(1, 1e9),
}


@dataclass(frozen=True, slots=True)
class SelectConfig:
    min_image_side_px: int = 32
    """pictures whose shorter side, as fetched, is below this are dropped"""
    max_aspect_ratio: float = 3.0
    """pictures whose longer side is more than this times the shorter are dropped (DataComp's bound)"""
    min_clip_score: float | None = None
    """pairs whose cosine similarity (-1 to 1) is below this are dropped (needs scores; useful values depend on the model)"""
    max_captions_per_sample: int = 16
    """captions that a cluster of duplicates carries, the one that is written included"""
    rows_per_dedup_bucket: int = 500_000
    """pictures that one worker compares"""

    def __post_init__(self) -> None:
        check_ranges(self, RANGES)
