"""Our own outage is not data, and what a server answers is no outage of ours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

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
