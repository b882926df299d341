from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from trainer.data import IMAGE, METADATA, Fault
from trainer.journal import Journal

FAULTS = [Fault("00000.tar", "a", IMAGE), Fault("00001.tar", "a", IMAGE), Fault("00001.tar", "b", METADATA)]


def journal(output: Path, step: int) -> Journal:
    opened = Journal(str(output), Console(quiet=True), step=step, steps=9)
    opened.go_on(step)
    return opened


def row(step: int) -> dict[str, float]:
    return {"step": step, "loss": 1.0, "accuracy": 0.5, "samples_per_s": 1.0}


@pytest.mark.parametrize("rest", ["", '{"shard": "0000', "\xff", "[1]\n"])
def test_a_sample_is_named_once_however_often_its_turn_comes_and_the_run_is_resumed(tmp_path: Path, rest: str) -> None:
    first = journal(tmp_path, 0)
    first.note([*FAULTS, *FAULTS])
    first.note(FAULTS[:1])
    whole = (tmp_path / "corrupt.jsonl").read_bytes()
    assert whole.count(b"\n") == 3
    (tmp_path / "corrupt.jsonl").write_bytes(whole + rest.encode("latin-1"))  # a crash within a line
    again = journal(tmp_path, 5)
    again.note(FAULTS)
    assert (tmp_path / "corrupt.jsonl").read_bytes() == whole
    assert again.faults().startswith("2 corrupt pictures and 1 unreadable KEY.json (named in ")


def test_steps_after_the_checkpoint_are_dropped_and_a_run_that_starts_anew_tells_nothing_of_another(
    tmp_path: Path,
) -> None:
    first = journal(tmp_path, 0)
    first.note(FAULTS)
    for step in (4, 5, 6):
        first.record(row(step))
    (tmp_path / "metrics.jsonl").write_text((tmp_path / "metrics.jsonl").read_text() + '{"step": 7, "lo')
    journal(tmp_path, 5)
    assert (tmp_path / "metrics.jsonl").read_text().count("\n") == 2
    journal(tmp_path, 0)
    assert (tmp_path / "metrics.jsonl").read_bytes() == (tmp_path / "corrupt.jsonl").read_bytes() == b""
