"""Files of a source as local streams: remote ones are fetched whole, one request each, retried and paced."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, TypeVar

from wit.layout import TURNS, under
from wit.sources.batch import SourceReport
from wit.store import fs, web
from wit.store.scratch import scratch_dir
from wit.store.turns import turn

T = TypeVar("T")
# Asking again is of no use.
MISSING = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, web.Refused)
MOST_PATIENCE_S = 600.0  # that a server is given where it asks for some


@dataclass(frozen=True, slots=True)
class RequestBudget:
    """How often files of a source are requested. Every worker takes an equal share of the job's budget, so workers need not talk
    to one another to keep it. Where nobody knows how many there are, each claims one of the shares while it fetches a file."""

    requests_per_s: float = 2.0
    workers: int = 1
    attempts: int = 6
    backoff_s: float = 2.0  # before the second attempt; doubled before each further one
    shares_in: str = ""
    """OUT, under which the shares are claimed; empty where there are as many workers as shares."""

    def interval_s(self) -> float:
        return self.workers / self.requests_per_s


class _Pace:
    """When this process may ask again. The clock decides only when a file is read, never what comes of it."""

    next_s = 0.0
    lock = threading.Lock()

    @classmethod
    def wait(cls, interval_s: float) -> None:
        """Waits for this process's turn to ask; the next one is `interval_s` later."""
        with cls.lock:
            now = time.monotonic()
            start = max(now, cls.next_s)
            cls.next_s = start + interval_s
        time.sleep(start - now)

    @classmethod
    def rest(cls) -> None:
        """Waits until this process might ask again."""
        with cls.lock:
            left = cls.next_s - time.monotonic()
        time.sleep(max(left, 0.0))


class _Share:
    """The share of the budget that this process holds while any of its threads fetches a file: they keep one pace together. It is
    kept until its next request is due, since a worker that takes it over knows nothing of the last one. Of one that died a mark
    is left: then nothing is asked before an interval is over."""

    lock = threading.Lock()
    users = 0
    held = contextlib.ExitStack()

    @classmethod
    @contextlib.contextmanager
    def claimed(cls, budget: RequestBudget) -> Iterator[None]:
        """Holds a share for the block, where shares are claimed."""
        if not budget.shares_in:
            yield
            return
        with cls.lock:
            if not cls.users:
                cls._claim(budget)
            cls.users += 1
        try:
            yield
        finally:
            with cls.lock:
                cls.users -= 1
                if not cls.users:
                    cls.held.close()

    @classmethod
    def _claim(cls, budget: RequestBudget) -> None:
        """Everything that is to be undone, the last first, goes on the stack."""
        out, names = budget.shares_in, [f"source-{number:05d}" for number in range(budget.workers)]
        with contextlib.ExitStack() as stack:
            mark = under(out, TURNS, f"{stack.enter_context(turn(out, *names)).name}.asked")
            if fs.exists(mark):
                time.sleep(budget.interval_s())
            fs.write_bytes(mark, b"")
            stack.callback(fs.remove, mark)
            stack.callback(_Pace.rest)
            cls.held = stack.pop_all()


def with_retries(action: Callable[[], T], budget: RequestBudget) -> T:
    """What the action returns; tried again after OSError, with growing pauses, as often as the budget allows."""
    for attempt in range(1, budget.attempts):
        _Pace.wait(budget.interval_s())
        try:
            return action()
        except MISSING:
            raise
        except OSError as error:
            asked = error.after_s if isinstance(error, web.Later) else 0.0
            time.sleep(max(budget.backoff_s * 2 ** (attempt - 1), min(asked, MOST_PATIENCE_S)))
    _Pace.wait(budget.interval_s())
    return action()


@contextlib.contextmanager
def open_source(path: str, report: SourceReport, budget: RequestBudget | None = None) -> Iterator[IO[bytes]]:
    """The file as a local binary stream. Raises OSError if it cannot be read or fetched."""
    if fs.is_local(path):
        with fs.open_read(path) as stream:
            yield stream
        return
    with scratch_dir(path) as folder:
        local = fs.join(folder, "file")
        fetch = web.Download(path, local).go_on if web.is_web(path) else lambda: fs.download(path, local)
        paced = budget or RequestBudget()
        with _Share.claimed(paced):
            with_retries(fetch, paced)
        with fs.open_read(local) as stream:
            yield stream
