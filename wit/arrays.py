"""Moves of Arrow tables and NumPy arrays that every stage makes; all are right on empty input."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Ints = npt.NDArray[np.int64]
Ids = npt.NDArray[np.int32]
Hashes = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

PIECE_ROWS = 1 << 15


def as_schema(schema: pa.Schema, rows: pa.Table | None = None, /, **given: Any) -> pa.Table:
    """A table of the schema. Each column is the one given, else that of `rows`, else nulls. A text that is given fills its whole
    column."""
    count = len(rows) if rows is not None else len(next(c for c in given.values() if not isinstance(c, str)))
    held = set(rows.schema.names) if rows is not None else set()

    def column(field: pa.Field) -> Any:
        if (value := given.get(field.name)) is not None:
            return pa.repeat(value, count) if isinstance(value, str) else value
        return rows[field.name] if rows is not None and field.name in held else pa.nulls(count, field.type)

    return pa.table([column(field) for field in schema], schema=schema)


def changes(ordered: npt.NDArray[Any]) -> Mask:
    """True for the first value (or row, in two dimensions) and for each that differs from the one before it."""
    differs = np.ones(len(ordered), bool)
    other = ordered[1:] != ordered[:-1]
    differs[1:] = other.any(axis=1) if other.ndim > 1 else other
    return differs


def run_starts(ordered: npt.NDArray[Any]) -> Ints:
    """Where each run of equal values begins."""
    return np.flatnonzero(changes(ordered))


def run_lengths(starts: Ints, count: int) -> Ints:
    """The length of each run, from the places where the runs of `count` values begin."""
    return np.diff(starts, append=count)


def rank_in_run(starts: Ints, count: int) -> Ints:
    """The place of each of `count` values within its run, from 0 on."""
    return np.arange(count) - np.repeat(starts, run_lengths(starts, count))


def one_array(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """The column as one array whose offsets start at 0."""
    if isinstance(column, pa.ChunkedArray):
        chunks = column.chunks
        column = chunks[0] if len(chunks) == 1 else pa.concat_arrays(chunks or [pa.array([], column.type)])
    return pa.concat_arrays([column]) if column.offset else column


def list_of(values: pa.Array, offsets: Sequence[int] | Ints) -> pa.Array:
    """Lists of consecutive values: the n-th holds values[offsets[n] : offsets[n + 1]]."""
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values)


def offsets_of(lists: pa.ChunkedArray | pa.Array) -> tuple[Ints, pa.Array]:
    """(offsets [lists + 1], values) of a column of lists."""
    array = one_array(lists)
    return array.offsets.to_numpy().astype(np.int64), array.flatten()


def owners_of(offsets: Ints) -> Ints:
    """The number of the list that each value lies in, by the offsets [lists + 1]."""
    return np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))


def texts(column: pa.ChunkedArray) -> Iterator[list[str]]:
    """The column as lists of Python strings, PIECE_ROWS at a time: a whole column would be larger than its table."""
    for start in range(0, len(column), PIECE_ROWS):
        yield column.slice(start, PIECE_ROWS).to_pylist()
