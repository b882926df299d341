"""The ledger's tables, from what stages left."""

from pathlib import Path

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from wit.candidates.passes import Extracted
from wit.plan.facts import PlanFacts
from wit.records import CAPTION
from wit.report import tables
from wit.select.survival import Shortfall
from wit.store import parquet

FINE = {"path": "a.warc", "records": 5, "pages": 4, "pairs": 9, "bytes": 70, "lost": {}, "error": None}
BAD = FINE | {
    "path": "b.csv",
    "lost": {"bad_row": 2, "bad_cell": 1},
    "error": "it ends early",
    "unit": "rows",
    "first_bad": ["line 7: 3 cells, not 2"],
}


def test_every_source_file_has_a_row_in_the_order_of_the_groups() -> None:
    table = tables.source_table([Extracted((BAD,)), Extracted((FINE,))])
    assert table.schema == tables.SOURCES and table["source"].to_pylist() == ["b.csv", "a.warc"]
    assert table["lost"].to_pylist() == ['{"bad_cell": 1, "bad_row": 2}', "{}"]
    assert table["unit"].to_pylist() == ["rows", None]  # as an earlier version has it
    assert table["first_bad"].to_pylist() == [["line 7: 3 cells, not 2"], None]
    assert tables.source_table([]).equals(tables.SOURCES.empty_table())


def test_the_table_of_an_earlier_version_is_read_in_the_form_of_this_one(tmp_path: Path) -> None:
    table = tables.source_table([Extracted((FINE,))])
    (tmp_path / "ledger").mkdir()
    parquet.write_parquet(table.drop_columns(["unit", "first_bad"]), str(tmp_path / "ledger/sources.parquet"))
    assert tables.read_sources(str(tmp_path)).equals(table)


Rows = list[list[list[int]]]  # the query ids of each caption of each row


def captions_of(rows: Rows) -> pa.Table:
    column = pa.array([[{"query_ids": ids} for ids in row] for row in rows], pa.list_(CAPTION))
    return pa.table({"captions": column})


@given(st.lists(st.lists(st.lists(st.lists(st.integers(0, 4), max_size=3), max_size=3), max_size=4), max_size=3))
def test_a_row_counts_once_for_each_query_that_any_caption_of_it_has(parts: list[Rows]) -> None:
    counts = tables.rows_per_query(map(captions_of, parts), 5)
    rows = [row for part in parts for row in part]
    assert counts.tolist() == [sum(any(query in ids for ids in row) for row in rows) for query in range(5)]


def test_the_table_of_queries_says_which_were_capped_and_what_they_lack() -> None:
    plan = PlanFacts("", np.array([11, 10, 0]), np.ones(3), 10.0)
    short = Shortfall(np.array([2.6, 0.4, 0.0]), np.array([1.5, 0.0, 0.0]))
    planned, downloaded, kept = np.array([9, 10, 0]), np.array([8, 10, 0]), np.array([7, 10, 0])
    names = ["dog", "cat", "okapi"]
    table = tables.query_table(names, plan, planned=planned, downloaded=downloaded, kept=kept, short=short)
    assert table.schema == tables.QUERIES
    assert [tuple(row.values()) for row in table.to_pylist()] == [
        ("dog", 11, 9, 8, 7, True, 3, 1.5),
        ("cat", 10, 10, 10, 10, False, 0, None),
        ("okapi", 0, 0, 0, 0, False, 0, None),
    ]


def test_without_queries_the_table_of_them_is_empty() -> None:
    none, floats = np.zeros(0, np.int64), np.zeros(0)
    plan, short = PlanFacts("", none, floats, 10.0), Shortfall(floats, floats)
    table = tables.query_table([], plan, planned=none, downloaded=none, kept=none, short=short)
    assert table.equals(tables.QUERIES.empty_table())
