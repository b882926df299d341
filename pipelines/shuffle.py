"""The shuffle in a pipeline: by files on this machine, by the engine's own GroupByKey elsewhere (see `wit.store.shuffle`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput

from pipelines import progress
from pipelines.spent import Spend
from pipelines.worked import AtWork
from wit.store.manifests import Marker
from wit.store.shuffle import SLICES, Shuffle, Task

COUNTED = "counted"


class Groups(NamedTuple):
    """What comes out of a shuffle."""

    buckets: beam.PCollection
    """(number, pieces of its rows) of each bucket."""
    counted: beam.PCollection
    """The markers of what was dropped."""
    files: beam.PCollection
    """The markers of the files that hold the pieces; none where they travel through an engine."""


@dataclass(eq=False)  # not frozen: Beam sets attributes of its own
class Shuffled(beam.PTransform):  # type: ignore[misc]
    """Items -> Groups. `task` makes an item, with the side inputs `sides`, a task of the shuffle. By files, `spend` is applied to
    what was dealt: it may remove what the tasks read."""

    shuffle: Shuffle
    task: Callable[..., Task]
    by_engine: bool
    sides: tuple[Any, ...] = ()
    spend: Spend | None = None

    def expand(self, items: beam.PCollection) -> Groups:
        """Deals, groups, and leaves the rows where they are until a bucket reads them."""
        deal = _DealBatches if self.by_engine else _DealFiles
        dealt = items | "Deal" >> beam.ParDo(deal(self.shuffle, self.task), *self.sides).with_outputs(
            COUNTED, main="dealt"
        )
        if self.by_engine:
            no_files = items.pipeline | "NoFiles" >> beam.Create([], reshuffle=False)
            grouped = dealt.dealt | "ByBucket" >> beam.GroupByKey() | "AtWork" >> beam.ParDo(AtWork())
            return Groups(grouped, dealt[COUNTED], no_files)
        files = dealt.dealt if self.spend is None else dealt.dealt | "Spend" >> self.spend
        extents = files | "Extents" >> beam.FlatMap(self.shuffle.extents)
        if self.shuffle.two_levels:
            files = (
                extents
                | "Grouped" >> beam.Map(self.shuffle.grouped)
                | "ByGroup" >> beam.GroupByKey()
                | "Regroup" >> beam.Map(self.shuffle.regroup)
                | "SpendLevel" >> _spend_slices(self.shuffle, files)
            )
            extents = files | "Regrouped" >> beam.FlatMap(self.shuffle.extents)
        blocks = extents | "ByBlock" >> beam.GroupByKey()
        return Groups(blocks | "Buckets" >> beam.FlatMap(self.shuffle.of_buckets), dealt[COUNTED], files)


def once_read(shuffle: Shuffle, groups: Groups, by_engine: bool) -> beam.PTransform:
    """For what is made of each bucket of a shuffle: a barrier behind which its rows are removed, if they are files."""
    return beam.Reshuffle() if by_engine else _spend_slices(shuffle, groups.files)


def _spend_slices(shuffle: Shuffle, files: beam.PCollection) -> Spend:
    """Removes rows; their index stays, and tells which buckets there are."""
    return Spend(shuffle.work, (SLICES,), files)


@dataclass(eq=False)
class _DealFiles(beam.DoFn):  # type: ignore[misc]
    """Item -> the marker of its files."""

    shuffle: Shuffle
    task: Callable[..., Task]

    def process(self, item: Any, *sides: Any) -> Iterator[Any]:
        """Yields the marker of the files; and, tagged, of what was dropped."""
        dealt, counted = self.shuffle.deal(self.task(item, *sides))
        if counted is not None:
            progress.advance(1, pairs=counted.into)
            yield TaggedOutput(COUNTED, counted)
        yield dealt


@dataclass(eq=False)
class _DealBatches(beam.DoFn):  # type: ignore[misc]
    """Item -> (bucket, batch) of its rows."""

    shuffle: Shuffle
    task: Callable[..., Task]

    def process(self, item: Any, *sides: Any) -> Iterator[Any]:
        """Yields the batches; and, tagged, the marker of what was dropped."""
        for dealt in self.shuffle.batches(self.task(item, *sides)):
            if isinstance(dealt, Marker):
                progress.advance(1, pairs=dealt.into)
                yield TaggedOutput(COUNTED, dealt)
            else:
                yield dealt
