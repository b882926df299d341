"""The table of hosts: counted by many, merged in order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wit.report.hosts import HOSTS, TOP, HostFacts, HostLosses, host_counts, merged
from wit.report.whole import write_hosts
from wit.store import parquet, streams

Row = tuple[str, str, int]


def host_rows(*rows: Row) -> pa.Table:
    return pa.Table.from_pylist([dict(zip(HOSTS.names, row, strict=True)) for row in rows], schema=HOSTS)


def facts_of(*rows: Row) -> HostFacts:
    facts = HostFacts()
    list(facts.watch(merged([in_batches(host_rows(*sorted(rows)), 3)])))
    return facts


def in_batches(table: pa.Table, rows: int) -> Iterator[pa.RecordBatch]:
    return iter([batch for batch in table.combine_chunks().to_batches(max_chunksize=rows) if len(batch)])


def test_outcomes_of_a_host_add_up_over_tables() -> None:
    raw = [
        pa.table({"host": ["b", "a", "b"], "reason": pa.array([None, "timeout", "timeout"]), "other": [1, 2, 3]}),
        pa.table({"host": ["b", "a", "b"], "reason": pa.array([None, None, "timeout"]), "other": [4, 5, 6]}),
    ]
    rows = [tuple(row.values()) for row in host_counts(raw).to_pylist()]
    assert rows == [("a", "downloaded", 1), ("a", "timeout", 1), ("b", "downloaded", 2), ("b", "timeout", 2)]
    assert host_counts([]).equals(HOSTS.empty_table())


# Names whose order as code points, as UTF-8 and as UTF-16 differs.
names = st.sampled_from(["a", "a.", "a-b", "ab", "b", "\uffee.example", "\U00010000.example", "\ue000", "z" * 40])
tables = st.lists(
    st.tuples(names, st.sampled_from(["downloaded", "dns", "tls", "timeout"]), st.integers(1, 9)), max_size=40
)


@settings(max_examples=300, deadline=None)
@given(st.lists(tables, max_size=5), st.integers(1, 7))
def test_merged_runs_are_the_sum_of_all_rows_in_order_whatever_their_batches(runs: list[list[Row]], rows: int) -> None:
    counted: Counter[tuple[str, str]] = Counter()
    for run in runs:
        for host, outcome, pairs in run:
            counted[host, outcome] += pairs
    ordered = [host_counts([]), *(host_rows(*sorted(_added(run))) for run in runs)]
    pieces = [piece.to_pylist() for piece in merged([in_batches(table, rows) for table in ordered])]
    expected = [(host, outcome, n) for (host, outcome), n in sorted(counted.items())]
    assert [tuple(row.values()) for piece in pieces for row in piece] == expected
    of_piece = [{row["host"] for row in piece} for piece in pieces]
    assert sum(map(len, of_piece)) == len({host for host, _ in counted}), "a host is in one piece"


def _added(run: list[Row]) -> list[Row]:
    counted: Counter[tuple[str, str]] = Counter()
    for host, outcome, pairs in run:
        counted[host, outcome] += pairs
    return [(host, outcome, pairs) for (host, outcome), pairs in counted.items()]


@pytest.mark.parametrize(
    "rows, worst",
    [
        (
            [("a", "downloaded", 5), ("a", "timeout", 1), ("a", "tls", 2), ("b", "dns", 4), ("c", "downloaded", 9)],
            [HostLosses("b", 4, 0, "dns"), HostLosses("a", 8, 5, "tls")],
        ),
        (  # equal losses: hosts by name, reasons by the last of the alphabet
            [("b", "dns", 1), ("a", "dns", 1), ("c", "dns", 1), ("c", "tls", 1)],
            [HostLosses("c", 2, 0, "tls"), HostLosses("a", 1, 0, "dns"), HostLosses("b", 1, 0, "dns")],
        ),
        ([(f"h{i:02}", "dns", 1) for i in range(30)], [HostLosses(f"h{i:02}", 1, 0, "dns") for i in range(TOP)]),
        ([], []),
    ],
)
def test_hosts_that_lost_most_come_first(rows: list[tuple[str, str, int]], worst: list[HostLosses]) -> None:
    assert facts_of(*rows).worst == worst


def test_of_a_long_table_the_page_tells_what_it_would_of_it_in_one_piece() -> None:
    rows = [(f"h{n:03}", outcome, 1 + n * 7 % 11) for n in range(200) for outcome in ("dns", "downloaded", "tls")]
    whole = HostFacts()
    list(whole.watch([host_rows(*rows)]))
    assert facts_of(*rows) == whole and whole.total == 200 and len(whole.worst) == TOP


@pytest.mark.parametrize("rows", [0, 1, 5])
def test_the_table_that_is_written_has_the_bytes_of_one_written_at_once(tmp_path: Path, rows: int) -> None:
    tables = [pa.table({"host": [f"h{n}", "same"], "reason": [None, "tls"]}) for n in range(rows)]
    paths = [str(tmp_path / f"{number}.arrow") for number in range(rows)]
    for path, table in zip(paths, tables, strict=True):
        streams.write_stream(host_counts([table]), path, rows=1)
    facts = write_hosts(str(tmp_path / "out"), paths)
    parquet.write_parquet(host_counts(tables), str(tmp_path / "at-once.parquet"))
    assert (tmp_path / "out/ledger/hosts.parquet").read_bytes() == (tmp_path / "at-once.parquet").read_bytes()
    assert facts.total == (rows and rows + 1)
