"""What a finished plan says of the whole set is read back, as this version wrote it and as earlier ones did."""

from pathlib import Path

import pyarrow as pa
import pytest

from wit.plan.facts import QUERIES, Pairs, PlanFacts, Solved, read_facts
from wit.store.manifests import Unit
from wit.store.parts import StageDir
from wit.tally import NOTHING


def facts_of(out: str, solved: Solved) -> PlanFacts:
    stage = StageDir(out, "plan", "p" * 32)
    table = pa.table({"weight": [5.5, 0.0], "pairs": [5, 0]})
    markers = [
        stage.publish(Unit.numbered("merge", 0), {}, facts=Pairs(5)),
        stage.publish_tables(QUERIES, {"rows": table}, NOTHING, facts=solved),
    ]
    return read_facts(stage, stage.finish(markers, []), oversample=2.5)


@pytest.mark.parametrize(
    "solved, cap",
    [
        (Solved(threshold=50.0, cap=20.0), 20.0),
        (Solved(threshold=50.0), 20.0),  # version 0.3 kept the threshold alone, 2.5 times the cap
        (Solved(threshold=None), float("inf")),
    ],
)
def test_the_cap_and_the_table_of_queries_are_read_back(tmp_path: Path, solved: Solved, cap: float) -> None:
    facts = facts_of(str(tmp_path), solved)
    assert (facts.pairs.tolist(), facts.weights.tolist(), facts.cap) == ([5, 0], [5.5, 0.0], cap)
    assert Path(facts.path).parent == tmp_path / "plan" and Path(facts.path).exists()
