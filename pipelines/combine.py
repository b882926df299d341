"""Combiners of the small global facts: arrays and heavy hitters that add up over buckets."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import apache_beam as beam
import numpy as np

from wit.plan import Heavy, add_heavy


class SumArrays(beam.CombineFn):  # type: ignore[misc]
    """Adds numpy arrays of one shape; `empty` where there was none."""

    def __init__(self, empty: Any) -> None:
        self.empty = empty

    def create_accumulator(self) -> Any:
        return None

    def add_input(self, total: Any, part: Any) -> Any:
        return part.copy() if total is None else np.add(total, part, out=total)

    def merge_accumulators(self, totals: Iterable[Any]) -> Any:
        merged = None
        for total in totals:
            if total is not None:
                merged = self.add_input(merged, total)
        return merged

    def extract_output(self, total: Any) -> Any:
        return self.empty if total is None else total


class SumHeavy(beam.CombineFn):  # type: ignore[misc]
    """Adds the exact counts of heavy hitters."""

    def create_accumulator(self) -> list[Heavy]:
        return []

    def add_input(self, parts: list[Heavy], part: Heavy) -> list[Heavy]:
        return [add_heavy([*parts, part])]

    def merge_accumulators(self, accumulators: Iterable[list[Heavy]]) -> list[Heavy]:
        parts = [part for parts in accumulators for part in parts]
        return [add_heavy(parts)] if parts else []

    def extract_output(self, parts: list[Heavy]) -> Heavy:
        return add_heavy(parts)


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
