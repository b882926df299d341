"""publish: keep list + raw shards -> final shards. Descriptors are all that moves between workers."""

from __future__ import annotations

from dataclasses import dataclass

import apache_beam as beam

from pipelines import progress
from pipelines.context import Context
from wit.publish import order, whole
from wit.publish.config import PublishConfig
from wit.publish.order import Assignment, keep_list_parts
from wit.publish.shard import ShardMarker, shard_inputs, shard_marker, write_shard
from wit.store.manifests import Published
from wit.store.parts import StageDir


@dataclass(frozen=True, slots=True)
class WriteShard:
    stage: StageDir
    directory: str
    seed: int
    config: PublishConfig

    def __call__(self, shard: Assignment) -> ShardMarker:
        marker = write_shard(self.stage, shard, self.directory, seed=self.seed, config=self.config)
        progress.advance(1, pairs=shard.samples)
        return marker


def run_publish(context: Context) -> Published:
    config, stage = context.config.publish, context.stage("publish")
    parts = keep_list_parts(context.manifest("select"))
    shards = list(order.plan_shards(parts, seed=context.seed, config=config))
    directory = whole.begin(stage, anew="publish" in context.rebuilding)
    with progress.bar("publish", None, total=len(shards), unit="shards"):
        if shards:
            write = WriteShard(stage, directory, context.seed, config)
            context.engine.run(
                lambda p: p | "Shards" >> beam.Create(shards) | beam.Reshuffle() | "Write" >> beam.Map(write)
            )
    inputs = [shard_inputs(stage, shard) for shard in shards]
    markers = [shard_marker(directory, shard.name, sources) for shard, sources in zip(shards, inputs, strict=True)]
    return whole.finish(stage, [marker for marker in markers if marker], [shard.name for shard in shards], directory)
