"""How a command of the trainer ends: with an exit code and one sentence.

0 done; 1 a bug; 2 bad input, nothing was touched; 3 stopped: start it again to go on. The codes are those of pipelines.build.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from wit.early import NAMES, handled
from wit.records import InputError, Stopped
from wit.store import refusals


class Elsewhere(Exception):
    """Another rank ended the run, and says why; `code` is the exit code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def code_of(work: Callable[[], None], *, again: str) -> int:
    """Does the work and returns the exit code; where that is not 0, one sentence goes to standard error first. `again` is the
    command to go on with. An exception that is a bug is raised."""
    try:
        with interruptible():
            work()
    except InputError as error:
        return say(f"error: {error}", 2)
    except Stopped as error:
        return say(f"stopped: {error}", 3)
    except Elsewhere as error:
        return error.code
    except KeyboardInterrupt as error:
        sentence = f"stopped: by {error or NAMES[signal.SIGINT]}; to go on: {again}"
        return say(sentence, 3) if os.environ.get("RANK", "0") == "0" else 3  # all ranks get the signal
    except OSError as error:
        if (refused := refusals.refusal(error)) is None:
            raise
        return say(f"stopped: {refused}, then start it again: {again}", 3)
    return 0


def say(sentence: str, code: int) -> int:
    """Prints the sentence to standard error; returns the exit code."""
    print(sentence, file=sys.stderr)
    return code


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """While the block runs, SIGTERM raises KeyboardInterrupt in it, as Ctrl-C does."""

    def stop(number: int, _: object) -> None:
        raise KeyboardInterrupt(NAMES[signal.Signals(number)])

    with handled(stop, *NAMES):
        yield


@dataclass
class Asked:
    """The signal that asked to stop, by name, and when it came (monotonic seconds); `by` is empty until then."""

    by: str = ""
    at_s: float = 0


@contextlib.contextmanager
def asked() -> Iterator[Asked]:
    """While the block runs, Ctrl-C and SIGTERM are only noted; the block stops when it can. A second Ctrl-C ends this process at
    once."""
    request = Asked()

    def note(number: int, _: object) -> None:
        # torchrun passes each signal on, so it comes twice.
        if request.by and number == signal.SIGINT and time.monotonic() - request.at_s > 1:
            os._exit(3)
        if not request.by:
            request.by, request.at_s = NAMES[signal.Signals(number)], time.monotonic()

    with handled(note, *NAMES):
        yield request
