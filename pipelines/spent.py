"""Removes what a pass handed on as soon as everything was made of it, so that a disk holds few copies of the rows at a time; and
begins with nothing handed on where what was made of it is gone."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import apache_beam as beam
from apache_beam.pvalue import AsSingleton

from wit.errors import WorkLost
from wit.store import fs, lease
from wit.store.manifests import Marker, Unit
from wit.store.parts import StageDir

T = TypeVar("T")


def made(stage: StageDir, make: Callable[[], T]) -> T:
    """What `make`, the passes of a stage, returns. Where it misses what was spent, all that was handed on is removed, and it is
    made again: once, since nothing can be missed then."""
    try:
        return make()
    except WorkLost as error:
        gone = str(error).partition(" is gone")[0]
        print(f"{stage.stage:<10} {gone} is gone: its passes begin anew, by what is published", file=sys.stderr)
        lease.check(stage.out)
        fs.remove(stage.at_work.path)
        return make()


@dataclass(eq=False)  # not frozen: Beam sets attributes of its own
class Spend(beam.PTransform):  # type: ignore[misc]
    """Items -> the same items, once all are there and the files that they were made of are gone. The markers `read` name these;
    they stay, so that a restart makes none of them again. `note` is published before anything is removed."""

    work: StageDir
    labels: tuple[str, ...]
    read: beam.PCollection
    note: Unit | None = None
    held: int = field(init=False)

    def __post_init__(self) -> None:
        super().__init__()
        self.held = lease.number_held(self.work.out)

    def expand(self, items: beam.PCollection) -> beam.PCollection:
        """Two barriers: what is made, and what is removed."""
        all_made = items | "Made" >> beam.combiners.Count.Globally() | "Note" >> beam.Map(self.noted)
        removed = self.read | "Remove" >> beam.Map(self.removed, AsSingleton(all_made))
        all_removed = removed | "Removed" >> beam.combiners.Count.Globally()
        return items | "Then" >> beam.Map(_first, AsSingleton(all_removed))

    def noted(self, made: int) -> int:
        """Publishes the note."""
        if self.note is not None and self.work.done(self.note) is None:
            self.work.publish(self.note, {})
        return made

    def removed(self, marker: Marker, _: int) -> Marker:
        """The marker without what was removed."""
        return self.work.spend(marker, self.labels, self.held)


def _first(item: Any, _: int) -> Any:
    return item
