"""candidates: groups of source files -> parquet parts of matched pairs. Nothing is shuffled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import apache_beam as beam

from pipelines import progress
from pipelines.context import Context
from wit import notes, storage, units, workers
from wit.candidates import CandidatesConfig, rules_under
from wit.errors import WorkerLost
from wit.parts import Manifest, Marker, StageDir, Unit
from wit.sources import RequestBudget, SourceFile

MOST_FILES_PER_PART = 32  # 32 WAT files match some 5 million pairs: large enough for plan, small enough for one worker
SAMPLED_FROM_BYTES = 1 << 30  # more source than about 10 million pairs: of rejects one in 1,000 is written down
SAMPLED_ONE_IN = 1_000


@dataclass(frozen=True, slots=True)
class Group:
    unit: Unit
    files: tuple[SourceFile, ...]


def group_files(files: Sequence[SourceFile], *, files_per_part: int, limit: int | None) -> list[Group]:
    """Fixed groups, by the list of files alone; a limit on pairs needs one reader, so one group."""
    size = files_per_part or min(MOST_FILES_PER_PART, max(1, len(files) // 64))
    if limit is not None:
        size = len(files)
    starts = range(0, len(files), size)
    return [Group(Unit.numbered("part", i), tuple(files[start : start + size])) for i, start in enumerate(starts)]


@dataclass(eq=False)  # not frozen: Beam sets attributes of its own
class ExtractGroup(beam.DoFn):  # type: ignore[misc]
    stage: StageDir
    queries: str
    config: CandidatesConfig
    seed: int
    one_in: int
    limit: int | None
    budget: RequestBudget
    processes: int

    def process(self, group: Group) -> Iterator[Marker]:
        marker = self.extract(group)
        progress.advance(len(group.files), pairs=marker.into)
        yield marker

    def extract(self, group: Group) -> Marker:
        """Extracts the group; again where workers died of what has been given up since, in this group or another."""
        folder = storage.local_scratch(self.stage.out)
        while True:
            before = notes.given_up(folder)
            try:
                return self.attempt(group)
            except WorkerLost:
                if notes.given_up(folder) == before:
                    raise

    def attempt(self, group: Group) -> Marker:
        return workers.run(
            self.processes,
            units.extract,
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
    config, stage = context.config, context.stage("candidates")
    groups = group_files(context.sources, files_per_part=config.files_per_part, limit=config.limit)
    sizes = [file.size for file in context.sources]
    sampled = any(size is None for size in sizes) or sum(size or 0 for size in sizes) > SAMPLED_FROM_BYTES
    extract = ExtractGroup(
        stage,
        config.queries,
        rules_under(config.candidates, context.schemas["candidates"]),
        context.seed,
        SAMPLED_ONE_IN if sampled else 1,
        config.limit,
        config.budget(),
        context.processes,
    )
    with progress.bar("candidates", stage, total=len(context.sources), unit="files"):
        context.engine.run(
            lambda p: p | "Groups" >> beam.Create(groups) | beam.Reshuffle() | "Extract" >> beam.ParDo(extract)
        )
    notes.clear(storage.local_scratch(stage.out))
    workers.close_pools()  # they hold the automaton of the queries, which no later stage needs
    return stage.finish(stage.markers(), (group.unit for group in groups), dropped_one_in=extract.one_in)
