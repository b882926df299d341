"""How many of a query's planned pairs survive, and how many it lacks because it was oversampled too little (design section 7)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from wit.arrays import Floats, Ints
from wit.plan import balance
from wit.select.config import SelectConfig
from wit.select.keep import query_ids, survivors


@dataclass(frozen=True, slots=True)
class Memberships:
    """[queries] (pair, query) memberships in the rows of some raw shards: planned, and surviving. They add up over shards."""

    planned: Ints
    surviving: Ints

    def __add__(self, other: Memberships) -> Memberships:
        return Memberships(self.planned + other.planned, self.surviving + other.surviving)


def membership_counts(raw: pa.Table, *, queries: int, config: SelectConfig) -> Memberships:
    """What one raw shard adds to the measured survival of every query."""
    planned, surviving = (query_ids(rows)[3] for rows in (raw, survivors(raw, config)[0]))
    return Memberships(balance.count_queries(planned, queries), balance.count_queries(surviving, queries))


def surviving_counts(counts: npt.NDArray[Any], memberships: Memberships) -> Floats:
    """count(query) x measured survival of the query's sampled pairs [queries]."""
    survival = memberships.surviving / np.maximum(memberships.planned, 1)
    return np.asarray(counts * survival, np.float64)


@dataclass(frozen=True, slots=True)
class Shortfall:
    """How many pairs a query lacks that was sampled too thinly (plan's oversample was below 1 / survival), and so missed its cap
    although the web has enough pairs."""

    missing: Floats  # [queries] pairs that a query lacks; 0 where it lacks none
    oversample: Floats  # [queries] the oversample that would have been enough; 0 where it lacks none, or none survives

    def describe(self, given: float) -> str:
        """One sentence for the owner of the build; empty where no query lacks pairs. `given` is the oversample used."""
        short = int((self.missing > 0.5).sum())
        if not short:
            return ""
        return (
            f"{short:,} queries end below their cap although the web has enough of them: they lack {self.missing.sum():,.0f} "
            f"pairs in all. --oversample {self.oversample.max():.2f} would have been enough, it was {given:g}."
        )


def still_lacking(short: Shortfall, kept: Ints, t: float) -> Shortfall:
    """The shortfall that remains when a pair kept for one query counts for every query it has. `kept` [queries], `t` the cap."""
    missing = np.minimum(short.missing, np.maximum(t - kept, 0))
    return Shortfall(missing, np.where(missing > 0.5, short.oversample, 0))


def shortfall(counts: npt.NDArray[Any], memberships: Memberships, *, t: float, oversample: float) -> Shortfall:
    """The shortfall of each query, from the count that plan weighed its draws with, its memberships, the cap `t` and plan's
    oversample."""
    survival = memberships.surviving / np.maximum(memberships.planned, 1)
    short = (counts > t * oversample) & (memberships.planned > 0) & (survival * oversample < 1)
    missing = np.zeros(len(counts))
    missing[short] = np.minimum(t, counts[short] * survival[short]) - t * oversample * survival[short]
    enough = np.divide(1, survival, out=np.zeros_like(survival), where=short & (survival > 0))
    return Shortfall(np.maximum(missing, 0), enough)
