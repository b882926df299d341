"""Which sample stands where: a two-level shuffle fixed by the seed.

Raw shards are permuted and cut into groups; within a raw shard pictures already lie in the order of a keyed hash. The samples of
a group are merged so that all its raw shards are used up evenly, and the stream of all groups is cut every `samples_per_shard`.
So a final shard needs one contiguous run of each raw shard in a group (in two groups at a border): some hundred ranged reads of
megabytes, not one a picture.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from wit.arithmetic import ceil_div
from wit.arrays import Floats, Ints
from wit.hashing import keyed_hash, keyed_hashes
from wit.publish.config import PublishConfig
from wit.store.manifests import Manifest


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
    parts = [KeepPart(part.unit.place, part.files["rows"].name, part.out) for part in select.of("part")]
    return sorted(part for part in parts if part.rows)


def shard_count(samples: int, config: PublishConfig) -> int:
    """How many final shards so many samples fill, the last one perhaps in part."""
    return ceil_div(samples, config.samples_per_shard)


def plan_shards(parts: Sequence[KeepPart], *, seed: int, config: PublishConfig) -> Iterator[Assignment]:
    """All final shards in order: exactly `samples_per_shard` samples each, except the last."""
    order = np.argsort(keyed_hashes(seed, "publish", [part.unit for part in parts]), kind="stable")
    size = config.samples_per_shard
    width = max(5, len(str(shard_count(sum(part.rows for part in parts), config) - 1)))
    pending: list[Run] = []
    held, number, border = 0, 0, 0
    for start in range(0, len(order), config.raw_shards_per_group):
        group = [parts[i] for i in order[start : start + config.raw_shards_per_group]]
        stream = interleave(group, seed)
        for piece in np.split(stream, range(size - held, len(stream), size)):
            pending += runs_of(group, piece, border)
            held += len(piece)
            if held == size:
                yield Assignment(f"{number:0{width}d}", held, tuple(pending))
                pending, held, number, border = [], 0, number + 1, 0
        border += held > 0
    if held:
        yield Assignment(f"{number:0{width}d}", held, tuple(pending))


def interleave(group: Sequence[KeepPart], seed: int) -> Ints:
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


def runs_of(group: Sequence[KeepPart], piece: Ints, border: int) -> list[Run]:
    """The piece of a stream as one run a part."""
    runs = []
    for number, part in enumerate(group):
        rows = piece[piece[:, 0] == number, 1]
        if len(rows):
            runs.append(Run(part, int(rows[0]), int(rows[-1]) + 1, border))
    return runs
