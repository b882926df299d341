"""Which sample stands where: a two-level shuffle fixed by the seed.

Raw shards are permuted and cut into groups; within a raw shard pictures already lie in the order of a keyed hash. The samples of
a group are merged so that all its raw shards are used up evenly, and the stream of all groups is cut every `samples_per_shard`.
So a final shard needs one contiguous run of each raw shard in a group (in two groups at a border): some hundred ranged reads of
megabytes, not one a picture.
"""

from __future__ import annotations

import functools
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np

from wit.arithmetic import ceil_div
from wit.arrays import Floats, Ints
from wit.hashing import keyed_hash, keyed_hashes
from wit.publish.config import PublishConfig
from wit.store.manifests import Manifest, Unit


@dataclass(frozen=True, slots=True, order=True)
class KeepPart:
    """The keep list of one raw shard; `path` relative to OUT."""

    unit: str
    path: str
    rows: int


@dataclass(frozen=True, slots=True)
class Run:
    """Rows [start, stop) of a keep part, in the `group`-th group (0, 1, ...) that the final shard draws from."""

    part: KeepPart
    start: int
    stop: int
    group: int


@dataclass(frozen=True, slots=True)
class Assignment:
    """One final shard: its name without extension, its number of samples, and the runs it is made of."""

    name: str
    samples: int
    runs: tuple[Run, ...]


def keep_list_parts(select: Manifest) -> list[KeepPart]:
    """The parts of the select stage's manifest that hold rows."""
    parts = [KeepPart(Unit.parse(p.unit).place, p.files["rows"].name, p.out) for p in select.outlines("part")]
    return sorted(part for part in parts if part.rows)


@dataclass(frozen=True, slots=True)
class Placed:
    """A keep part in the order of the stream of all samples; `before` is how many samples of the parts before it there are."""

    part: KeepPart
    before: int


@dataclass(frozen=True, slots=True)
class Order(Sequence[Assignment]):
    """All final shards in order: exactly `samples_per_shard` samples each, except the last. Each is worked out when it is asked
    for, from the few groups that it draws from: workers need but `parts`."""

    parts: Sequence[Placed]
    samples: int
    seed: int
    config: PublishConfig

    def __len__(self) -> int:
        return ceil_div(self.samples, self.config.samples_per_shard)

    @overload
    def __getitem__(self, number: int) -> Assignment: ...
    @overload
    def __getitem__(self, number: slice) -> list[Assignment]: ...
    def __getitem__(self, number: int | slice) -> Assignment | list[Assignment]:
        if isinstance(number, slice):
            return [self[one] for one in range(len(self))[number]]
        size, number = self.config.samples_per_shard, range(len(self))[number]
        first, last = number * size, min((number + 1) * size, self.samples)
        runs = [
            run
            for border, group in enumerate(self._groups(first, last))
            for run in self._runs(group, border, first, last)
        ]
        return Assignment(self.name_of(number), last - first, tuple(runs))

    @property
    def names(self) -> list[str]:
        """The names of all shards."""
        return [self.name_of(number) for number in range(len(self))]

    def name_of(self, number: int) -> str:
        """The name of a shard: its number, with at least five digits, as many as the last one has."""
        return f"{number:0{max(5, len(str(len(self) - 1)))}d}"

    def _groups(self, first: int, last: int) -> range:
        """The numbers of the groups that hold samples [first, last) of the stream."""
        size = self.config.raw_shards_per_group
        starts = range(0, len(self.parts), size)

        def before(start: int) -> int:
            return self.parts[start].before

        return range(bisect_right(starts, first, key=before) - 1, bisect_left(starts, last, key=before))

    def _runs(self, group: int, border: int, first: int, last: int) -> list[Run]:
        """What samples [first, last) of the stream draw from a group."""
        size = self.config.raw_shards_per_group
        placed = self.parts[group * size : (group + 1) * size]
        parts, before = tuple(one.part for one in placed), placed[0].before
        return runs_of(parts, interleave(parts, self.seed)[max(first - before, 0) : last - before], border)


def plan_shards(parts: Sequence[KeepPart], *, seed: int, config: PublishConfig) -> Order:
    """The order of the final shards of these parts."""
    order = np.argsort(keyed_hashes(seed, "publish", [part.unit for part in parts]), kind="stable")
    permuted = [parts[number] for number in order]
    ends = np.cumsum([part.rows for part in permuted], dtype=np.int64).tolist()
    placed = [Placed(part, end - part.rows) for part, end in zip(permuted, ends, strict=True)]
    return Order(placed, ends[-1] if ends else 0, seed, config)


GROUPS_HELD = 2  # whose order a process keeps: neighbouring shards draw from the same group


@functools.lru_cache(GROUPS_HELD)
def interleave(group: tuple[KeepPart, ...], seed: int) -> Ints:
    """[samples, 2] (part, row) of the group's samples: parts mixed evenly, the rows of each in order."""
    part = np.repeat(np.arange(len(group)), [p.rows for p in group])
    row = np.concatenate([np.arange(p.rows) for p in group])
    when = np.concatenate([turns(p, 0, p.rows, seed) for p in group])
    order = np.lexsort((part, when))
    return np.stack([part[order], row[order]], axis=1)


def turns(part: KeepPart, start: int, stop: int, seed: int) -> Floats:
    """[stop - start] when each row of the part has its turn, in [0, 1): at equal distances, from a seeded phase on."""
    phase = (keyed_hash(seed, "phase", part.unit) >> 11) * 2.0**-53
    return (np.arange(start, stop) + phase) / part.rows


def runs_of(group: tuple[KeepPart, ...], piece: Ints, border: int) -> list[Run]:
    """The piece of a stream as one run a part."""
    runs = []
    for number, part in enumerate(group):
        rows = piece[piece[:, 0] == number, 1]
        if len(rows):
            runs.append(Run(part, int(rows[0]), int(rows[-1]) + 1, border))
    return runs
