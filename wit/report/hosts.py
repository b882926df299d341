"""The fate of every host's pictures, in bounded memory: pieces of a set count theirs in order, and the counts are merged.

15 million hosts with three outcomes each are 2 GB, in a process that holds them all 17 GB.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

HOSTS = pa.schema([("host", pa.string()), ("outcome", pa.string()), ("pairs", pa.int64())])
ARRIVED = "downloaded"  # the outcome of a picture that is there; of any other it is the Reason
TOP = 20  # hosts on the page
ROWS = 1 << 10  # of a run that are held at a time: of 500 runs 50 MB


@dataclass(frozen=True, slots=True)
class HostLosses:
    """How many pictures a host was asked for, how many it gave, and the commonest Reason for its losses."""

    host: str
    asked: int
    arrived: int
    loss: str


def host_counts(tables: Iterable[pa.Table]) -> pa.Table:
    """HOSTS, ordered, over tables with columns host and reason."""
    counted = [HOSTS.empty_table()]
    for table in tables:
        outcome = pc.fill_null(table["reason"], ARRIVED)
        rows = pa.table([table["host"], outcome, pa.repeat(pa.scalar(1, pa.int64()), len(table))], schema=HOSTS)
        counted.append(added(rows))
    return added(pa.concat_tables(counted))


def added(rows: pa.Table) -> pa.Table:
    """HOSTS with one row for each host and outcome, ordered by them."""
    summed = rows.group_by(["host", "outcome"]).aggregate([("pairs", "sum")])
    ordered = summed.select(["host", "outcome", "pairs_sum"]).rename_columns(HOSTS.names)
    return ordered.sort_by([("host", "ascending"), ("outcome", "ascending")]).cast(HOSTS)


class _Run:
    """An ordered table that is read batch by batch."""

    def __init__(self, batches: Iterator[pa.RecordBatch]) -> None:
        self._batches = batches
        self.rows = HOSTS.empty_table()
        self.ended = False
        self.more()

    def more(self) -> None:
        """Reads one batch more."""
        batch = next(self._batches, None)
        self.ended = batch is None
        if batch is not None:
            self.rows = pa.concat_tables([self.rows, pa.Table.from_batches([batch])])

    @property
    def last(self) -> str:
        host: str = self.rows["host"][-1].as_py()
        return host

    def take(self, below: str | None) -> pa.Table:
        """Takes out the rows of hosts before that one; at None all."""
        count = len(self.rows) if below is None else pc.sum(pc.less(self.rows["host"], below)).as_py() or 0
        taken, self.rows = self.rows.slice(0, count), self.rows.slice(count)
        return taken


def merged(runs: Sequence[Iterator[pa.RecordBatch]]) -> Iterator[pa.Table]:
    """The sum of some tables of HOSTS, each ordered, and no batch of them empty: in order, with all rows of a host in one table.
    Holds two batches of each run."""
    left = [_Run(run) for run in runs]
    while left := [run for run in left if len(run.rows) or not run.ended]:
        unread = [run for run in left if not run.ended]
        below = min((run.last for run in unread), default=None)
        yield added(pa.concat_tables(run.take(below) for run in left))
        for run in unread:
            if run.last == below:
                run.more()


def worst_of(hosts: Iterable[HostLosses]) -> list[HostLosses]:
    """The TOP hosts by pictures lost."""
    return sorted(hosts, key=lambda row: (row.arrived - row.asked, row.host))[:TOP]


def _worst_of(table: pa.Table) -> list[HostLosses]:
    lost = pc.if_else(pc.equal(table["outcome"], ARRIVED), 0, table["pairs"])
    hosts = table.append_column("lost", lost).group_by("host").aggregate([("pairs", "sum"), ("lost", "sum")])
    hosts = hosts.filter(pc.greater(hosts["lost_sum"], 0))
    first = hosts.sort_by([("lost_sum", "descending"), ("host", "ascending")]).slice(0, TOP)
    return [
        HostLosses(row["host"], row["pairs_sum"], row["pairs_sum"] - row["lost_sum"], _commonest(table, row["host"]))
        for row in first.to_pylist()
    ]


def _commonest(table: pa.Table, host: str) -> str:
    """The Reason of most of a host's losses; of equal ones the last by name."""
    losses = table.filter(pc.and_(pc.equal(table["host"], host), pc.not_equal(table["outcome"], ARRIVED)))
    return str(max((row["pairs"], row["outcome"]) for row in losses.to_pylist())[1])


@dataclass
class HostFacts:
    """What the page tells of all hosts, gathered while their table goes by."""

    total: int = 0
    worst: list[HostLosses] = field(default_factory=list)

    def watch(self, tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
        """The same tables, of which each is taken note of."""
        for table in tables:
            self.total += pc.count_distinct(table["host"]).as_py()
            self.worst = worst_of([*self.worst, *_worst_of(table)])
            yield table
