"""What plan says of its units, beside their files: the facts in its markers."""

from __future__ import annotations

from dataclasses import dataclass

from wit.plan.owners import KeptRates


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
