"""Work in progress, and who sweeps it."""

import multiprocessing
import multiprocessing.synchronize
import os
import signal
import tempfile
import time
from pathlib import Path

import pytest

from wit.store.scratch import scratch_dir, sweep_scratch


def hold_scratch(near: str, has: multiprocessing.synchronize.Event) -> None:
    with scratch_dir(near) as scratch:
        (Path(scratch) / "x.parquet").touch()
        has.set()
        time.sleep(60)


def test_work_in_progress_for_a_store_goes_once_its_process_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    context = multiprocessing.get_context("fork")
    has = context.Event()
    other = context.Process(target=hold_scratch, args=("other://set", has))
    other.start()
    assert has.wait(10) and other.pid is not None
    (stranger,) = (path.parent / "no number" for path in tmp_path.glob("wit-*/*"))
    stranger.touch()
    sweep_scratch()
    assert [path.name for path in tmp_path.rglob("*.parquet")] == ["x.parquet"]
    os.kill(other.pid, signal.SIGKILL)
    other.join()
    sweep_scratch()
    assert list(tmp_path.rglob("*.parquet")) == [] and stranger.exists()
