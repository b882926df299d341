"""Where every pair went: totals by stage and reason, by source file, host and query (design section 6).

The ledger is only ever summed from the manifests and tables of published parts, never from an engine's metrics, which count
a retried bundle twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from wit.balance import key_hashes
from wit.parts import Marker, add_counts
from wit.records import DROPPED, STAGES, Reason

SAMPLED_FROM = 10_000_000  # candidates: above, a full table of rejects would outweigh the candidates themselves


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


def thin_dropped(dropped: pa.Table, *, seed: int, one_in: int) -> pa.Table:
    """The policy "sample 1/n by hash" of rejected pairs; n = 1 keeps all."""
    if one_in <= 1:
        return dropped
    identity = zip(
        dropped["source"].to_pylist(),
        dropped["source_offset"].to_pylist(),
        dropped["source_index"].to_pylist(),
        strict=True,
    )
    hashes = key_hashes(seed, "dropped", [f"{s}\0{o}\0{i}" for s, o, i in identity])
    return dropped.filter(pa.array(hashes % one_in == 0)).cast(DROPPED)


def reason_counts(dropped: pa.Table) -> dict[str, int]:
    """{reason: rows} of a records.DROPPED table."""
    counted = dropped.group_by("reason").aggregate([([], "count_all")])
    return add_counts([dict(zip(counted["reason"].to_pylist(), counted["count_all"].to_pylist(), strict=True))])


def funnel_rows(stages: Mapping[str, Any]) -> Sequence[tuple[str, str, int, float]]:
    """(stage, what, pairs, share of the stage's input) for printing: input, each loss by size, output."""
    rows = []
    for name, total in stages.items():
        whole = max(total["in"], 1)
        rows.append((name, "in", total["in"], 1.0))
        rows += [(name, r, n, n / whole) for r, n in sorted(total["dropped"].items(), key=lambda x: (-x[1], x[0]))]
        rows.append((name, "out", total["out"], total["out"] / whole))
    return rows
