"""What goes wrong with a store or a disk, and at which call: said in the environment, so that every process of a build gets it.

    STORE_LOG     file to which each call appends a line: when it began, process, call, what became of it, its place, its path
    STORE_SEED    which calls the shares below hit
    STORE_ROOT    directory whose first-level names are the places in which calls are counted (raw, plan, run.json, ...)
    STORE_COUNTS  folder in which all processes count together; without it each counts for itself
    STORE_FAULTS  what happens at which call: "plan:12:kill raw:3:full" is the 12th call in plan/, the third in raw/
    STORE_DRIVER  number of the process that the faults `driver`, `freeze`, `term` and `child` are for
    STORE_HOLD    seconds for which `hold` holds a call

The faults of a schedule, each at one call of one process:

    kill     SIGKILL of the process that calls, before the call is done
    after    the same, once it is done
    torn     the call is done in part, then SIGKILL: of a file that is written the beginning is there
    driver   SIGKILL of the driver, whoever calls
    child    SIGKILL of one process below the driver
    term     SIGTERM to the driver
    freeze   SIGSTOP of the driver
    hold     the call takes long
    full     from here on nothing can be written: errno 28
    away     from here on no call is answered
    silent   from here on no lease is renewed
    clock=S  from here on the store's clock is S seconds off

The schedule is fixed; which call is the n-th of its place is up to threads and processes where several are at work.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

WRITES = ("put", "create", "copy")


class Away(ConnectionResetError):
    """A store that does not answer."""


def setting(name: str, usual: float = 0.0) -> float:
    """A number of the environment."""
    return float(os.environ.get(f"STORE_{name}") or usual)


def fraction(text: str) -> float:
    """A number from 0 to 1 that the text decides."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") / 2**32


class _Here(threading.local):
    inside = False


_here = _Here()
_counts: Counter[str] = Counter()


@contextlib.contextmanager
def one_call() -> Iterator[bool]:
    """Whether this is a call of its own: what a call does inside is its own business."""
    if _here.inside:
        yield False
        return
    _here.inside = True
    try:
        yield True
    finally:
        _here.inside = False


@dataclass(frozen=True, slots=True)
class Call:
    """An operation on a file, and which it is of its place."""

    name: str
    path: str
    place: str
    number: int
    began: int = field(default_factory=time.monotonic_ns)

    def draw(self, what: str) -> float:
        """A number from 0 to 1: the same for the same call of every run."""
        where = self.place if os.environ.get("STORE_COUNTS") else f"{os.getpid()}"
        return fraction(f"{os.environ.get('STORE_SEED', '')} {what} {where} {self.number}")

    def hits(self, share: str) -> bool:
        """Whether it is among that share of calls."""
        return self.number > 0 and self.draw(share) < setting(share)

    @property
    def faults(self) -> list[str]:
        """What the schedule has for it."""
        scheduled = (one.split(":") for one in os.environ.get("STORE_FAULTS", "").split())
        return [fault for place, number, fault in scheduled if (place, int(number)) == (self.place, self.number)]


OF_AN_ATTEMPT = re.compile(r"\.\d+\.[0-9a-f]{8}\.tmp$")  # what a name has that is not yet in its place


def place_of(path: str) -> str:
    """The first-level name below STORE_ROOT; empty where that is not said."""
    root = os.environ.get("STORE_ROOT", "").rstrip("/") + "/"
    first = path.removeprefix(root).partition("/")[0] if root != "/" and path.startswith(root) else ""
    return OF_AN_ATTEMPT.sub("", first)


def counted(name: str, path: str) -> Call:
    """The call, with its number."""
    place = place_of(path)
    if folder := os.environ.get("STORE_COUNTS"):
        return Call(name, path, place, _append(f"{folder}/{place or '-'}.calls"))
    _counts[place] += 1
    return Call(name, path, place, _counts[place])


def _append(path: str) -> int:
    """How many bytes the file has, once one more is written: all processes count by it."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(fd, b".")
        return os.lseek(fd, 0, os.SEEK_CUR)
    finally:
        os.close(fd)


def log(call: Call, what: str) -> None:
    """Appends to STORE_LOG what became of a call."""
    if path := os.environ.get("STORE_LOG"):
        line = f"{call.began}\t{os.getpid()}\t{call.name}\t{what}\t{call.place}\t{call.path}\n".encode()
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(fd, line)
        os.close(fd)


def before(call: Call) -> None:
    """What the schedule has for a call before it is done. May not return, or raise."""
    for fault in call.faults:
        kind, _, value = fault.partition("=")
        if kind not in ("after", "torn"):
            log(call, kind)
            STRUCK[kind]() if kind in STRUCK else _last(kind, value)
    if (lasting := _lasting(call)) is not None:
        log(call, "refused")
        raise OSError(errno.ENOSPC, "No space left on device", call.path) if lasting == "full" else Away(104, "away")


def after(call: Call) -> None:
    """What the schedule has for a call once it is done."""
    if "after" in call.faults:
        log(call, "after")
        die()


def is_torn(call: Call) -> bool:
    """Whether the call is done in part only; who asks does that, and then dies."""
    if "torn" in call.faults:
        log(call, "torn")
        return True
    return False


def die() -> None:
    """SIGKILL of this process."""
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)  # until it arrives


def _signal_driver(number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(int(setting("DRIVER")), number)


PYTHONS_OWN = (
    "resource_tracker"  # a process of multiprocessing's, whose successor prints tracebacks of what it never knew
)


def _kill_child() -> None:
    import psutil

    with contextlib.suppress(psutil.Error):
        children = psutil.Process(int(setting("DRIVER"))).children(recursive=True)
        children = [child for child in children if not any(PYTHONS_OWN in word for word in child.cmdline())]
        children.sort(key=lambda child: child.cmdline())  # by their work, as far as that tells them apart
        if children:
            children[int(fraction(os.environ.get("STORE_SEED", "")) * len(children))].kill()


STRUCK = {
    "kill": die,
    "driver": lambda: _signal_driver(signal.SIGKILL),
    "term": lambda: _signal_driver(signal.SIGTERM),
    "freeze": lambda: _signal_driver(signal.SIGSTOP),
    "child": _kill_child,
    "hold": lambda: time.sleep(setting("HOLD", 1.0)),
}


def _last(kind: str, value: str) -> None:
    """Begins what lasts: a file in STORE_COUNTS tells every process."""
    with open(f"{os.environ['STORE_COUNTS']}/{kind}", "w", encoding="utf-8") as file:
        file.write(value)


def _lasting(call: Call) -> str | None:
    folder = os.environ.get("STORE_COUNTS")
    if not folder:
        return None
    if os.path.exists(f"{folder}/away"):
        return "away"
    if call.name in (*WRITES, "make") and os.path.exists(f"{folder}/full"):
        return "full"
    renews = call.place == "_lease" and call.name == "put" and call.path.endswith(".json")
    return "silent" if renews and os.path.exists(f"{folder}/silent") else None


def clock_s() -> float:
    """By how many seconds the store's clock is off."""
    try:
        with open(f"{os.environ['STORE_COUNTS']}/clock", encoding="utf-8") as file:
            return setting("CLOCK") + float(file.read() or 0)
    except (KeyError, FileNotFoundError):
        return setting("CLOCK")


# A disk of this machine: the calls are what Python tells its audit hooks before it does them.

MADE = os.O_CREAT | os.O_TRUNC | os.O_APPEND
EVENTS = {"open": "put", "os.rename": "move", "os.link": "create", "os.remove": "remove", "os.rmdir": "remove"}
EVENTS |= {"os.mkdir": "make"}
UNCOUNTED = (".lock", "places", "spool", ".log")  # of a machine, not of a set; and what is written without end


def watch_disk() -> None:
    """From now on what this process writes and removes under STORE_ROOT are calls."""
    sys.addaudithook(_heard)


def _heard(event: str, given: tuple[Any, ...]) -> None:
    if event in EVENTS and not _here.inside and (path := _written(event, given)):
        with one_call():
            call = counted(EVENTS[event], path)
            before(call)
            if is_torn(call):
                _tear(event, path)
            log(call, "done")


def _tear(event: str, path: str) -> None:
    """Leaves the beginning of a file that was to be written, and dies."""
    if event == "open":
        with open(path, "wb") as file:
            file.write(b"torn")
    die()


def _written(event: str, given: tuple[Any, ...]) -> str | None:
    """The path that is written or removed; None where that is not under STORE_ROOT, or where it is only read."""
    path, root = given[event in ("os.rename", "os.link")], os.environ.get("STORE_ROOT", "").rstrip("/") + "/"
    if not isinstance(path, str | os.PathLike) or (event == "open" and not (given[2] or 0) & MADE):
        return None
    if event in ("os.remove", "os.rmdir") and given[1] >= 0:  # relative to an open directory, as shutil.rmtree does it
        path = os.path.join(os.readlink(f"/proc/self/fd/{given[1]}"), path)
    path = os.path.abspath(path)
    return path if path.startswith(root) and not path.endswith(UNCOUNTED) else None
