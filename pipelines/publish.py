"""publish: keep list + raw shards -> final shards. Descriptors are all that moves between workers."""

from __future__ import annotations

from dataclasses import dataclass

import apache_beam as beam

from pipelines import progress
from pipelines.context import Context
from wit import publish
from wit.parts import Published, StageDir
from wit.publish import Assignment, PublishConfig, ShardMarker


@dataclass(frozen=True, slots=True)
class WriteShard:
    stage: StageDir
    directory: str
    seed: int
    config: PublishConfig

    def __call__(self, shard: Assignment) -> ShardMarker:
        marker = publish.write_shard(self.stage, shard, self.directory, seed=self.seed, config=self.config)
        progress.advance(1, pairs=shard.samples)
        return marker


def run_publish(context: Context) -> Published:
    config, stage = context.config.publish, context.stage("publish")
    parts = publish.keep_list_parts(context.manifest("select"))
    shards = list(publish.plan_shards(parts, seed=context.seed, config=config))
    directory = publish.begin(stage, anew="publish" in context.rebuilding)
    with progress.bar("publish", None, total=len(shards), unit="shards"):
        if shards:
            write = WriteShard(stage, directory, context.seed, config)
            context.engine.run(
                lambda p: p | "Shards" >> beam.Create(shards) | beam.Reshuffle() | "Write" >> beam.Map(write)
            )
    inputs = [publish.shard_inputs(stage, shard) for shard in shards]
    found = [publish.shard_marker(directory, shard.name, of) for shard, of in zip(shards, inputs, strict=True)]
    return publish.finish(stage, [marker for marker in found if marker], [shard.name for shard in shards], directory)
