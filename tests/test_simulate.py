"""The simulation itself: it draws the same schedule each time, and sees what is not as a calm build makes it."""

from __future__ import annotations

import sys
import urllib.error
import urllib.request
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parent))
sys.path.append(str(Path(__file__).parents[1]))

from stores import Line

from tests.simulate import __main__ as simulation
from tests.simulate import schedule, web, whole
from tests.simulate.starts import Place, stage_of

CALLS = {store: dict.fromkeys(schedule.PLACES, 30) for store in ("disk", "store")}
MARKER = b'{"unit": "00000-0000", "files": {"tar": {"sha256": "a"}, "fetch": {"sha256": "%s"}}}'
CALM = {
    "run.json": b"1",
    "plan/part-00000.0123456789ab.parquet": b"rows",
    "raw/00000-0000.json": MARKER % b"x",
    "raw/00000-0000.0123456789ab.fetch.parquet": b"times",
    "_tmp/places": b"",
}


def test_a_seed_is_always_the_same_schedule_and_seeds_differ() -> None:
    drawn = [f"{schedule.draw(seed, CALLS)}" for seed in range(50)]
    assert drawn == [f"{schedule.draw(seed, CALLS)}" for seed in range(50)] and len(set(drawn)) == 50


def test_in_forty_seeds_every_fault_is_meant_to_strike_and_every_place_is_struck() -> None:
    faults = [fault for seed in range(40) for start in schedule.draw(seed, CALLS).starts for fault in start.faults]
    kinds = {name for faults in (schedule.ENDS, schedule.HURTS) for one in faults.values() for name in one}
    assert {fault.split(":")[2] for fault in faults} == kinds | {"hold"}
    assert {fault.split(":")[0] for fault in faults} == {*schedule.PLACES}


@pytest.mark.parametrize(
    "change, problems",
    [
        ({}, []),
        ({"run.json": b"2", "_tmp/places": b"2", ".lock": b"", "_lease/00000003.json": b""}, []),
        ({"raw/00000-0000.json": MARKER % b"y"}, []),
        ({"raw/00000-0000.json": b'{"unit": "00000-0000", "files": {}}'}, ["raw/00000-0000.json says something else"]),
        ({"plan/part-00000.0123456789ab.parquet": b"row"}, ["plan/part-00000.0123456789ab.parquet has other bytes"]),
        ({"plan/part-00000.ba9876543210.parquet": b""}, ["plan/part-00000.ba9876543210.parquet is an orphan"]),
        ({"run.json.1.ab.tmp": b""}, ["run.json.1.ab.tmp is an orphan"]),
        ({"_tmp/units-1/00000.json": b""}, ["_tmp/units-1/00000.json is an orphan"]),
        ({"run.json": None}, ["run.json is not there"]),
        ({f"_lease/{n:08d}.json": b"" for n in range(3)}, ["3 leases are left"]),
    ],
)
def test_what_is_not_as_a_calm_build_makes_it_is_named(change: dict[str, Any], problems: list[str]) -> None:
    after = {name: data for name, data in (CALM | change).items() if data is not None}
    named = list(whole.differences(after, CALM))
    assert len(named) == len(problems) and all(
        one.startswith(other) for one, other in zip(named, problems, strict=True)
    )


def built(*calls: tuple[int, str, str]) -> Any:
    """A start that did this, at these times."""
    lines = [Line(at, 1, call, "done", path.partition("/")[0], f"/set/{path}") for at, call, path in calls]
    return SimpleNamespace(built=lines, output=Path("x"))


FIRST = (1, "put", "run.json"), (2, "put", "plan/x")


@pytest.mark.parametrize(
    "first, wrong",
    [
        ([*FIRST], 0),
        ([*FIRST, (9, "create", "raw/x.json")], 0),  # it publishes a part, which is harmless
        ([*FIRST, (9, "remove", "_tmp/units-1")], 0),
        ([*FIRST, (9, "put", "run.json")], 1),
        ([*FIRST, (9, "remove", "plan/x")], 1),
        ([*FIRST, (8, "put", "plan/_MANIFEST.json"), (9, "put", "shards/MANIFEST.json")], 2),
    ],
)
def test_a_builder_that_goes_on_after_another_began_may_finish_and_remove_nothing(first: Any, wrong: int) -> None:
    one = simulation.Simulation(Place(Path("x"), "store"), schedule.Schedule(0, "store", ()), [])
    one.begun = [built(*first), built((5, "put", "run.json"), (20, "put", "run.json"))]
    one.check_builders()
    assert len(one.result.problems) == wrong


def test_the_web_has_pictures_and_some_that_are_gone(tmp_path: Path) -> None:
    with web.web(tmp_path / "none") as port:
        ask = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
        with ask(f"http://127.0.0.1:{port}/1.png") as answer:
            assert answer.read() == web.picture(1)
        with pytest.raises(urllib.error.HTTPError, match="404"):
            ask(f"http://127.0.0.1:{port}/7.png")
    assert web.picture(11) == web.picture(10) != web.picture(9)


def test_what_was_rejected_is_of_the_stage_that_rejected_it() -> None:
    assert stage_of("dropped", "/set/dropped/select-part-00000.x.parquet") == "select"
    assert stage_of("raw", "/set/raw/x") == "download" and stage_of("_tmp", "/set/_tmp/x") is None
