"""Combiners of the small global facts: arrays and counts by hash that add up over buckets."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np

from wit.plan.ranks import Cells, add_cells


def sparse(array: Any) -> tuple[Any, Any]:
    """(flat positions, values) of the non-zero elements: a part of a set touches few of 500,000 queries."""
    flat = array.ravel()
    at = np.flatnonzero(flat)
    return at.astype(np.int32 if flat.size < 2**31 else np.int64), flat[at]


class SumArrays(beam.CombineFn):  # type: ignore[misc]
    """Adds int64 arrays of one shape, given as `sparse`."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape

    def create_accumulator(self) -> list[Any]:
        return []

    def add_input(self, total: list[Any], part: tuple[Any, Any]) -> list[Any]:
        """Adds one `sparse` array into a dense accumulator, made at the first."""
        if not total:
            total = [np.zeros(math.prod(self.shape), np.int64)]
        total[0][part[0]] += part[1]  # positions are distinct
        return total

    def merge_accumulators(self, totals: Iterable[list[Any]]) -> list[Any]:
        merged: list[Any] = []
        for total in totals:
            if total:
                merged = [np.add(merged[0], total[0], out=merged[0])] if merged else total
        return merged

    def extract_output(self, total: list[Any]) -> Any:
        return total[0].reshape(self.shape) if total else np.zeros(self.shape, np.int64)


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


class Concatenate(beam.CombineFn):  # type: ignore[misc]
    """Joins arrays; the order is the engine's, so whoever uses them sorts or partitions."""

    def create_accumulator(self) -> list[Any]:
        return []

    def add_input(self, parts: list[Any], part: Any) -> list[Any]:
        return [*parts, part]

    def merge_accumulators(self, accumulators: Iterable[list[Any]]) -> list[Any]:
        return [part for parts in accumulators for part in parts]

    def extract_output(self, parts: list[Any]) -> Any:
        return np.concatenate(parts) if parts else np.zeros(0)


@dataclass(eq=False)  # not frozen: Beam sets attributes of its own
class Summed(beam.PTransform):  # type: ignore[misc]
    """Arrays of one shape -> their sum. Only their non-zero elements travel."""

    shape: tuple[int, ...]

    def expand(self, arrays: beam.PCollection) -> beam.PCollection:
        return arrays | beam.Map(sparse) | beam.CombineGlobally(SumArrays(self.shape))
