"""Which step a unit is at outlives its process; a step where two attempts ended is left out."""

from __future__ import annotations

from pathlib import Path

from wit import notes
from wit.notes import BATCH, READ, RECORD, Notes


def attempt(path: Path, *steps: tuple[str, int, int]) -> list[bool]:
    """What `begin` says at these steps, at the last of which the process dies."""
    found = Notes(str(path))
    return [found.begin(*step) for step in steps]


def test_a_step_is_given_up_after_two_deaths(tmp_path: Path) -> None:
    path, steps = tmp_path / "unit.notes", [("a", READ, 0), ("a", RECORD, 0), ("a", RECORD, 1)]
    assert attempt(path, *steps) == [True, True, True]
    assert notes.given_up(str(path)) == 0
    assert attempt(path, *steps) == [True, True, True]
    assert attempt(path, *steps, ("a", BATCH, 1)) == [True, True, False, True]
    assert notes.given_up(str(path)) == 1
    assert attempt(path, ("b", RECORD, 1)) == [True]  # of another file


def test_who_ended_well_or_was_told_to_blames_nobody(tmp_path: Path) -> None:
    path = tmp_path / "unit.notes"
    for _ in range(3):
        with notes.kept(str(path)):
            assert notes.begin("a", RECORD, 5)
        told = Notes(str(path))
        assert told.begin("a", RECORD, 5)
        told.forgive()
    assert notes.begin("a", RECORD, 5)  # nobody takes notes here


def test_a_stray_death_costs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "unit.notes"
    for number in range(10):
        assert attempt(path, ("a", RECORD, number)) == [True]
    assert notes.given_up(str(path)) == 0
