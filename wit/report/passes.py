"""What the pieces of a set add to its report. A worker reads a piece; what comes of it is small, and is summed or merged.

pieces -> summarise -> counts by query (summed), counts by host (merged), the smallest keys (the smallest of all)
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wit.arithmetic import batches, ceil_div
from wit.arrays import Ints
from wit.download.met import read_footer
from wit.download.published import FetchedShard
from wit.download.rounds import Rounds, partition_of
from wit.plan.facts import QUERIES
from wit.report.addresses import MOST_OF_PIECE, MetIn, SharedAddress, added, shared
from wit.report.gallery import Sample, smallest, smallest_in
from wit.report.hosts import ROWS, host_counts
from wit.report.tables import rows_per_query
from wit.select.config import SelectConfig
from wit.select.passes import count, read_raw
from wit.select.survival import Memberships
from wit.store import fs, parquet, streams
from wit.store.awaited import check_complete
from wit.store.flight import side_by_side
from wit.store.manifests import Manifest, Published, outlined
from wit.store.scratch import scratch_dir
from wit.typed import dump, load, to_json

FILES = 32  # of a piece, at least: what a worker reads in a minute
MOST_RUNS = 500  # counts by host of so many pieces are merged, each from a file that is open
COUNTS = PLANNED, DOWNLOADED, KEPT, SAMPLED, SURVIVING = range(5)  # rows of the counts by query


@dataclass(frozen=True, slots=True)
class Piece:
    """Files of one kind: raw shards; parts of the plan; parts of the keep list; tables in shards/. Names are relative to OUT."""

    number: int
    raw: tuple[FetchedShard, ...] = ()
    plan: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    published: tuple[str, ...] = ()


def pieces(raw: Sequence[FetchedShard], plan: Manifest, select: Manifest, published: Published) -> list[Piece]:
    """All of a set."""
    tables = [file.name for file in published.entries if file.name.endswith(".parquet")]
    cut = [
        *(Piece(0, raw=tuple(some)) for some in batches(raw, max(FILES, ceil_div(len(raw), MOST_RUNS)))),
        *(Piece(0, plan=tuple(some)) for some in batches(rows_of(plan), FILES)),
        *(Piece(0, keep=tuple(some)) for some in batches(rows_of(select), FILES)),
        *(Piece(0, published=tuple(some)) for some in batches(tables, FILES)),
    ]
    return [replace(piece, number=number) for number, piece in enumerate(cut)]


def rows_of(manifest: Manifest) -> list[str]:
    """The files of rows that plan or select published, without plan's table of queries."""
    units = (part for part, _ in outlined(manifest.parts) if part.unit != f"{QUERIES}")
    return [part.files["rows"].name for part in units if "rows" in part.files]


@dataclass(frozen=True, slots=True)
class Counts:
    """Where the summed counts by query are."""

    counts: str


@dataclass(frozen=True, slots=True)
class PieceRead:
    """The number of a piece that was read, and where its counts by host are, if it has any."""

    number: int
    hosts: str | None
    addresses: str | None = None
    """Where the addresses are that its raw shards met, if they tell any."""


@dataclass(frozen=True, slots=True)
class Smallest:
    """The samples with the smallest keys."""

    samples: tuple[Sample, ...]


@dataclass(frozen=True, slots=True)
class Summary:
    """What a piece adds: [5, queries] counts, of rows as COUNTS says; its counts by host; its smallest keys."""

    counts: Ints
    read: PieceRead
    smallest: tuple[Sample, ...]


@dataclass(frozen=True, slots=True)
class Passes:
    """What all passes need: OUT, a folder for their results, and the raw shards of rounds of retries."""

    out: str
    folder: str
    query_count: int
    config: SelectConfig
    retries: Sequence[FetchedShard]

    def summarise(self, piece: Piece) -> Summary:
        """Reads a piece."""
        counts = np.zeros((len(COUNTS), self.query_count), np.int64)
        counts[PLANNED] = rows_per_query(self._captions(piece.plan), self.query_count)
        counts[KEPT] = rows_per_query(self._captions(piece.keep), self.query_count)
        hosts = [self._count_raw(shard, counts) for shard in piece.raw]
        path = self._publish_hosts(piece, hosts) if hosts else None
        read = PieceRead(piece.number, path, self._publish_addresses(piece))
        return Summary(counts, read, smallest_in(self.out, piece.published))

    def save(self, counts: Ints) -> Counts:
        """Writes the sum of all counts."""
        path = fs.join(self.folder, "counts")
        fs.write_bytes(path, counts.astype("<i8").tobytes())
        return Counts(path)

    def first(self, samples: Iterable[tuple[Sample, ...]]) -> tuple[Sample, ...]:
        """The smallest keys of several pieces."""
        return smallest(sample for some in samples for sample in some)

    def _captions(self, names: Iterable[str]) -> Iterator[pa.Table]:
        return (parquet.read_table(fs.join(self.out, name), ["captions"]) for name in names)

    def _count_raw(self, shard: FetchedShard, counts: Ints) -> pa.Table:
        """Adds a raw shard to the counts by query; returns host and reason of its rows that are the last attempt at their URL."""
        raw = read_raw(self.out, shard, self.config)
        memberships = count(raw, shard, queries=self.query_count, config=self.config)
        counts[SAMPLED] += memberships.planned
        counts[SURVIVING] += memberships.surviving
        last = raw.filter(
            pc.invert(pc.is_in(raw["key"], value_set=later_keys(self.out, self.retries, partition_of(shard.unit))))
        )
        counts[DOWNLOADED] += rows_per_query([last.filter(pc.is_null(last["reason"]))], self.query_count)
        return last.select(["host", "reason"])

    def _publish_addresses(self, piece: Piece) -> str | None:
        seen = [
            MetIn(partition_of(shard.unit), met)
            for shard in piece.raw
            if shard.fetch is not None
            for met in read_footer(fs.join(self.out, shard.fetch))
        ]
        if not seen:
            return None
        path = fs.join(self.folder, f"addresses-{piece.number:05d}.json")
        fs.write_bytes(path, to_json([dump(one) for one in added(seen)]))
        return path

    def _publish_hosts(self, piece: Piece, hosts: Iterable[pa.Table]) -> str:
        path = fs.join(self.folder, f"hosts-{piece.number:05d}.arrow")
        with scratch_dir(self.out) as scratch:
            local = fs.join(scratch, "hosts.arrow")
            streams.write_stream(host_counts(hosts), local, rows=ROWS)
            fs.publish(local, path)
        return path


@functools.lru_cache(4)
def later_keys(out: str, retries: Sequence[FetchedShard], partition: str) -> pa.Array:
    """The keys of all rows that later rounds asked for again and that may be of this partition."""
    tables = _tables_of_rounds(retries)
    later = [fs.join(out, path) for name in Rounds(tables).after(partition) for path in tables[name]]
    read = side_by_side(lambda path: parquet.read_table(path, ["key"]), later)
    return pa.concat_arrays([pa.array([], pa.string()), *(chunk for table in read for chunk in table["key"].chunks)])


@functools.lru_cache(2)
def _tables_of_rounds(retries: Sequence[FetchedShard]) -> dict[str, list[str]]:
    """The tables of the raw shards of rounds of retries, by partition."""
    tables: dict[str, list[str]] = {}
    for shard in retries:
        tables.setdefault(partition_of(shard.unit), []).append(shard.parquet)
    return tables


@dataclass(frozen=True, slots=True)
class Sums:
    """What all pieces add up to."""

    counts: Ints
    """[5, queries], rows as COUNTS says."""
    hosts: tuple[str, ...]
    samples: tuple[Sample, ...]
    addresses: tuple[SharedAddress, ...] = ()
    """That several partitions met at a time."""

    @property
    def memberships(self) -> Memberships:
        """Of the raw shards: planned, and surviving."""
        return Memberships(self.counts[SAMPLED], self.counts[SURVIVING])


def sums(elements: Iterable[Counts | PieceRead | Smallest], pieces: int) -> Sums:
    """What came out of the passes over so many pieces. Raises Stopped where not all of it came back."""
    every = list(elements)
    read = [one for one in every if isinstance(one, PieceRead)]
    check_complete("report", list(map(str, range(pieces))), (str(one.number) for one in read))
    check_complete("report", [Counts.__name__, Smallest.__name__], (type(one).__name__ for one in every))
    (counts,) = (one.counts for one in every if isinstance(one, Counts))
    (samples,) = (one.samples for one in every if isinstance(one, Smallest))
    hosts = sorted(one.hosts for one in read if one.hosts is not None)
    summed = np.frombuffer(fs.read_bytes(counts), "<i8").reshape(len(COUNTS), -1)
    paths = [one.addresses for one in read if one.addresses is not None]
    met = (load(MetIn, one) for data in side_by_side(fs.read_bytes, paths) for one in json.loads(data))
    return Sums(summed, tuple(hosts), samples, tuple(shared(added(met, MOST_RUNS * MOST_OF_PIECE))))
