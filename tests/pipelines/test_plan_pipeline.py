"""plan through Beam: the same parts whatever the number of threads, the buckets, or replayed bundles."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam import Create, Pipeline

from pipelines.engine import Engine
from pipelines.plan import Plan, passes
from wit.plan.config import PlanConfig
from wit.plan.owners import Rates
from wit.plan.passes import CandidatesPart
from wit.store.manifests import Unit
from wit.store.parquet import write_parquet
from wit.store.parts import StageDir

QUERIES = ["dog", "cat", "photo", "red fox"]
ROWS = [
    (f"http://h{i // 2 % 7}.example/{i // 2}", f"text {i % 900}", sorted({2, i % 3, (i * i) % 4})) for i in range(2_000)
]


@pytest.fixture
def parts(tmp_path: Path, candidates: Callable[..., pa.Table]) -> list[CandidatesPart]:
    return written(tmp_path, candidates(ROWS), 4)


def written(tmp_path: Path, table: pa.Table, count: int) -> list[CandidatesPart]:
    """The list of queries, and so many parts of candidates of a size."""
    (tmp_path / "queries.txt").write_text("\n".join(QUERIES))
    size, found = len(table) // count, []
    for i in range(count):
        path = str(tmp_path / f"candidates-{i}.parquet")
        write_parquet(table.slice(i * size, size), path)
        found.append(CandidatesPart(Unit.numbered("scatter", i), path))
    return found


def planned(
    tmp_path: Path, name: str, parts: list[CandidatesPart], flags: tuple[str, ...], threads: int, **knobs: object
) -> tuple[dict[str, bytes], StageDir]:
    stage = StageDir(str(tmp_path / name), "plan", str(knobs.pop("fingerprint", "f" * 32)))
    rates, by_engine, rows_a_key = (
        knobs.pop("rates", Rates()),
        knobs.pop("by_engine", False),
        knobs.pop("rows_a_key", 400),
    )
    config = PlanConfig(rows_per_partition=300, rows_per_raw_shard=50, **knobs)  # type: ignore[arg-type]
    given = {"queries": str(tmp_path / "queries.txt"), "seed": 5, "rows": len(ROWS), "parts": len(parts)}
    plan = Plan(passes(stage, config, **given, rates=rates, rows_a_key=rows_a_key), bool(by_engine))  # type: ignore[arg-type]

    def build(pipeline: Pipeline) -> None:
        _ = pipeline | Create(parts) | plan

    Engine(flags, threads).run(build)
    files = {str(m.unit): Path(stage.file(m, "rows")).read_bytes() for m in stage.markers() if "rows" in m.files}
    return files, stage


def rows_of(files: dict[str, bytes]) -> int:
    return sum(len(pq.read_table(pa.BufferReader(data))) for unit, data in files.items() if unit.startswith("part-"))


def test_the_same_bytes_from_one_thread_and_from_three_and_with_every_bundle_replayed(
    tmp_path: Path, parts: list[CandidatesPart]
) -> None:
    one, stage = planned(tmp_path, "one", parts, (), 1, rows_a_key=400, max_per_query=200)
    three, _ = planned(tmp_path, "three", list(reversed(parts)), (), 3, rows_a_key=400, max_per_query=200)
    again, _ = planned(
        tmp_path, "again", parts, ("--direct_runner_bundle_repeat=1",), 1, rows_a_key=400, max_per_query=200
    )
    assert one == three == again
    markers = stage.markers()
    assert sum(m.into for m in markers) == len(ROWS) == sum(m.out + sum(m.dropped.values()) for m in markers)


def test_other_buckets_plan_the_same_rows(tmp_path: Path, parts: list[CandidatesPart]) -> None:
    many, _ = planned(tmp_path, "many", parts, (), 2, rows_a_key=150, max_per_query=200)
    few, _ = planned(tmp_path, "few", parts, (), 2, rows_a_key=5_000, max_per_query=200)
    assert many == few


@pytest.mark.parametrize("target", [1, 100, 999, 10_000])
def test_a_target_plans_exactly_that_many_rows(tmp_path: Path, parts: list[CandidatesPart], target: int) -> None:
    files, _ = planned(tmp_path, "t", parts, (), 1, target=target, oversample=1.0)
    assert rows_of(files) == min(target, 1_000)


def test_a_finished_pass_is_not_done_again(tmp_path: Path, parts: list[CandidatesPart]) -> None:
    first, stage = planned(tmp_path, "x", parts, (), 1)
    for path in (part.path for part in parts):
        Path(path).unlink()  # whoever reads them again fails
    second, _ = planned(tmp_path, "x", parts, (), 1)
    assert first == second


def test_a_hard_cap_bounds_what_a_query_contributes(tmp_path: Path, parts: list[CandidatesPart]) -> None:
    files, _ = planned(tmp_path, "h", parts, (), 2, cap="hard", max_per_query=100, oversample=1.0, rows_a_key=400)
    assert 100 <= rows_of(files) <= 400  # four queries of 100, pairs shared between them
