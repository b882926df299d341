"""Where every pair went: totals by stage and reason, by source file, host and query (design section 6).

The ledger is only ever summed from the manifests and tables of published parts, never from an engine's metrics, which count
a retried bundle twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from wit.parts import Marker, add_counts
from wit.records import Reason
from wit.stages import STAGES


def stage_totals(manifests: Mapping[str, Marker]) -> dict[str, Any]:
    """{"in", "out", "dropped": {reason: n}} of every stage that ran, in the order of the stages."""
    return {
        stage: {"in": m["in"], "out": m["out"], "dropped": add_counts([m["dropped"]])}
        for stage in STAGES
        if (m := manifests.get(stage)) is not None
    }


def imbalances(stages: Mapping[str, Any]) -> list[str]:
    """What does not add up: within a stage (in = out + dropped) and from one stage to the next. Empty if all does."""
    wrong = []
    previous: tuple[str, int] | None = None
    for name, total in stages.items():
        lost = sum(total["dropped"].values())
        if total["in"] != total["out"] + lost:
            wrong.append(f"{name}: {total['in']} in, but {total['out']} out and {lost} dropped")
        if previous and previous[1] != total["in"]:
            wrong.append(f"{name}: {total['in']} in, but {previous[0]} gave {previous[1]}")
        unknown = [r for r in total["dropped"] if r not in set(Reason)]
        wrong += [f"{name}: unknown reason {r}" for r in unknown]
        previous = (name, total["out"])
    return wrong


def reason_counts(dropped: pa.Table) -> dict[str, int]:
    """{reason: rows} of a records.DROPPED table."""
    counted = dropped.group_by("reason").aggregate([([], "count_all")])
    return add_counts([dict(zip(counted["reason"].to_pylist(), counted["count_all"].to_pylist(), strict=True))])


PLACES_SHOWN = 5  # of bad rows; ledger/sources.parquet has more


def source_problems(sources: Iterable[Mapping[str, Any]]) -> list[str]:
    """What could not be read, one sentence a file and kind of fault, by reports of source files."""
    said = []
    for source in sources:
        lost, unit = add_counts([source["lost"]]), source.get("unit") or "records"  # as earlier versions say it
        if lost:
            defects, count = ", ".join(f"{n:,} {name}" for name, n in lost.items()), sum(lost.values())
            # lost records are not among those that were read, as rows are
            number = f"{count:,} of {source['records']:,} rows" if unit == "rows" else f"{count:,} {unit}"
            places = source.get("first_bad") or []
            more = ", ..." if len(places) > PLACES_SHOWN else ""
            first = f"; first {', '.join(places[:PLACES_SHOWN])}{more}" if places else ""
            said.append(f"{source['source']}: {number} could not be read as pairs ({defects}){first}")
        if source["error"]:
            said.append(f"{source['source']}: {source['error']}")
    return said


def funnel_rows(stages: Mapping[str, Any]) -> Sequence[tuple[str, str, int, float]]:
    """(stage, what, pairs, share of the stage's input) for printing: input, each loss by size, output."""
    rows = []
    for name, total in stages.items():
        whole = max(total["in"], 1)
        rows.append((name, "in", total["in"], 1.0))
        rows += [(name, r, n, n / whole) for r, n in sorted(total["dropped"].items(), key=lambda x: (-x[1], x[0]))]
        rows.append((name, "out", total["out"], total["out"] / whole))
    return rows
