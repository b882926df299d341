"""The knobs of the plan."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from wit.errors import InputError
from wit.knobs import MANY, Range, added, check_ranges

RANGES = {
    **dict.fromkeys(("max_per_query", "target"), Range(1, MANY)),
    "oversample": Range(1, 1_000),
    "max_captions_per_url": Range(1, 10_000),
    **dict.fromkeys(("max_urls_per_caption", "max_urls_per_domain"), Range(0, MANY)),
    "max_domain_hours": Range(0, 1e6),
    "max_urls_per_domain_partition": Range(1, MANY),
    **dict.fromkeys(("rows_per_partition", "rows_per_raw_shard"), Range(1, 1e9)),
}


@dataclass(frozen=True, slots=True)
class PlanConfig:
    """What is planned of the candidates, and in which pieces."""

    max_per_query: int = 20_000
    """samples that one query contributes, on average or at most as --cap says (CLIP section 2.2); ignored with --target"""
    target: int | None = None
    """samples that are published in all: the cap is solved for it, among those that arrive (400M is 400000000)"""
    cap: Literal["expected", "hard"] = "expected"
    """expected: a query contributes max-per-query samples on average; hard: never more"""
    oversample: float = 2.0
    """plan this many times the cap, to have it after download losses; 1 / the expected survival"""
    max_captions_per_url: int = 16
    """captions kept for one URL"""
    max_urls_per_caption: int = 1_000
    """about so many URLs of one caption stay: the rest is thinned by hash (0 = no limit)"""
    max_urls_per_domain: int = 0
    """about so many URLs of one registrable domain stay: the rest is thinned by hash (0 = no limit)"""
    max_urls_per_domain_partition: int = 50_000
    """a larger domain gets partitions of its own, which one worker takes in turn"""
    max_domain_hours: float = field(default=72, metadata=added(since=2, before=0))
    """a domain or host with more planned URLs than its rate lets anybody fetch in this time is thinned by hash (0 = no limit)"""
    rows_per_partition: int = 100_000
    """planned URLs that one download worker owns, all of one domain together"""
    rows_per_raw_shard: int = 10_000
    """planned URLs in one raw shard: the unit that is published, resumed and retried"""

    def __post_init__(self) -> None:
        if self.cap == "hard" and self.target is not None:
            raise InputError("--cap hard needs --max-per-query and --target solves for it: leave out one of the two")
        check_ranges(self, RANGES)
