from dataclasses import replace
from typing import Any

import pytest

from wit.errors import InputError
from wit.sources import SourceConfig


@pytest.mark.parametrize(
    "knobs, why",
    [
        ({"encoding": "no_such"}, "no_such"),
        ({"source_requests_per_s": 0.00009}, "--source-requests-per-s is 9e-05"),
        ({"source_requests_per_s": 1e7}, "--source-requests-per-s is"),
        ({"source_readers": -1}, "--source-readers is -1"),
        ({"files_per_part": 1_000_001}, "--files-per-part is 1000001"),
        ({"limit": 0}, "--limit is 0"),
    ],
)
def test_what_cannot_be_read_is_refused(knobs: dict[str, Any], why: str) -> None:
    with pytest.raises(InputError, match=why):
        SourceConfig(**knobs)


@pytest.mark.parametrize(
    "knobs",
    [
        {"encoding": "shift_jis"},
        {"limit": 1},
        {"source_requests_per_s": 1e-4},
        {"source_requests_per_s": 1e6},
        {"source_readers": 1_000_000},
        {"files_per_part": 1_000_000},
    ],
)
def test_the_ends_of_what_can_be_are_part_of_it(knobs: dict[str, Any]) -> None:
    assert SourceConfig(**knobs) == replace(SourceConfig(), **knobs)


@pytest.mark.parametrize("readers, asked, interval_s", [(4, 0, 2.0), (4, 8, 4.0), (1, 0, 0.5)])
def test_workers_share_the_requests_of_a_job(readers: int, asked: int, interval_s: float) -> None:
    assert SourceConfig(source_readers=asked).budget(readers).interval_s() == interval_s
