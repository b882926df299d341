"""What plan records besides rows: facts in the markers of its units and of the whole set, and the table of queries."""

from __future__ import annotations

import math
from dataclasses import dataclass

from wit.arrays import Floats, Ints
from wit.plan.owners import KeptRates
from wit.store import parquet
from wit.store.manifests import Manifest, Unit
from wit.store.parts import StageDir
from wit.typed import optional

RATES, QUERIES = Unit("rates"), Unit("queries")  # units that stand for the whole set
COUNTED, SPENT = Unit("counted"), Unit("spent")  # and how far its passes have come, among what they hand on


@dataclass(frozen=True, slots=True)
class Pairs:
    """The facts of a pass over a bucket: how many pairs the bucket holds."""

    pairs: int


GIANT_UNKNOWN = -2  # version 0.1 did not say whether a partition is a piece of a giant


@dataclass(frozen=True, slots=True)
class Partition:
    """The facts of a host partition: how many raw shards it will give, and the number of the giant it is a piece of, if any."""

    shards: int
    giant: int | None = GIANT_UNKNOWN


@dataclass(frozen=True, slots=True)
class Solved:
    """The facts of the whole set: the cap, and the threshold for critical t, which is `oversample` times the cap; None where
    every row is planned. Versions up to 0.3 kept the threshold alone."""

    threshold: float | None
    cap: float | None = None


@dataclass(frozen=True, slots=True)
class Below:
    """The facts of the whole set that only a half-done plan needs, once it is counted."""

    rows: int
    """About how many rows are below the threshold."""


@dataclass(frozen=True, slots=True)
class Shape:
    """In how many pieces a plan is worked out. Its first start decides: a later one goes on with the same pieces."""

    buckets: int
    """of pairs, by URL"""
    ranges: int
    """of names, by hash"""
    partitions: int
    """at most so many host partitions"""


@dataclass(frozen=True, slots=True)
class Begun:
    """The facts of the whole set that a plan's first start decides: the rates that it goes by, and its shape, which versions up
    to 0.5 did not keep."""

    rates: KeptRates
    shape: Shape | None = optional(None)
    by_task: bool = optional(False)
    """Whether a URL's captions are cut over all chunks of a task. Earlier versions cut each chunk alone, and what they dropped is
    counted so; of no more rows than one chunk it is the same, and nothing is said."""


@dataclass(frozen=True, slots=True)
class PlanFacts:
    """What plan learned about the whole set: the memberships and the weight of each query, and the cap."""

    path: str
    """The table of queries."""
    pairs: Ints
    """[queries] memberships before balancing."""
    weights: Floats
    """[queries] the factor of the draws of each query's pairs."""
    cap: float
    """The cap that plan solved for; infinite where every row is planned."""
    sampled: float = math.inf
    """Rows with a critical t below this were planned."""


def read_facts(stage: StageDir, manifest: Manifest, *, oversample: float) -> PlanFacts:
    """The facts of a finished plan. Where an earlier version kept the threshold alone, the cap is the threshold divided by
    `oversample`."""
    (marker,) = manifest.of(QUERIES.kind)
    path, solved = stage.file(marker, "rows"), stage.facts(marker, Solved)
    table = parquet.read_table(path, ["pairs", "weight"])
    threshold = float("inf") if solved.threshold is None else solved.threshold
    cap = threshold / oversample if solved.cap is None else solved.cap
    return PlanFacts(path, table["pairs"].to_numpy(), table["weight"].to_numpy(), cap, threshold)
