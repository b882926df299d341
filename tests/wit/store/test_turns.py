"""Turns: of two executions of one piece one waits, here and in a store; what a killed one held is free."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from wit.errors import Busy
from wit.store import lease, turns
from wit.store.turns import forget_turns, turn


@pytest.fixture(params=["here", "store"])
def out(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other_store: Any) -> str:
    monkeypatch.setattr(turns, "WAIT_S", 0.05)
    if request.param == "here":
        return str(tmp_path / "set")
    monkeypatch.setattr(lease, "LEASE_S", 1.0)
    return str(other_store.at("set"))


def test_of_two_executions_the_second_begins_when_the_first_is_done(out: str) -> None:
    at_work: list[int] = []
    most: list[int] = []

    def work() -> None:
        with turn(out, "00003"):
            at_work.append(1)
            most.append(len(at_work))
            time.sleep(0.2)
            at_work.pop()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert most == [1, 1, 1]


def test_other_pieces_need_not_wait_and_nothing_is_left(out: str) -> None:
    with turn(out, "00000") as lost, turn(out, "00001"):
        assert not lost()
    forget_turns(out)
    folder = Path(out.removeprefix("other://"))
    assert not folder.exists() or not [path for path in folder.rglob("*") if path.is_file()]


def test_who_need_not_go_on_does_not_wait(out: str) -> None:
    with turn(out, "00000"), pytest.raises(Busy), turn(out, "00000", give_up=lambda: True):
        pass


def test_what_a_killed_process_held_is_free_at_once(out: str, other_store: Any) -> None:
    code = f"from wit.store.turns import turn\nwith turn({out!r}, '7'): print('here', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=other_store.environment
    ) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"here\n"
        with pytest.raises(Busy), turn(out, "7", give_up=lambda: True):
            pass
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        with turn(out, "7"):
            pass


def test_who_was_silent_for_long_learns_that_another_has_its_turn(
    other_store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "LEASE_S", 0.2)
    monkeypatch.setattr(turns, "WAIT_S", 0.05)
    monkeypatch.setattr(lease.Lease, "renew", lambda self: None)
    out = other_store.at("set")
    with turn(out, "0") as lost:
        assert not lost()
        with turn(out, "0") as others:
            assert lost() and not others()
