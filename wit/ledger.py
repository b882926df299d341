"""Where every pair went: totals by stage and reason, by source file, host and query (design section 6).

The ledger is always the sum of manifests and tables of published parts. An engine's metrics are no use for it: they count a
retried bundle twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from wit.reasons import Reason
from wit.stages import STAGES, USUAL
from wit.tally import Tally, add_counts


@dataclass(frozen=True, slots=True)
class LedgerFile:
    """ledger.json: the totals of every stage, and the samples that were published."""

    stages: Mapping[str, Tally]
    samples: int


def stage_totals(manifests: Mapping[str, Tally]) -> dict[str, Tally]:
    """The statistics of every stage that ran, in the order of the stages."""
    return {stage: plain(manifests[stage]) for stage in STAGES if stage in manifests}


def plain(tally: Tally) -> Tally:
    """The statistics alone, out of a manifest or marker."""
    return Tally(into=tally.into, out=tally.out, dropped=add_counts([tally.dropped]))


def imbalances(stages: Mapping[str, Tally]) -> list[tuple[str, str]]:
    """(stage, sentence) for everything that does not add up: within a stage (into = out + dropped), and between two neighbours
    whose numbers are both known."""
    wrong = []
    previous: tuple[str, int] | None = None
    for name in STAGES:
        total = stages.get(name)
        if total is None:
            previous = None if name in USUAL else previous
            continue
        lost = sum(total.dropped.values())
        if total.into != total.out + lost:
            wrong.append((name, f"{total.into} in, but {total.out} out and {lost} dropped"))
        if previous and previous[1] != total.into:
            wrong.append((name, f"{total.into} in, but {previous[0]} gave {previous[1]}"))
        wrong += [(name, f"unknown reason {reason}") for reason in total.dropped if reason not in set(Reason)]
        previous = (name, total.out)
    return wrong


def reason_counts(dropped: pa.Table) -> dict[str, int]:
    """{reason: rows} of a records.DROPPED table."""
    counted = dropped.group_by("reason").aggregate([([], "count_all")])
    return add_counts([dict(zip(counted["reason"].to_pylist(), counted["count_all"].to_pylist(), strict=True))])


PLACES_SHOWN = 5  # of bad rows; ledger/sources.parquet has more


def source_problems(sources: Iterable[Mapping[str, Any]]) -> list[str]:
    """One sentence for each source file and kind of fault: what could not be read. `sources` are reports of source files."""
    problems = []
    for source in sources:
        lost, unit = add_counts([source["lost"]]), source.get("unit") or "records"  # as earlier versions say it
        if lost:
            defects, count = ", ".join(f"{n:,} {name}" for name, n in lost.items()), sum(lost.values())
            # records that could not be read are not in `records`; rows are
            number = f"{count:,} of {source['records']:,} rows" if unit == "rows" else f"{count:,} {unit}"
            places = source.get("first_bad") or []
            more = ", ..." if len(places) > PLACES_SHOWN else ""
            first = f"; first {', '.join(places[:PLACES_SHOWN])}{more}" if places else ""
            problems.append(f"{source['source']}: {number} could not be read as pairs ({defects}){first}")
        if source["error"]:
            problems.append(f"{source['source']}: {source['error']}")
    return problems


def funnel_rows(stages: Mapping[str, Tally]) -> list[tuple[str, str, int, float]]:
    """(stage, what, pairs, share of the stage's input) for printing: input, each loss by size, output."""
    rows = []
    for name, total in stages.items():
        whole = max(total.into, 1)
        losses = sorted(total.dropped.items(), key=lambda loss: (-loss[1], loss[0]))
        rows.append((name, "in", total.into, 1.0))
        rows += [(name, reason, n, n / whole) for reason, n in losses]
        rows.append((name, "out", total.out, total.out / whole))
    return rows
