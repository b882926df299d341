"""The engine on this machine: what goes in comes out, however long it takes."""

from __future__ import annotations

import json
import tempfile
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import apache_beam as beam
import grpc
import pytest

from pipelines.engine import Engine, quiet_beam


class Slow:
    """Whose pickling takes a while, as on a machine with other work: what is before it in its element is written by then."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> tuple[type[Slow], tuple[int]]:
        time.sleep(0.05)
        return Slow, (self.number,)


def keep(group: tuple[int, Iterable[Slow]], folder: Path) -> None:
    (folder / f"{group[0]}.json").write_text(json.dumps(sorted(slow.number for slow in group[1])))


@pytest.mark.parametrize("threads", [1, 2])
def test_elements_that_are_written_slowly_arrive_whole(tmp_path: Path, threads: int) -> None:
    """Beam's threads would flush their buffers after a second, in the middle of one of these."""

    def build(pipeline: beam.Pipeline) -> object:
        slow = pipeline | beam.Create(range(40), reshuffle=False) | beam.Map(lambda number: (number % 3, Slow(number)))
        return slow | beam.GroupByKey() | "Keep" >> beam.Map(keep, tmp_path)

    Engine((), threads).run(build)
    found = {path.stem: json.loads(path.read_text()) for path in tmp_path.iterdir()}
    assert found == {str(key): list(range(key, 40, 3)) for key in range(3)}


@pytest.mark.parametrize("error, told", [(grpc.RpcError(), 0), (ValueError(), 1)])
def test_a_thread_whose_server_is_gone_ends_without_a_word(
    error: Exception, told: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[object] = []
    monkeypatch.setattr(threading, "excepthook", ended.append)
    quiet_beam()
    quiet_beam()

    def end() -> None:
        raise error

    thread = threading.Thread(target=end)
    thread.start()
    thread.join()
    assert len(ended) == told


def test_nothing_of_beams_is_left_in_the_systems_temporary_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    engine = Engine((), 1)
    engine.check()
    seen: list[list[Path]] = []

    def build(pipeline: beam.Pipeline) -> object:
        seen.append(list(tmp_path.iterdir()))  # a process that is killed now leaves this
        return pipeline | beam.Create([1])

    engine.run(build)
    assert seen == [[]] and list(tmp_path.iterdir()) == []
