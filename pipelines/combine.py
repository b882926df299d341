"""Combiners of the small global facts: arrays and counts by hash that add up over buckets."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.pvalue import AsSingleton

from wit.arithmetic import ceil_div
from wit.plan.ranks import ROUNDS, Cells, Search, add_cells, joined, narrow

SLAB = 512  # elements that meet on one key: 4 kB from each bundle, 25 MB from 6,000


def slabs_of(array: Any) -> Iterator[tuple[int, tuple[Any, Any]]]:
    """(slab, (positions in it, values)) of an array's non-zero elements: a part of a set touches few of 500,000 queries."""
    flat = array.ravel()
    at = np.flatnonzero(flat)
    for slab in np.split(at, np.flatnonzero(np.diff(at // SLAB)) + 1) if len(at) else ():
        yield int(slab[0] // SLAB), ((slab % SLAB).astype(np.int16), flat[slab])


class SumSlabs(beam.CombineFn):  # type: ignore[misc]
    """Adds the int64 elements of one slab, as `slabs_of` gives them."""

    def create_accumulator(self) -> list[Any]:
        return []

    def add_input(self, total: list[Any], part: tuple[Any, Any]) -> list[Any]:
        """Adds one part into a dense accumulator, made at the first."""
        total = total or [np.zeros(SLAB, np.int64)]
        total[0][part[0]] += part[1]  # positions are distinct
        return total

    def merge_accumulators(self, totals: Iterable[list[Any]]) -> list[Any]:
        merged: list[Any] = []
        for total in totals:
            if total:
                merged = [np.add(merged[0], total[0], out=merged[0])] if merged else total
        return merged

    def extract_output(self, total: list[Any]) -> Any:
        return total[0] if total else np.zeros(SLAB, np.int64)


class SumWith(beam.CombineFn):  # type: ignore[misc]
    """Adds counts with `add`, a function of an iterable of them; without any input the result is `add([])`."""

    def __init__(self, add: Callable[[Iterable[Any]], Any]) -> None:
        self.add = add

    def create_accumulator(self) -> list[Any]:
        return []

    def add_input(self, parts: list[Any], part: Any) -> list[Any]:
        return [self.add([*parts, part])]

    def merge_accumulators(self, accumulators: Iterable[list[Any]]) -> list[Any]:
        parts = [part for parts in accumulators for part in parts]
        return [self.add(parts)] if parts else []

    def extract_output(self, parts: list[Any]) -> Any:
        return self.add(parts)


class SumCells(beam.CombineFn):  # type: ignore[misc]
    """Adds `ranks.Cells` of one slab. Some parts are held until they are as large as their sum, so that each is added once or
    twice."""

    def create_accumulator(self) -> list[Cells]:
        return []

    def add_input(self, parts: list[Cells], part: Cells) -> list[Cells]:
        return _pooled([*parts, part])

    def merge_accumulators(self, accumulators: Iterable[list[Cells]]) -> list[Cells]:
        merged: list[Cells] = []
        for parts in accumulators:
            merged = _pooled([*merged, *parts])
        return merged

    def extract_output(self, parts: list[Cells]) -> Cells:
        return add_cells(parts)


HELD_CELLS = 100_000  # 1.6 MB


def _pooled(parts: list[Cells]) -> list[Cells]:
    held = sum(len(at) for at, _ in parts[1:])
    return [add_cells(parts)] if held > max(HELD_CELLS, len(parts[0][0])) else parts


def whole(slabs: list[tuple[int, Any]], shape: tuple[int, ...]) -> Any:
    """The array of these slabs; zeros where there is none."""
    size = math.prod(shape)
    total = np.zeros((ceil_div(size, SLAB), SLAB), np.int64)
    for slab, values in slabs:
        total[slab] = values
    return total.ravel()[:size].reshape(shape)


@dataclass(eq=False)  # not frozen: Beam sets attributes of its own
class Summed(beam.PTransform):  # type: ignore[misc]
    """Arrays of one shape -> their sum. Only their non-zero elements travel, by slabs: no key gets whole arrays."""

    shape: tuple[int, ...]

    def expand(self, arrays: beam.PCollection) -> beam.PCollection:
        return (
            arrays
            | "Slabs" >> beam.FlatMap(slabs_of)
            | "SumSlabs" >> beam.CombinePerKey(SumSlabs())
            | "All" >> beam.combiners.ToList()
            | "Whole" >> beam.Map(whole, self.shape)
        )


@dataclass(eq=False)  # not frozen: Beam sets attributes of its own
class FindRanks(beam.PTransform):  # type: ignore[misc]
    """A search that begins (`wit.plan.ranks`) -> the same when all rounds are done. `count` gives a part's (slab, counts) in a
    round; each round reads all parts."""

    parts: beam.PCollection
    count: Callable[..., Iterable[tuple[int, Cells]]]

    def expand(self, search: beam.PCollection) -> beam.PCollection:
        """One round behind the other."""
        for number in range(ROUNDS):
            search = (
                self.parts
                | f"Count{number}" >> beam.FlatMap(self.count, AsSingleton(search))
                | f"Sum{number}" >> beam.CombinePerKey(SumCells())
                | f"Narrow{number}" >> beam.Map(_narrow, AsSingleton(search))
                | f"Join{number}" >> beam.CombineGlobally(SumWith(joined))
            )
        return search


def _narrow(slab: tuple[int, Cells], search: Search) -> Search:
    return narrow(slab[1], search)
