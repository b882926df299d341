"""The ledger's tables: the fate of every source file, host and query, in counts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from wit.arrays import Ints, offsets_of, owners_of
from wit.candidates.passes import Extracted
from wit.layout import SOURCES_FILE
from wit.plan.facts import PlanFacts
from wit.report.hosts import HostFacts
from wit.select.survival import Shortfall
from wit.store import fs, parquet

SOURCES = pa.schema(
    [
        ("source", pa.string()),
        ("records", pa.int64()),
        ("pages", pa.int64()),
        ("pairs", pa.int64()),
        ("bytes", pa.int64()),
        ("lost", pa.string()),  # JSON: name of the defect -> records
        ("error", pa.string()),  # why it was not read to its end, or null
        ("unit", pa.string()),  # rows or records; an earlier version left this and the next column null
        # Place and fault of the first records that gave no pair, "line 7: 3 cells, not 2".
        ("first_bad", pa.list_(pa.string())),
    ]
)
QUERIES = pa.schema(
    [
        ("query", pa.string()),
        ("pairs", pa.int64()),  # memberships before balancing
        ("planned", pa.int64()),
        ("downloaded", pa.int64()),
        ("kept", pa.int64()),
        ("capped", pa.bool_()),  # more pairs than the cap
        ("lacking", pa.int64()),  # pairs below the cap, of a query that was sampled too thinly
        ("enough_oversample", pa.float64()),  # the oversample at which it would lack none; null where it lacks none
    ]
)


@dataclass(frozen=True, slots=True)
class Tables:
    """The ledger's tables of one build, of the schemas above; of the table of hosts, which may be large, what the page tells."""

    sources: pa.Table
    hosts: HostFacts
    queries: pa.Table


def source_reports(groups: Iterable[Extracted]) -> Iterator[dict[str, Any]]:
    """The report of each source file, out of the facts of the candidates groups."""
    for group in groups:
        yield from ({"source": report["path"], **report} for report in group.sources)


def source_table(groups: Iterable[Extracted]) -> pa.Table:
    """One row a source file."""
    rows = [{**r, "lost": json.dumps(r["lost"], sort_keys=True)} for r in source_reports(groups)]
    return pa.Table.from_pylist(rows, schema=SOURCES)


def read_sources(out: str) -> pa.Table:
    """The table of sources that this or an earlier version wrote below OUT, in the schema of this one."""
    return pa.Table.from_pylist(parquet.read_table(fs.join(out, SOURCES_FILE)).to_pylist(), schema=SOURCES)


def rows_per_query(tables: Iterable[pa.Table], queries: int) -> Ints:
    """[queries] how many rows each query has: a row counts once for each query of any of its captions."""
    total = np.zeros(queries, np.int64)
    for table in tables:
        of_row, captions = offsets_of(table["captions"])
        of_caption, ids = offsets_of(captions.field("query_ids"))
        rows = np.repeat(owners_of(of_row), np.diff(of_caption))
        pairs = np.unique(rows * queries + ids.to_numpy())
        total += np.bincount(pairs % queries, minlength=queries)
    return total


def query_table(
    entries: Sequence[str], plan: PlanFacts, *, planned: Ints, downloaded: Ints, kept: Ints, short: Shortfall
) -> pa.Table:
    """One row a query of the list, in its order; counts are [queries]."""
    columns = {
        "query": pa.array(entries),
        "pairs": pa.array(plan.pairs),
        "planned": pa.array(planned),
        "downloaded": pa.array(downloaded),
        "kept": pa.array(kept),
        "capped": pa.array(plan.pairs > plan.cap),
        "lacking": pa.array(np.round(short.missing).astype(np.int64)),
        "enough_oversample": pa.array(short.oversample, mask=short.oversample == 0),
    }
    return pa.table(columns, schema=QUERIES)
