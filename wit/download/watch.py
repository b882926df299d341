"""Whether a download that runs on an engine is to end: its worker hears no signal, so it asks the store now and then."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from types import TracebackType

ASKED_EVERY_S = 5.0


class Watch:
    """A function that says whether one of these has said yes. They are asked at the beginning of the block, and then by a thread;
    one that fails is asked again the next time."""

    def __init__(self, *asks: Callable[[], bool]) -> None:
        self._asks, self._over, self._done = asks, threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __call__(self) -> bool:
        return self._over.is_set()

    def __enter__(self) -> Watch:
        self._ask()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.is_set() and not self._done.wait(ASKED_EVERY_S):
            self._ask()

    def _ask(self) -> None:
        with contextlib.suppress(Exception):  # clients of stores share no class of errors
            if any(ask() for ask in self._asks):
                self._over.set()
