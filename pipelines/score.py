"""score (optional): raw tars -> how well each caption fits its picture, shard by shard. Nothing is shuffled."""

from __future__ import annotations

from dataclasses import dataclass

import apache_beam as beam

from pipelines import progress
from pipelines.context import Context
from pipelines.gather import gather
from wit import score, workers
from wit.config import BuildConfig
from wit.download.published import FetchedShard, raw_shards
from wit.errors import InputError
from wit.score import Scorer
from wit.store.manifests import Manifest, Marker
from wit.store.parts import StageDir


def scorer_of(config: BuildConfig) -> Scorer | None:
    """The opened checkpoint that scores this build's pairs; None without one. Raises InputError where it cannot be used."""
    config.check_score()
    if config.score_checkpoint is None:
        return None
    try:
        from trainer.score import open_scorer  # not above: a build without scores needs no PyTorch
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "regex"):  # the train extra's
            raise
        raise InputError("the score stage needs PyTorch: pip install wit[train]") from error
    opened: Scorer = open_scorer(config.score_checkpoint)
    return opened


@dataclass(frozen=True, slots=True)
class ScoreShard:
    """Raw shard -> the marker of its scores, made in a worker process."""

    stage: StageDir
    scorer: Scorer
    processes: int

    def __call__(self, shard: FetchedShard) -> Marker:
        def work() -> Marker:
            return workers.run(self.processes, score.score_shard, self.stage, shard, self.scorer)

        marker = self.stage.once(shard.unit.as_("part"), work)  # here: a process for it would load a model
        progress.advance(1, pairs=marker.into)
        return marker


def run_score(context: Context) -> Manifest:
    """Runs the stage, one part a raw shard; raises ValueError where the build has no scorer."""
    stage, shards = context.stage("score"), raw_shards(context.manifest("download"))
    if context.scorer is None:
        raise ValueError("a build without a scorer has no score stage")
    work = ScoreShard(stage, context.scorer, context.processes)
    with progress.bar("score", stage, total=len(shards), unit="raw shards"):
        scored = gather(
            context.engine,
            shards,
            FetchedShard,
            lambda every: every | "Score" >> beam.Map(work),
            Marker,
            out=stage.out,
        )
    workers.close_pools()  # each worker holds a model
    there, units = stage.present(), (shard.unit.as_("part") for shard in shards)
    return stage.finish(stage.standing(scored, there), units, there=there)
