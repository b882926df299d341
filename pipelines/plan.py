"""plan: candidates -> one row per URL, balanced, in shard lists by host partition. Rows are shuffled as descriptors."""

from __future__ import annotations

from dataclasses import dataclass

import apache_beam as beam
from apache_beam.pvalue import AsList, AsSingleton

from pipelines import progress
from pipelines.combine import Concatenate, Summed, SumWith
from pipelines.context import Context
from pipelines.gather import gather
from pipelines.progress import Counted
from wit.plan import balance
from wit.plan.owners import add_owners, rates_of
from wit.plan.pairs import add_heavy
from wit.plan.passes import (
    OF_BUCKETS,
    OF_PARTITIONS,
    RATES,
    CandidatesPart,
    Passes,
    Wanted,
    passes,
    wanted_units,
    without_work,
)
from wit.plan.threshold import effective_counts, solve, target_cell
from wit.store.manifests import Manifest, Marker

UNITS_A_BUCKET = 5  # merge, thin, weigh, admit, and about one partition


@dataclass(eq=False)  # not frozen: Beam sets attributes of its own
class Plan(beam.PTransform):  # type: ignore[misc]
    """Candidates parts -> the markers of all passes, partitions last, and which units were wanted. Every pass publishes its
    parts, so a restart resumes in the middle."""

    passes: Passes

    def expand(self, parts: beam.PCollection) -> beam.PCollection:
        """The passes in order; those that add up over buckets reach later ones as side inputs."""
        plan, config = self.passes, self.passes.config
        scattered = parts | "Scatter" >> beam.Map(Counted(plan.scatter))
        by_bucket = scattered | "Slices" >> beam.FlatMap(plan.slices) | "ByBucket" >> beam.GroupByKey()
        merged = by_bucket | "Merge" >> beam.Map(Counted(plan.merge)) | "Merged" >> beam.Reshuffle()
        sketch = merged | "Sketch" >> beam.Map(plan.sketch) | "SumSketches" >> Summed((2, plan.cells))
        heavy = (
            merged
            | "CountHeavy" >> beam.Map(plan.count_heavy, AsSingleton(sketch))
            | "SumHeavy" >> beam.CombineGlobally(SumWith(add_heavy))
        )
        thinned = merged | "Thin" >> beam.Map(Counted(plan.thin), AsSingleton(heavy))
        counts = thinned | "CountQueries" >> beam.Map(plan.count_queries) | "SumCounts" >> Summed((plan.query_count,))
        weights = counts | "Weights" >> beam.Map(effective_counts, AsList(self.hard_counts(thinned, counts)))
        weighed = thinned | "Weigh" >> beam.Map(Counted(plan.weigh), AsSingleton(weights))
        cells = weighed | "Histogram" >> beam.Map(plan.histogram) | "SumCells" >> Summed((1 << balance.CELL_BITS,))
        cell = cells | "TargetCell" >> beam.Map(target_cell, config=config)
        values = (
            weighed
            | "ValuesOfCell" >> beam.Map(plan.values_of_cell, AsSingleton(cell))
            | "AllValues" >> beam.CombineGlobally(Concatenate())
        )
        threshold = cells | "Solve" >> beam.Map(solve, AsSingleton(values), config=config)
        facts = threshold | "Facts" >> beam.Map(plan.publish_facts, AsSingleton(counts), AsSingleton(weights))
        owners = (
            weighed
            | "CountOwners" >> beam.Map(plan.count_owners, AsSingleton(heavy), AsSingleton(threshold))
            | "SumOwners" >> beam.CombineGlobally(SumWith(add_owners))
        )
        routing = owners | "Routing" >> beam.Map(plan.routing, AsSingleton(threshold))
        admitted = weighed | "Admit" >> beam.Map(Counted(plan.admit), AsSingleton(threshold), AsSingleton(routing))
        by_partition = admitted | "RoutedSlices" >> beam.FlatMap(plan.slices) | "ByPartition" >> beam.GroupByKey()
        arranged = by_partition | "Arrange" >> beam.Map(Counted(plan.arrange), AsSingleton(routing))
        wanted = [
            self.wanted(by_bucket, "Buckets", OF_BUCKETS),
            self.wanted(by_partition, "Partitions", OF_PARTITIONS),
        ]
        return (scattered, merged, thinned, weighed, facts, admitted, arranged, *wanted) | "Units" >> beam.Flatten()

    def wanted(self, grouped: beam.PCollection, name: str, kinds: tuple[str, ...]) -> beam.PCollection:
        """The units that follow from shuffled slices, as one element: a few bytes for each of some 40,000."""
        return (
            grouped
            | name >> beam.Keys()
            | f"All{name}" >> beam.combiners.ToList()
            | f"Wanted{name}" >> beam.Map(Wanted.of, kinds=kinds)
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


def run_plan(context: Context) -> Manifest:
    """Runs the stage and writes its manifest: parts by host partition, and the facts that select and report read."""
    config, stage = context.config.plan, context.stage("plan")
    candidates, above = context.manifest("candidates"), context.stage("candidates")
    parts = [CandidatesPart(part.unit.as_("scatter"), above.file(part, "rows")) for part in candidates.parts]
    rates, rows = rates_of(config, context.config.fetch), candidates.out
    plan = Plan(passes(stage, config, queries=context.config.queries, seed=context.seed, rows=rows, rates=rates))
    with progress.bar("plan", stage, total=None, unit="units"):
        units = gather(
            context.engine,
            parts,
            CandidatesPart,
            lambda every: every | plan,
            Marker | Wanted,
            out=stage.out,
            expected=len(parts) + UNITS_A_BUCKET * plan.passes.buckets,
        )
    rates_kept = stage.marker(RATES)
    published = [one for one in units if isinstance(one, Marker)]
    there = stage.present()
    markers = stage.standing([*published, *([rates_kept] if rates_kept else [])], there)
    follow = [one for one in units if isinstance(one, Wanted)]
    wanted = wanted_units((part.unit for part in parts), follow)
    return stage.finish([without_work(marker) for marker in markers], wanted, there=there)
