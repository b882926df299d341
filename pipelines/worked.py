"""What an engine's workers were at work on, and with how much memory: each says it of its own process, behind what it gives back.

An engine's seconds of a stage are those in which its busiest worker had nothing of ours in hand: of each job the seconds of the
process that was at work the longest are taken off the stage's. So starting an application, shipping jars, scheduling, waiting for
the slowest, and what the driver does between jobs count as the engine's, and so does a shuffle.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import apache_beam as beam

from pipelines.memory import PeakMemory, tree_megabytes
from wit.runfile import Workers


@dataclass(frozen=True, slots=True)
class Worked:
    """What a worker says: for how long it was at work since it began, and its memory at most since it said so last. The memory
    is that of its process and all below it."""

    worker: str
    at_work_s: float
    worker_mb: float


class Meter:
    """Of this process: whether it has an element of ours in hand, in whichever thread."""

    def __init__(self) -> None:
        self.name = secrets.token_hex(8)
        self._lock = threading.Lock()
        self._in_hand, self._since, self._at_work_s = 0, 0.0, 0.0
        self._peak: PeakMemory | None = None

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """The process is at work for the block. Blocks of several threads that overlap count once."""
        with self._lock:
            if self._peak is None:
                self._peak = PeakMemory().__enter__()  # for as long as the process lives
            if not self._in_hand:
                self._since = time.monotonic()
            self._in_hand += 1
        try:
            yield
        finally:
            with self._lock:
                self._in_hand -= 1
                if not self._in_hand:
                    self._at_work_s += time.monotonic() - self._since

    def told(self) -> Worked:
        """What there is to say by now."""
        with self._lock:
            seconds = self._at_work_s + (time.monotonic() - self._since if self._in_hand else 0.0)
            sampled = self._peak.since_asked() if self._peak else 0.0
        return Worked(self.name, seconds, sampled or tree_megabytes())


meter = Meter()


class AtWork(beam.DoFn):  # type: ignore[misc]
    """Elements as they come. Beam pushes an element through all that is fused behind this before it asks for the next one: for so
    long the process is at work."""

    def process(self, element: Any) -> Iterator[Any]:
        with meter.at_work():
            yield element


class Heard:
    """What the workers of the running stage have said, in the process that gave them its jobs."""

    def __init__(self) -> None:
        self._before: dict[str, float] = {}  # by worker: its seconds at work up to the job before
        self.begin()

    def begin(self) -> None:
        """A stage begins."""
        self._busiest_s, self._mb, self._workers = 0.0, 0.0, set[str]()

    def of_a_job(self, told: Iterable[Worked]) -> None:
        """Takes in what the workers of a job said; of each the last word counts."""
        at_work = dict[str, float]()
        for one in told:
            at_work[one.worker] = max(one.at_work_s, at_work.get(one.worker, 0.0))
            self._mb = max(self._mb, one.worker_mb)
        self._workers.update(at_work)
        self._busiest_s += max((s - self._before.get(name, 0.0) for name, s in at_work.items()), default=0.0)
        self._before.update(at_work)

    def of_stage(self, seconds: float) -> Workers:
        """What is known of a stage that took so many seconds."""
        return Workers(round(max(seconds - self._busiest_s, 0.0), 2), len(self._workers), round(self._mb, 1))


heard = Heard()


def words(workers: Workers, seconds: float) -> str:
    """The last line of a stage on an engine, behind the stage's name."""
    of_each = f"worker processes: {workers.workers}, at most {workers.worker_mb:,.0f} MB each"
    return f"engine {workers.engine_s:.1f} of the whole stage's {seconds:.1f} s; {of_each}"
