"""plan: candidates -> one row per URL, balanced, in shard lists by host partition. Rows are shuffled as descriptors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.pvalue import AsSingleton

from pipelines import progress
from pipelines.combine import Concatenate, SumArrays, SumHeavy
from pipelines.context import Context
from wit import balance, units
from wit.parts import Marker, StageDir
from wit.plan import PlanConfig, bucket_count, hard_count, sketch_cells
from wit.querylist import load_queries
from wit.records import InputError
from wit.slices import SliceRef


@dataclass(frozen=True, slots=True)
class Threshold:
    """Rows with a critical t below `t` are planned: `rows` of them, in `partitions` partitions."""

    t: float
    rows: int
    partitions: int


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
    return Threshold(t, rows, bucket_count(rows, config.rows_per_partition))


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


def _named(prefix: str, bucket: int) -> str:
    return f"{prefix}-{bucket:05d}"


def _bucket(marker: Marker) -> str:
    return str(marker["unit"]).rpartition("-")[2]


@dataclass(frozen=True)
class Plan(beam.PTransform):  # type: ignore[misc]
    """(unit, candidates part) -> published partitions. Every pass publishes its parts, so a restart resumes in the middle."""

    stage: StageDir
    config: PlanConfig
    queries: str
    query_count: int
    seed: int
    rows: int

    def expand(self, parts: beam.PCollection) -> beam.PCollection:
        stage, config, seed = self.stage, self.config, self.seed
        buckets, cells = bucket_count(self.rows, config.rows_per_bucket), sketch_cells(self.rows)
        scattered = parts | "Scatter" >> beam.MapTuple(
            partial(_scatter, stage, seed=seed, buckets=buckets, config=config)
        )
        merged = (
            scattered
            | "Slices" >> beam.FlatMap(partial(_refs, stage))
            | "ByBucket" >> beam.GroupByKey()
            | "Merge" >> beam.MapTuple(partial(_merge, stage, seed=seed, config=config))
            | "Merged" >> beam.Reshuffle()
        )
        sketched = (
            merged
            | "Sketch" >> beam.Map(partial(_sketch, stage, cells=cells))
            | "SumSketches" >> beam.CombineGlobally(SumArrays(np.zeros((2, cells), np.int64)))
        )
        heavy = (
            merged
            | "CountHeavy" >> beam.Map(partial(_count_heavy, stage, config=config), counts=AsSingleton(sketched))
            | "SumHeavy" >> beam.CombineGlobally(SumHeavy())
        )
        thinned = merged | "Thin" >> beam.Map(partial(_thin, stage, seed=seed, config=config), heavy=AsSingleton(heavy))
        counts = (
            thinned
            | "CountQueries" >> beam.Map(partial(_count_queries, stage, queries=self.query_count))
            | "SumCounts" >> beam.CombineGlobally(SumArrays(np.zeros(self.query_count, np.int64)))
        )
        weights = self._weights(thinned, counts)
        weighed = thinned | "Weigh" >> beam.Map(
            partial(_weigh, stage, queries=self.queries, seed=seed), counts=AsSingleton(weights)
        )
        histogram = (
            weighed
            | "Cells" >> beam.Map(partial(_cells, stage))
            | "SumCells" >> beam.CombineGlobally(SumArrays(np.zeros(1 << balance.CELL_BITS, np.int64)))
        )
        cell = histogram | "TargetCell" >> beam.Map(target_cell, config=config)
        values = (
            weighed
            | "ValuesOfCell" >> beam.Map(partial(_values_of_cell, stage), cell=AsSingleton(cell))
            | "AllValues" >> beam.CombineGlobally(Concatenate())
        )
        threshold = histogram | "Solve" >> beam.Map(solve, values=AsSingleton(values), config=config)
        arranged = (
            weighed
            | "Admit"
            >> beam.Map(
                partial(_admit, stage, seed=seed, config=config),
                heavy=AsSingleton(heavy),
                threshold=AsSingleton(threshold),
            )
            | "RoutedSlices" >> beam.FlatMap(partial(_refs, stage))
            | "ByPartition" >> beam.GroupByKey()
            | "Arrange" >> beam.MapTuple(partial(_arrange, stage, seed=seed, config=config))
        )
        _ = threshold | "Facts" >> beam.Map(
            partial(_publish_facts, stage, self.queries), counts=AsSingleton(counts), weights=AsSingleton(weights)
        )
        return arranged

    def _weights(self, thinned: beam.PCollection, counts: beam.PCollection) -> beam.PCollection:
        if self.config.cap == "expected":
            return counts | "Weights" >> beam.Map(effective_counts, [])
        draw = partial(_smallest_draws, self.stage, queries=self.queries, seed=self.seed, config=self.config)
        hard = (
            thinned
            | "SmallestDraws" >> beam.FlatMap(draw, counts=AsSingleton(counts))
            | "ByQuery" >> beam.GroupByKey()
            | "HardCounts" >> beam.MapTuple(partial(_hard_count, cap=self.config.max_per_query))
        )
        return counts | "Weights" >> beam.Map(effective_counts, beam.pvalue.AsList(hard))


# Thin adapters: a unit's marker in, the next unit's out. Module level, so that any worker can import them.


def _scatter(stage: StageDir, unit: str, part: str, **knobs: Any) -> Marker:
    return _done(units.scatter(stage, unit, part, **knobs))


def _refs(stage: StageDir, marker: Marker) -> Iterator[tuple[int, SliceRef]]:
    yield from units.slice_refs(stage, marker)


def _merge(stage: StageDir, bucket: int, refs: Iterable[SliceRef], **knobs: Any) -> Marker:
    return _done(units.merge(stage, _named("merge", bucket), refs, **knobs))


def _sketch(stage: StageDir, merged: Marker, *, cells: int) -> Any:
    return units.sketch(stage, merged, cells=cells)


def _count_heavy(stage: StageDir, merged: Marker, *, counts: Any, config: PlanConfig) -> Any:
    return units.count_heavy(stage, merged, counts, config=config)


def _thin(stage: StageDir, merged: Marker, *, heavy: Any, **knobs: Any) -> Marker:
    return _done(units.thin(stage, f"thin-{_bucket(merged)}", merged, heavy, **knobs))


def _count_queries(stage: StageDir, thinned: Marker, *, queries: int) -> Any:
    return units.count_queries(stage, thinned, queries=queries)


def _smallest_draws(stage: StageDir, thinned: Marker, *, counts: Any, **knobs: Any) -> Any:
    return units.smallest_draws(stage, thinned, counts, **knobs)


def _hard_count(query: int, draws: Iterable[Any], *, cap: int) -> tuple[int, float]:
    return query, hard_count(draws, cap)


def _weigh(stage: StageDir, thinned: Marker, *, counts: Any, **knobs: Any) -> Marker:
    return _done(units.weigh(stage, f"weigh-{_bucket(thinned)}", thinned, counts, **knobs))


def _cells(stage: StageDir, weighed: Marker) -> Any:
    return units.cells(stage, weighed)


def _values_of_cell(stage: StageDir, weighed: Marker, *, cell: int) -> Any:
    return units.values_of_cell(stage, weighed, cell) if cell >= 0 else np.zeros(0)


def _admit(stage: StageDir, weighed: Marker, *, heavy: Any, threshold: Threshold, **knobs: Any) -> Marker:
    unit = f"admit-{_bucket(weighed)}"
    return _done(units.admit(stage, unit, weighed, heavy, threshold.t, threshold.partitions, **knobs))


def _arrange(stage: StageDir, partition: int, refs: Iterable[SliceRef], **knobs: Any) -> Marker:
    return _done(units.arrange(stage, _named("part", partition), refs, **knobs))


def _publish_facts(stage: StageDir, queries: str, threshold: Threshold, *, counts: Any, weights: Any) -> Marker:
    return units.publish_facts(stage, queries, threshold.t, counts, weights)


def _done(marker: Marker) -> Marker:
    progress.advance(1)
    return marker


def run_plan(context: Context) -> Marker:
    config, stage = context.config.plan, context.stage("plan")
    candidates = context.manifest("candidates")
    if config.cap == "hard" and config.target is not None:
        raise InputError("--cap hard needs --max-per-query: a target solves for the cap, so leave out one of the two")
    above = context.stage("candidates")
    parts = [(f"scatter-{_bucket(m)}", above.file(m, "rows")) for m in candidates["parts"]]
    query_count = len(load_queries(context.config.queries))
    plan = Plan(stage, config, context.config.queries, query_count, context.seed, candidates["out"])
    with progress.bar("plan", stage, total=None, unit="parts"):
        context.engine.run(lambda p: p | "Parts" >> beam.Create(parts) | beam.Reshuffle() | plan)
    return stage.finish([units.without_work(m) for m in stage.markers()], shards=context.config.plan.rows_per_raw_shard)
