"""CPU work in processes that we own: a worker killed by the kernel costs a retry, never the job.

Beam's `multi_processing` waits for ever for a worker that was killed (measured: more than 310 s); a process pool here notices
at once. Units of work are idempotent, so a unit that was cut off simply runs again.
"""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, ParamSpec, TypeVar

from wit import notes
from wit.errors import WorkerLost
from wit.store import patience

P = ParamSpec("P")
T = TypeVar("T")

ATTEMPTS = 4  # a unit that kills this many workers would kill every worker


def _end_with_parent() -> None:
    """Ends this worker when its owner process is gone, however that ended. Ctrl-C does not end it: the owner hears of that."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    notes.blame_nobody_on_sigterm()
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def _unborn_deaf() -> Iterator[None]:
    """Processes that this thread starts in the block do not hear of Ctrl-C, which goes to every process of a terminal: it would
    end them with a traceback before `_end_with_parent` runs."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _counting(work: Callable[[], T]) -> tuple[T, dict[str, int]]:
    """What the work returns, and what this worker asked of stores again: its owner adds that up."""
    return work(), patience.counted()


class Pool:
    """Worker processes, each its own executor: one that dies ends no other's work, and whose work killed it is never in doubt.

    The threads of one process share it; a thread waits for an idle worker.
    """

    def __init__(self, processes: int) -> None:
        # The last one used first: its models and queries are loaded.
        self._idle: queue.LifoQueue[_Worker] = queue.LifoQueue()
        self._workers = [_Worker() for _ in range(processes)]
        for worker in reversed(self._workers):
            self._idle.put(worker)

    def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`work(*args)` in a worker, tried again in a fresh one if the worker died. Raises WorkerLost after ATTEMPTS deaths."""
        task = functools.partial(_counting, functools.partial(work, *args, **kwargs))
        worker = self._idle.get()
        try:
            for _ in range(ATTEMPTS):
                future = worker.begin(task)
                try:
                    result, asked_again = future.result()
                except BrokenProcessPool:
                    worker.end()
                else:
                    patience.count(asked_again)
                    return result
        finally:
            self._idle.put(worker)
        name = getattr(work, "__name__", repr(work))
        raise WorkerLost(f"{name} ended its worker process {ATTEMPTS} times: out of memory? Try fewer --workers")

    def close(self) -> None:
        for worker in self._workers:
            worker.end()


class _Worker:
    """One process, started when work first asks for it and after it died."""

    def __init__(self) -> None:
        self._executor: ProcessPoolExecutor | None = None

    def begin(self, work: Callable[[], T]) -> Future[T]:
        """The work, handed to the process. A process that had ended before, idle, is no death of this work's."""
        while True:
            executor = self._started()
            try:
                with _unborn_deaf():
                    return executor.submit(work)
            except BrokenProcessPool:
                self.end()
            except OSError as error:
                if error.errno is not None:
                    raise
                self.end()  # "handle is closed": it died while it was started

    def _started(self) -> ProcessPoolExecutor:
        if _given_up.is_set():
            raise WorkerLost("this process is ending")
        if self._executor is None:
            self._executor = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _end_with_parent)
        return self._executor

    def end(self) -> None:
        executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown()


_given_up = threading.Event()


def give_up() -> None:
    """From now on no worker is started: this process is about to end."""
    _given_up.set()


_pools: dict[int, Pool] = {}
_pools_lock = threading.Lock()


def pool(processes: int) -> Pool:
    """The pool of that size of this process, made at first use."""
    with _pools_lock:
        return _pools.setdefault(processes, Pool(processes))


def close_pools() -> None:
    """Ends all workers of this process and frees their memory."""
    with _pools_lock:
        for one in _pools.values():
            one.close()
        _pools.clear()


def run(processes: int, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """`work(*args)` in one of `processes` workers; in this process where that is 0, since the engine brings its own."""
    return pool(processes).run(work, *args, **kwargs) if processes else work(*args, **kwargs)


@contextlib.contextmanager
def closing_pools() -> Any:
    try:
        yield
    finally:
        close_pools()
