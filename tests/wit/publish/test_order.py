"""Which sample stands where."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wit.publish.config import PublishConfig
from wit.publish.order import KeepPart, interleave, keep_list_parts, plan_shards
from wit.select.config import SelectConfig

parts = st.lists(st.integers(1, 60), min_size=1, max_size=9).map(
    lambda sizes: [KeepPart(f"{i:05d}-0000", f"p{i}", rows) for i, rows in enumerate(sizes)]
)


@settings(max_examples=150, deadline=None)
@given(parts, st.integers(1, 40), st.integers(1, 4), st.integers(0, 3))
def test_every_sample_is_in_one_shard_and_all_shards_but_the_last_are_full(
    parts: list[KeepPart], size: int, group: int, seed: int
) -> None:
    config = PublishConfig(samples_per_shard=size, raw_shards_per_group=group)
    plan = list(plan_shards(parts, seed=seed, config=config))
    placed = Counter((run.part.unit, row) for shard in plan for run in shard.runs for row in range(run.start, run.stop))
    assert placed == Counter((part.unit, row) for part in parts for row in range(part.rows))
    assert [shard.samples for shard in plan[:-1]] == [size] * (len(plan) - 1)
    assert all(shard.samples == sum(run.stop - run.start for run in shard.runs) for shard in plan)
    assert [shard.name for shard in plan] == [f"{i:05d}" for i in range(len(plan))]


def test_a_shard_draws_evenly_from_a_whole_group() -> None:
    parts = [KeepPart(f"{i:05d}-0000", "", 1_000) for i in range(20)]
    plan = list(plan_shards(parts, seed=1, config=PublishConfig(samples_per_shard=500, raw_shards_per_group=10)))
    assert {len(shard.runs) for shard in plan} == {10}
    assert {run.stop - run.start for shard in plan for run in shard.runs} <= {49, 50, 51}
    assert plan != list(plan_shards(parts, seed=2, config=PublishConfig(500, 10)))


def test_names_are_as_wide_as_the_count_needs() -> None:
    parts = [KeepPart("00000-0000", "", 100_001)]
    assert plan_shards(parts, seed=1, config=PublishConfig(samples_per_shard=1))[0].name == "000000"


def test_no_samples_make_no_shards() -> None:
    assert list(plan_shards([], seed=1, config=PublishConfig())) == []


@pytest.mark.parametrize("samples, size, shards", [(0, 7, 0), (1, 7, 1), (7, 7, 1), (8, 7, 2), (14, 7, 2)])
def test_there_are_as_many_shards_as_are_announced(samples: int, size: int, shards: int) -> None:
    config = PublishConfig(samples_per_shard=size)
    parts = [KeepPart("00000-0000", "", samples)] if samples else []
    plan = plan_shards(parts, seed=1, config=config)
    assert len(plan) == shards == len(list(plan)) == len(plan.names)


@pytest.mark.parametrize("samples, name", [(100_000, "00000"), (100_001, "000000"), (3, "00000")])
def test_a_name_has_five_digits_or_as_many_as_the_last_needs(samples: int, name: str) -> None:
    config = PublishConfig(samples_per_shard=1)
    assert plan_shards([KeepPart("00000-0000", "", samples)], seed=1, config=config)[0].name == name


@given(parts, st.integers(0, 5))
def test_rows_of_a_part_stay_in_order_and_all_parts_are_spent_evenly(parts: list[KeepPart], seed: int) -> None:
    stream = interleave(tuple(parts), seed)
    assert stream.shape == (sum(part.rows for part in parts), 2)
    for number, part in enumerate(parts):
        mine = np.flatnonzero(stream[:, 0] == number)
        assert stream[mine, 1].tolist() == list(range(part.rows))
        expected = (np.arange(part.rows) + 0.5) / part.rows * len(stream)
        assert np.abs(mine - expected).max() <= len(parts) + 0.5 * len(stream) / part.rows


def test_equal_parts_have_their_turns_in_an_order_that_the_seed_draws() -> None:
    parts = [KeepPart(f"{n:05d}-0000", "", 3) for n in range(6)]
    orders = {tuple(interleave(tuple(parts), seed)[:6, 0].tolist()) for seed in range(8)}
    assert len(orders) > 4 and all(sorted(order) == list(range(6)) for order in orders)
    assert interleave(tuple(parts), 1)[:6, 0].tolist() == interleave(tuple(parts), 1)[6:12, 0].tolist()


@settings(max_examples=60)
@given(parts, st.integers(1, 40), st.integers(1, 4), st.integers(0, 3))
def test_a_shard_reads_one_run_of_each_raw_shard_of_a_group(
    parts: list[KeepPart], size: int, group: int, seed: int
) -> None:
    """Groups are numbered from 0 in each shard, and a part belongs to one of them."""
    plan = list(plan_shards(parts, seed=seed, config=PublishConfig(size, group)))
    together: dict[str, set[str]] = {}
    for shard in plan:
        assert len({run.part for run in shard.runs}) == len(shard.runs)
        assert {run.group for run in shard.runs} == set(range(1 + max(run.group for run in shard.runs)))
        for number in {run.group for run in shard.runs}:
            units = {run.part.unit for run in shard.runs if run.group == number}
            for unit in units:
                together.setdefault(unit, set()).update(units)
    assert all(len(units) <= group for units in together.values())


def test_groups_are_drawn_by_the_seed() -> None:
    parts = [KeepPart(f"{n:05d}-0000", "", 4) for n in range(8)]
    firsts = {
        tuple(sorted(run.part.unit for run in plan_shards(parts, seed=seed, config=PublishConfig(8, 2))[0].runs))
        for seed in range(6)
    }
    assert len(firsts) > 3


def test_the_keep_lists_are_those_of_raw_shards_of_which_something_is_kept(
    tmp_path: Path, raw: Callable[..., Any], raw_row: Any, run_select: Callable[..., Any]
) -> None:
    out = str(tmp_path / "out")
    (tmp_path / "queries.txt").write_text("dog\n")
    shards = {
        "00001-0000": [raw_row(f"b{n}", [("a dog", [0])], look=n) for n in range(3)],
        "00000-0001": [raw_row("gone", [("a dog", [0])], look=None)],
        "00000-0000": [raw_row(f"a{n}", [("a dog", [0])], look=9 + n) for n in range(2)],
    }
    chosen = run_select(
        out, raw(out, shards), np.ones(1), 9.0, f"{tmp_path}/queries.txt", config=SelectConfig(), seed=1
    )
    found = keep_list_parts(chosen)
    assert [(part.unit, part.rows) for part in found] == [("00000-0000", 2), ("00001-0000", 3)]
    for part in found:
        assert pq.read_metadata(f"{out}/{part.path}").num_rows == part.rows


def test_a_set_that_was_begun_by_an_earlier_version_goes_on_in_its_order() -> None:
    parts = [KeepPart(f"{number:05d}-0000", "", 2 + number) for number in range(4)]
    plan = plan_shards(parts, seed=1, config=PublishConfig(samples_per_shard=5, raw_shards_per_group=2))
    runs = [[(int(run.part.unit[:5]), run.start, run.stop, run.group) for run in shard.runs] for shard in plan]
    assert runs == [
        [(1, 0, 2, 0), (3, 0, 3, 0)],
        [(1, 2, 3, 0), (3, 3, 5, 0), (2, 0, 1, 1), (0, 0, 1, 1)],
        [(2, 1, 4, 0), (0, 1, 2, 0)],
    ]
    assert interleave(tuple(parts), 1)[:, 0].tolist() == [1, 2, 0, 3, 2, 1, 3, 2, 3, 0, 1, 3, 2, 3]
