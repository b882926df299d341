"""--retry-failed and --retry-reason: fetch rows again, into raw shards of their own, whose last attempt failed for a passing
reason, or for a reason that is named.

Published shards are never rewritten. A round is a host partition named `rNNNN` beside those of the plan. Its accounting marker,
`retried-NNNN`, subtracts the retried rows from the losses of earlier shards, so that the manifest's plain sum counts every pair
once, by its last attempt.
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
from wit.store import parquet
from wit.store.flight import side_by_side
from wit.store.manifests import Marker, Unit
from wit.store.parts import StageDir
from wit.tally import Tally

TRANSIENT = tuple(sorted(str(reason) for reason in Reason if reason.transient))


def partition_name(number: int) -> str:
    """The name of the host partition of that round."""
    return f"r{number:04d}"


@dataclass(frozen=True, slots=True)
class Retried:
    """The facts of a round's accounting: the Reasons whose rows it fetches again. Earlier versions knew only the passing ones."""

    reasons: tuple[str, ...] = TRANSIENT


def accounting_unit(number: int) -> Unit:
    """The unit that accounts for a round."""
    return Unit("retried", f"{number:04d}")


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


def failed_rows(out: str, markers: Sequence[Marker], reasons: Sequence[str]) -> pa.Table:
    """Planned rows whose last attempt failed for one of the reasons, with that reason."""
    tables = (
        t.filter(pc.is_in(t["reason"], pa.array(reasons, pa.string())))
        for t in last_attempts(out, markers, [*PLAN.names, "reason"])
    )
    return pa.concat_tables([pa.schema([*PLAN, ("reason", pa.string())]).empty_table(), *tables]).sort_by("key")


def finished_rounds(stage: StageDir, rows_per_shard: int) -> tuple[int, list[Marker]]:
    """(how many rounds were published completely, the markers of their accounting and raw shards, in order)."""
    done, number = list[Marker](), 0
    while (accounting := stage.done(accounting_unit(number + 1))) is not None:
        shards = ceil_div(-accounting.into, rows_per_shard)
        units = [Unit.raw(partition_name(number + 1), shard) for shard in range(shards)]
        markers = [marker for marker in side_by_side(stage.done, units) if marker is not None]
        if len(markers) < shards:
            break
        done += [accounting, *markers]
        number += 1
    return number, done


def in_rounds(markers: Sequence[Marker]) -> list[Marker]:
    """The markers in the order of a manifest: by unit, and the shards of each round of retries behind its accounting."""

    def place(marker: Marker) -> tuple[str, bool, Unit]:
        unit = marker.unit
        if is_accounting(unit):
            return partition_name(int(unit.place)), False, unit
        return unit.place.partition("-")[0] if unit.is_retry else "", True, unit

    return sorted(markers, key=place)


def write_round(
    stage: StageDir, number: int, markers: Sequence[Marker], reasons: Sequence[str], *, rows_per_shard: int
) -> tuple[str, int, Marker]:
    """Writes the plan part of a round under OUT and publishes its accounting; returns (path of the part, raw shards in it,
    accounting marker). If a round for other reasons was killed, its markers are removed: it had other rows."""
    accounting, partition = accounting_unit(number), partition_name(number)
    begun = stage.marker(accounting)
    if begun is not None and stage.facts(begun, Retried).reasons != tuple(reasons):
        stage.forget(unit for unit in stage.units() if unit == accounting or unit.place.startswith(f"{partition}-"))
    rows = failed_rows(stage.out, markers, reasons)
    lost = {reason: -count for reason, count in ledger.reason_counts(rows).items()}
    path = layout.retry_path(stage.out, partition)
    parquet.publish_table(rows.select(PLAN.names), path, out=stage.out, row_group_size=rows_per_shard)
    tally = Tally(into=-len(rows), out=0, dropped=lost)
    marker = stage.publish(accounting, {}, tally, facts=Retried(tuple(reasons)))
    return path, ceil_div(len(rows), rows_per_shard), marker
