"""Trials with real processes: a builder that freezes, one whose renewals are lost, and stores whose clock jumps.

Whatever happens, who has lost the lease removes nothing and writes neither a manifest nor run.json. One window remains, and is
tried at each of its places: the single request that was asked for before a process froze, and is sent after.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem

from wit.errors import Busy, Stopped
from wit.layout import LEASES, next_shards_path, run_path, shards_path
from wit.publish import whole
from wit.store import fs, lease, patience
from wit.store.manifests import File, Marker, Published, Unit
from wit.store.parts import StageDir
from wit.tally import Tally
from wit.typed import to_json

sys.path.append(str(Path(__file__).parents[2]))

import stores

PLACES = 40  # where a builder may freeze, at least
FEW_AND_MANY = pytest.mark.parametrize("trials", [6, pytest.param(40, marks=pytest.mark.slow)])
LEASE_S = 0.3
WRONG = (-3_600.0, -10.0, 10.0, 3_600.0)  # seconds that a clock is off
UNIT = Unit.numbered("part", 0)
EFFECTS = ("put", "create", "remove", "copy")


class Jumping(stores.OtherStore):
    """A store whose clock is off by what a file says."""

    clock: Path

    def _put(self, call: Any, data: bytes) -> None:
        super()._put(call, data)
        now = time.clock_gettime(time.CLOCK_REALTIME) + float(Jumping.clock.read_text("utf-8"))
        os.utime(call.path, (now, now))

    def ls(self, path: str, detail: bool = False, **given: Any) -> Any:
        """All that is there, whatever its time: the other store hides what is younger than this machine's clock allows."""
        return self._call("list", path, lambda _: LocalFileSystem.ls(self, path, detail=detail, **given))


def set_clock(off_s: float) -> None:
    """For all processes, from now on."""
    fs.write_bytes(str(Jumping.clock), f"{off_s}".encode())


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An OUT in such a store, whose leases last for less than half a second."""
    fsspec.register_implementation("other", Jumping, clobber=True)
    monkeypatch.setattr(Jumping, "clock", tmp_path / "clock", raising=False)
    monkeypatch.setattr(lease, "LEASE_S", LEASE_S)
    monkeypatch.setattr(lease, "WITHDRAWS_S", 0.2)
    monkeypatch.setattr(patience, "FIRST_PAUSE_S", 1e-4)
    set_clock(0)
    yield f"other://{tmp_path}/set"
    fsspec.register_implementation("other", stores.OtherStore, clobber=True)


def harm(out: str, stage: StageDir, marker: Marker) -> list[Callable[[], object]]:
    """All that only the holder of the lease may do."""
    return [
        lambda: lease.write(out, run_path(out), b"stale"),
        lambda: stage.finish([marker], [UNIT]),
        lambda: stage.tidy(()),
        stage.forget,
        stage.clear,
        lambda: fs.remove(next_shards_path(out)),
    ]


def published(out: str, fingerprint: str) -> tuple[StageDir, Marker]:
    """A stage with one unit, as a builder with these settings makes it."""
    stage = StageDir(out, "candidates", fingerprint)
    return stage, stage.publish(UNIT, {}, Tally(into=1, out=1, dropped={}))


def snapshot(out: str) -> dict[str, bytes]:
    """All files below OUT but leases, and what is on its way."""
    root = Path(out.removeprefix("other://"))
    paths = [path for path in root.rglob("*") if path.is_file() and LEASES not in path.parts]
    paths = [path for path in paths if not path.name.startswith(stores.UNFINISHED)]
    return {str(path.relative_to(root)): path.read_bytes() for path in paths}


def successor(out: str) -> dict[str, bytes]:
    """Builds as who has taken the lease; returns all that is there then."""
    time.sleep(0.05)  # as long as the sources are looked at
    stage, marker = published(out, "successor's")
    stage.finish([marker], [UNIT])
    lease.write(out, run_path(out), b"successor's")
    return snapshot(out)


def freezing(out: str, at: int, told: Any) -> None:
    """A builder that stops itself before the call of the store with that number, and goes on as if nothing had been. Tells which
    call it was, and then whether it noticed: "stopped", or "ended"."""
    calls, real = iter(range(10_000)), stores._answered

    def answered(call: Any, work: Any) -> Any:
        if threading.current_thread() is threading.main_thread() and next(calls) == at:
            told.send(call.name)
            os.kill(os.getpid(), signal.SIGSTOP)
        return real(call, work)

    fs.BULK = 1  # more requests, more places
    try:
        with lease.held(out):
            stage, marker = published(out, "stale")
            for loser in range(16):
                fs.write_bytes(f"{out}/candidates/part-{loser:05d}.left.parquet", b"a loser's")
            fs.write_bytes(f"{next_shards_path(out)}/00000.tar", b"a shard")
            stores._answered = answered
            for work in harm(out, stage, marker):
                work()
    except Stopped:
        told.send("stopped")
    else:
        told.send("ended")


def wait_until_stopped(process: Any) -> None:
    while os.waitpid(process.pid, os.WUNTRACED)[1] & 0xFF != 0x7F:
        pass


def start(work: Callable[..., None], *given: Any) -> tuple[Any, Any]:
    """(process, the end of a pipe that hears what it tells)."""
    context = multiprocessing.get_context("fork")
    heard, told = context.Pipe(duplex=False)
    process = context.Process(target=work, args=(*given, told))
    process.start()
    told.close()
    return process, heard


def taken(out: str) -> Any:
    """The lease, as soon as it has run out."""
    for _ in range(1_000):
        try:
            held = lease.held(out)
            held.__enter__()
            return held
        except Busy:
            time.sleep(0.02)
    raise AssertionError("the lease never ran out")


def test_a_builder_that_freezes_anywhere_does_no_harm_when_it_wakes(out: str) -> None:
    seen, frozen, noticed = [], "", 0
    for at in range(1_000):
        place = f"{out}{at}"
        process, heard = start(freezing, place, at)
        if (frozen := heard.recv()) == "ended":  # it made fewer calls than that
            process.join()
            break
        wait_until_stopped(process)
        held = taken(place)
        before = successor(place)
        os.kill(process.pid, signal.SIGCONT)
        noticed += heard.recv() == "stopped"
        process.join()
        after = snapshot(place)
        changed = [name for name in before.keys() | after.keys() if before.get(name) != after.get(name)]
        if frozen in EFFECTS:
            assert len(changed) <= 1, (at, frozen, changed)  # the request that was on its way
        else:
            assert changed == [], (at, frozen, changed)
        held.__exit__(None, None, None)
        seen.append(frozen)
    assert len(seen) >= PLACES and {"put", "remove", "list"} <= {*seen} and frozen == "ended"


SHARDS = 12


def put_set(directory: str, fingerprint: str) -> None:
    """A set whose bytes, and their number, tell its settings."""
    endings = (".tar", ".parquet", "_stats.json")
    held = {name: f"{fingerprint} {name}".encode() for n in range(SHARDS) for name in (f"{n:05d}{e}" for e in endings)}
    for name, data in held.items():
        fs.write_bytes(f"{directory}/{name}", data)
    files = tuple(File(name, len(data)) for name, data in held.items())
    nothing: dict[str, Any] = {"into": 0, "out": 0, "dropped": {}, "shards": SHARDS, "samples": 0, "files": files}
    manifest = Published(stage="publish", fingerprint=fingerprint, schema_version=2, **nothing)
    fs.write_bytes(f"{directory}/{whole.MANIFEST_FILE}", to_json(manifest))


def freezing_while_it_copies(out: str, at: int, told: Any) -> None:
    """A builder that stops itself before it sends the copy with that number, with others as far, and goes on later. A copy
    is the store's own work: a process that stops does not stop it midway."""
    calls, real, sending = itertools.count(), stores._answered, threading.Lock()

    def answered(call: Any, work: Any) -> Any:
        if call.name != "copy":
            return real(call, work)
        with sending:
            if next(calls) == at:
                time.sleep(0.05)  # until others have asked for the lease
                told.send("freezes")
                os.kill(os.getpid(), signal.SIGSTOP)
                time.sleep(0.1)  # the signal may find another thread first
            return real(call, work)

    stores._answered = answered
    try:
        with lease.held(out):
            whole.install(out)
    except Stopped:
        told.send("stopped")
    else:
        told.send("ended")


@pytest.mark.parametrize("settings", ["the same", "others"])
@FEW_AND_MANY
def test_a_builder_that_freezes_while_it_copies_a_set_harms_none_that_stands(
    out: str, trials: int, settings: str
) -> None:
    for number in range(trials):
        place = f"{out}{number}"
        put_set(shards_path(place), "old")
        put_set(next_shards_path(place), "new")
        process, heard = start(freezing_while_it_copies, place, number * 3 * SHARDS // trials)
        assert heard.recv() == "freezes"
        wait_until_stopped(process)
        held = taken(place)
        mine = StageDir(place, "publish", "new" if settings == "the same" else "another")
        directory = whole.begin(mine)
        if settings == "the same":
            whole.install(place)
        else:
            put_set(directory, "another")
        built = snapshot(place)
        assert len(built) == 3 * SHARDS + 1 and not any(name.startswith("_shards") for name in built)
        assert all(data.startswith(mine.fingerprint.encode()) for name, data in built.items() if "MANIFEST" not in name)
        os.kill(process.pid, signal.SIGCONT)
        assert heard.recv() == "stopped"
        process.join()
        assert snapshot(place) == built
        held.__exit__(None, None, None)


def working(out: str, told: Any) -> None:
    """A builder that works without an end, and says when it had to stop, or was told to."""
    try:
        with lease.held(out):
            stage, marker = published(out, "stale")
            told.send("works")
            while True:
                stage.finish([marker], [UNIT])
                lease.write(out, run_path(out), b"stale")
                time.sleep(0.01)
                published(out, "stale")
    except Stopped:
        told.send("stopped")


def without_renewals(out: str, told: Any) -> None:
    """One whose renewals never arrive."""
    lease.Lease.renew = lambda self: None  # type: ignore[method-assign]
    working(out, told)


@FEW_AND_MANY
def test_a_builder_whose_renewals_are_lost_does_no_harm_to_who_takes_over(out: str, trials: int) -> None:
    for number in range(trials):
        place = f"{out}{number}"
        process, heard = start(without_renewals, place)
        assert heard.recv() == "works"
        held = taken(place)
        built = successor(place)
        assert heard.recv() == "stopped"
        process.join()
        assert snapshot(place) == built
        held.__exit__(None, None, None)


def by_a_wrong_clock(out: str, wrong_s: float, told: Any) -> None:
    """A builder on a machine whose clock is off."""
    real = time.time
    time.time = lambda: real() + wrong_s
    working(out, told)


def jumped(out: str, by_s: float) -> Any:
    """Lets the store's clock jump, and tries for two leases' time to take the lease: None if the holder keeps it."""
    set_clock(by_s)
    until = time.monotonic() + 2 * LEASE_S
    while time.monotonic() < until:
        try:
            held = lease.held(out)
            held.__enter__()
            return held
        except Busy:
            time.sleep(0.005)
    return None


@FEW_AND_MANY
def test_a_clock_that_jumps_or_is_wrong_gives_no_two_builders(out: str, trials: int) -> None:
    kept = 0
    draw = random.Random(7)
    for number in range(trials):
        place = f"{out}{number}"
        set_clock(0)
        process, heard = start(by_a_wrong_clock, place, draw.choice(WRONG))
        assert heard.recv() == "works"
        time.sleep(draw.random() * LEASE_S / 2)
        held = jumped(place, WRONG[number % len(WRONG)])
        if held is None:
            kept += 1
            assert not heard.poll()  # it works on
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            continue
        built = successor(place)
        assert heard.recv() == "stopped"
        process.join()
        assert snapshot(place) == built
        held.__exit__(None, None, None)
    assert kept >= trials // 4  # half of them jump backwards: then nobody looks silent for long
