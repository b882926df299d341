"""select through Beam: the same bytes whatever the number of threads, the buckets, or replayed bundles."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam import Create, Pipeline

from pipelines.combine import HELD_CELLS, SumCells
from pipelines.engine import Engine
from pipelines.select import Select
from wit.download.published import raw_shards
from wit.select.config import SelectConfig
from wit.select.cut import Balance, Target
from wit.select.passes import Numbered, Passes
from wit.store.manifests import Manifest, Unit
from wit.store.parquet import write_parquet
from wit.store.parts import StageDir

QUERIES = ["dog", "cat", "photo", "red fox"]
COUNTS = np.array([200.0, 100.0, 300.0, 20.0])


@pytest.fixture
def download(tmp_path: Path, raw: Callable[..., Manifest], raw_row: Any) -> Manifest:
    """240 rows on three raw shards, a third of them lost, some of them duplicates."""
    rows = [
        raw_row(f"{i}", [(f"text {i}", sorted({2, i % 3}))], look=None if i % 3 == 1 else i % 7, phash=i // 2 * 5 % 97)
        for i in range(240)
    ]
    return raw(str(tmp_path / "raw"), {f"0000{s}-0000": rows[s::3] for s in range(3)})


def selected(
    tmp_path: Path,
    download: Manifest,
    name: str,
    balance: Balance,
    *,
    flags: tuple[str, ...] = (),
    threads: int = 1,
    buckets: int = 3,
    by_engine: bool = False,
) -> tuple[dict[str, tuple[str, ...]], StageDir]:
    """({unit of the keep list: digests of its files}, the stage)."""
    out = tmp_path / name
    out.mkdir(exist_ok=True)
    if not (out / "raw").exists():
        (out / "raw").symlink_to(tmp_path / "raw/raw")
    (tmp_path / "queries.txt").write_text("\n".join(QUERIES))
    write_parquet(pa.table({"weight": COUNTS}), str(tmp_path / "facts.parquet"))
    stage, queries = StageDir(str(out), "select", "f" * 32), str(tmp_path / "queries.txt")
    passes = Passes(stage, SelectConfig(), str(tmp_path / "facts.parquet"), balance, queries, 4, 5, buckets)
    shards = [Numbered(number, shard) for number, shard in enumerate(raw_shards(download))]

    def build(pipeline: Pipeline) -> None:
        _ = pipeline | Create(shards) | Select(passes, by_engine)

    Engine(flags, threads).run(build)
    parts = [marker for marker in stage.markers() if marker.unit.kind == "part"]
    return {str(m.unit): tuple(d for file in m.files.values() for d in file.digests) for m in parts}, stage


def kept(stage: StageDir) -> int:
    return sum(marker.out for marker in stage.markers())


BALANCES = [Balance(30.0), Balance(30.0, 70), Balance(10.0, 500, sampled=60.0), Balance(17.0, hard=True)]


@pytest.mark.variants(2)
@pytest.mark.parametrize("balance", BALANCES, ids=["given", "target", "bounded", "hard"])
def test_the_same_bytes_from_any_threads_buckets_and_replayed_bundles_and_from_no_engine(
    tmp_path: Path, download: Manifest, balance: Balance, run_select: Any
) -> None:
    one, stage = selected(tmp_path, download, "one", balance)
    many, _ = selected(tmp_path, download, "many", balance, threads=3, buckets=7)
    again, _ = selected(tmp_path, download, "again", balance, flags=("--direct_runner_bundle_repeat=1",))
    engine, by_engine = selected(tmp_path, download, "engine", balance, threads=2, by_engine=True)
    assert not list(Path(by_engine.at_work.path).rglob("sent*")), "rows that the engine moves are in no files"
    raw, config = str(tmp_path / "raw"), SelectConfig()
    plain = run_select(raw, download, COUNTS, balance, str(tmp_path / "queries.txt"), config=config, seed=5)
    digests = {str(m.unit): tuple(d for file in m.files.values() for d in file.digests) for m in plain.parts}
    assert one == many == again == engine == digests
    assert 0 < kept(stage) == plain.out < 90


def test_a_target_is_met_and_its_cut_is_kept_with_the_parts(tmp_path: Path, download: Manifest) -> None:
    _, stage = selected(tmp_path, download, "x", Balance(30.0, 70))
    assert kept(stage) == 70
    targets = {stage.facts(marker, Target) for marker in stage.markers() if marker.unit.kind == "part"}
    assert targets == {Target(70, targets.copy().pop().t, None)}


@pytest.mark.parametrize("by_engine", [False, True])
def test_a_start_anew_joins_what_was_clustered_and_gives_the_same_bytes(
    tmp_path: Path, download: Manifest, by_engine: bool
) -> None:
    first, stage = selected(tmp_path, download, "x", Balance(17.0, hard=True))
    stage.forget(marker.unit for marker in stage.markers())
    written = {path: path.stat().st_mtime_ns for path in Path(stage.at_work.path).rglob("*.*")}
    second, _ = selected(tmp_path, download, "x", Balance(17.0, hard=True), threads=2, by_engine=by_engine)
    assert first == second and {path.name.partition("-")[0] for path in written} == {
        "sent3",
        "joined3",
        "cluster3",
        "answer3",
    }
    assert {path: path.stat().st_mtime_ns for path in Path(stage.at_work.path).rglob("*.*")} == written


@pytest.mark.variants(2)
@pytest.mark.parametrize("balance", BALANCES, ids=["given", "target", "bounded", "hard"])
def test_verdicts_that_an_earlier_version_left_half_done_are_not_taken_for_these(
    tmp_path: Path, download: Manifest, balance: Balance
) -> None:
    """They had judged already, in units called cluster; or had cut no bucket."""
    _, stage = selected(tmp_path, download, "x", balance)
    begun, there = StageDir(str(tmp_path / "y"), "select", "f" * 32), tmp_path / "judged.arrow"
    for bucket in range(3):
        there.write_bytes(b"judged by plan's cap")
        begun.publish(Unit.numbered("cluster", bucket), {"slices": str(there)})
        for kind in ("local3", "merged3", "told3"):
            there.write_bytes(b"rows of buckets that were never cut")
            begun.at_work.publish(Unit.numbered(kind, bucket), {"slices": str(there)})
    _, other = selected(tmp_path, download, "y", balance)
    assert kept(other) == kept(stage)


def test_without_any_row_nothing_is_kept(tmp_path: Path, raw: Callable[..., Manifest]) -> None:
    download = raw(str(tmp_path / "raw"), {"00000-0000": []})
    for number, balance in enumerate(BALANCES):
        _, stage = selected(tmp_path, download, f"{number}", balance)
        (part,) = (marker for marker in stage.markers() if marker.unit.kind == "part")
        assert part.out == 0
        assert pq.read_table(pa.OSFile(stage.file(part, "rows"))).num_rows == 0


def test_counts_of_cells_add_up_however_they_are_pooled() -> None:
    rng, combine = np.random.default_rng(0), SumCells()
    parts = []
    for _ in range(12):
        at = np.unique(rng.integers(0, 3 * HELD_CELLS, HELD_CELLS // 2))
        parts.append((at, rng.integers(1, 9, len(at))))
    totals = [combine.create_accumulator(), combine.create_accumulator()]
    for number, part in enumerate(parts):
        totals[number % 2] = combine.add_input(totals[number % 2], part)
    at, counts = combine.extract_output(combine.merge_accumulators(totals))
    dense = np.zeros(3 * HELD_CELLS, np.int64)
    for places, values in parts:
        dense[places] += values
    assert (at == np.flatnonzero(dense)).all() and (counts == dense[at]).all()
    assert combine.extract_output(combine.create_accumulator())[0].tolist() == []
