"""The knobs of select: which fetched pictures are kept."""

from __future__ import annotations

from dataclasses import dataclass

from wit.knobs import Range, check_ranges
from wit.select.filters import FilterConfig

RANGES = {
    "max_captions_per_sample": Range(1, 10_000),
}


@dataclass(frozen=True, slots=True)
class SelectConfig(FilterConfig):
    """What is kept of what arrived."""

    max_captions_per_sample: int = 16
    """captions that a cluster of duplicates carries, the one that is written included"""

    def __post_init__(self) -> None:
        check_ranges(self, self.BOUNDS | RANGES)
