"""How a command of the trainer ends: its exit code and one sentence.

0 done; 1 a bug; 2 bad input, nothing was touched; 3 stopped: start it again to go on. The same as those of pipelines.build.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator

from wit import storage
from wit.records import InputError, Stopped

NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}


def code_of(work: Callable[[], None], *, again: str) -> int:
    """Does the work; the exit code, after one sentence on standard error where it is not 0. `again` is the command that goes
    on. What is a bug is raised."""
    try:
        with interruptible():
            work()
    except InputError as error:
        return said(f"error: {error}", 2)
    except Stopped as error:
        return said(f"stopped: {error}", 3)
    except KeyboardInterrupt as error:
        return said(f"stopped: by {error or NAMES[signal.SIGINT]}; to go on: {again}", 3)
    except OSError as error:
        if (refused := storage.refusal(error)) is None:
            raise
        return said(f"stopped: {refused}, then start it again: {again}", 3)
    return 0


def said(sentence: str, code: int) -> int:
    print(sentence, file=sys.stderr)
    return code


@contextlib.contextmanager
def handled(handler: Callable[[int, object], None], *signals: signal.Signals) -> Iterator[None]:
    """While the block runs these signals go to the handler, in the main thread, which is the only one that may ask for it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in signals}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does, by KeyboardInterrupt."""

    def stop(number: int, _: object) -> None:
        raise KeyboardInterrupt(NAMES[signal.Signals(number)])

    with handled(stop, *NAMES):
        yield
