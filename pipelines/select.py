"""select: raw tables, no pixels -> keep list. Hashes and keys are shuffled, as descriptors."""

from __future__ import annotations

from dataclasses import dataclass

import apache_beam as beam
from apache_beam.pvalue import AsSingleton

from pipelines import progress
from pipelines.combine import Summed
from pipelines.context import Context
from pipelines.gather import gather
from pipelines.progress import Counted
from wit.querylist import load_queries
from wit.select.passes import Numbered, Passes, buckets_for
from wit.store.manifests import Manifest, Marker


@dataclass(eq=False)  # not frozen: Beam sets attributes of its own
class Select(beam.PTransform):  # type: ignore[misc]
    """Numbered raw shards -> markers of the keep list's parts."""

    passes: Passes

    def expand(self, shards: beam.PCollection) -> beam.PCollection:
        """The passes in order; `weights` reaches `scatter` as a side input."""
        select = self.passes
        memberships = shards | "Count" >> beam.Map(select.count) | "SumCounts" >> Summed((2, select.query_count))
        weights = memberships | "Weights" >> beam.Map(select.weights)
        verdicts = (
            shards
            | "Scatter" >> beam.Map(select.scatter, AsSingleton(weights))
            | "Slices" >> beam.FlatMap(select.slices)
            | "ByBucket" >> beam.GroupByKey()
            | "Cluster" >> beam.Map(select.cluster)
            | "Verdicts" >> beam.FlatMap(select.slices)
        )
        every_shard = shards | "EveryShard" >> beam.Map(select.by_number)  # one without survivors too
        return (
            (verdicts, every_shard)
            | "AllVerdicts" >> beam.Flatten()
            | "ByRawShard" >> beam.GroupByKey()
            | "Keep" >> beam.Map(Counted(select.keep))
        )


def run_select(context: Context) -> Manifest:
    """Runs the stage and writes its manifest: one part of the keep list a raw shard."""
    config, stage = context.config, context.stage("select")
    shards = context.raw_shards()
    facts = context.plan_facts()
    passes = Passes(
        stage,
        config.select,
        facts.path,
        facts.cap,
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
    return stage.finish(stage.standing(parts, there), units, there=there)
