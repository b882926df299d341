"""select: raw tables, no pixels -> keep list. Hashes and keys are shuffled, as descriptors."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import apache_beam as beam
from apache_beam.pvalue import AsSingleton

from pipelines import progress
from pipelines.combine import SumCells, Summed, SumWith
from pipelines.context import Context
from pipelines.gather import gather
from pipelines.progress import Counted
from wit.plan.ranks import ROUNDS, joined
from wit.querylist import load_queries
from wit.select.cut import Cut, balance_under
from wit.select.passes import Numbered, Passes, buckets_for, lacking
from wit.stages import SCHEMAS
from wit.store.manifests import Manifest, Marker


@dataclass(eq=False)  # not frozen: Beam sets attributes of its own
class Select(beam.PTransform):  # type: ignore[misc]
    """Numbered raw shards -> markers of the keep list's parts."""

    passes: Passes

    def expand(self, shards: beam.PCollection) -> beam.PCollection:
        """The passes in order; `weights`, `capped` and `cut` reach later ones as side inputs."""
        select = self.passes
        memberships = shards | "Count" >> beam.Map(select.count) | "SumCounts" >> Summed((2, select.query_count))
        weights = memberships | "Weights" >> beam.Map(select.weights)
        capped = memberships | "Capped" >> beam.Map(select.capped)
        clustered = (
            shards
            | "Scatter" >> beam.Map(select.scatter, AsSingleton(weights))
            | "Slices" >> beam.FlatMap(select.slices)
            | "ByBucket" >> beam.GroupByKey()
            | "Cluster" >> beam.Map(select.cluster, AsSingleton(capped))
            | "Clustered" >> beam.Reshuffle()
        )
        cut = self.solved(clustered, memberships, capped) if select.balance.is_solved else self.given(shards)
        verdicts = clustered | "Verdicts" >> beam.FlatMap(select.slices)
        every_shard = shards | "EveryShard" >> beam.Map(select.by_number)  # one without survivors too
        return (
            (verdicts, every_shard)
            | "AllVerdicts" >> beam.Flatten()
            | "ByRawShard" >> beam.GroupByKey()
            | "Keep" >> beam.Map(Counted(select.keep), AsSingleton(cut))
        )

    def given(self, shards: beam.PCollection) -> beam.PCollection:
        """The cut at plan's cap."""
        return shards.pipeline | "Cut" >> beam.Create([Cut(self.passes.balance.cap)], reshuffle=False)

    def solved(
        self, clustered: beam.PCollection, memberships: beam.PCollection, capped: beam.PCollection
    ) -> beam.PCollection:
        """The cut that follows from all clusters, found in rounds."""
        select = self.passes
        search = capped | "Begin" >> beam.Map(select.begin)
        for number in range(ROUNDS):
            search = (
                clustered
                | f"Cells{number}" >> beam.FlatMap(select.cells, AsSingleton(search))
                | f"SumCells{number}" >> beam.CombinePerKey(SumCells())
                | f"Narrow{number}" >> beam.Map(select.narrow, AsSingleton(search))
                | f"Search{number}" >> beam.CombineGlobally(SumWith(joined))
            )
        return search | "Cut" >> beam.Map(select.cut, AsSingleton(memberships))


def run_select(context: Context) -> Manifest:
    """Runs the stage and writes its manifest: one part of the keep list a raw shard."""
    config, stage = context.config, context.stage("select")
    shards = context.raw_shards()
    facts = context.plan_facts()
    passes = Passes(
        stage,
        config.select,
        facts.path,
        balance_under(context.schemas.get("select", SCHEMAS["select"]), config.plan, facts),
        config.queries,
        len(load_queries(config.queries)),
        context.seed,
        buckets_for(context.manifest("download").out, config.select),
    )
    with progress.bar("select", stage, total=len(shards), unit="raw shards"):
        parts = gather(
            context.engine,
            [Numbered(number, shard) for number, shard in enumerate(shards)],
            Numbered,
            lambda numbered: numbered | Select(passes),
            Marker,
            out=stage.out,
        )
    there, units = stage.present(), (shard.unit.as_("part") for shard in shards)
    manifest = stage.finish(stage.standing(parts, there), units, there=there)
    if lacks := lacking(stage, manifest, oversample=config.plan.oversample):
        print(lacks, file=sys.stderr)
    return manifest
