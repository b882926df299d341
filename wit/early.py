"""Ctrl-C and SIGTERM while a command still imports what it needs, which takes seconds: one sentence and exit code 3.

A command calls `listen` before its imports. `pipelines.ending` and `trainer.ending` can say more, and set handlers of their own
later on. Nothing but the standard library is imported here.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}


def listen(state: str = "") -> None:
    """From now on both signals end this process with exit code 3 and "stopped: by ..."; `state` says how much was done."""

    def stop(number: int, _: object) -> None:
        if os.environ.get("RANK", "0") == "0":  # torchrun's processes all get the signal
            os.write(2, f"stopped: by {NAMES[signal.Signals(number)]}{state}\n".encode())
        os._exit(3)

    for number in NAMES:
        signal.signal(number, stop)


@contextlib.contextmanager
def handled(handler: Callable[[int, Any], None], *signals: signal.Signals) -> Iterator[None]:
    """While the block runs these signals go to the handler. Only the main thread may set handlers: in any other this does
    nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in signals}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def leave(code: int) -> NoReturn:
    """Ends this process with this exit code, even if a signal comes now. Everything has been printed by then."""
    for number in NAMES:
        signal.signal(number, signal.SIG_IGN)
    sys.exit(code)
