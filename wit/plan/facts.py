"""What plan says of its units, beside their files, and of the whole set: the facts in its markers, and the table of queries."""

from __future__ import annotations

from dataclasses import dataclass

from wit.arrays import Floats, Ints
from wit.plan.owners import KeptRates
from wit.store import parquet
from wit.store.manifests import Manifest, Unit
from wit.store.parts import StageDir

RATES, QUERIES = Unit("rates"), Unit("queries")  # the units that speak of the whole set


@dataclass(frozen=True, slots=True)
class Pairs:
    """Of a pass over a bucket: how many pairs it holds."""

    pairs: int


GIANT_UNKNOWN = -2  # version 0.1 did not say whether a partition is a piece of a giant


@dataclass(frozen=True, slots=True)
class Partition:
    """Of a host partition: its raw shards to be, and the number of the giant that it is a piece of."""

    shards: int
    giant: int | None = GIANT_UNKNOWN


@dataclass(frozen=True, slots=True)
class Solved:
    """Of the whole set: what critical t was compared with, and the cap, of which that is `oversample` times as much; None where
    every row is planned. Versions up to 0.3 kept the threshold alone."""

    threshold: float | None
    cap: float | None = None


@dataclass(frozen=True, slots=True)
class RatesKept:
    """Of the whole set: the rates that it goes by."""

    rates: KeptRates


@dataclass(frozen=True, slots=True)
class PlanFacts:
    """What plan learned about the whole set: of each query its memberships and the weight of its draws, and the cap."""

    path: str
    """The table of queries."""
    pairs: Ints
    """[queries] memberships before balancing."""
    weights: Floats
    """[queries] what the draws of its pairs were multiplied with."""
    cap: float
    """What plan solved for; infinite where every row is planned."""


def read_facts(stage: StageDir, manifest: Manifest, *, oversample: float) -> PlanFacts:
    """What a finished plan says of the whole set. Where an earlier version kept the threshold alone, `oversample` makes the
    cap of it."""
    (marker,) = manifest.of(QUERIES.kind)
    path, solved = stage.file(marker, "rows"), stage.facts(marker, Solved)
    table = parquet.read_table(path, ["pairs", "weight"])
    threshold = float("inf") if solved.threshold is None else solved.threshold
    cap = threshold / oversample if solved.cap is None else solved.cap
    return PlanFacts(path, table["pairs"].to_numpy(), table["weight"].to_numpy(), cap)
