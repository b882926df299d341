"""Starts of a build, each in a process that is forked from one that has imported everything: to the build it is a fresh one."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import tempfile
import time
import traceback
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import faults
import stores

from tests.simulate.schedule import LEASE_S

ROOT = Path(__file__).parents[2]
GIVEN_UP_S = 60.0  # a start that takes longer hangs
SITECUSTOMIZE = """
import os
from wit.store import patience
patience.FIRST_PAUSE_S = 0.002
if os.environ.get("STORE_DISK"):
    import faults
    faults.watch_disk()
"""


@dataclass(frozen=True)
class Place:
    """Where one build is simulated: OUT is `folder`/set, on a disk or in a store."""

    folder: Path
    store: str

    @property
    def root(self) -> Path:
        """OUT as a directory of this machine."""
        return self.folder / "set"

    @property
    def out(self) -> str:
        """OUT as the build gets it."""
        return str(self.root) if self.store == "disk" else f"other://{self.root}"

    @property
    def temporary(self) -> Path:
        """The temporary directory of the build's processes."""
        return self.folder / "tmp"

    def environment(self, name: str) -> dict[str, str]:
        """What every process of a start of that name gets: a log of its own, and counts of its own."""
        counts = self.folder / f"{name}.counts"
        counts.mkdir(parents=True)
        self.temporary.mkdir(exist_ok=True)
        return {
            "PYTHONPATH": os.pathsep.join([str(self.folder / "site"), str(ROOT)]),
            "TMPDIR": str(self.temporary),
            "STORE_ROOT": str(self.root),
            "STORE_COUNTS": str(counts),
            "STORE_LOG": str(self.folder / f"{name}.log"),
            "STORE_DISK": "1" if self.store == "disk" else "",
        }


def make_site(folder: Path) -> None:
    """The directory on the path of every process of a build."""
    site = stores.install(folder / "site")
    (site / "sitecustomize.py").write_text(SITECUSTOMIZE, encoding="utf-8")


class Start:
    """A process that was started and may still run."""

    def __init__(self, work: Callable[[], int], environment: Mapping[str, str], output: Path) -> None:
        self.log, self.counts, self.output = (
            Path(environment["STORE_LOG"]),
            Path(environment["STORE_COUNTS"]),
            output,
        )
        self.code: int | None = None
        self.stopped = False
        output.touch()  # here: what the last start left at the web may have this one killed at once
        self.process = os.fork()
        if not self.process:
            _become_fresh(work, environment, output)

    def look(self) -> bool:
        """Whether it has ended. Takes note of a process that was stopped."""
        if self.code is None:
            process, status = os.waitpid(self.process, os.WNOHANG | os.WUNTRACED)
            if process and os.WIFSTOPPED(status):
                self.stopped = True
            elif process:
                self.code = os.waitstatus_to_exitcode(status)
        return self.code is not None

    def wait(self, until: Callable[[], bool] = lambda: False) -> None:
        """Returns when it has ended, or when `until` says so. Kills and blames one that hangs."""
        deadline = time.monotonic() + GIVEN_UP_S
        while not self.look() and not until():
            if time.monotonic() > deadline:
                os.kill(self.process, signal.SIGKILL)
                raise AssertionError(f"a start hung:\n{self.said}")
            time.sleep(0.005)

    def go_on(self) -> None:
        """SIGCONT."""
        self.stopped = False
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process, signal.SIGCONT)

    @property
    def said(self) -> str:
        """What it printed."""
        return self.output.read_text(encoding="utf-8", errors="replace")

    def has_called(self, at: str) -> bool:
        """Whether "place:number" was called."""
        place, number = at.split(":")
        with contextlib.suppress(FileNotFoundError):
            return os.path.getsize(self.counts / f"{place}.calls") >= int(number)
        return False

    @property
    def struck(self) -> list[tuple[str, str]]:
        """(fault, stage) of everything that went wrong in it."""
        stage, every = "start", []
        for line in stores.lines(self.log):
            stage = stage_of(line.place, line.path) or stage
            if line.what not in ("done", "refused"):
                every.append((line.what, stage))
        return every

    @property
    def built(self) -> list[stores.Line]:
        """What it wrote or removed itself while it had OUT to itself: everything but how it got there."""
        calls = (line for line in stores.lines(self.log) if line.process == self.process and line.what == "done")
        return [line for line in calls if line.call in CHANGES and line.place not in HOLDS]


CHANGES = ("put", "create", "copy", "remove", "move", "make")
HOLDS = ("_lease", ".lock")
STAGES = {"candidates": "candidates", "plan": "plan", "raw": "download", "web": "download", "select": "select"}
STAGES |= {"shards": "publish", "_shards": "publish", "ledger": "report", "report": "report", "ledger.json": "report"}
STAGES |= {"README.md": "report", "croissant.json": "report", "_lease": "start", ".lock": "start"}


def stage_of(place: str, path: str) -> str | None:
    """The stage that a path is of; None where it may be any: then it is that of the call before."""
    if place == "dropped" and not path.endswith("dropped"):
        return path.rpartition("/")[2].partition("-")[0]
    return STAGES.get(place)


def build(arguments: Sequence[str]) -> int:
    """A build, as `python -m pipelines.build` runs it."""
    from wit import early

    early.listen(", before anything was done")
    from pipelines.build import main
    from pipelines.ending import leave

    leave(main(arguments))


def _become_fresh(work: Callable[[], int], environment: Mapping[str, str], output: Path) -> None:
    """Ends this process with what the work returns, whatever it does; it was just forked."""
    code = 99
    try:
        _settle(environment, output)
        code = work()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 98
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _settle(environment: Mapping[str, str], output: Path) -> None:
    """What a process has that a shell starts: its own output, environment and handlers of signals."""
    with open(output, "wb") as out:
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
    sys.stdout, sys.stderr = (os.fdopen(fd, "w", encoding="utf-8", buffering=1, closefd=False) for fd in (1, 2))
    for name in [name for name in os.environ if name.startswith("STORE_")]:
        del os.environ[name]
    os.environ.update(environment)
    os.environ["STORE_DRIVER"] = str(os.getpid())
    tempfile.tempdir = None
    sys.path.insert(0, environment["PYTHONPATH"].partition(os.pathsep)[0])
    sys.modules["__main__"] = types.ModuleType("__main__")  # or spawned workers would import this command
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    _hurry()


def _hurry() -> None:
    """Leases run out sooner, and pauses are shorter, than in a real build."""
    import fsspec

    from wit.store import lease, patience

    lease.LEASE_S, patience.FIRST_PAUSE_S = LEASE_S, 0.002
    if os.environ["STORE_DISK"]:
        faults.watch_disk()
    else:
        fsspec.register_implementation("other", stores.OtherStore, clobber=True)


def tell_web(path: Path, environment: Mapping[str, str], driver: int) -> None:
    """Lets the web know which start is under way."""
    later = path.with_suffix(".new")
    told = {"STORE_FAULTS": "", **environment, "STORE_DRIVER": f"{driver}"}
    later.write_text(json.dumps(told), encoding="utf-8")
    later.replace(path)
