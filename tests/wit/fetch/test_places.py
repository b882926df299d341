"""Places over processes: exact, and given back by the kernel where their holder is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from wit.fetch import places as module
from wit.fetch.places import Claim, Places

HOLD = """
import sys, time
from wit.fetch.places import Claim, Places
places = Places(sys.argv[1])
taken = [places.take([Claim("host a", 3, 0.0)]) for _ in range(5)]
print([type(one).__name__ for one in taken], flush=True)
time.sleep(60)
"""


def test_all_or_nothing_and_given_back(tmp_path: Path) -> None:
    places = Places(str(tmp_path / "places"))
    wide, narrow = Claim("a", 5, 0.0), Claim("b", 1, 0.0)
    first = places.take([wide, narrow])
    assert isinstance(first, tuple)
    assert places.take([wide, narrow]) == 1  # the second of the claims
    others = [places.take([wide]) for _ in range(5)]
    assert [isinstance(one, tuple) for one in others] == [True] * 4 + [False]  # what failed took none
    places.give_back(first)
    assert isinstance(places.take([wide, narrow]), tuple)


def test_a_turn_comes_an_interval_later_in_every_slot(tmp_path: Path) -> None:
    places = Places(str(tmp_path / "places"))
    slow, free = Claim("slow", 9, 0.2), Claim("free", 9, 0.0)
    before = time.monotonic()
    assert isinstance(places.take([free, slow]), tuple)
    assert places.take([free, slow]) == 1
    assert before + 0.2 <= places.due([free, slow]) <= time.monotonic() + 0.2
    assert isinstance(places.take([free]), tuple)
    places.close("free", time.monotonic() + 100)
    places.close("free", time.monotonic() + 1)
    assert places.due([free]) == places.closed_until("free") > time.monotonic() + 99
    assert places.closed_until("slow") == 0


def test_other_processes_count_and_the_killed_do_not(tmp_path: Path) -> None:
    path = str(tmp_path / "places")
    places, claim = Places(path), Claim("host a", 3, 0.0)
    command = [sys.executable, "-c", HOLD, path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline().strip() == "['tuple', 'tuple', 'tuple', 'int', 'int']"
        assert places.take([claim]) == 0
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    assert [isinstance(places.take([claim]), tuple) for _ in range(4)] == [True, True, True, False]


def test_times_outlive_the_processes_of_one_boot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "places")
    Places(path).close("host a", time.monotonic() + 100)
    assert Places(path).closed_until("host a") > time.monotonic() + 90
    monkeypatch.setattr(module, "this_boot", lambda: 7)  # whose clock begins at nought
    assert Places(path).closed_until("host a") == 0


def test_no_name_has_anothers_slot_and_idle_slots_are_given_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a million slots without names a stranger found a host with that of another's, and closed it, within 0.1 s."""
    monkeypatch.setattr(module, "SLOTS", 64)
    monkeypatch.setattr(module, "PROBES", 64)
    places = Places(str(tmp_path / "places"))
    places.close("host closed", time.monotonic() + 100)
    held = places.take([Claim("host busy", 1, 0.0)])
    for number in range(1_000):
        claim = Claim(f"host {number}", 1, 0.0)
        assert places.due([claim]) == 0
        taken = places.take([claim])
        assert isinstance(taken, tuple)
        places.give_back(taken)
    assert places.closed_until("host closed") > time.monotonic() + 90
    assert isinstance(held, tuple) and places.take([Claim("host busy", 1, 0.0)]) == 0


def test_two_files_have_other_slots_for_the_same_names(tmp_path: Path) -> None:
    tags = {Places(str(tmp_path / str(number)))._tag("host a") for number in range(3)}
    assert len(tags) == 3


def test_a_file_that_was_cut_off_keeps_what_it_has(tmp_path: Path) -> None:
    path = tmp_path / "places"
    Places(str(path)).close("a", time.monotonic() + 100)
    size = path.stat().st_size
    os.truncate(path, size // 2)
    places = Places(str(path))
    assert isinstance(places.take([Claim(f"host {n}", 1, 0.0) for n in range(20)]), tuple)
    assert path.stat().st_size == size
