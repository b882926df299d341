"""Rows of a table that are no pairs are told by their lines: on the screen, in the ledger and in the report."""

import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipelines.build import main
from wit.verify import verify

TOLD = "urls.tsv: 2 of 35 rows could not be read as pairs (2 bad_row); first line 35: 1 cell, not 2, line 36: 3 cells, not 2"


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, upgrade: Any) -> Any:
    monkeypatch.chdir(tmp_path)
    with upgrade.web() as port:
        given = upgrade.inputs(tmp_path, port)
        with Path("urls.tsv").open("a", encoding="utf-8") as table:
            table.write("no tab\na\tb\tc\n")
        yield given


def test_bad_rows_are_told_by_their_lines(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command) == 0
    assert TOLD in capsys.readouterr().out
    page, ledger = Path("set/report/index.html"), Path("set/ledger/sources.parquet")
    assert TOLD in page.read_text(encoding="utf-8") and "damaged" not in page.read_text(encoding="utf-8")
    table = pq.read_table(ledger)
    assert table["first_bad"].to_pylist() == [["line 35: 1 cell, not 2", "line 36: 3 cells, not 2"]]
    # a start that does nothing has a peak of its own
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "peak memory" in said and " 0 MB" not in said
    # without the candidates the report is made of the ledger that is there, also of an earlier version's
    shutil.rmtree("set/candidates")
    written = page.read_bytes()
    page.unlink()
    assert main(command) == 0
    assert page.read_bytes() == written and pq.read_table(ledger) == table
    assert verify("set", "full").problems == ()


def test_a_dry_run_shows_what_candidates_and_plan_lost(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    shown = []
    for _ in range(2):
        assert main([*command, "--dry-run", "--max-per-query", "4"]) == 0
        shown.append(capsys.readouterr().out)
        assert TOLD in shown[-1]
        table = [line.split() for line in shown[-1].splitlines()]
        assert [row[0] for row in table if "in" in row] == ["candidates", "plan"]
        assert any(row[0] == "balanced_out" and int(row[1]) > 0 for row in table)
        assert any(row[0] == "caption_missing" for row in table)
    # and of a set that is finished
    assert main(command) == 0
    capsys.readouterr()
    assert main([*command, "--dry-run"]) == 0
    assert "download" not in capsys.readouterr().out
