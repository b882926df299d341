"""Peak memory of the whole process tree, sampled."""

from __future__ import annotations

import ctypes
import threading
import time
from types import TracebackType

import psutil

EVERY_S = 0.5  # at most
SHARE = 0.02  # of the time, at most, is spent on samples: the kernel walks all pages of a process, 17 ms a GB
M_ARENA_MAX = -8  # mallopt(3)


def few_arenas() -> None:
    """Limits this process to two malloc arenas. With an arena for each thread glibc keeps the memory that each of the engine's
    threads once held (measured on the demonstration build: 540 MB in place of 1,030 MB)."""
    try:
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 2)
    except (OSError, AttributeError):  # not glibc: nothing to tune
        return


def tree_megabytes() -> float:
    """Proportional set size, in MB, of this process and all below it: shared pages count once. Resident size where the system
    does not tell (not Linux)."""
    total = 0
    me = psutil.Process()
    for process in [me, *me.children(recursive=True)]:
        try:
            info = process.memory_full_info()
        except psutil.Error:
            continue
        total += getattr(info, "pss", info.rss)
    return total / 1e6


class PeakMemory:
    """`megabytes` is the highest sample since the block was entered."""

    def __init__(self) -> None:
        self.megabytes = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def since_asked(self) -> float:
        """The highest sample, in MB, since this was asked last; 0 where there is none."""
        highest, self.megabytes = self.megabytes, 0.0
        return highest

    def _sample(self) -> None:
        pause = EVERY_S
        while not self._stop.wait(pause):
            began = time.monotonic()
            self.megabytes = max(self.megabytes, round(tree_megabytes(), 1))
            pause = max(EVERY_S, (time.monotonic() - began) / SHARE)

    def __enter__(self) -> PeakMemory:
        self.megabytes = round(tree_megabytes(), 1)  # a block shorter than EVERY_S has a peak too
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
