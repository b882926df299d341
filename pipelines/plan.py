"""plan: candidates -> one row per URL, balanced, in shard lists by host partition. Rows are shuffled as descriptors."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.pvalue import AsList, AsSingleton

from pipelines import progress
from pipelines.combine import Concatenate, SumArrays, SumWith, sparse
from pipelines.context import Context
from wit import balance, units
from wit.owners import Owners, Rates, Routing, add_owners, plan_routing, rates_of
from wit.parts import Manifest, Marker, StageDir, Unit
from wit.plan import Heavy, PlanConfig, add_heavy, bucket_count, hard_count, sketch_cells
from wit.querylist import load_queries
from wit.slices import SliceRef, slice_refs


@dataclass(frozen=True, slots=True)
class Threshold:
    """Rows with a critical t below `t` are planned: about `rows` of them."""

    t: float
    rows: int


def solve(cells: Any, values: Any, *, config: PlanConfig) -> Threshold:
    """The cap times the oversample; for a target, the cap is the N-th smallest critical t."""
    total = int(cells.sum())
    if config.target is None:
        t = float(config.max_per_query) * config.oversample
    elif config.target >= total:
        t = float("inf")
    else:
        _, rank = balance.cell_of_rank(cells, config.target)
        t = balance.threshold_for(config.target, cells, values, rank) * config.oversample
    cell = int(balance.cells_of(np.array([t]))[0]) if np.isfinite(t) else len(cells)
    rows = int(cells[: cell + 1].sum())  # up to one cell too many: it only sizes partitions
    return Threshold(t, rows)


def target_cell(cells: Any, *, config: PlanConfig) -> int:
    if config.target is None or config.target >= int(cells.sum()):
        return -1
    return balance.cell_of_rank(cells, config.target)[0]


def effective_counts(counts: Any, hard: list[tuple[int, float]]) -> Any:
    """Counts as the draws are weighed with: those of `--cap hard` make exactly the cap's smallest draws pass."""
    weights = counts.astype(np.float64)
    for query, count in hard:
        weights[query] = count
    return weights


def _done(marker: Marker) -> Marker:
    progress.advance(1)
    return marker


@dataclass(frozen=True, slots=True)
class Passes:
    """The units of plan with what they all need; each takes a marker of the pass before and gives its own."""

    stage: StageDir
    config: PlanConfig
    queries: str
    query_count: int
    seed: int
    buckets: int
    cells: int
    rates: Rates

    def scatter(self, part: tuple[Unit, str]) -> Marker:
        unit, path = part
        return _done(units.scatter(self.stage, unit, path, seed=self.seed, buckets=self.buckets, config=self.config))

    def slices(self, marker: Marker) -> list[tuple[int, SliceRef]]:
        return slice_refs(self.stage, marker)

    def merge(self, bucket: tuple[int, Iterable[SliceRef]]) -> Marker:
        number, refs = bucket
        return _done(units.merge(self.stage, Unit.numbered("merge", number), refs, seed=self.seed, config=self.config))

    def sketch(self, merged: Marker) -> Any:
        return sparse(units.sketch(self.stage, merged, cells=self.cells))

    def count_heavy(self, merged: Marker, counts: Any) -> Heavy:
        return units.count_heavy(self.stage, merged, counts, rates=self.rates, config=self.config)

    def thin(self, merged: Marker, heavy: Heavy) -> Marker:
        unit = merged.unit.as_("thin")
        return _done(units.thin(self.stage, unit, merged, heavy, seed=self.seed, config=self.config))

    def count_queries(self, thinned: Marker) -> Any:
        return sparse(units.count_queries(self.stage, thinned, queries=self.query_count))

    def smallest_draws(self, thinned: Marker, counts: Any) -> list[tuple[int, Any]]:
        return units.smallest_draws(
            self.stage, thinned, counts, queries=self.queries, seed=self.seed, config=self.config
        )

    def hard_count(self, draws: tuple[int, Iterable[Any]]) -> tuple[int, float]:
        return draws[0], hard_count(draws[1], self.config.max_per_query)

    def weigh(self, thinned: Marker, weights: Any) -> Marker:
        unit = thinned.unit.as_("weigh")
        return _done(units.weigh(self.stage, unit, thinned, weights, queries=self.queries, seed=self.seed))

    def histogram(self, weighed: Marker) -> Any:
        return sparse(units.cells(self.stage, weighed))

    def values_of_cell(self, weighed: Marker, cell: int) -> Any:
        return units.values_of_cell(self.stage, weighed, cell) if cell >= 0 else np.zeros(0)

    def count_owners(self, weighed: Marker, heavy: Heavy, threshold: Threshold) -> Owners:
        return units.count_owners(self.stage, weighed, heavy, threshold.t, rates=self.rates)

    def routing(self, owners: Owners, threshold: Threshold) -> Routing:
        return plan_routing(owners, threshold.rows, self.config)

    def admit(self, weighed: Marker, threshold: Threshold, routing: Routing) -> Marker:
        unit = weighed.unit.as_("admit")
        return _done(units.admit(self.stage, unit, weighed, threshold.t, routing, seed=self.seed))

    def arrange(self, partition: tuple[int, Iterable[SliceRef]], routing: Routing) -> Marker:
        number, refs = partition
        unit, giant = Unit.numbered("part", number), routing.giant_of(number)
        return _done(units.arrange(self.stage, unit, refs, giant=giant, seed=self.seed, config=self.config))

    def publish_facts(self, threshold: Threshold, counts: Any, weights: Any) -> Marker:
        return units.publish_facts(self.stage, self.queries, threshold.t, counts, weights)


@dataclass(eq=False)  # not frozen: Beam sets attributes of its own
class Plan(beam.PTransform):  # type: ignore[misc]
    """(unit, candidates part) -> published partitions. Every pass publishes its parts, so a restart resumes in the middle."""

    passes: Passes

    def expand(self, parts: beam.PCollection) -> beam.PCollection:
        do, config = self.passes, self.passes.config
        merged = (
            parts
            | "Scatter" >> beam.Map(do.scatter)
            | "Slices" >> beam.FlatMap(do.slices)
            | "ByBucket" >> beam.GroupByKey()
            | "Merge" >> beam.Map(do.merge)
            | "Merged" >> beam.Reshuffle()
        )
        sketch = (
            merged | "Sketch" >> beam.Map(do.sketch) | "SumSketches" >> beam.CombineGlobally(SumArrays((2, do.cells)))
        )
        heavy = (
            merged
            | "CountHeavy" >> beam.Map(do.count_heavy, AsSingleton(sketch))
            | "SumHeavy" >> beam.CombineGlobally(SumWith(add_heavy))
        )
        thinned = merged | "Thin" >> beam.Map(do.thin, AsSingleton(heavy))
        counts = (
            thinned
            | "CountQueries" >> beam.Map(do.count_queries)
            | "SumCounts" >> beam.CombineGlobally(SumArrays((do.query_count,)))
        )
        weights = counts | "Weights" >> beam.Map(effective_counts, AsList(self.hard_counts(thinned, counts)))
        weighed = thinned | "Weigh" >> beam.Map(do.weigh, AsSingleton(weights))
        cells = (
            weighed
            | "Histogram" >> beam.Map(do.histogram)
            | "SumCells" >> beam.CombineGlobally(SumArrays((1 << balance.CELL_BITS,)))
        )
        cell = cells | "TargetCell" >> beam.Map(target_cell, config=config)
        values = (
            weighed
            | "ValuesOfCell" >> beam.Map(do.values_of_cell, AsSingleton(cell))
            | "AllValues" >> beam.CombineGlobally(Concatenate())
        )
        threshold = cells | "Solve" >> beam.Map(solve, AsSingleton(values), config=config)
        _ = threshold | "Facts" >> beam.Map(do.publish_facts, AsSingleton(counts), AsSingleton(weights))
        owners = (
            weighed
            | "CountOwners" >> beam.Map(do.count_owners, AsSingleton(heavy), AsSingleton(threshold))
            | "SumOwners" >> beam.CombineGlobally(SumWith(add_owners))
        )
        routing = owners | "Routing" >> beam.Map(do.routing, AsSingleton(threshold))
        return (
            weighed
            | "Admit" >> beam.Map(do.admit, AsSingleton(threshold), AsSingleton(routing))
            | "RoutedSlices" >> beam.FlatMap(do.slices)
            | "ByPartition" >> beam.GroupByKey()
            | "Arrange" >> beam.Map(do.arrange, AsSingleton(routing))
        )

    def hard_counts(self, thinned: beam.PCollection, counts: beam.PCollection) -> beam.PCollection:
        """(query, effective count) of the queries that `--cap hard` bounds; none for an expected cap."""
        if self.passes.config.cap == "expected":
            return counts.pipeline | "NoHardCap" >> beam.Create([], reshuffle=False)
        return (
            thinned
            | "SmallestDraws" >> beam.FlatMap(self.passes.smallest_draws, AsSingleton(counts))
            | "ByQuery" >> beam.GroupByKey()
            | "HardCounts" >> beam.Map(self.passes.hard_count)
        )


def passes(stage: StageDir, config: PlanConfig, *, queries: str, seed: int, rows: int, rates: Rates) -> Passes:
    """The passes over `rows` candidate rows, at rates that the plan keeps to from its first start on."""
    buckets, cells = bucket_count(rows, config.rows_per_bucket), sketch_cells(rows)
    return Passes(stage, config, queries, len(load_queries(queries)), seed, buckets, cells, units.rates(stage, rates))


def run_plan(context: Context) -> Manifest:
    config, stage = context.config.plan, context.stage("plan")
    candidates, above = context.manifest("candidates"), context.stage("candidates")
    parts = [(part.unit.as_("scatter"), above.file(part, "rows")) for part in candidates.parts]
    rates = rates_of(config, context.config.fetch)
    rows, queries = candidates.out, context.config.queries
    plan = Plan(passes(stage, config, queries=queries, seed=context.seed, rows=rows, rates=rates))
    with progress.bar("plan", stage, total=None, unit="units"):
        context.engine.run(lambda p: p | "Parts" >> beam.Create(parts) | beam.Reshuffle() | plan)
    markers = stage.markers()
    wanted = units.wanted_of_plan(stage, [unit for unit, _ in parts], markers)
    return stage.finish([units.without_work(marker) for marker in markers], wanted)
