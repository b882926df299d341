import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from wit.errors import Busy, InputError
from wit.store.builder import only_builder


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
    for _ in range(2):
        with (
            only_builder("memory://set"),
            pytest.raises(Busy, match="another build holds memory://set"),
            only_builder("memory://set"),
        ):
            pass


def test_where_there_can_be_no_directory_it_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    with pytest.raises((InputError, NotADirectoryError)), only_builder(str(tmp_path / "f" / "out")):
        pass
