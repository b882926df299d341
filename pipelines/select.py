"""select: raw tables, no pixels -> keep list. Hashes and keys are shuffled, as descriptors."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.pvalue import AsSingleton

from pipelines import progress
from pipelines.combine import SumArrays, sparse
from pipelines.context import Context
from wit import parquet, select
from wit.download.published import FetchedShard
from wit.parts import Manifest, Marker, StageDir
from wit.querylist import load_queries
from wit.select import Memberships, SelectConfig
from wit.slices import SliceRef, slice_refs


@dataclass(frozen=True, slots=True)
class Passes:
    """The units of select with what they all need."""

    stage: StageDir
    shards: tuple[FetchedShard, ...]
    config: SelectConfig
    facts: str  # plan's table of queries, whose weights the draws were multiplied with
    t: float
    queries: str
    query_count: int
    seed: int
    buckets: int

    def count(self, number: int) -> Any:
        """[2, queries] memberships planned and surviving."""
        found = select.count(self.stage.out, self.shards[number], queries=self.query_count, config=self.config)
        return sparse(np.stack([found.planned, found.surviving]))

    def weights(self, memberships: Any) -> Any:
        weights = parquet.read_table(self.facts, ["weight"])["weight"].to_numpy()
        return select.surviving_counts(weights, Memberships(*memberships))

    def scatter(self, number: int, weights: Any) -> Marker:
        return select.scatter(
            self.stage,
            number,
            self.shards[number],
            weights,
            queries=self.queries,
            seed=self.seed,
            buckets=self.buckets,
            config=self.config,
        )

    def slices(self, marker: Marker) -> list[tuple[int, SliceRef]]:
        return slice_refs(self.stage, marker)

    def cluster(self, bucket: tuple[int, Iterable[SliceRef]]) -> Marker:
        return select.cluster(self.stage, bucket[0], bucket[1], t=self.t, config=self.config)

    def no_verdicts(self, number: int) -> tuple[int, None]:
        return number, None

    def keep(self, verdicts: tuple[int, Iterable[SliceRef | None]]) -> Marker:
        number, refs = verdicts
        shard = self.shards[number]
        marker = select.keep(self.stage, shard, [ref for ref in refs if ref is not None], config=self.config)
        progress.advance(1, pairs=marker.into)
        return marker


@dataclass(eq=False)  # not frozen: Beam sets attributes of its own
class Select(beam.PTransform):  # type: ignore[misc]
    """Numbers of raw shards -> markers of the keep list's parts."""

    passes: Passes

    def expand(self, numbers: beam.PCollection) -> beam.PCollection:
        do = self.passes
        memberships = (
            numbers
            | "Count" >> beam.Map(do.count)
            | "SumCounts" >> beam.CombineGlobally(SumArrays((2, do.query_count)))
        )
        weights = memberships | "Weights" >> beam.Map(do.weights)
        verdicts = (
            numbers
            | "Scatter" >> beam.Map(do.scatter, AsSingleton(weights))
            | "Slices" >> beam.FlatMap(do.slices)
            | "ByBucket" >> beam.GroupByKey()
            | "Cluster" >> beam.Map(do.cluster)
            | "Verdicts" >> beam.FlatMap(do.slices)
        )
        every_shard = numbers | "EveryShard" >> beam.Map(do.no_verdicts)  # also those without any survivor
        return (
            (verdicts, every_shard)
            | "AllVerdicts" >> beam.Flatten()
            | "ByRawShard" >> beam.GroupByKey()
            | "Keep" >> beam.Map(do.keep)
        )


def run_select(context: Context) -> Manifest:
    config, stage = context.config, context.stage("select")
    shards = context.raw_shards()
    facts = context.plan_facts()
    passes = Passes(
        stage,
        shards,
        config.select,
        facts.path,
        facts.cap,
        config.queries,
        len(load_queries(config.queries)),
        context.seed,
        select.buckets_for(context.manifest("download").out, config.select),
    )
    with progress.bar("select", stage, total=len(shards), unit="raw shards"):
        context.engine.run(
            lambda p: p | "Shards" >> beam.Create(range(len(shards))) | beam.Reshuffle() | Select(passes)
        )
    return stage.finish(select.keep_parts(stage.markers()), (shard.unit.as_("part") for shard in shards))
