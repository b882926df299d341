"""What is said while a stage runs."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from pipelines import progress
from wit.errors import StoreAway
from wit.store.parts import StageDir


@pytest.mark.parametrize(
    ("done", "total", "pairs", "seconds", "said"),
    [
        (0, 8_000, 0, 60.0, "0 of 8,000 shards, 0:01:00 so far"),
        (
            2_000,
            8_000,
            120_000,
            3_600.0,
            "2,000 of 8,000 shards, 120,000 pairs, 33/s, 1:00:00 so far, about 3:00:00 left",
        ),
        (8_000, 8_000, 0, 60.4, "8,000 of 8,000 shards, 0:01:00 so far"),
        (9, 8, 0, 60.0, "9 of 8 shards, 0:01:00 so far"),
        (7, None, 0, 90_000.0, "7 shards, 1 day, 1:00:00 so far"),
    ],
)
def test_a_line_tells_how_much_how_fast_and_how_long(
    done: int, total: int | None, pairs: int, seconds: float, said: str
) -> None:
    assert progress.so_far(done, total, "shards", pairs, seconds) == said


def wait_for(capsys: pytest.CaptureFixture[str], words: str, seconds: float = 20.0) -> None:
    deadline, said = time.monotonic() + seconds, ""
    while words not in said:
        assert time.monotonic() < deadline, said
        time.sleep(0.01)
        said += capsys.readouterr().err


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LOGGED_EVERY_S", 0.05)
    monkeypatch.setattr(progress, "LISTED_EVERY_S", 0.05)


@pytest.mark.usefixtures("quick")
def test_without_a_terminal_a_line_comes_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.bar("download", None, total=4, unit="shards"):
        wait_for(capsys, "download   0 of 4 shards")
        progress.advance(1, pairs=50)
        wait_for(capsys, "download   1 of 4 shards, 50 pairs, ")
    assert capsys.readouterr().err.rstrip().splitlines()[-1].startswith("download   1 shards, 50 pairs, ")


@pytest.mark.usefixtures("quick")
def test_where_workers_are_elsewhere_published_units_count_and_a_store_that_is_away_does_not(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = StageDir(str(tmp_path), "download", "f")
    (tmp_path / "raw").mkdir()
    real, away = progress._published, [True]

    def published(stage: StageDir) -> int:
        if away:
            away.pop()
            raise StoreAway("the store does not answer")
        return real(stage)

    monkeypatch.setattr(progress, "_published", published)
    with progress.bar("download", stage, total=3, unit="shards"):
        wait_for(capsys, "download   0 of 3 shards")
        for name in ("00000-0000.json", "00000-0001.json", "00000-0001.abc.tar", "_MANIFEST.json"):
            (tmp_path / "raw" / name).write_text("{}")
        wait_for(capsys, "download   2 of 3 shards, ")
    assert not away and "Traceback" not in capsys.readouterr().err
