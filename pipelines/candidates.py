"""candidates: groups of source files -> parquet parts of matched pairs. Nothing is shuffled."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import apache_beam as beam

from pipelines import progress
from pipelines.context import Context
from pipelines.gather import gather
from wit import notes, workers
from wit.candidates.config import CandidatesConfig, rules_under
from wit.candidates.passes import Group, dropped_one_in, extract, group_files, notes_path
from wit.errors import WorkerLost
from wit.sources import RequestBudget
from wit.store.manifests import Manifest, Marker
from wit.store.parts import StageDir
from wit.store.scratch import local_scratch
from wit.store.turns import forget_turns


@dataclass(eq=False)  # not frozen: Beam sets attributes of its own
class ExtractGroup(beam.DoFn):  # type: ignore[misc]
    """Group -> its marker. Counts the group's files and pairs in the progress bar."""

    stage: StageDir
    queries: str
    config: CandidatesConfig
    seed: int
    one_in: int
    limit: int | None
    budget: RequestBudget
    processes: int

    def process(self, group: Group) -> Iterator[Marker]:
        """Yields the marker, once the group's files and pairs are counted."""
        marker = self.extract(group)
        progress.advance(len(group.files), pairs=marker.into)
        yield marker

    def extract(self, group: Group) -> Marker:
        """Extracts the group; tries again if, meanwhile, it gave up a step that killed workers."""
        path = notes_path(self.stage, group.unit)
        while True:
            before = notes.given_up(path)
            try:
                return self.attempt(group)
            except WorkerLost:
                if notes.given_up(path) == before:
                    raise

    def attempt(self, group: Group) -> Marker:
        """Extracts the group once, in a worker process; raises WorkerLost where workers keep dying."""
        return workers.run(
            self.processes,
            extract,
            self.stage,
            group.unit,
            group.files,
            queries=self.queries,
            config=self.config,
            seed=self.seed,
            one_in=self.one_in,
            limit=self.limit,
            budget=self.budget,
        )


def run_candidates(context: Context) -> Manifest:
    """Runs the stage and writes its manifest: one part a group of source files."""
    config, stage = context.config, context.stage("candidates")
    groups = group_files(context.sources, files_per_part=config.sources.files_per_part, limit=config.sources.limit)
    work = ExtractGroup(
        stage,
        config.queries,
        rules_under(config.candidates, context.schemas["candidates"]),
        context.seed,
        dropped_one_in(context.sources),
        config.sources.limit,
        config.budget() if context.engine.local else config.budget_elsewhere(),
        context.processes,
    )
    with progress.bar("candidates", stage, total=len(context.sources), unit="files"):
        markers = gather(
            context.engine,
            groups,
            Group,
            lambda every: every | "Extract" >> beam.ParDo(work),
            Marker,
            out=stage.out,
        )
    forget_turns(stage.out)
    notes.clear(local_scratch(stage.out))
    workers.close_pools()  # they hold the automaton of the queries, which no later stage needs
    there, units = stage.present(), (group.unit for group in groups)
    return stage.finish(stage.standing(markers, there), units, there=there, dropped_one_in=work.one_in)
