"""publish: keep list + raw shards -> final shards. Descriptors are all that moves between workers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import apache_beam as beam

from pipelines import progress
from pipelines.context import Context
from pipelines.gather import gather
from wit.publish import order, whole
from wit.publish.order import Order, Placed, keep_list_parts
from wit.publish.shard import ShardMarker, write_shard
from wit.publish.whole import Copier, Names
from wit.store.manifests import Published
from wit.store.parts import StageDir
from wit.store.roster import roster


@dataclass(frozen=True, slots=True)
class WriteShard:
    """Number of a final shard -> its marker; the shard is written into `directory`."""

    stage: StageDir
    directory: str
    order: Order

    def __call__(self, number: int) -> ShardMarker:
        shard = self.order[number]
        marker = write_shard(self.stage, shard, self.directory, seed=self.order.seed, config=self.order.config)
        progress.advance(1, pairs=shard.samples)
        return marker


def run_publish(context: Context) -> Published:
    """Runs the stage: writes every shard of the set beside the old one, then puts the new set in its place."""
    config, stage = context.config.publish, context.stage("publish")
    parts = keep_list_parts(context.manifest("select"))
    shards = order.plan_shards(parts, seed=context.seed, config=config)
    directory = whole.begin(stage, anew="publish" in context.rebuilding)
    with (
        progress.bar("publish", None, total=len(shards), unit="shards"),
        roster(shards.parts, Placed, out=stage.out) as placed,
    ):
        write = WriteShard(stage, directory, replace(shards, parts=placed))
        markers = gather(
            context.engine,
            range(len(shards)),
            int,
            lambda numbers: numbers | "Write" >> beam.Map(write),
            ShardMarker,
            out=stage.out,
        )
        progress.learn(len(markers), sum(marker.count for marker in markers))

    def copying(copier: Copier, files: Sequence[Names]) -> list[Names]:
        copy = beam.Map(copier)
        return gather(context.engine, files, Names, lambda some: some | "Copy" >> copy, Names, out=stage.out)

    return whole.finish(stage, whole.standing(directory, markers), shards.names, directory, copying)
