"""--retry-failed and --retry-reason: rows whose last attempt failed for a passing reason, or for one of those that are named,
are fetched again, into raw shards of their own.

Published shards are never rewritten. A round is a host partition named `rNNNN` beside those of the plan; its accounting
marker `retried-NNNN` takes the rows it retries out of the earlier shards' losses, so that the manifest's plain sum counts
every pair once, by its last attempt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from wit import layout, ledger
from wit.arithmetic import ceil_div
from wit.download.published import is_accounting, last_attempts
from wit.errors import InputError
from wit.flags import instead
from wit.reasons import Reason
from wit.records import PLAN
from wit.store import fs, parquet
from wit.store.manifests import Marker, Unit
from wit.store.parts import StageDir
from wit.tally import Tally

TRANSIENT = tuple(sorted(str(reason) for reason in Reason if reason.transient))


def partition_name(number: int) -> str:
    return f"r{number:04d}"


@dataclass(frozen=True, slots=True)
class Retried:
    """What a round's accounting says: the Reasons whose rows it fetches again. Earlier versions knew the passing ones alone."""

    reasons: tuple[str, ...] = TRANSIENT


def accounting_unit(number: int) -> Unit:
    """The unit that accounts for a round."""
    return Unit("retried", f"{number:04d}")


def reasons_of(names: str | None, *, failed: bool) -> tuple[str, ...]:
    """The Reasons whose rows are to be fetched again: those named, comma-separated, and the passing ones if `failed`. Raises
    InputError for a name that is none of the download stage."""
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


def failed_rows(out: str, markers: Sequence[Marker], reasons: Sequence[str]) -> pa.Table:
    """Planned rows whose last attempt failed for one of the reasons, with that reason."""
    tables = (
        t.filter(pc.is_in(t["reason"], pa.array(reasons, pa.string())))
        for t in last_attempts(out, markers, [*PLAN.names, "reason"])
    )
    return pa.concat_tables([pa.schema([*PLAN, ("reason", pa.string())]).empty_table(), *tables]).sort_by("key")


def finished_rounds(markers: Sequence[Marker], rows_per_shard: int) -> tuple[int, list[Marker]]:
    """(rounds of which everything was published, their accounting and raw shards in order)."""
    by_unit, done, number = {marker.unit: marker for marker in markers}, list[Marker](), 0
    while (accounting := by_unit.get(accounting_unit(number + 1))) is not None:
        shards = ceil_div(-accounting.into, rows_per_shard)
        units = [Unit.raw(partition_name(number + 1), shard) for shard in range(shards)]
        if not by_unit.keys() >= set(units):
            break
        done += [accounting, *(by_unit[unit] for unit in units)]
        number += 1
    return number, done


def in_rounds(markers: Sequence[Marker]) -> list[Marker]:
    """The markers in the order of a manifest: by their units, those of each round of retries after its accounting."""

    def place(marker: Marker) -> tuple[str, bool, Unit]:
        unit = marker.unit
        if is_accounting(unit):
            return partition_name(int(unit.place)), False, unit
        return unit.place.partition("-")[0] if unit.is_retry else "", True, unit

    return sorted(markers, key=place)


def write_round(
    stage: StageDir, number: int, markers: Sequence[Marker], reasons: Sequence[str], *, rows_per_shard: int
) -> tuple[str, int, Marker]:
    """Writes the plan part of a round beside the build and publishes its accounting: (path of the part, raw shards in it,
    accounting marker). What a round for other reasons that was killed has published is forgotten: it had other rows."""
    accounting, partition = accounting_unit(number), partition_name(number)
    begun = stage.marker(accounting)
    if begun is not None and stage.facts(begun, Retried).reasons != tuple(reasons):
        for unit in stage.units():
            if unit == accounting or unit.place.startswith(f"{partition}-"):
                fs.remove(stage.marker_path(unit))
    rows = failed_rows(stage.out, markers, reasons)
    lost = {reason: -count for reason, count in ledger.reason_counts(rows).items()}
    path = layout.retry_path(stage.out, partition)
    parquet.publish_table(rows.select(PLAN.names), path, out=stage.out, row_group_size=rows_per_shard)
    tally = Tally(into=-len(rows), out=0, dropped=lost)
    marker = stage.publish(accounting, {}, tally, facts=Retried(tuple(reasons)))
    return path, ceil_div(len(rows), rows_per_shard), marker
