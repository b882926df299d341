"""--retry-failed and --retry-reason: fetch rows again, into raw shards of their own, whose last attempt failed for a passing
reason, or for a reason that is named.

Published shards are never rewritten. A round has partitions of its own beside those of the plan (`wit.download.rounds`). Its
accounting marker, `retried-NNNN`, subtracts the retried rows from the losses of earlier shards, so that the manifest's plain sum
counts every pair once, by its last attempt.

    attempted -> find -> failed (numbers) -> lay_out -> write -> plan parts, which `wit.download.partition` fetches as any other

`find` and `write` run on workers; between them stand files with the rows.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from wit import layout
from wit.arithmetic import ceil_div
from wit.download.partition import SPLIT, Owner, PartShards, PlanPart
from wit.download.rounds import (
    Rounds,
    accounting_unit,
    is_accounting,
    parsed,
    partition_name,
    partition_of,
    round_of,
)
from wit.errors import InputError
from wit.flags import instead
from wit.layout import KNOWN_ENDING
from wit.ledger import reason_counts
from wit.reasons import Reason
from wit.records import PLAN
from wit.store import fs, parquet
from wit.store.flight import side_by_side
from wit.store.manifests import Marker, Unit
from wit.store.parts import StageDir
from wit.tally import Tally, add_counts
from wit.typed import optional

TRANSIENT = tuple(sorted(str(reason) for reason in Reason if reason.transient))


@dataclass(frozen=True, slots=True)
class Retried:
    """The facts of a round's accounting: the Reasons whose rows it fetches again, of which earlier versions knew only the passing
    ones; and how many raw shards each of its partitions has, where it has several."""

    reasons: tuple[str, ...] = TRANSIENT
    shards: Mapping[str, int] | None = optional(None)


def reasons_of(names: str | None, *, failed: bool) -> tuple[str, ...]:
    """The Reasons whose rows are to be fetched again: those in `names`, comma-separated, and the passing ones if `failed`. Raises
    InputError for a name that is no Reason of the download stage."""
    asked = {name.strip() for name in (names or "").split(",") if name.strip()}
    known = {str(reason) for reason in Reason if reason.stage == "download"}
    if unknown := sorted(asked - known):
        raise InputError(
            f"--retry-reason {unknown[0]}: no such reason of a failed download; {instead(unknown[0], sorted(known))}"
        )
    return tuple(sorted(asked | (set(TRANSIENT) if failed else set())))


def has_failed(download: Tally, reasons: Sequence[str]) -> bool:
    """Whether any pair of the download stage's manifest was lost for one of the reasons."""
    return any(name in reasons for name in download.dropped)


# Which rows failed.


@dataclass(frozen=True, slots=True)
class Attempted:
    """A partition of the plan, by its name: the tables of its raw shards that lost rows, and those of rounds that may hold such
    rows again, earlier rounds first; relative to OUT."""

    name: str
    tables: tuple[str, ...]
    later: tuple[str, ...]


def attempted(markers: Iterable[Marker]) -> list[Attempted]:
    """The partitions of the plan of which a row may have to be fetched again, by the raw shards of a finished download."""
    tables: dict[str, list[str]] = {}
    raw = (marker for marker in markers if not is_accounting(marker.unit))
    for unit, table in sorted((one.unit, one.files["parquet"].name) for one in raw if one.dropped or one.unit.is_retry):
        tables.setdefault(partition_of(unit), []).append(table)
    rounds = Rounds(tables)
    return [
        Attempted(name, tuple(lost), tuple(table for later in rounds.after(name) for table in tables[later]))
        for name, lost in tables.items()
        if parsed(name)[0] == 0
    ]


@dataclass(frozen=True, slots=True)
class Failed:
    """How many rows of a partition of the plan are to be fetched again, by the Reason of their last attempt."""

    name: str
    lost: Mapping[str, int]

    @property
    def rows(self) -> int:
        return sum(self.lost.values())


@dataclass(frozen=True, slots=True)
class RoundPart:
    """A partition of a round, by its name, and the partitions of the plan that it has rows of."""

    name: str
    of: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Passes:
    """What workers need for a round: OUT, the Reasons, and how many rows a raw shard has."""

    out: str
    reasons: tuple[str, ...]
    rows_per_shard: int

    def find(self, attempted: Attempted) -> Failed:
        """Writes down the rows of a partition whose last attempt failed for one of the reasons."""
        rows = failed_rows(self.out, attempted, self.reasons)
        if len(rows):
            path = layout.retried_rows_path(self.out, attempted.name)
            parquet.publish_table(rows.select(PLAN.names), path, out=self.out)
        return Failed(attempted.name, reason_counts(rows))

    def write(self, part: RoundPart) -> RoundPart:
        """Writes the plan part of a partition of a round, a row group for each of its raw shards."""
        paths = [layout.retried_rows_path(self.out, name) for name in part.of]
        rows = pa.concat_tables(side_by_side(parquet.read_table, paths)).sort_by("key")
        path = layout.retry_path(self.out, part.name)
        parquet.publish_table(rows, path, out=self.out, row_group_size=self.rows_per_shard)
        return part


def failed_rows(out: str, attempted: Attempted, reasons: Sequence[str]) -> pa.Table:
    """The planned rows of a partition whose last attempt failed for one of the reasons, with that reason."""
    columns = [*PLAN.names, "reason"]
    tables = (parquet.read_table(fs.join(out, name), columns) for name in attempted.tables)
    lost = [table.filter(pc.is_valid(table["reason"])) for table in tables]
    rows = pa.concat_tables([pa.schema([*PLAN, ("reason", pa.string())]).empty_table(), *lost])
    last = rows["reason"]
    for name in attempted.later:
        again = parquet.read_table(fs.join(out, name), ["key", "reason"])
        places = pc.index_in(rows["key"], value_set=again["key"])
        last = pc.if_else(pc.is_valid(places), again["reason"].take(places), last)
    rows = rows.set_column(rows.schema.get_field_index("reason"), "reason", last)
    return rows.filter(pc.is_in(last, pa.array(reasons, pa.string())))


# Rounds.


def giants_of(plan: Iterable[PlanPart]) -> dict[str, int | None]:
    """The partitions of the plan by name, with the number of the giant that each is a piece of, if any. Version 0.1 split domains
    over its partitions: there all of them belong together."""
    giants = {one.part.name: one.giant for one in plan}
    return dict.fromkeys(giants, SPLIT) if SPLIT in giants.values() else giants


def lay_out(
    number: int, found: Iterable[Failed], giants: Mapping[str, int | None], *, rows_per_partition: float
) -> list[RoundPart]:
    """The partitions of a round for the rows that were found. What belongs together, a partition of the plan or all pieces of a
    giant, is cut only where it alone has more rows than a partition takes; then it has partitions of its own."""
    rows = {one.name: one.rows for one in found if one.rows}
    parts: list[list[str]] = []
    room = 0.0
    for _, together in itertools.groupby(
        sorted(rows, key=int), lambda name: (giants[name], giants[name] is None and name)
    ):
        names = list(together)
        large = sum(rows[name] for name in names) > rows_per_partition
        room = 0.0 if large else room
        for piece in [[name] for name in names] if large else [names]:
            needed = sum(rows[name] for name in piece)
            if needed > room:
                parts.append([])
                room = rows_per_partition
            parts[-1] += piece
            room -= needed
        room = 0.0 if large else room
    return [RoundPart(partition_name(number, int(of[0]) if place else 0), tuple(of)) for place, of in enumerate(parts)]


def planned(
    out: str, parts: Iterable[RoundPart], found: Iterable[Failed], giants: Mapping[str, int | None], rows_per_shard: int
) -> list[PlanPart]:
    """The partitions of a round as the download takes them: what is of one giant alone has its number."""
    rows = {one.name: one.rows for one in found}
    plan = []
    for part in parts:
        count, of = sum(rows[name] for name in part.of), {giants[name] for name in part.of}
        shards = tuple(range(ceil_div(count, rows_per_shard)))
        giant = of.pop() if len(of) == 1 else None
        plan.append(PlanPart(PartShards(part.name, layout.retry_path(out, part.name), shards), count, giant))
    return plan


def hearing(owners: Iterable[Owner], parts: Iterable[RoundPart], markers: Iterable[Marker]) -> list[Owner]:
    """The owners of a round, each with the files in which earlier owners of the same domains kept what servers told them; the
    markers of their raw shards name these files."""
    files: dict[str, set[str]] = {}
    for marker in (one for one in markers if not is_accounting(one.unit)):
        name = partition_of(marker.unit)
        kept = [beside.name for beside in marker.beside] or [f"{layout.directory_of('download')}/{name}{KNOWN_ENDING}"]
        files.setdefault(name, set()).update(kept)
    rounds, of = Rounds(files), {part.name: part.of for part in parts}

    def heard(owner: Owner) -> tuple[str, ...]:
        begun = [name for chain in owner.chains for part in chain for name in of[part.name]]
        names = dict.fromkeys(one for name in begun for one in (name, *rounds.after(name)))
        return tuple(dict.fromkeys(file for name in sorted(names) for file in sorted(files.get(name, ()))))

    return [replace(owner, hears=heard(owner)) for owner in owners]


def begun(stage: StageDir, number: int, reasons: Sequence[str]) -> Retried | None:
    """The facts of a round that was begun, and killed; None where there was none. One for other reasons had other rows: its
    markers are removed."""
    marker = stage.marker(accounting_unit(number))
    if marker is None:
        return None
    facts = stage.facts(marker, Retried)
    if facts.reasons == tuple(reasons):
        return facts
    stage.forget(unit for unit in stage.units() if round_of(unit) == number)
    return None


def rows_of_a_partition(begun: Retried | None, rows_per_partition: int) -> float:
    """How many rows a partition of a round takes. One that was begun as a single partition, by an earlier version maybe, stays
    one."""
    return math.inf if begun is not None and begun.shards is None else rows_per_partition


def account(
    stage: StageDir, number: int, reasons: Sequence[str], found: Iterable[Failed], plan: Sequence[PlanPart]
) -> Marker:
    """Publishes the accounting of a round; returns its marker."""
    lost = add_counts(one.lost for one in found)
    tally = Tally(into=-sum(lost.values()), out=0, dropped={reason: -count for reason, count in lost.items()})
    shards = {one.part.name: len(one.part.shards) for one in plan} if len(plan) > 1 else None
    return stage.publish(accounting_unit(number), {}, tally, facts=Retried(tuple(reasons), shards))


def finished_rounds(stage: StageDir, rows_per_shard: int) -> tuple[int, list[Marker]]:
    """(how many rounds were published completely, the markers of their accounting and raw shards, in order)."""
    done, number = list[Marker](), 0
    while (accounting := stage.done(accounting_unit(number + 1))) is not None:
        one = {partition_name(number + 1): ceil_div(-accounting.into, rows_per_shard)}
        parts = stage.facts(accounting, Retried).shards or one
        units = [Unit.raw(name, shard) for name in sorted(parts) for shard in range(parts[name])]
        markers = [marker for marker in side_by_side(stage.done, units) if marker is not None]
        if len(markers) < len(units):
            break
        done += [accounting, *markers]
        number += 1
    return number, done


def in_rounds(markers: Sequence[Marker]) -> list[Marker]:
    """The markers in the order of a manifest: by unit, and the shards of each round of retries behind its accounting."""
    return sorted(markers, key=lambda one: (round_of(one.unit), not is_accounting(one.unit), one.unit))
