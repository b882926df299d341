"""The knobs of the published set."""

from __future__ import annotations

from dataclasses import dataclass

from wit.errors import InputError


@dataclass(frozen=True, slots=True)
class PublishConfig:
    samples_per_shard: int = 10_000
    """samples of a final shard; the last holds the rest"""
    raw_shards_per_group: int = 64
    """raw shards that final shards draw from at once: more mixes better and reads smaller ranges"""
    publish_buffer_mb: float = 64
    """pictures that a publish worker holds; samples are shuffled within it"""

    def __post_init__(self) -> None:
        for flag, value in (
            ("--samples-per-shard", self.samples_per_shard),
            ("--raw-shards-per-group", self.raw_shards_per_group),
            ("--publish-buffer-mb", self.publish_buffer_mb),
        ):
            if value <= 0:
                raise InputError(f"{flag} is {value}: give a number above 0")
