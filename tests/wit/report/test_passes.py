"""What the pieces of a set add to its report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pytest

from wit.download.published import raw_shards
from wit.errors import Stopped
from wit.plan.facts import QUERIES, Solved
from wit.report import passes
from wit.report.passes import DOWNLOADED, SAMPLED, SURVIVING, Passes, Smallest, pieces, rows_of, sums
from wit.select.config import SelectConfig
from wit.store import streams
from wit.store.manifests import Manifest, Published, Unit
from wit.store.parts import StageDir
from wit.tally import NOTHING

HOST = "host.example"


def test_the_rows_of_a_stage_are_those_of_its_parts_and_not_its_table_of_queries(tmp_path: Path) -> None:
    stage = StageDir(str(tmp_path), "plan", "p" * 32)
    for number in range(2):
        stage.publish_tables(Unit.numbered("part", number), {"rows": pa.table({"x": [number]})}, NOTHING)
    stage.publish_tables(QUERIES, {"rows": pa.table({"x": [9]})}, NOTHING, facts=Solved(None))
    stage.publish(Unit.numbered("merge", 0), {})
    manifest = stage.finish(stage.markers(), [])
    assert [name.split(".")[0] for name in rows_of(manifest)] == ["plan/part-00000", "plan/part-00001"]


@pytest.mark.parametrize("files", [1, 2, 32])
def test_a_set_is_cut_into_pieces_of_one_kind_each_with_all_of_its_files(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, raw: Callable[..., Manifest], raw_row: Any, files: int
) -> None:
    monkeypatch.setattr(passes, "FILES", files)
    download = raw(str(tmp_path), {f"0000{i}-0000": [raw_row(f"{i}", [("é", [0])], look=i)] for i in range(3)})
    none = Published(
        stage="publish", fingerprint="", schema_version=1, into=0, out=0, dropped={}, shards=0, samples=0, files=()
    )
    empty = Manifest(stage="plan", fingerprint="", schema_version=1, into=0, out=0, dropped={}, parts=())
    cut = pieces(raw_shards(download), empty, empty, none)
    assert [shard for piece in cut for shard in piece.raw] == raw_shards(download)
    assert [piece.number for piece in cut] == list(range(-(-3 // files)))


@pytest.mark.parametrize("together", [False, True])
def test_a_row_that_was_asked_for_again_counts_as_its_last_attempt_left_it(
    tmp_path: Path, raw: Callable[..., Manifest], raw_row: Any, together: bool
) -> None:
    lost = [raw_row(f"{i}", [(f"é {i}", [i % 2])], look=None) for i in range(4)]
    arrived = [raw_row(f"{i}", [(f"é {i}", [i % 2])], look=i) for i in range(4)]
    rounds = {"00000-0000": [arrived[0], *lost[1:]], "r0001-0000": [lost[1], arrived[2]], "r0002-0000": [arrived[1]]}
    shards = raw_shards(raw(str(tmp_path), rounds))
    every = pieces(shards, *_nothing())
    cut = every if together else [passes.Piece(n, raw=(shard,)) for n, shard in enumerate(shards)]
    again = tuple(shard for shard in shards if shard.unit.is_retry)
    work = Passes(str(tmp_path), f"{tmp_path}/_tmp", 2, SelectConfig(), again)
    read = [work.summarise(piece) for piece in cut]
    elements = [work.save(sum(one.counts for one in read)), *(one.read for one in read), Smallest(())]
    total = sums(elements, len(cut))
    for lost in range(len(elements)):  # by an engine that says DONE all the same
        with pytest.raises(Stopped, match="of report were not published"):
            sums([*elements[:lost], *elements[lost + 1 :]], len(cut))
    hosts: Counter[str] = Counter()
    for path in total.hosts:
        for row in streams.parse(path, Path(path).read_bytes()).to_pylist():
            hosts[row["outcome"]] += row["pairs"]
    assert hosts == {"downloaded": 3, "http_not_found": 1}, "each pair once, by its last attempt"
    assert total.counts[DOWNLOADED].tolist() == [2, 1]
    assert total.counts[SAMPLED].tolist() == [2, 2], "a round's pairs were counted in the first attempt"
    assert total.counts[SURVIVING].tolist() == [2, 1]
    assert np.array_equal(total.memberships.surviving, total.counts[SURVIVING])


def _nothing() -> tuple[Manifest, Manifest, Published]:
    empty = Manifest(stage="plan", fingerprint="", schema_version=1, into=0, out=0, dropped={}, parts=())
    none = Published(
        stage="publish", fingerprint="", schema_version=1, into=0, out=0, dropped={}, shards=0, samples=0, files=()
    )
    return empty, empty, none
