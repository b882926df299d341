"""The plan by files, by files in two levels, and by the engine's own shuffle: the same bytes, in any order and half done."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from pipelines.spent import made
from tests.pipelines.test_plan_pipeline import ROWS, planned, written
from wit.plan import pairs as maths
from wit.plan import passes as of_plan
from wit.plan.facts import RATES, Begun
from wit.plan.passes import CandidatesPart
from wit.store import fs, shuffle
from wit.store.parts import StageDir


@pytest.fixture
def parts(tmp_path: Path, candidates: Callable[..., pa.Table]) -> list[CandidatesPart]:
    return written(tmp_path, candidates(ROWS), 8)


KNOBS = {"max_per_query": 200, "max_urls_per_caption": 2, "max_urls_per_domain": 120, "rows_a_key": 250}
BUCKETS = 8  # that these make


def everything(stage: StageDir) -> dict[str, bytes]:
    """Every file that the stage gives, by name."""
    return {
        str(path.relative_to(stage.out)): path.read_bytes()
        for folder in ("plan", "dropped")
        for path in Path(stage.out, folder).glob("*")
    }


@pytest.fixture
def two_levels(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    def patch() -> None:
        monkeypatch.setattr(shuffle, "FAN_IN", 3)
        monkeypatch.setattr(shuffle, "SLICE_ROWS", 10**9)
        monkeypatch.setattr(shuffle, "BLOCKS", 4)

    return patch


def test_files_two_levels_of_them_and_the_engine_give_the_same_bytes(
    tmp_path: Path, parts: list[CandidatesPart], two_levels: Callable[[], None]
) -> None:
    _, files = planned(tmp_path, "files", parts, (), 2, **KNOBS)
    _, engine = planned(tmp_path, "engine", parts[::-1], (), 2, by_engine=True, **KNOBS)
    two_levels()
    _, two = planned(tmp_path, "two", parts, (), 2, **KNOBS)
    assert everything(files) == everything(engine) == everything(two)
    reasons = {reason for marker in files.markers() for reason in marker.dropped}
    assert reasons == {"balanced_out", "caption_too_frequent", "domain_cap", "same_url"}
    assert list(Path(two.at_work.path).rglob("url2-*.json")) and not list(Path(files.at_work.path).rglob("url2-*"))
    assert not list(Path(engine.at_work.path).rglob("url-*")), "rows that the engine moves are in no files"


@pytest.mark.parametrize("by_engine", [False, True], ids=["files", "engine"])
def test_blocks_that_are_told_what_is_frequent_make_the_same_of_it(
    tmp_path: Path, parts: list[CandidatesPart], monkeypatch: pytest.MonkeyPatch, by_engine: bool
) -> None:
    _, alone = planned(tmp_path, "alone", parts, (), 2, by_engine=by_engine, **KNOBS)
    monkeypatch.setattr(of_plan, "TOLD_BLOCKS", 3)
    _, blocks = planned(tmp_path, "blocks", parts, (), 2, by_engine=by_engine, **KNOBS)
    assert everything(alone) == everything(blocks)
    assert {reason for marker in blocks.markers() for reason in marker.dropped} >= {
        "caption_too_frequent",
        "domain_cap",
    }


class Cut(Exception):
    """The end of a build at a place of our choice."""


@pytest.fixture
def cut_off(tmp_path: Path, parts: list[CandidatesPart], monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Begins the plan `cut`, which ends with the `number`-th call of a function, once that function has done its work."""

    def plan(owner: object, name: str, number: int, **knobs: object) -> None:
        real, calls = getattr(owner, name), itertools.count(1)

        def until(*given: object, **named: object) -> object:
            done = real(*given, **named)
            if next(calls) == number:
                raise Cut(name)
            return done

        with monkeypatch.context() as patched, pytest.raises(Exception, match=f"Cut: {name}|^{name}$"):
            patched.setattr(owner, name, until)
            planned(tmp_path, "cut", parts, (), 2, **knobs)

    return plan


@pytest.fixture
def finished(tmp_path: Path, parts: list[CandidatesPart]) -> Callable[..., tuple[StageDir, StageDir]]:
    """The plan `cut`, started again and finished; and one that nobody disturbed."""

    def plans(**more: object) -> tuple[StageDir, StageDir]:
        _, again = planned(tmp_path, "cut", parts, (), 2, **KNOBS, **more)
        return again, planned(tmp_path, "whole", parts, (), 1, **KNOBS)[1]

    return plans


# Which call of which function: the first, and one behind which a pass or a removal is half done or just done.
PLACES = [
    *[(name, number) for name in ("merge", "weigh", "admit") for number in (1, BUCKETS)],
    *[("spend", number) for number in (1, 8, 9, 20)],
    *[("arrange", number) for number in (1, 2)],
]
SOME = [("spend", 9, False, True), ("admit", BUCKETS, False, True), ("weigh", BUCKETS, True, False)]
ALL = [(*place, *way) for place in PLACES for way in ((False, True), (True, False), (False, False))]


@pytest.mark.parametrize(
    ("name", "number", "first", "then"),
    [*SOME, *(pytest.param(*one, marks=pytest.mark.slow) for one in ALL if one not in SOME)],
)
def test_a_plan_goes_on_from_wherever_it_ended_and_by_another_way_than_it_began(
    cut_off: Callable[..., None],
    finished: Callable[..., tuple[StageDir, StageDir]],
    name: str,
    number: int,
    first: bool,
    then: bool,
) -> None:
    if (name, first) != ("spend", True):  # on an engine nothing is spent
        cut_off(StageDir if name == "spend" else maths, name, number, by_engine=first, **KNOBS)
    again, whole = finished(by_engine=then)
    assert everything(again) == everything(whole)
    assert len(list(Path(whole.path).glob("merge-*.json"))) == BUCKETS


OTHERS = KNOBS | {"max_per_query": 90, "fingerprint": "e" * 32}


@pytest.mark.parametrize(("name", "number"), [("merge", 3), pytest.param("weigh", 3, marks=pytest.mark.slow)])
def test_a_plan_goes_on_by_its_own_rules_after_others_were_tried(
    cut_off: Callable[..., None], finished: Callable[..., tuple[StageDir, StageDir]], name: str, number: int
) -> None:
    """It had removed its rows; a start with other settings has put some of its own in their places."""
    cut_off(maths, "arrange", 1, **KNOBS)
    cut_off(maths, name, number, **OTHERS)
    again, whole = finished()
    named = {str(unit): marker for unit in again.units() if (marker := again.marker(unit))}
    assert named == {str(unit): whole.marker(unit) for unit in whole.units()}


def test_a_plan_whose_settings_change_leaves_nothing_that_it_would_take_up_half_removed(
    cut_off: Callable[..., None], finished: Callable[..., tuple[StageDir, StageDir]]
) -> None:
    """Ended while the markers of other settings were being removed, whose rows were spent; then these are taken again."""
    cut_off(maths, "arrange", 1, **KNOBS)
    cut_off(fs, "remove", 1, **OTHERS)
    again, whole = finished()
    assert everything(again) == everything(whole)


def test_rows_are_gone_once_the_next_pass_has_read_them_all(
    tmp_path: Path, parts: list[CandidatesPart], two_levels: Callable[[], None]
) -> None:
    """What is left of a plan on the disk: its last rows, and what tells where the others lay."""
    two_levels()
    stage = planned(tmp_path, "files", parts, (), 2, **KNOBS)[1]
    large = {
        path.name.partition("-")[0] for path in Path(stage.at_work.path).rglob("*.arrow") if path.stat().st_size > 3_000
    }
    assert large == {"partition2", "name2", "heavy"}


def test_a_plan_keeps_its_pieces_though_the_setting_changes(tmp_path: Path, parts: list[CandidatesPart]) -> None:
    first = everything(planned(tmp_path, "x", parts, (), 1, **KNOBS)[1])
    again = everything(planned(tmp_path, "x", parts, (), 1, **KNOBS | {"rows_a_key": 60})[1])
    assert again == first


def test_what_an_earlier_version_left_half_done_is_begun_anew(tmp_path: Path, parts: list[CandidatesPart]) -> None:
    """It cut the rows in other pieces, so what it counted does not fit."""
    whole = everything(planned(tmp_path, "whole", parts, (), 1, **KNOBS)[1])
    _, stage = planned(tmp_path, "old", parts, (), 1, **KNOBS | {"rows_a_key": 500})
    kept = stage.marker(RATES)
    assert kept is not None
    begun = stage.facts(kept, Begun)
    Path(stage.marker_path(RATES)).unlink()
    stage.publish(RATES, {}, facts=Begun(begun.rates))  # as versions up to 0.5 did
    _, stage = planned(tmp_path, "old", parts, (), 1, **KNOBS)
    named = {f"plan/{marker.unit}.json" for marker in stage.markers()} | {
        file.name for marker in stage.markers() for file in marker.files.values()
    }
    assert {name: data for name, data in everything(stage).items() if name in named} == whole


@pytest.mark.parametrize("name", ["admit", "arrange"], ids=["there", "spent"])
def test_a_plan_whose_hosts_an_earlier_version_counted_otherwise_goes_on(
    cut_off: Callable[..., None], finished: Callable[..., tuple[StageDir, StageDir]], tmp_path: Path, name: str
) -> None:
    """It has no units of these names; where what they are made of is spent, the passes begin anew."""
    cut_off(maths, name, 1, **KNOBS)
    stage = StageDir(str(tmp_path / "cut"), "plan", "f" * 32)
    for path in Path(stage.at_work.path).rglob("*"):
        if path.name.partition("-")[0] in ("host", "site", "heavy"):
            path.unlink()
    again, whole = made(stage, finished)
    assert everything(again) == everything(whole)


def test_captions_are_cut_by_task_and_a_plan_that_began_otherwise_goes_on_so(
    tmp_path: Path, candidates: Callable[..., pa.Table], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One URL is a third of all rows. Earlier versions cut each chunk alone; what they counted fits no other rule."""
    rows = [(f"http://h.example/{i if i % 3 else 'spacer'}", f"text {i}", [0]) for i in range(900)]
    parts, knobs = written(tmp_path, candidates(rows), 2), {"max_captions_per_url": 4, "rows_a_key": 250}
    monkeypatch.setattr(shuffle, "CHUNK_ROWS", 50)
    files = planned(tmp_path, "files", parts, (), 2, **knobs)[1]
    engine = planned(tmp_path, "engine", parts, (), 2, by_engine=True, **knobs)[1]
    assert everything(files) == everything(engine)
    kept = files.marker(RATES)
    assert kept is not None
    begun = files.facts(kept, Begun)
    assert begun.by_task
    early = StageDir(str(tmp_path / "old"), "plan", "f" * 32)
    early.publish(RATES, {}, facts=replace(begun, by_task=False))
    old = planned(tmp_path, "old", parts, (), 2, **knobs)[1]
    dropped = {}
    for stage in (files, old):
        assert sum(m.into for m in stage.markers()) == 900
        assert sum(m.out + sum(m.dropped.values()) for m in stage.markers()) == 900
        scattered = [marker for marker in stage.markers() if marker.unit.kind == "scatter"]
        dropped[stage.out] = sum(marker.dropped.get("too_many_captions", 0) for marker in scattered)
    chunks, hot = 2 * 9, 300
    assert dropped[old.out] == hot - chunks * 4 < dropped[files.out]
    assert {
        name: data for name, data in everything(old).items() if name.startswith("plan/part-") and "json" not in name
    } == {
        name: data for name, data in everything(files).items() if name.startswith("plan/part-") and "json" not in name
    }
