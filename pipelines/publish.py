"""publish: keep list + raw shards -> final shards. Descriptors are all that moves between workers."""

from __future__ import annotations

from dataclasses import dataclass

import apache_beam as beam

from pipelines import progress
from pipelines.context import Context
from pipelines.gather import gather
from wit.publish import order, whole
from wit.publish.config import PublishConfig
from wit.publish.order import Assignment, keep_list_parts
from wit.publish.shard import ShardMarker, write_shard
from wit.store.manifests import Published
from wit.store.parts import StageDir


@dataclass(frozen=True, slots=True)
class WriteShard:
    """Assignment -> the marker of the shard, which is written into `directory`."""

    stage: StageDir
    directory: str
    seed: int
    config: PublishConfig

    def __call__(self, shard: Assignment) -> ShardMarker:
        marker = write_shard(self.stage, shard, self.directory, seed=self.seed, config=self.config)
        progress.advance(1, pairs=shard.samples)
        return marker


def run_publish(context: Context) -> Published:
    """Runs the stage: writes every shard of the set beside the old one, then puts the new set in its place."""
    config, stage = context.config.publish, context.stage("publish")
    parts = keep_list_parts(context.manifest("select"))
    shards = list(order.plan_shards(parts, seed=context.seed, config=config))
    directory = whole.begin(stage, anew="publish" in context.rebuilding)
    write = WriteShard(stage, directory, context.seed, config)
    with progress.bar("publish", None, total=len(shards), unit="shards"):
        markers = (
            []
            if not shards
            else gather(
                context.engine,
                lambda p: p | "Shards" >> beam.Create(shards) | beam.Reshuffle() | "Write" >> beam.Map(write),
                ShardMarker,
                out=stage.out,
                expected=len(shards),
            )
        )
    return whole.finish(stage, whole.standing(directory, markers), [shard.name for shard in shards], directory)
