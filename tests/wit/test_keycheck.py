"""Keys that are there twice, and keys that differ, found range by range."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wit import keycheck
from wit.arrays import Hashes
from wit.hashing import name_hash
from wit.keycheck import RANGES, Compared, Runs, compare, read_runs, sum_of, write_run

keys = st.lists(st.lists(st.lists(st.integers(0, 60).map(str), max_size=6), max_size=3), max_size=4)


def compared(folder: Path, published: Sequence[list[list[str]]], kept: Sequence[list[list[str]]] | None) -> Compared:
    keycheck.read_runs.cache_clear()
    names = iter(range(1_000))
    runs = [write_run(some, f"{folder}/{next(names)}.keys", whole=True) for some in published]
    chosen = (
        None if kept is None else tuple(write_run(some, f"{folder}/{next(names)}.keys", whole=True) for some in kept)
    )
    Runs(tuple(runs), chosen).write(str(folder))
    return sum_of(compare(read_runs(str(folder)), number) for number in range(RANGES))


def hashes(runs: list[list[list[str]]]) -> Hashes:
    return np.array([name_hash(key) for run in runs for some in run for key in some], np.uint64)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(keys, keys)
def test_ranges_together_tell_what_all_keys_at_once_would(
    tmp_path: Path, published: list[list[list[str]]], kept: list[list[list[str]]]
) -> None:
    there, wanted = (
        np.array([name_hash(k) for run in runs for some in run for k in some], np.uint64) for runs in (published, kept)
    )
    outcome = compared(tmp_path, published, kept)
    values, counts = np.unique(there, return_counts=True)
    assert sorted(outcome.again) == values[counts > 1].tolist()
    assert outcome.missing == len(np.setdiff1d(wanted, there)) and outcome.extra == len(np.setdiff1d(there, wanted))
    assert outcome.differ is not np.array_equal(np.sort(there), np.sort(wanted))


def test_without_a_keep_list_nothing_is_compared_with_it(tmp_path: Path) -> None:
    assert compared(tmp_path, [[["a", "b"]], [["b"]]], None) == Compared((name_hash("b"),))
    assert compared(tmp_path, [], None) == Compared(())


@pytest.mark.parametrize("edge", [0, 2**64 - 1, 1 << 56, (1 << 56) - 1])
def test_hashes_at_the_edges_of_ranges_are_in_one_range(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, edge: int
) -> None:
    monkeypatch.setattr(keycheck, "name_hashes", lambda names: np.array([edge for _ in names], np.uint64))
    assert compared(tmp_path, [[["x"]], [["x"]]], [[["x", "x"]]]) == Compared((edge,))
