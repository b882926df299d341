"""Hot URLs and hot captions: no worker of plan ever holds more than a bounded number of pairs."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
from apache_beam import Create

from pipelines.engine import Engine
from pipelines.plan import Plan, passes
from wit.plan.config import PlanConfig
from wit.plan.owners import Rates
from wit.plan.passes import CandidatesPart, Pairs
from wit.store.manifests import Unit
from wit.store.parquet import write_parquet
from wit.store.parts import StageDir

TASKS, ROWS = 8, 3_000


def test_one_url_on_half_of_all_pages_and_one_caption_on_the_other_half(
    tmp_path: Path, candidates: Callable[..., pa.Table]
) -> None:
    (tmp_path / "queries.txt").write_text("dog\nspacer\n")
    parts = []
    for task in range(TASKS):
        rows = [
            ("http://hot.example/spacer.gif", f"spacer {task} {i}", [1])
            if i % 2
            else (f"http://h{i % 40}.example/{task}/{i}", "dog", [0])
            for i in range(ROWS)
        ]
        path = str(tmp_path / f"{task}.parquet")
        write_parquet(candidates(rows), path)
        parts.append(CandidatesPart(Unit.numbered("scatter", task), path))
    stage = StageDir(str(tmp_path / "out"), "plan", "f" * 32)
    config = PlanConfig(max_urls_per_caption=500, max_captions_per_url=4)
    plan = Plan(
        passes(
            stage,
            config,
            queries=str(tmp_path / "queries.txt"),
            seed=3,
            rows=TASKS * ROWS,
            rates=Rates(),
            rows_a_key=1_000,
        )
    )
    Engine((), 2).run(lambda p: p | Create(parts) | plan)
    markers = {marker.unit: marker for marker in stage.markers()}

    gathered = {unit: stage.facts(marker, Pairs).pairs for unit, marker in markers.items() if unit.kind == "merge"}
    assert sum(gathered.values()) == TASKS * ROWS // 2 + 4  # all dogs, and four captions of the hot URL
    assert max(gathered.values()) < 1_000  # 24 buckets: the hot URL costs its own no more than 4 pairs a task

    dropped = {reason: 0 for marker in markers.values() for reason in marker.dropped}
    for marker in markers.values():
        for reason, count in marker.dropped.items():
            dropped[reason] += count
    assert dropped["too_many_captions"] == TASKS * ROWS // 2 - 4
    kept = TASKS * ROWS // 2 - dropped["caption_too_frequent"]
    assert abs(kept - 500) < 5 * 22  # the hot caption is thinned to about its cap, by hash, wherever its URLs lie
    assert sum(marker.into for marker in markers.values()) == TASKS * ROWS
    assert sum(marker.out for marker in markers.values()) + sum(dropped.values()) == TASKS * ROWS
