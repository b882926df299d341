"""select: raw tables, no pixels -> keep list. Descriptors are shuffled."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import AsSingleton

from pipelines import progress
from pipelines.combine import FindRanks, Summed
from pipelines.context import Context
from pipelines.gather import gather, remove_work
from pipelines.progress import Counted
from pipelines.shuffle import Shuffled, once_read
from pipelines.spent import made
from wit.querylist import load_queries
from wit.select.cut import Cut, balance_under
from wit.select.passes import Numbered, Passes, dedup_buckets, lacking
from wit.stages import SCHEMAS
from wit.store.manifests import Manifest, Marker
from wit.store.packed import Packed


def _keep(joined: tuple[int, dict[str, Any]], keep: Any, cut: Cut) -> list[Marker]:
    """The part of a raw shard with the verdicts on its pictures."""
    pieces = [piece for pieces in joined[1]["verdicts"] for piece in pieces]
    return [keep(shard, pieces, cut) for shard in joined[1]["shard"]]


@dataclass(eq=False)  # not frozen: Beam sets attributes of its own
class Select(beam.PTransform):  # type: ignore[misc]
    """Numbered raw shards -> markers of the keep list's parts."""

    passes: Passes
    by_engine: bool = False

    def expand(self, shards: beam.PCollection) -> beam.PCollection:
        """The passes in order; `weights`, `spread`, `capped` and `cut` reach later ones as side inputs."""
        select = self.passes
        sums = shards | "Count" >> beam.Map(select.count) | "SumCounts" >> Summed((select.sums,))
        memberships, spread = (
            sums | "Memberships" >> beam.Map(select.memberships),
            sums | "Spread" >> beam.Map(select.spread),
        )
        weights = memberships | "Weights" >> beam.Map(select.weights)
        capped = memberships | "Capped" >> beam.Map(select.capped)
        scatter = Shuffled(
            select.by_picture, select.scatter, self.by_engine, (AsSingleton(weights), AsSingleton(spread))
        )
        by_picture = shards | "ByPicture" >> scatter
        pieces = by_picture.buckets | "Pieces" >> beam.Filter(select.is_piece)
        by_hash = pieces | "ByHash" >> Shuffled(select.by_hash, select.join, self.by_engine, (AsSingleton(spread),))
        whole = by_picture.buckets | "Whole" >> beam.Filter(select.is_whole)
        # Each before they are put together: engines would write down whole buckets in between.
        clustered = (
            whole | "Cluster" >> beam.Map(select.cluster, AsSingleton(capped)),
            by_hash.buckets | "ClusterPieces" >> beam.Map(select.cluster, AsSingleton(capped)),
        ) | "AllClusters" >> beam.Flatten()
        clustered = clustered | "Clustered" >> once_read(select.by_picture, by_picture, self.by_engine)
        cut = self.solved(clustered, memberships, capped) if select.balance.is_solved else self.given(shards)
        by_shard = clustered | "ByShard" >> Shuffled(select.by_shard, select.verdicts, self.by_engine)
        every_shard = shards | "EveryShard" >> beam.Map(select.by_number)  # one without survivors too
        return (
            {"shard": every_shard, "verdicts": by_shard.buckets}
            | "WithVerdicts" >> beam.CoGroupByKey()
            | "Keep" >> beam.FlatMap(_keep, Counted(select.keep), AsSingleton(cut))
        )

    def given(self, shards: beam.PCollection) -> beam.PCollection:
        """The cut at plan's cap."""
        return shards.pipeline | "Cut" >> beam.Create([Cut(self.passes.balance.cap)], reshuffle=False)

    def solved(
        self, clustered: beam.PCollection, memberships: beam.PCollection, capped: beam.PCollection
    ) -> beam.PCollection:
        """The cut that follows from all clusters, found in rounds."""
        select = self.passes
        search = capped | "Begin" >> beam.Map(select.begin) | "Find" >> FindRanks(clustered, select.cells)
        return search | "Cut" >> beam.Map(select.cut, AsSingleton(memberships))


def run_select(context: Context) -> Manifest:
    """Runs the stage and writes its manifest: one part of the keep list a raw shard."""
    config, stage = context.config, context.stage("select")
    shards = context.raw_shards()
    facts = context.plan_facts()
    pictures, schema = context.manifest("download").out, context.schemas.get("select", SCHEMAS["select"])
    passes = Passes(
        stage,
        config.select,
        facts.path,
        balance_under(schema, config.plan, facts),
        config.queries,
        len(load_queries(config.queries)),
        context.seed,
        dedup_buckets(pictures, rows_a_key=config.rows_per_key),
        pictures,
        len(shards),
    )
    numbered = [Numbered(number, shard) for number, shard in enumerate(shards)]

    def make() -> Packed[Marker]:
        select = Select(passes, context.by_engine)
        return gather(context.engine, numbered, Numbered, lambda every: every | select, Marker, out=stage.out)

    with progress.bar("select", stage, total=len(shards), unit="raw shards"):
        parts = made(stage, make)
    there, units = stage.present(), (shard.unit.as_("part") for shard in shards)
    manifest = stage.finish(stage.standing(parts, there), units, there=there, schema_version=max(2, schema))
    remove_work(context.engine, stage)
    if lacks := lacking(stage, manifest, oversample=config.plan.oversample):
        print(lacks, file=sys.stderr)
    return manifest
