"""How a command ends: with an exit code, one sentence, and no process left running.

0 a set with samples; 1 a bug, or problems that verify found; 2 bad input, nothing was touched; 3 stopped, start it again to go
on; 4 finished, and nothing was kept.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any, TextIO

import psutil

from wit import early, workers
from wit.early import NAMES, handled
from wit.errors import InputError, Stopped
from wit.store.refusals import refusal


class Interrupted(Exception):
    """The command was told to end; the text is "Ctrl-C" or "SIGTERM"."""


class _MainThreadOnly:
    """Standard error for the main thread alone: an engine's threads print tracebacks when they are ended."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        if threading.current_thread() is threading.main_thread():
            return self._stream.write(text)
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """While the block runs, Ctrl-C and SIGTERM end every process below this one and raise Interrupted, even if an engine turns
    the exception into another on its way. A second signal ends this process at once."""
    asked: list[str] = []

    def stop(number: int, _: object) -> None:
        if asked:
            os._exit(3)
        asked.append(NAMES[signal.Signals(number)])
        logging.disable(logging.CRITICAL)  # threads log that they end, which helps nobody
        threading.excepthook = lambda _: None
        warnings.simplefilter("ignore")  # the resource tracker warns when it is ended
        sys.stderr = _MainThreadOnly(sys.stderr)  # type: ignore[assignment]
        workers.give_up()
        end_children()
        raise KeyboardInterrupt

    with handled(stop, *NAMES):
        try:
            yield
        except BaseException as error:
            if asked:
                raise Interrupted(asked[0]) from error
            raise


def code_of(work: Callable[[], int]) -> int:
    """The exit code of a command that only reads, or writes one file. It is what `work` returns; where the input is bad or the
    system refuses something, this prints one sentence and returns 2."""
    try:
        return work()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
    except Stopped as error:
        print(f"stopped: {error}", file=sys.stderr)
        return 3
    except OSError as error:  # also of a store's client, which may say it without a number
        print(f"error: {refusal(error) or error}", file=sys.stderr)
    return 2


def end_children() -> None:
    """Ends every process below this one."""
    children = psutil.Process().children(recursive=True)
    for child in children:
        with contextlib.suppress(psutil.Error):
            child.kill()
    psutil.wait_procs(children, timeout=5)


def leave(code: int) -> None:
    """Ends this process with the exit code; everything has been printed by now. A stopped job (3) does not wait for the threads
    that were at work on it."""
    if code == 3:
        sys.stdout.flush()
        sys.stderr.flush()
        end_children()
        os._exit(code)
    early.leave(code)
