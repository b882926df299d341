"""The knobs of the plan."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from wit.errors import InputError


@dataclass(frozen=True, slots=True)
class PlanConfig:
    max_per_query: int = 20_000
    """pairs that one query contributes at most (CLIP section 2.2); ignored with --target"""
    target: int | None = None
    """planned rows in all: the cap per query is solved for it (400M: --target 400000000)"""
    cap: Literal["expected", "hard"] = "expected"
    """expected: a query contributes max-per-query on average; hard: never more"""
    oversample: float = 2.0
    """plan this many times the cap, to have it after download losses; 1 / the expected survival"""
    max_captions_per_url: int = 16
    """captions kept for one URL"""
    max_urls_per_caption: int = 1_000
    """URLs that one caption may stand at; the rest is thinned by hash (0 = no limit)"""
    max_urls_per_domain: int = 0
    """URLs of one registrable domain; the rest is thinned by hash (0 = no limit)"""
    max_urls_per_domain_partition: int = 50_000
    """a larger domain gets partitions of its own, which one worker takes in turn"""
    max_domain_hours: float = 72
    """a domain or host with more planned URLs than its rate lets anybody fetch in this time is thinned by hash (0 = no limit)"""
    rows_per_bucket: int = 250_000
    """candidate rows that one plan worker holds"""
    rows_per_partition: int = 100_000
    """planned URLs that one download worker owns, all of one domain together"""
    rows_per_raw_shard: int = 10_000
    """planned URLs in one raw shard: the unit that is published, resumed and retried"""

    def __post_init__(self) -> None:
        if self.cap == "hard" and self.target is not None:
            raise InputError("--cap hard needs --max-per-query and --target solves for it: leave out one of the two")
        if min(self.max_per_query, self.rows_per_bucket, self.rows_per_partition, self.rows_per_raw_shard) < 1:
            raise InputError("--max-per-query and the --rows-per-... options must be at least 1")
        if not 0 <= self.max_domain_hours < math.inf:  # nor is nan
            raise InputError(
                f"--max-domain-hours is {self.max_domain_hours}: give a number from 0 on, or 0 for no limit"
            )
        if self.max_urls_per_domain_partition < 1:
            raise InputError("--max-urls-per-domain-partition must be at least 1")
        if not 1 <= self.oversample < math.inf:
            raise InputError(f"--oversample is {self.oversample}: it must be at least 1, for instance 2")
