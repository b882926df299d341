"""A picture that every raw shard has: no bucket gets it whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from tests.conftest import through_engine
from wit.download.published import raw_shards
from wit.hashing import name_hashes
from wit.select.config import SelectConfig
from wit.select.cut import Balance, join_piece
from wit.select.dedup import PICTURE, bucket_of
from wit.select.passes import Numbered, Passes
from wit.select.spread import Spread, captions_of_buckets, most_numbers
from wit.store.manifests import Manifest
from wit.store.parquet import write_parquet
from wit.store.parts import StageDir
from wit.store.shuffle import read_rows

BUCKETS, SHARDS = 8, 60


def spread(captions: list[int]) -> Spread:
    return Spread.of(np.array(captions))


@pytest.mark.parametrize(
    ("captions", "cut", "first"),
    [
        ([10, 10, 10], [], [3]),
        ([12, 9, 9], [], [3]),
        ([13, 9, 8], [0], [3, 5]),
        ([0, 0, 30], [2], [3, 6]),
        ([40, 1, 40, 1, 1, 1], [0, 2], [6, 9, 12]),
        ([7], [], [1]),
        ([0, 0], [], [2]),
    ],
)
def test_a_bucket_well_above_the_average_has_as_many_pieces_as_it_has_averages(
    captions: list[int], cut: list[int], first: list[int]
) -> None:
    found = spread(captions)
    assert (found.cut.tolist(), found.first.tolist()) == (cut, first)
    assert first[-1] <= most_numbers(len(captions))


def some(rows: int, shards: int) -> pa.Table:
    """Pictures of which each hash is there twice."""
    hashes = np.repeat(np.arange(rows // 2, dtype=np.uint64), 2)
    raw = pa.array(np.arange(rows) % shards, pa.int32())
    return pa.table({"phash": hashes, "raw": raw, "original_sha256": [f"{n:x}" for n in range(rows)]})


def test_pieces_are_of_raw_shards_in_turn_and_then_of_hashes() -> None:
    table, cut = some(600, 7), spread([90, 10, 10])
    bucket = bucket_of(table, 3)
    hot = bucket == 0
    by_raw, by_hash = cut.by_raw(table), cut.by_hash(table)
    assert (by_raw[~hot] == bucket[~hot]).all() and (by_hash[~hot] == bucket[~hot]).all()
    assert (by_raw[hot] == 3 + table["raw"].to_numpy()[hot] % 3).all()
    assert set(by_hash[hot]) == {3, 4, 5} and (by_hash[::2] == by_hash[1::2]).all()


def test_of_a_cluster_no_more_captions_count_than_it_sends() -> None:
    table = some(2, 1).append_column("captions", pa.array([[1, 2, 3], [4, 5]]))
    assert captions_of_buckets(table, 1, max_captions=4).tolist() == [4]
    assert captions_of_buckets(table, 1, max_captions=16).tolist() == [5]
    assert captions_of_buckets(table.slice(0, 0), 2, max_captions=16).tolist() == [0, 0]


@pytest.fixture
def select(tmp_path: Path, raw: Callable[..., Manifest], raw_row: Any) -> tuple[Passes, list[Numbered]]:
    """Raw shards with one picture that all have, with four captions, and six that no other has."""
    shards = {
        f"{s:05d}-0000": [
            raw_row(f"{s}", [(f"text {s} {n}", [0]) for n in range(4)], look=1, phash=2**40),
            *(raw_row(f"{s}-{n}", [(f"text {s}-{n}", [0])], look=n, phash=10 * s + n) for n in range(6)),
        ]
        for s in range(SHARDS)
    }
    numbered = list(map(Numbered, range(SHARDS), raw_shards(raw(str(tmp_path), shards))))
    (tmp_path / "queries.txt").write_text("dog")
    write_parquet(pa.table({"weight": [1.0]}), str(tmp_path / "facts.parquet"))
    stage, queries = StageDir(str(tmp_path), "select", "e" * 32), str(tmp_path / "queries.txt")
    balance = Balance(9.0, hard=True)
    return Passes(stage, SelectConfig(), str(tmp_path / "facts.parquet"), balance, queries, 1, 5, BUCKETS), numbered


def test_a_picture_that_every_raw_shard_has_fills_no_bucket(select: tuple[Passes, list[Numbered]]) -> None:
    passes, raw = select
    sums = np.sum([passes.count(one) for one in raw], axis=0)
    average = SHARDS * (4 + 6) / BUCKETS
    dealt = through_engine(passes.by_picture, [passes.scatter(one, np.ones(1), passes.spread(sums)) for one in raw])
    pieces = [piece for piece in dealt.items() if passes.is_piece(piece)]
    joined = through_engine(passes.by_hash, [passes.join(piece, passes.spread(sums)) for piece in pieces])
    units = [read_rows(batches, PICTURE) for batches in [*dealt.values(), *joined.values()]]
    captions = [len(unit["captions"].combine_chunks().flatten()) for unit in units]
    assert max(captions) < 1.5 * average < SHARDS * 4 / 2, "the picture has 240 captions"
    assert sum(map(len, joined.values())) <= len(pieces) * len(joined)
    hot = pa.concat_tables(units[len(dealt) :]).filter(pc.field("phash") == 2**40)
    assert (len(hot), pc.sum(hot["pictures"]).as_py()) == (SHARDS, SHARDS)
    assert pc.sum(pc.greater(hot["pictures"], 0)).as_py() == len(pieces)


@pytest.mark.parametrize("hard", [False, True])
def test_what_was_joined_once_stays_as_it_is(hard: bool) -> None:
    """The draws of captions that were left out too, though none is left out now."""
    said = [
        [{"key": f"{n}{i}", "text": f"{n}{i}", "query_ids": [i], "critical_t": 1.0} for i in range(3)] for n in range(9)
    ]
    rows = [
        {
            "raw": n,
            "row": 0,
            "key": f"{n}0",
            "critical_t": 1.0,
            "phash": n % 2,
            "original_sha256": f"{n}",
            "pictures": 1,
        }
        | {"captions": said[n]}
        for n in range(9)
    ]
    table, hashes = pa.Table.from_pylist(rows, schema=PICTURE), name_hashes(["dog", "cat", "fox"])

    def join(pictures: pa.Table) -> pa.Table:
        return join_piece(pictures, Balance(1.0, hard=hard), hashes, seed=5, max_captions=2)

    once = join(table)
    assert join(once).equals(once)
    assert [row["pictures"] for row in once.to_pylist()] == [5, 4, *[0] * 7]
    assert [len(row["draws"] or []) for row in once.to_pylist()] == [3 * hard, 3 * hard, *[0] * 7]
