"""The units of work of candidates: which files a unit reads, and how it is published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wit import notes
from wit.candidates.config import CandidatesConfig
from wit.candidates.extract import extract_group
from wit.layout import DROPPED
from wit.querylist import load_queries
from wit.sources import RequestBudget, SourceFile
from wit.store import fs
from wit.store.manifests import Marker, Unit
from wit.store.parts import StageDir
from wit.store.scratch import local_scratch
from wit.tally import Tally, add_counts

MOST_FILES_PER_PART = 32  # 32 WAT files match some 5 million pairs: large enough for plan, small enough for one worker
SAMPLED_FROM_BYTES = 1 << 30  # about 10 million pairs: with more, only one in 1,000 rejects is written down
SAMPLED_ONE_IN = 1_000


@dataclass(frozen=True, slots=True)
class Group:
    """The source files of one unit."""

    unit: Unit
    files: tuple[SourceFile, ...]


def group_files(files: Sequence[SourceFile], *, files_per_part: int, limit: int | None) -> list[Group]:
    """Groups of files, a function of the list alone. With a limit on pairs there is one group, since one reader must count."""
    size = len(files) if limit is not None else files_a_part(len(files), files_per_part)
    starts = range(0, len(files), size)
    return [Group(Unit.numbered("part", i), tuple(files[start : start + size])) for i, start in enumerate(starts)]


def files_a_part(files: int, files_per_part: int) -> int:
    """How many of so many files one unit reads; `files_per_part` says it where it is not 0."""
    return files_per_part or min(MOST_FILES_PER_PART, max(1, files // 64))


def dropped_one_in(files: Sequence[SourceFile]) -> int:
    """n: one in n rejected pairs is written down, by the size of the sources (design section 6)."""
    sizes = [file.size for file in files]
    much = any(size is None for size in sizes) or sum(size or 0 for size in sizes) > SAMPLED_FROM_BYTES
    return SAMPLED_ONE_IN if much else 1


@dataclass(frozen=True, slots=True)
class Extracted:
    """The facts of a group: the reports of its source files."""

    sources: tuple[Mapping[str, Any], ...]


def extract(
    stage: StageDir,
    unit: Unit,
    files: Sequence[SourceFile],
    *,
    queries: str,
    config: CandidatesConfig,
    seed: int,
    one_in: int,
    limit: int | None,
    budget: RequestBudget,
) -> Marker:
    """candidates: one group of source files -> one part. One in `one_in` rejected pairs is written down, all are counted."""

    def work() -> Marker:
        with notes.kept(notes_path(stage, unit)):
            group = extract_group(
                files,
                queries=load_queries(queries),
                config=config,
                seed=seed,
                limit=limit,
                dropped_one_in=one_in,
                budget=budget,
            )
        tally = Tally(into=group.pairs_in, out=len(group.table), dropped=add_counts([group.dropped_counts]))
        facts = Extracted(tuple(report.facts() for report in group.sources))
        return stage.publish_tables(unit, {"rows": group.table, DROPPED: group.dropped}, tally, facts=facts)

    return stage.once(unit, work)


def notes_path(stage: StageDir, unit: Unit) -> str:
    """The file, on this machine, in which the unit's reader notes the step that it is at."""
    return fs.join(local_scratch(stage.out), f"{unit}{notes.NOTES_FILE}")
