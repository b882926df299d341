"""What the store of the tests does wrong, as the code that uses it sees it."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest

from wit.errors import StoreAway
from wit.store import claims, fs
from wit.store.patience import may_pass, status_of

sys.path.append(str(Path(__file__).parent))

import faults
import stores

DATA, DIGEST = bytes(range(256)) * 40, "0123456789ab"


def raw(store: Any) -> Any:
    """The store's own file system, without our patience."""
    return fsspec.filesystem("other", skip_instance_cache=True)


def in_a_process(work: Callable[[], object]) -> int:
    """How a process ends that does this and nothing else."""
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def test_a_short_read_is_noticed_whether_the_client_sees_it_or_not(other_store: Any) -> None:
    fs.write_bytes(other_store.at("set/x"), DATA)
    other_store.counts_together("set")
    other_store.goes_wrong(short=0.2)
    for number in range(40):
        assert fs.read_bytes(other_store.at("set/x")) == DATA
        assert fs.read_range(other_store.at("set/x"), number, 100) == DATA[number : number + 100]
        with fs.open_read(other_store.at("set/x")) as stream:
            assert stream.read(5) + stream.read() == DATA
        fs.download(other_store.at("set/x"), str(other_store.folder / "local"))
        assert (other_store.folder / "local").read_bytes() == DATA
    assert other_store.counted()["short"] > 20


def test_a_torn_put_leaves_a_part_until_it_is_put_again(other_store: Any) -> None:
    other_store.goes_wrong(torn=1)
    with pytest.raises(ConnectionResetError):
        raw(other_store).pipe_file(other_store.at(f"x.{DIGEST}.tar"), DATA)
    assert (other_store.folder / f"x.{DIGEST}.tar").read_bytes() == DATA[: len(DATA) // 2]
    fs.write_bytes(other_store.at("run.json"), DATA)  # it may be read at any instant
    other_store.goes_wrong(torn=0.3)
    for number in range(20):
        fs.write_bytes(other_store.at(f"{number}.{DIGEST}.tar"), DATA)
        assert (other_store.folder / f"{number}.{DIGEST}.tar").read_bytes() == DATA


def test_calls_above_a_rate_are_refused_with_the_time_to_come_back(other_store: Any) -> None:
    other_store.counts_together("set")
    other_store.goes_wrong(rate=20, after=7)
    refused: list[Exception] = []
    for number in range(60):
        try:
            raw(other_store).pipe_file(other_store.at(f"set/{number}"), b"")
        except stores.Throttled as error:
            refused.append(error)
    assert len(refused) >= 20 and status_of(refused[0]) == 503 and may_pass(refused[0])
    assert refused[0].headers == {"Retry-After": "7"}  # type: ignore[attr-defined]


def test_calls_in_flight_are_answered_in_another_order_and_so_are_listings(other_store: Any) -> None:
    from concurrent.futures import ThreadPoolExecutor

    for number in range(12):
        fs.write_bytes(other_store.at(f"set/{number:02d}"), b"x")
    other_store.goes_wrong(reorder=0.1)
    ended: list[int] = []

    def read(number: int) -> None:
        fs.read_bytes(other_store.at(f"set/{number:02d}"))
        ended.append(number)

    with ThreadPoolExecutor(12) as threads:
        list(threads.map(read, range(12)))
    assert ended != sorted(ended)
    listed = [os.path.basename(name) for name in raw(other_store).ls(other_store.at("set"), detail=False)]
    assert sorted(listed) == [f"{n:02d}" for n in range(12)] != listed
    assert fs.list_dir(other_store.at("set")) == sorted(listed)


def test_the_store_gives_times_of_its_own_clock(other_store: Any) -> None:
    other_store.goes_wrong(clock=-3_600)
    fs.write_bytes(other_store.at("x"), b"x")
    assert time.time() - fs.modified(other_store.at("x")) > 3_000


def test_from_a_call_on_nothing_can_be_put_or_nothing_is_answered(other_store: Any) -> None:
    other_store.counts_together("set")
    other_store.goes_wrong(faults="raw:2:full")
    fs.write_bytes(other_store.at("set/raw/1"), b"x")
    for name in ("raw/2", "raw/3", "plan/1"):
        with pytest.raises(OSError, match="No space left"):
            fs.write_bytes(other_store.at(f"set/{name}"), b"x")
    assert fs.read_bytes(other_store.at("set/raw/1")) == b"x"
    other_store.goes_wrong(faults="select:1:away")
    with pytest.raises(StoreAway):
        fs.read_bytes(other_store.at("set/select/1"))
    with pytest.raises(StoreAway):
        fs.read_bytes(other_store.at("set/raw/1"))


@pytest.mark.parametrize("fault, there", [("kill", None), ("after", DATA), ("torn", DATA[: len(DATA) // 2])])
def test_a_process_is_killed_before_in_or_after_a_call(other_store: Any, fault: str, there: bytes | None) -> None:
    other_store.counts_together("set")
    other_store.goes_wrong(faults=f"raw:2:{fault}")

    def work() -> None:
        for name in "abc":
            fs.write_bytes(other_store.at(f"set/raw/{name}.{DIGEST}.tar"), DATA)

    assert in_a_process(work) == -signal.SIGKILL
    names = [other_store.folder / f"set/raw/{name}.{DIGEST}.tar" for name in "abc"]
    assert [name.read_bytes() if name.exists() else None for name in names] == [DATA, there, None]
    assert other_store.counted()[fault] == 1
    assert in_a_process(work) == 0  # the call has been


def test_all_processes_count_their_calls_together(other_store: Any) -> None:
    other_store.counts_together("set")
    other_store.goes_wrong(faults="raw:21:kill")
    work = lambda: [fs.write_bytes(other_store.at(f"set/raw/{os.getpid()}"), b"x") for _ in range(10)]  # noqa: E731
    assert [in_a_process(work) for _ in range(3)] == [0, 0, -signal.SIGKILL]


def test_whoever_races_for_a_name_in_the_store_one_has_it(other_store: Any) -> None:
    for number in range(20):
        racers = [
            multiprocessing.get_context("fork").Process(target=claim, args=(other_store, number)) for _ in range(4)
        ]
        for racer in racers:
            racer.start()
        for racer in racers:
            racer.join()
        assert sorted(racer.exitcode or 0 for racer in racers) == [0, 7, 7, 7]


def claim(store: Any, number: int) -> None:
    os._exit(0 if claims.claim(store.at(f"{number}"), f"{os.getpid()}".encode()) else 7)


# A disk of this machine.


@pytest.mark.parametrize("fault, ends, refused", [("kill", -9, 3), ("torn", -9, 3), ("full", 0, 2)])
def test_a_file_on_a_disk_is_whole_or_not_there_whatever_happens_to_its_writer(
    tmp_path: Path, fault: str, ends: int, refused: int
) -> None:
    """The calls are the directory, the file, its name, and the removal of what is left; a full disk lets names be changed."""
    ended, unfinished, contents = list[int](), set[bytes](), list[bytes]()
    for number in range(1, 6):
        fs.write_bytes(str(tmp_path / f"set{number}/raw/x"), b"before")
        ended.append(on_disk(tmp_path / f"{number}", tmp_path / f"set{number}", f"raw:{number}:{fault}"))
        contents.append((tmp_path / f"set{number}/raw/x").read_bytes())
        unfinished |= {path.read_bytes() for path in (tmp_path / f"set{number}/raw").glob(f"*{fs.UNFINISHED}")}
    assert ended == [ends] * 4 + [0] and contents == [b"before"] * refused + [DATA] * (5 - refused)
    assert unfinished == {"kill": {DATA}, "torn": {b"torn", DATA}, "full": set()}[fault]


def on_disk(folder: Path, out: Path, schedule: str) -> int:
    """How a process ends that writes out/raw/x while the schedule says what happens to it."""
    folder.mkdir()

    def watched() -> None:
        settings = {"ROOT": out, "COUNTS": folder, "LOG": folder / "log", "FAULTS": schedule}
        os.environ.update({f"STORE_{name}": str(value) for name, value in settings.items()})
        faults.watch_disk()
        with contextlib.suppress(OSError):
            fs.write_bytes(str(out / "raw/x"), DATA)

    return in_a_process(watched)
