"""A download whose workers are an engine's: one partition run twice at once asks every host once, and the driver's word to stop
reaches a worker through the store."""

from __future__ import annotations

import dataclasses
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pipelines import download, jobs
from pipelines.build import main
from pipelines.download import DownloadOwner
from pipelines.verify import main as verify
from wit.download import watch
from wit.download.partition import Owner
from wit.store import fs, turns
from wit.store.manifests import Marker


@pytest.fixture
def command(upgrade: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    monkeypatch.chdir(tmp_path)
    with upgrade.web() as port:
        yield upgrade.inputs(tmp_path, port)


def pictures(asked: list[str]) -> Counter[str]:
    return Counter(path for path in asked if path.endswith(".png"))


def test_of_two_executions_of_one_partition_at_once_one_asks_and_both_have_all(
    command: list[str], upgrade: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends: list[list[Marker]] = []

    def twice(self: DownloadOwner, owner: Owner) -> Iterator[Marker]:
        mine = dataclasses.replace(self, slots=4)
        threads = [threading.Thread(target=lambda: ends.append(mine.download(owner))) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        yield from ends[-1]

    assert main([*command, "--output", "alone"]) == 0
    alone = pictures(upgrade.Web.asked)
    upgrade.Web.asked.clear()
    monkeypatch.setattr(DownloadOwner, "process", twice)
    assert main(command) == 0
    assert len(ends) >= 2 and all(one == other for one, other in zip(ends[::2], ends[1::2], strict=True)) and ends[0]
    assert pictures(upgrade.Web.asked) == alone
    assert not Path("set/_turns").exists()


@pytest.mark.parametrize("slots", [1, 2])
def test_so_many_partitions_are_fetched_at_once_as_there_are_slots(
    slots: int, command: list[str], upgrade: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four owners, each in a thread of its own, as an engine with four workers would have them."""
    monkeypatch.setattr(turns, "WAIT_S", 0.02)
    at_once, most, lock, publish = 0, 0, threading.Lock(), DownloadOwner.publish
    waiting: list[Owner] = []

    def counted(self: DownloadOwner, owner: Owner, is_over: Callable[[], bool]) -> list[Marker]:
        nonlocal at_once, most
        with lock:
            at_once, most = at_once + 1, max(most, at_once + 1)
        try:
            time.sleep(0.3)
            return publish(self, owner, is_over)
        finally:
            with lock:
                at_once -= 1

    def together(self: DownloadOwner, owner: Owner) -> Iterator[Marker]:
        waiting.append(owner)
        if len(waiting) == len(partitions):
            with ThreadPoolExecutor(4) as pool:
                for markers in pool.map(dataclasses.replace(self, slots=slots).download, waiting):
                    yield from markers

    several = [*command, "--rows-per-partition", "5", "--rows-per-raw-shard", "5"]
    assert main([*several, "--stages", "candidates,plan"]) == 0
    partitions = list(Path("set/plan").glob("part-*.json"))
    assert len(partitions) >= 4, "a test of nothing"
    monkeypatch.setattr(DownloadOwner, "process", together)
    monkeypatch.setattr(DownloadOwner, "publish", counted)
    assert main(several) == 0
    assert most == slots


def test_the_report_names_addresses_that_several_workers_met_at_a_time(
    command: list[str], upgrade: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four owners at once, all of whose hosts are on one address; on this machine, where it is counted exactly, none is named."""
    waiting: list[Owner] = []

    def together(self: DownloadOwner, owner: Owner) -> Iterator[Marker]:
        waiting.append(owner)
        if len(waiting) == len(partitions):
            with ThreadPoolExecutor(4) as pool:
                for markers in pool.map(dataclasses.replace(self, slots=4).download, waiting):
                    yield from markers

    several = [*command, "--rows-per-partition", "5", "--rows-per-raw-shard", "5"]
    assert main([*several, "--output", "alone"]) == 0
    partitions = list(Path("alone/plan").glob("part-*.json"))
    monkeypatch.setattr(DownloadOwner, "process", together)
    assert main(several) == 0
    alone, page = (Path(out, "report/index.html").read_text(encoding="utf-8") for out in ("alone", "set"))
    assert "Server addresses" not in alone
    (row,) = re.findall(r"<td>127\.0\.0\.1</td>" + 4 * r'<td class="n">([\d.,]+)</td>', page)
    pictures_asked = sum(pictures(upgrade.Web.asked).values()) / 2  # by both builds
    assert int(row[0]) >= 2 and int(row[1]) >= pictures_asked * 0.9 and float(row[3]) > 0
    assert verify(["set", "--level", "full"]) == 0


def test_on_an_engine_the_number_of_partitions_at_a_time_must_be_said(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    engine = ["--runner=PortableRunner", "--job_endpoint=embed"]
    assert main([*command, *engine]) == 2
    assert "error: on PortableRunner --fetch-workers is missing" in capsys.readouterr().err
    assert not Path("set").exists()


def test_the_last_job_of_a_dry_run_bears_the_name_of_its_output_for_the_next_start(command: list[str]) -> None:
    engine = ["--runner=PortableRunner", "--job_endpoint=embed", "--environment_type=LOOPBACK", "--fetch-workers", "2"]
    assert main([*command, *engine, "--dry-run"]) == 0
    job = json.loads(Path("set/run.json").read_text(encoding="utf-8"))["job"]
    assert (job["name"], job["state"]) == (jobs.name_of(str(Path("set").absolute()), "download"), "DONE")


def test_the_drivers_word_stops_a_worker_in_the_middle_and_the_next_start_goes_on(
    command: list[str], upgrade: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(watch, "ASKED_EVERY_S", 0.01)
    told = threading.Event()

    def elsewhere(self: DownloadOwner, owner: Owner) -> Iterator[Marker]:
        yield from dataclasses.replace(self, slots=4).download(owner)

    def drained(self: DownloadOwner) -> bool:
        if len(upgrade.Web.asked) > 8:
            told.set()
        return told.is_set()

    with monkeypatch.context() as patched:
        patched.setattr(DownloadOwner, "process", elsewhere)
        patched.setattr(DownloadOwner, "is_drained", drained)
        assert main([*command, "--host-rate-per-s", "20"]) == 3
    assert "stopped: " in capsys.readouterr().err
    asked = pictures(upgrade.Web.asked)
    assert 0 < len(asked) < upgrade.PICTURES
    published = len(list(Path("set/raw").glob("*.tar")))
    assert main(command) == 0
    assert published < len(list(Path("set/raw").glob("*.tar")))


def test_a_worker_that_begins_after_the_word_asks_for_nothing(
    command: list[str], upgrade: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def begins(self: DownloadOwner, owner: Owner) -> Iterator[Marker]:
        fs.write_bytes(download.drain_path(self.stage), b"")
        yield from dataclasses.replace(self, slots=4).download(owner)

    with monkeypatch.context() as patched:
        patched.setattr(DownloadOwner, "process", begins)
        assert main(command) == 3
    assert not pictures(upgrade.Web.asked) and not Path("set/raw/_DRAIN.txt").exists()
    assert main(command) == 0
