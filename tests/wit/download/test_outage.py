"""Our own outage is not data, and what a server answers is no outage of ours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest

import wit.download.outage
from wit.download.outage import OutageWatch, is_unanswered
from wit.download.rawshard import RawShard
from wit.errors import OutageError
from wit.fetch.config import FetchConfig
from wit.fetch.outcome import Outcome
from wit.reasons import Reason
from wit.records import PLAN

SILENT = Outcome(0, Reason.CONNECT_FAILED)
CONFIG = replace(FetchConfig(), outage_floor_rows=5, outage_pause_s=0.0, outage_shards=3)


@pytest.mark.parametrize(
    "outcome, direct, proxied",
    [
        (Outcome(0, None, http_status=200), False, False),
        (SILENT, True, True),
        (Outcome(0, Reason.DNS_FAILED), True, True),
        (Outcome(0, Reason.DNS_NOT_FOUND), False, False),
        (Outcome(0, Reason.HTTP_SERVER_ERROR, "500", 500), False, False),
        (Outcome(0, Reason.HTTP_SERVER_ERROR, "502", 502), False, True),
        (Outcome(0, Reason.HTTP_SERVER_ERROR, "504", 504), False, True),
        (Outcome(0, Reason.HTTP_RATE_LIMITED, "429", 429), False, False),
        (Outcome(0, Reason.BODY_INCOMPLETE, "", 200), False, False),
        (Outcome(0, Reason.HOST_UNAVAILABLE), True, True),  # it had fallen silent before
        (Outcome(0, Reason.HOST_UNAVAILABLE, "503"), False, False),  # it had answered that before
        (Outcome(0, Reason.HOST_UNAVAILABLE, "502"), False, True),
        (Outcome(0, Reason.HOST_UNAVAILABLE, "asked"), False, False),
        (Outcome(0, Reason.ROBOTS_UNREACHABLE), False, True),
        (Outcome(0, Reason.BUDGET_SPENT), False, False),
        (Outcome(0, Reason.BODY_INCOMPLETE), True, True),  # closed or reset before a word
        (Outcome(0, Reason.TLS_FAILED), True, True),
        (Outcome(0, Reason.HTTP_SERVER_ERROR, "407", 407), False, True),
        (Outcome(0, Reason.HTTP_NOT_FOUND, "", 404), False, False),
    ],
)
def test_a_status_is_an_answer(outcome: Outcome, direct: bool, proxied: bool) -> None:
    assert is_unanswered(outcome, proxied=False) == direct
    assert is_unanswered(outcome, proxied=True) == proxied


def finished(tmp_path: Path, domains: Sequence[str], outcome: Outcome) -> RawShard:
    """A shard of 20 rows, all of which ended alike."""
    rows = [dict.fromkeys(PLAN.names) | {"key": f"{n:032x}", "domain": domains[n % len(domains)]} for n in range(20)]
    shard = RawShard("00000-0000", 0, pa.Table.from_pylist(rows, schema=PLAN), str(tmp_path))
    shard.outcomes = [outcome] * 20
    return shard


MANY = [f"d{n}.example" for n in range(10)]
GOOD = Outcome(0, None, http_status=200)


def test_one_large_domain_that_answers_500_stops_nothing(tmp_path: Path) -> None:
    """The tail of a partition holds it alone."""
    watch = OutageWatch(CONFIG)
    for _ in range(10):
        assert not watch.suspects(
            finished(tmp_path, ["large.example"], Outcome(0, Reason.HTTP_SERVER_ERROR, "500", 500))
        )


def test_silence_of_many_domains_stops_the_build(tmp_path: Path) -> None:
    watch = OutageWatch(CONFIG)
    assert not watch.suspects(finished(tmp_path, MANY, GOOD))
    assert watch.suspects(finished(tmp_path, MANY, SILENT))
    assert watch.suspects(finished(tmp_path, MANY, SILENT))
    with pytest.raises(OutageError, match="Start the build again"):
        watch.suspects(finished(tmp_path, MANY, SILENT))


def test_many_domains_that_answered_before_do_not_hide_an_outage(tmp_path: Path) -> None:
    watch = OutageWatch(CONFIG)
    for number in range(10):
        watch.suspects(finished(tmp_path, [f"{number}{domain}" for domain in MANY], GOOD))
    assert watch.suspects(finished(tmp_path, MANY, SILENT))


def test_a_silent_domain_alone_is_believed_while_others_answer(tmp_path: Path) -> None:
    watch = OutageWatch(CONFIG)
    watch.suspects(finished(tmp_path, MANY, GOOD))
    for _ in range(5):
        assert not watch.suspects(finished(tmp_path, ["dead.example"], SILENT))


def test_a_silent_domain_alone_is_waited_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else was met lately: it may be we, so it is asked again; but then it is the domain, and stops nothing."""
    watch = OutageWatch(CONFIG)
    watch.suspects(finished(tmp_path, MANY, GOOD))
    monkeypatch.setattr(wit.download.outage, "WINDOW_S", 0.0)
    dead = finished(tmp_path, ["dead.example"], SILENT)
    assert [watch.suspects(dead) for _ in range(6)] == [True, True, False, False, False, False]


def mixed(tmp_path: Path, domains: dict[str, tuple[int, int]]) -> RawShard:
    """A shard of domains, each with (rows that were answered, rows that were not); the last outcome is still to come."""
    outcomes = [
        (name, outcome)
        for name, counts in domains.items()
        for count, outcome in zip(counts, (GOOD, SILENT), strict=True)
        for _ in range(count)
    ]
    rows = [dict.fromkeys(PLAN.names) | {"key": f"{n:032x}", "domain": name} for n, (name, _) in enumerate(outcomes)]
    shard = RawShard("00000-0000", 0, pa.Table.from_pylist(rows, schema=PLAN), str(tmp_path))
    shard.outcomes = [outcome for _, outcome in outcomes]
    return shard


@pytest.mark.parametrize(
    "silent, suspected",
    [
        (49, False),  # fewer than the floor
        (50, False),  # no more than half of all
        (51, True),
    ],
)
def test_a_shard_is_suspected_from_so_many_rows_and_such_a_share_on(
    tmp_path: Path, silent: int, suspected: bool
) -> None:
    watch = OutageWatch(FetchConfig(outage_floor_rows=50, outage_floor_share=0.5))
    each = {f"d{n}.example": (0, 1) if n < silent else (1, 0) for n in range(100)}
    assert watch.suspects(mixed(tmp_path, each)) == suspected


@pytest.mark.parametrize("lost, suspected", [(19, False), (20, True)])
def test_the_floor_itself_counts(tmp_path: Path, lost: int, suspected: bool) -> None:
    watch = OutageWatch(FetchConfig(outage_floor_rows=20, outage_floor_share=0.1))
    assert watch.suspects(mixed(tmp_path, {f"d{n}.example": (0, 1) for n in range(lost)})) == suspected


@pytest.mark.parametrize("silent, suspected", [(60, False), (61, True)])
def test_three_times_what_is_usual_is_believed(tmp_path: Path, silent: int, suspected: bool) -> None:
    """The median of what was believed: here a fifth of all rows, though one shard had none and one nearly half."""
    watch = OutageWatch(FetchConfig(outage_floor_rows=1, outage_floor_share=0.1, outage_factor=3))
    watch.shares = [0.0, 0.2, 0.45]
    each = {f"d{n}.example": (0, 1) if n < silent else (1, 0) for n in range(100)}
    assert watch.suspects(mixed(tmp_path, each)) == suspected


def test_what_was_believed_becomes_what_is_usual(tmp_path: Path) -> None:
    watch = OutageWatch(FetchConfig(outage_floor_rows=1, outage_floor_share=0.3, outage_factor=3))
    quarter = {f"d{n}.example": (0, 1) if n < 25 else (1, 0) for n in range(100)}
    most = {f"d{n}.example": (0, 1) if n < 60 else (1, 0) for n in range(100)}
    assert OutageWatch(watch.config).suspects(mixed(tmp_path, most))
    assert not watch.suspects(mixed(tmp_path, quarter)) and not watch.suspects(mixed(tmp_path, most))
    assert watch.shares == [0.25, 0.6]


@pytest.mark.parametrize("answered, suspected", [(9, True), (10, False), (11, False)])
def test_a_domain_is_silent_where_most_of_its_rows_are(tmp_path: Path, answered: int, suspected: bool) -> None:
    """Six domains of ten rows each are silent beside ten rows of others; half of the rows of one do not make it so."""
    watch = OutageWatch(FetchConfig(outage_floor_rows=1, outage_floor_share=0.3))
    each = {f"d{n}.example": (answered, 10) for n in range(6)}
    assert watch.suspects(mixed(tmp_path, each)) == suspected


@pytest.mark.parametrize("others, suspected", [(2, True), (3, False), (4, False)])
def test_a_few_large_domains_that_are_silent_are_no_outage_while_as_many_others_answer(
    tmp_path: Path, others: int, suspected: bool
) -> None:
    watch = OutageWatch(FetchConfig(outage_floor_rows=1, outage_floor_share=0.5))
    silent = {f"large{n}.example": (0, 90) for n in range(3)}
    assert watch.suspects(mixed(tmp_path, silent | {f"d{n}.example": (1, 0) for n in range(others)})) == suspected


def test_rows_of_which_nothing_is_known_yet_are_not_lost(tmp_path: Path) -> None:
    shard = finished(tmp_path, MANY, SILENT)
    shard.outcomes = [None] * 16 + [SILENT] * 4
    assert not OutageWatch(CONFIG).suspects(shard)


@pytest.mark.parametrize("domains, suspected", [(2, False), (3, True)])
def test_too_few_domains_are_told_from_an_outage_by_those_met_lately(
    tmp_path: Path, domains: int, suspected: bool
) -> None:
    watch = OutageWatch(CONFIG)
    watch.suspects(finished(tmp_path, MANY, GOOD))
    assert watch.suspects(finished(tmp_path, [f"dead{n}.example" for n in range(domains)], SILENT)) == suspected


def test_shards_that_end_during_a_pause_tell_nothing_new(tmp_path: Path) -> None:
    watch = OutageWatch(replace(CONFIG, outage_pause_s=600.0))
    assert not watch.is_pausing()
    for _ in range(5):
        assert watch.suspects(finished(tmp_path, MANY, SILENT)) and watch.is_pausing()
    assert not watch.suspects(finished(tmp_path, MANY, GOOD)), "what goes well meanwhile is believed"


def test_a_shard_that_is_believed_ends_the_row_of_suspects(tmp_path: Path) -> None:
    watch = OutageWatch(CONFIG)
    for _ in range(4):
        assert watch.suspects(finished(tmp_path, MANY, SILENT))
        assert watch.suspects(finished(tmp_path, MANY, SILENT))
        assert not watch.suspects(finished(tmp_path, MANY, GOOD))


class Clock:
    """The clock of the module: `now` is what it shows."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1_000.0
        monkeypatch.setattr(wit.download.outage, "time", SimpleNamespace(monotonic=lambda: self.now))


def test_pauses_double_and_the_last_suspect_ends_the_build_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    watch = OutageWatch(replace(CONFIG, outage_pause_s=30.0, outage_shards=4))
    for pause in (30, 60, 120):
        assert watch.suspects(finished(tmp_path, MANY, SILENT)) and watch.is_pausing()
        clock.now += pause - 1
        assert watch.is_pausing()
        clock.now += 1
        assert not watch.is_pausing()
    shard = finished(tmp_path, MANY, SILENT)
    shard.outcomes[:4] = [Outcome(0, Reason.TIMEOUT)] * 3 + [GOOD]
    with pytest.raises(OutageError) as ended:
        watch.suspects(shard)
    assert str(ended.value).startswith(
        "95% of raw shard 00000-0000 failed for want of any answer (mostly connect_failed), 4 times in a row: nothing of it "
        "was published."
    )


@pytest.mark.parametrize("later_s, suspected", [(120, False), (121, True)])
def test_domains_met_two_minutes_ago_tell_something_and_before_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, later_s: float, suspected: bool
) -> None:
    clock = Clock(monkeypatch)
    watch = OutageWatch(CONFIG)
    watch.suspects(finished(tmp_path, MANY, GOOD))
    clock.now += later_s
    assert watch.suspects(finished(tmp_path, ["dead.example"], SILENT)) == suspected


def test_a_domain_that_was_given_up_is_not_waited_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor are two; a third that nobody has met yet is."""
    monkeypatch.setattr(wit.download.outage, "WINDOW_S", -1.0)
    watch = OutageWatch(replace(CONFIG, outage_factor=1))
    watch.suspects(finished(tmp_path, MANY, GOOD))
    dead = finished(tmp_path, ["dead.example", "gone.example"], SILENT)
    assert [watch.suspects(dead) for _ in range(4)] == [True, True, False, False]
    watch.shares = [0.0]
    assert not watch.suspects(finished(tmp_path, ["dead.example"], SILENT))
    watch.shares = [0.0]
    assert watch.suspects(finished(tmp_path, ["dead.example", "new.example"], SILENT))


@pytest.mark.parametrize("domains, stops", [(2, False), (3, True)])
def test_silence_of_three_domains_is_ours(tmp_path: Path, domains: int, stops: bool) -> None:
    watch = OutageWatch(CONFIG)
    shard = finished(tmp_path, [f"d{n}.example" for n in range(domains)], SILENT)
    assert watch.suspects(shard) and watch.suspects(shard)
    if stops:
        with pytest.raises(OutageError):
            watch.suspects(shard)
    else:
        assert not watch.suspects(shard)


def test_a_shard_of_nothing_tells_nothing(tmp_path: Path) -> None:
    assert not OutageWatch(FetchConfig(outage_floor_rows=0)).suspects(mixed(tmp_path, {}))
