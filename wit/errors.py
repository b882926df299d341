"""All errors that cut a command short, on one screen. Imports nothing, for the fetch engine's processes."""

from __future__ import annotations


class InputError(Exception):
    """Bad input from the user: one sentence that names the fix. Command lines print it and exit with 2."""


class DamagedFile(InputError):
    """A file that a build wrote has changed: one sentence that names the file and what mends it."""

    what = ""  # what is wrong with the file


class Busy(RuntimeError):
    """Another build is at work in the same directory. Command lines print it and exit with 2."""


class Stopped(Exception):
    """The build ended before its end: one sentence that says what to do. Command lines print it and exit with 3."""


class Drained(Stopped):
    """The download was asked to stop, and did so cleanly."""


class StoreAway(Stopped):
    """A store failed every time it was asked, for a reason that may pass."""


class WorkLost(Stopped):
    """Rows that a pass is to read were removed, since they were read before; but what was made of them is gone."""


class JobFailed(Stopped):
    """A job on an engine elsewhere ended in any state but DONE, for a reason that is none of ours: `cause`, in a line. `taken`
    says whether the engine had taken it; else no worker has seen it."""

    def __init__(self, words: str, cause: str = "", taken: bool = False) -> None:
        super().__init__(words)
        self.cause, self.taken = cause, taken


class OutageError(RuntimeError):
    """This machine's network seems to be away: nothing was published as lost. Start the build again when it is back. Command
    lines print it and exit with 3."""


class EngineError(RuntimeError):
    """A child process of the fetch engine dies again and again: a bug or a broken installation, not the web."""


class WorkerLost(RuntimeError):
    """A unit of work ended its worker process every time it was tried."""
