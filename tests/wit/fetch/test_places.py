"""Places over processes: exact, and given back by the kernel where their holder is killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

from wit.fetch.places import Claim, Places, slot_of

HOLD = """
import sys, time
from wit.fetch.places import Claim, Places, slot_of
places = Places(sys.argv[1])
taken = [places.take([Claim(slot_of("host", "a"), 3, 0.0)]) for _ in range(5)]
print([type(one).__name__ for one in taken], flush=True)
time.sleep(60)
"""


def test_all_or_nothing_and_given_back(tmp_path: Path) -> None:
    places = Places(str(tmp_path / "places"))
    wide, narrow = Claim(1, 5, 0.0), Claim(2, 1, 0.0)
    first = places.take([wide, narrow])
    assert isinstance(first, tuple)
    assert places.take([wide, narrow]) == 1  # the second of the claims
    others = [places.take([wide]) for _ in range(5)]
    assert [isinstance(one, tuple) for one in others] == [True] * 4 + [False]  # what failed took none
    places.give_back(first)
    assert isinstance(places.take([wide, narrow]), tuple)


def test_a_turn_comes_an_interval_later_in_every_slot(tmp_path: Path) -> None:
    places = Places(str(tmp_path / "places"))
    slow, free = Claim(7, 9, 0.2), Claim(8, 9, 0.0)
    before = time.monotonic()
    assert isinstance(places.take([free, slow]), tuple)
    assert places.take([free, slow]) == 1
    assert before + 0.2 <= places.due([free, slow]) <= time.monotonic() + 0.2
    assert isinstance(places.take([free]), tuple)
    places.not_before(8, time.monotonic() + 100)
    places.not_before(8, time.monotonic() + 1)
    assert places.due([free]) > time.monotonic() + 99


def test_other_processes_count_and_the_killed_do_not(tmp_path: Path) -> None:
    path = str(tmp_path / "places")
    places, claim = Places(path), Claim(slot_of("host", "a"), 3, 0.0)
    command = [sys.executable, "-c", HOLD, path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline().strip() == "['tuple', 'tuple', 'tuple', 'int', 'int']"
        assert places.take([claim]) == 0
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    assert [isinstance(places.take([claim]), tuple) for _ in range(4)] == [True, True, True, False]
