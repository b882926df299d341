from dataclasses import replace

import pyarrow as pa
import pytest

from wit import ledger
from wit.records import DROPPED
from wit.tally import Tally

GOOD = {
    "candidates": Tally(into=10, out=6, dropped={"no_query": 4}),
    "plan": Tally(into=6, out=5, dropped={"same_url": 1}),
}


def changed(stage: str, **values: object) -> dict:
    return {name: replace(total, **values) if name == stage else total for name, total in GOOD.items()}


@pytest.mark.parametrize(
    "stages, said",
    [
        (GOOD, []),
        (changed("candidates", dropped={"no_query": 3}), [("candidates", "10 in, but 6 out and 3 dropped")]),
        (changed("plan", into=7, out=6), [("plan", "7 in, but candidates gave 6")]),
        (changed("plan", dropped={"gremlins": 1}), [("plan", "unknown reason gremlins")]),
    ],
)
def test_what_does_not_add_up_is_named(stages: dict, said: list[tuple[str, str]]) -> None:
    assert ledger.imbalances(stages) == said


def test_the_funnel_goes_in_lost_by_size_out() -> None:
    rows = ledger.funnel_rows({"plan": Tally(into=10, out=5, dropped={"a": 1, "b": 4})})
    assert rows == [("plan", "in", 10, 1.0), ("plan", "b", 4, 0.4), ("plan", "a", 1, 0.1), ("plan", "out", 5, 0.5)]


def test_reasons_are_counted_from_the_table() -> None:
    rows = [{"reason": "no_query"}, {"reason": "language"}, {"reason": "no_query"}]
    assert ledger.reason_counts(pa.Table.from_pylist(rows, schema=DROPPED)) == {"language": 1, "no_query": 2}
    assert ledger.reason_counts(DROPPED.empty_table()) == {}
