"""The knobs of the published set."""

from __future__ import annotations

from dataclasses import dataclass

from wit.knobs import Range, check_ranges

RANGES = {
    "samples_per_shard": Range(1, 1e9),
    "raw_shards_per_group": Range(1, 1e6),
    "publish_buffer_mb": Range(1e-3, 1e6),
}


@dataclass(frozen=True, slots=True)
class PublishConfig:
    """How the final shards are cut and shuffled."""

    samples_per_shard: int = 10_000
    """samples of a final shard; the last holds the rest"""
    raw_shards_per_group: int = 64
    """raw shards that final shards draw from at once: more mixes better and reads smaller ranges"""
    publish_buffer_mb: float = 64
    """pictures that a publish worker holds; samples are shuffled within it"""

    def __post_init__(self) -> None:
        check_ranges(self, RANGES)
