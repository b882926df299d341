import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from wit.errors import Busy
from wit.store import claims, fs
from wit.store.claims import only_builder


def hold(out: str, held: "multiprocessing.synchronize.Event") -> None:
    with only_builder(out):
        held.set()
        time.sleep(60)


def test_a_second_builder_is_refused_until_the_first_is_gone_even_if_killed(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    held = context.Event()
    holder = context.Process(target=hold, args=(str(tmp_path), held))
    holder.start()
    assert held.wait(10)
    with pytest.raises(Busy, match="another build is at work"), only_builder(str(tmp_path)):
        pass
    assert holder.pid is not None
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    with only_builder(str(tmp_path)):
        pass


def test_a_lease_on_an_object_store_is_exclusive_and_ends_with_its_block() -> None:
    with (
        only_builder("memory://set"),
        pytest.raises(Busy, match="holds memory://set"),
        only_builder("memory://set"),
    ):
        pass
    with only_builder("memory://set"):
        pass


def claim_many(path: str, name: str, won: "multiprocessing.Queue[str]") -> None:
    if claims.claim(path, name.encode()):
        won.put(name)


def test_of_many_claims_exactly_one_wins(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    won: multiprocessing.Queue[str] = context.Queue()
    racers = [context.Process(target=claim_many, args=(str(tmp_path / "m"), str(i), won)) for i in range(16)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert fs.read_bytes(str(tmp_path / "m")).decode() == won.get(timeout=5)
    assert won.empty() and fs.list_dir(str(tmp_path)) == ["m"]
