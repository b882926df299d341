"""Who builds in a store: one, whatever freezes, fails or has a wrong clock."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from wit.errors import Busy, Stopped
from wit.layout import OLD_LEASE, under
from wit.store import fs, lease, patience
from wit.store.lease import Holder, held, numbers, path_of
from wit.tally import Tally
from wit.typed import to_json

ROUNDS = 40
FAR = Holder("t", "another-machine", "another-boot", 1)


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An OUT in a store on a directory here, whose leases last for a second and a half."""
    import sys

    import fsspec

    sys.path.append(str(Path(__file__).parents[2]))
    import stores

    fsspec.register_implementation("other", stores.OtherStore, clobber=True)
    monkeypatch.setattr(lease, "LEASE_S", 1.5)
    monkeypatch.setattr(lease, "WITHDRAWS_S", 0.02)
    monkeypatch.setattr(patience, "FIRST_PAUSE_S", 1e-4)
    yield f"other://{tmp_path}/set"


def leave(out: str, number: int, holder: Holder = FAR, *, silent_s: float = 0.0) -> None:
    """A lease that somebody wrote so long ago."""
    fs.write_bytes(path_of(out, number), to_json(holder))
    then = time.time() - silent_s
    os.utime(path_of(out, number).removeprefix("other://"), (then, then))


def test_of_many_that_take_a_lease_that_has_run_out_one_gets_it(out: str) -> None:
    for round_ in range(ROUNDS):
        place = f"{out}{round_}"
        leave(place, 3, silent_s=9)
        got, ready, go = [], threading.Barrier(8), threading.Event()

        def take(place: str = place, got: list[int] = got, ready: Any = ready, go: Any = go) -> None:
            ready.wait()
            try:
                with held(place) as mine:
                    got.append(mine.number)
                    go.wait(10)
            except Busy:
                pass

        threads = [threading.Thread(target=take) for _ in range(8)]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + 10
        while sum(thread.is_alive() for thread in threads) > 1 and time.monotonic() < deadline:
            time.sleep(0.001)
        go.set()
        for thread in threads:
            thread.join()
        assert got == [4]


def test_a_lease_that_is_renewed_is_not_taken_and_one_that_is_not_says_how_long_to_wait(out: str) -> None:
    with held(out):
        for _ in range(12):
            time.sleep(0.15)
            with pytest.raises(Busy, match=r"start again in [012] s"), held(out):
                pass
    leave(out, 7)
    with pytest.raises(Busy, match="another build holds"), held(out):
        pass
    time.sleep(1.6)
    with held(out) as mine:
        assert mine.number == 8 and numbers(out) == [7, 8]


def test_no_clock_of_a_machine_is_read(out: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for wrong in (-300.0, 300.0):
        with held(out), monkeypatch.context() as patched:
            real = time.time
            patched.setattr(time, "time", lambda wrong=wrong, real=real: real() + wrong)
            with pytest.raises(Busy), held(out):
                pass


def test_a_builder_that_was_silent_for_long_stops_before_it_removes_or_finishes_anything(
    out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wit.store.manifests import Unit
    from wit.store.parts import StageDir

    for round_ in range(ROUNDS):
        place = f"{out}{round_}"
        stage = StageDir(place, "candidates", "f")
        with monkeypatch.context() as patched:
            patched.setattr(lease.Lease, "renew", lambda self: None)  # it froze
            with held(place) as stale:
                unit = Unit.numbered("part", 0)
                markers = [stage.publish(unit, {}, Tally(into=1, out=1, dropped={}))]
                lease.check(place)
                leave(place, stale.number + 1)  # another builder, elsewhere
                before = fs.find(place)
                for harm in (
                    lambda: stage.finish(markers, [unit]),  # noqa: B023
                    stage.clear,
                    stage.forget,
                    lambda: stage.tidy(()),  # noqa: B023
                    lambda: StageDir(place, "candidates", "g").publish(unit, {}),  # noqa: B023  # over another's marker
                ):
                    with pytest.raises(Stopped, match="another build has taken over"):
                        harm()
                assert fs.find(place) == before
        assert numbers(place) == [stale.number, stale.number + 1]  # the stale one touched neither


def test_renewals_go_on_after_failures_and_come_too_late_for_nobody(out: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with held(out) as mine:
        monkeypatch.setenv("STORE_FAILS", "0.5")
        time.sleep(2.4)
        monkeypatch.setenv("STORE_FAILS", "0")
        mine.check()
        with pytest.raises(Busy), held(out):
            pass
        leave(out, mine.number + 1)
        time.sleep(1.2)  # the stale one has written to its own file again
        assert fs.read_bytes(path_of(out, mine.number + 1)) == to_json(FAR)
        with pytest.raises(Stopped):
            mine.check()


def hold(out: str, started: Any) -> None:
    with held(out):
        started.set()
        time.sleep(60)


def test_a_killed_builder_of_this_machine_is_followed_at_once(out: str) -> None:
    context = multiprocessing.get_context("fork")
    started = context.Event()
    holder = context.Process(target=hold, args=(out, started))
    holder.start()
    assert started.wait(10) and holder.pid is not None
    with pytest.raises(Busy), held(out):
        pass
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    with held(out) as mine:
        assert mine.number == 2


def test_one_of_another_boot_or_machine_is_waited_for(out: str) -> None:
    here = lease.me()
    for number, other in enumerate(({"host": "x"}, {"boot": "x"}), 1):
        leave(out, number, dataclasses.replace(here, pid=2**22 + 1, **other))
        with pytest.raises(Busy), held(out):
            pass
    leave(out, 3, dataclasses.replace(here, pid=2**22 + 1))
    with held(out) as mine:
        assert mine.number == 4


@pytest.mark.parametrize("words", [b"", b"{", b"[1]", b"\xff", b"[" * 100_000])
def test_a_lease_with_nobodys_words_runs_out_as_any_other(out: str, words: bytes) -> None:
    fs.write_bytes(path_of(out, 7), words)
    with pytest.raises(Busy, match="start again in"), held(out):
        pass
    time.sleep(1.6)
    with held(out):
        assert max(numbers(out)) == 8


def test_a_released_lease_is_free_and_its_number_does_not_come_again(out: str) -> None:
    for number in range(1, 5):
        with held(out) as mine:
            assert mine.number == number
    lease.check(out)  # of one that is not held nothing is asked
    assert numbers(out) == [3, 4]


def test_a_builder_of_an_earlier_version_is_waited_for(out: str) -> None:
    old = under(out, OLD_LEASE)
    fs.write_bytes(old, b"{}")
    with pytest.raises(Busy, match="an earlier version"), held(out):
        pass
    os.utime(old.removeprefix("other://"), (1, 1))
    with held(out):
        assert not fs.exists(old)


def test_a_listing_that_misses_what_comes_while_it_is_made_gives_nobody_a_second_lease(
    out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with held(out), monkeypatch.context() as patched:
        real, asked = lease.numbers, []

        def first_blind(place: str) -> list[int]:
            asked.append(place)
            return [] if len(asked) == 1 else real(place)

        leave(out, 7)
        patched.setattr(lease, "numbers", first_blind)
        patched.setattr(lease, "claim", lambda path, data: fs.write_bytes(path, data) or True)
        with pytest.raises(Busy, match="has just taken"), held(out):
            pass
    assert 7 in numbers(out)


def test_who_froze_after_looking_does_not_take_a_lease_that_was_renewed_meanwhile(
    out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with held(out) as mine, monkeypatch.context() as patched:
        real, asked = lease._left_s, []

        def frozen(place: str, number: int) -> float:
            asked.append(number)
            return 0.0 if len(asked) == 1 else real(place, number)  # what it saw long ago, and what is

        patched.setattr(lease, "_left_s", frozen)
        with pytest.raises(Busy, match="has just taken"), held(out):
            pass
        mine.check()


def test_an_error_of_a_clients_own_ends_no_renewals(out: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real, failed = fs.rewrite_bytes, []

    def failing(path: str, data: bytes) -> None:
        if len(failed) < 2:
            failed.append(path)
            raise ZeroDivisionError("an HttpError, say: clients share no class")
        real(path, data)

    monkeypatch.setattr(fs, "rewrite_bytes", failing)
    with held(out) as mine:
        time.sleep(2.4)
        with pytest.raises(Busy), held(out):
            pass
        mine.check()
    assert len(failed) == 2


def test_a_taker_that_withdraws_has_taken_nothing_and_one_that_stays_has(
    out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "WITHDRAWS_S", 0.5)
    with lease.held(out) as mine:
        taker = path_of(out, mine.number + 1)
        fs.write_bytes(taker, b"{}")
        gone = threading.Timer(0.1, fs.remove, [taker])
        gone.start()
        mine.check()
        gone.join()
        fs.write_bytes(taker, b"{}")
        with pytest.raises(Stopped):
            mine.check()
        fs.remove(taker)
