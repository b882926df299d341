"""The cap on the pairs of a query, and the threshold for critical t that follows from it (design section 7)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from wit.arrays import Floats, Ints
from wit.plan import balance, ranks
from wit.plan.config import PlanConfig
from wit.plan.ranks import Search


@dataclass(frozen=True, slots=True)
class Threshold:
    """Rows with a critical t below `t` are planned, about `rows` of them; `t` is the cap times the oversample."""

    cap: float
    t: float
    rows: int


def begin(config: PlanConfig) -> Search:
    """The search for the cap that a target asks for: among all rows, the critical t that so many are below. For nothing where the
    cap is given."""
    groups = np.zeros(0 if config.target is None else 1, np.int32)
    return ranks.begin(groups, config.target or 0)


def solve(cells: Ints, found: Search, *, config: PlanConfig) -> Threshold:
    """The cap that was asked for; for a target, what was found: infinite where there are no more rows."""
    reached = float(found.values[0]) if len(found.groups) else float("inf")
    cap = float(config.max_per_query) if config.target is None else reached
    t = cap * config.oversample
    cell = int(balance.cells_of(np.array([t]))[0]) if np.isfinite(t) else len(cells)
    rows = int(cells[: cell + 1].sum())  # up to one cell too many: it only sizes partitions
    return Threshold(cap, t, rows)


def effective_counts(counts: Ints, hard: Sequence[tuple[int, float]]) -> Floats:
    """[queries] the factors of the draws: the counts, or for queries in `hard` (`--cap hard`) the count given there."""
    weights = counts.astype(np.float64)
    for query, count in hard:
        weights[query] = count
    return weights


def hard_count(draws: Iterable[Floats], cap: int) -> float:
    """The smallest count that makes u x count < cap false for the draw after the `cap` smallest of one query: true for those, but
    for draws that are equal to it or within one part in 2 ** 53, which stay out too."""
    values = np.concatenate(list(draws))
    first_out = float(np.partition(values, cap)[cap])
    count = cap / first_out
    while first_out * math.nextafter(count, 0) >= cap:  # the quotient was rounded up
        count = math.nextafter(count, 0)
    while first_out * count < cap:  # or down
        count = math.nextafter(count, math.inf)
    return count
