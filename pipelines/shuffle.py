"""The shuffle in a pipeline: by files on this machine, by the engine's own GroupByKey elsewhere (see `wit.store.shuffle`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput

from pipelines import progress
from wit.store.manifests import Marker
from wit.store.shuffle import Shuffle, Task

COUNTED = "counted"


@dataclass(eq=False)  # not frozen: Beam sets attributes of its own
class Shuffled(beam.PTransform):  # type: ignore[misc]
    """Items -> (what each bucket gets, as (number, pieces of its rows); the markers of what was dropped). `task` makes an item,
    with the side inputs `sides`, a task of the shuffle."""

    shuffle: Shuffle
    task: Callable[..., Task]
    by_engine: bool
    sides: tuple[Any, ...] = ()

    def expand(self, items: beam.PCollection) -> tuple[beam.PCollection, beam.PCollection]:
        """Deals, groups, and leaves the rows where they are until a bucket reads them."""
        deal = _DealBatches if self.by_engine else _DealFiles
        dealt = items | "Deal" >> beam.ParDo(deal(self.shuffle, self.task), *self.sides).with_outputs(
            COUNTED, main="dealt"
        )
        if self.by_engine:
            return dealt.dealt | "ByBucket" >> beam.GroupByKey(), dealt[COUNTED]
        extents = dealt.dealt | "Extents" >> beam.FlatMap(self.shuffle.extents)
        if self.shuffle.two_levels:
            extents = (
                extents
                | "Grouped" >> beam.Map(self.shuffle.grouped)
                | "ByGroup" >> beam.GroupByKey()
                | "Regroup" >> beam.Map(self.shuffle.regroup)
                | "Regrouped" >> beam.FlatMap(self.shuffle.extents)
            )
        blocks = extents | "ByBlock" >> beam.GroupByKey()
        return blocks | "Buckets" >> beam.FlatMap(self.shuffle.of_buckets), dealt[COUNTED]


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
