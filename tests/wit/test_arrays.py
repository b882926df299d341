from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wit.arithmetic import ceil_div
from wit.arrays import (
    as_schema,
    changes,
    list_of,
    offsets_of,
    one_array,
    owners_of,
    rank_in_run,
    run_lengths,
    run_starts,
    texts,
)

RUNS = st.lists(st.integers(0, 3), max_size=30).map(sorted)


@given(RUNS)
def test_runs_are_those_of_the_obvious_loop(values: list[int]) -> None:
    array = np.array(values, np.int64)
    starts = [i for i, value in enumerate(values) if i == 0 or values[i - 1] != value]
    ranks = [i - max(s for s in starts if s <= i) for i in range(len(values))]
    found = run_starts(array)
    assert found.tolist() == starts and rank_in_run(found, len(values)).tolist() == ranks
    assert run_lengths(found, len(values)).tolist() == [values.count(values[s]) for s in starts]


def test_rows_of_two_dimensions_differ_as_wholes() -> None:
    assert changes(np.array([[1, 2], [1, 2], [1, 3], [2, 3]])).tolist() == [True, False, True, True]
    assert changes(np.zeros((0, 2))).tolist() == []


@pytest.mark.parametrize("number, by, boxes", [(0, 5, 0), (1, 5, 1), (5, 5, 1), (6, 5, 2)])
def test_boxes_hold_everything(number: int, by: int, boxes: int) -> None:
    assert ceil_div(number, by) == boxes


SCHEMA = pa.schema([("a", pa.int64()), ("b", pa.string()), ("c", pa.float64())])


def test_a_table_of_a_schema_takes_what_is_given_then_what_is_there_then_nulls() -> None:
    rows = pa.table({"a": [1, 2], "b": ["x", "y"], "other": [0, 0]})
    assert as_schema(SCHEMA, rows, b="same").to_pydict() == {"a": [1, 2], "b": ["same"] * 2, "c": [None] * 2}
    assert as_schema(SCHEMA, a=pa.array([3])).to_pydict() == {"a": [3], "b": [None], "c": [None]}
    assert as_schema(SCHEMA, rows.slice(0, 0), b="same").schema.equals(SCHEMA)


@given(st.lists(st.lists(st.integers(-5, 5), max_size=4), max_size=12), st.integers(0, 5), st.integers(0, 6))
def test_lists_come_apart_and_together_whatever_chunks_they_lie_in(lists: list[list[int]], cut: int, skip: int) -> None:
    kind = pa.list_(pa.int64())
    column = pa.chunked_array([pa.array(lists[:cut], kind), pa.array(lists[cut:], kind)], kind).slice(skip)
    offsets, values = offsets_of(column)
    assert offsets[0] == 0 and list_of(values, offsets).to_pylist() == lists[skip:] == one_array(column).to_pylist()
    assert owners_of(offsets).tolist() == [i for i, one in enumerate(lists[skip:]) for _ in one]


def test_texts_come_in_pieces_and_in_order() -> None:
    column = pa.chunked_array([[str(n) for n in range(40_000)], ["x"]])
    pieces = list(texts(column))
    assert len(pieces) == 2 and [t for piece in pieces for t in piece] == column.to_pylist()
