"""How a command of the trainer ends: its exit code and one sentence.

0 done; 1 a bug; 2 bad input, nothing was touched; 3 stopped: start it again to go on. The same as those of pipelines.build.
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
    """Does the work; the exit code, after one sentence on standard error where it is not 0. `again` is the command that goes
    on. What is a bug is raised."""
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
    print(sentence, file=sys.stderr)
    return code


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does, by KeyboardInterrupt."""

    def stop(number: int, _: object) -> None:
        raise KeyboardInterrupt(NAMES[signal.Signals(number)])

    with handled(stop, *NAMES):
        yield


@dataclass
class Asked:
    """Ctrl-C or SIGTERM, once it came."""

    by: str = ""
    at_s: float = 0


@contextlib.contextmanager
def asked() -> Iterator[Asked]:
    """While the block runs Ctrl-C and SIGTERM are a wish to stop that the block heeds when it can; a second Ctrl-C ends this
    process at once."""
    request = Asked()

    def note(number: int, _: object) -> None:
        # Torchrun says each once more.
        if request.by and number == signal.SIGINT and time.monotonic() - request.at_s > 1:
            os._exit(3)
        if not request.by:
            request.by, request.at_s = NAMES[signal.Signals(number)], time.monotonic()

    with handled(note, *NAMES):
        yield request
