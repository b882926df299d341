"""A list that workers look into by number."""

import pickle
from pathlib import Path

import pytest

from wit.layout import SCRATCH
from wit.publish.config import PublishConfig
from wit.publish.order import KeepPart, Placed, plan_shards
from wit.store import fs
from wit.store import roster as rosters
from wit.store.roster import roster


def test_a_roster_is_the_list_in_any_process_and_small_there(tmp_path: Path) -> None:
    parts = [KeepPart(f"{number:05d}-0000", f"select/é {number}", number) for number in range(5_000)]
    with roster(parts, KeepPart, out=str(tmp_path)) as listed:
        assert len(pickle.dumps(listed)) < 1_000
        rosters._rows.cache_clear()  # as in another process
        there = pickle.loads(pickle.dumps(listed))
        assert len(there) == 5_000 and list(there) == parts
        assert there[-1] == parts[-1] and there[7:9] == parts[7:9]
        with pytest.raises(IndexError):
            there[5_000]
    assert fs.list_dir(f"{tmp_path}/{SCRATCH}") == []


def test_an_empty_roster_is_an_empty_list(tmp_path: Path) -> None:
    with roster([], int, out=str(tmp_path)) as listed:
        assert len(listed) == 0 and list(listed) == []


def test_a_worker_that_has_but_the_roster_gives_each_final_shard_what_the_whole_list_gives(tmp_path: Path) -> None:
    parts = [KeepPart(f"{number:05d}-0000", "", 1 + number % 9) for number in range(60)]
    whole = plan_shards(parts, seed=3, config=PublishConfig(samples_per_shard=7, raw_shards_per_group=4))
    with roster(whole.parts, Placed, out=str(tmp_path)) as placed:
        alone = type(whole)(placed, whole.samples, whole.seed, whole.config)
        assert [alone[number] for number in reversed(range(len(alone)))] == list(whole)[::-1]
