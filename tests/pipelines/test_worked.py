"""What workers of an engine say of themselves, and what is left for the engine."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.build import main
from pipelines.worked import Heard, Meter, Worked, words
from wit.runfile import Workers


def test_threads_that_work_side_by_side_count_once() -> None:
    meter, ready = Meter(), threading.Barrier(2)

    def work() -> None:
        with meter.at_work():
            ready.wait()
            time.sleep(0.2)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 0.2 <= meter.told().at_work_s < 0.39
    assert meter.told().worker_mb > 1


def test_a_process_that_is_still_at_work_says_so_far() -> None:
    meter = Meter()
    with meter.at_work():
        time.sleep(0.05)
        assert meter.told().at_work_s >= 0.05
    before = meter.told()
    time.sleep(0.05)
    assert meter.told().at_work_s == before.at_work_s


def test_of_each_job_the_busiest_worker_is_taken_off_the_stage() -> None:
    heard = Heard()
    heard.of_a_job([Worked("a", 3.0, 100.0), Worked("a", 2.0, 300.0), Worked("b", 1.0, 200.0)])
    heard.begin()
    heard.of_a_job([Worked("a", 5.0, 150.0), Worked("c", 4.0, 90.0)])  # 2 and 4 seconds
    heard.of_a_job([Worked("a", 6.0, 110.0), Worked("c", 4.5, 90.0)])  # 1 and half a second
    said = heard.of_stage(12.0)
    assert said == Workers(7.0, 2, 150.0)
    assert words(said, 12.0) == "engine 7.0 of the whole stage's 12.0 s; worker processes: 2, at most 150 MB each"


@pytest.fixture
def command(upgrade: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    monkeypatch.chdir(tmp_path)
    with upgrade.web() as port:
        yield upgrade.inputs(tmp_path, port)


STAGES = ("candidates", "plan", "download", "select", "publish", "report")


def test_a_build_on_an_engine_says_both_of_every_stage(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(
            [
                *command,
                "--runner=PortableRunner",
                "--job_endpoint=embed",
                "--environment_type=LOOPBACK",
                "--fetch-workers",
                "2",
            ]
        )
        == 0
    )
    out, err = capsys.readouterr()
    lines = dict(
        re.findall(
            r"^(\w+) +(engine [\d.]+ of the whole stage's [\d.]+ s; worker processes: \d, at most [\d,]+ MB each)$",
            err,
            re.MULTILINE,
        )
    )
    assert tuple(lines) == STAGES and "peak memory of a worker elsewhere" in out
    run = json.loads(Path("set/run.json").read_text(encoding="utf-8"))
    for name in STAGES:
        said = run["workers"][name]
        assert said["workers"] >= 1 and said["worker_mb"] > 10
        assert 0 <= said["engine_s"] < run["timings_s"][name]


def test_a_build_on_this_machine_says_neither(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command) == 0
    out, err = capsys.readouterr()
    assert "engine" not in err and "elsewhere" not in out
    assert "workers" not in json.loads(Path("set/run.json").read_text(encoding="utf-8"))
