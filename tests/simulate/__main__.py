"""Builds through kills, torn writes, 503s, lost leases, wrong clocks and full disks: `make simulate`.

    python -m tests.simulate [--seeds 40] [--first 0] [--jobs CORES] [--keep FOLDER]

Each seed draws a schedule of faults, starts one small build again and again through them, and then once more without. The set
must be, to the byte, what a calm build makes; nothing else may be left; no two builders may have been at work at once. Faults
are fixed by the seed, by place and number of a call; which call is the n-th is up to threads where several are at work.
Prints each seed that went wrong with the command that plays it again, and a table of what struck where; exits with 1 then.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import importlib
import itertools
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1]))

import stores

from tests.simulate import schedule, starts, whole
from tests.simulate.schedule import LEASE_S, Schedule
from tests.simulate.starts import Place, Start
from tests.simulate.web import settings, web, write_sources

SILENT = {"short", "put in part", "child", "hold", "failed before", "failed after"}  # what alone ends no start
CALM_STARTS = 3  # within which a build without faults has to end
BUILD_SEED = "7"
PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
Calls = dict[str, dict[str, int]]


@dataclass
class Played:
    """What came of a seed: sentences where something is wrong; how often a builder went on that had lost its lease; what
    struck in which stage; how starts ended."""

    seed: int
    problems: list[str] = field(default_factory=list)
    overlaps: int = 0
    struck: Counter[tuple[str, str]] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)


class Simulation:
    """One build of one web, started as its schedule says."""

    def __init__(self, place: Place, plan: Schedule, inputs: list[str]) -> None:
        self.place, self.plan, self.inputs = place, plan, inputs
        self.result = Played(plan.seed)
        self.web_file = place.folder / "web.json"
        self.begun: list[Start] = []

    def play(self) -> None:
        """Starts the build through all of the schedule and then until it ends well."""
        starts.make_site(self.place.folder)
        with web(self.web_file) as port:
            config = self.place.folder / "build.toml"
            config.write_text(settings(port), encoding="utf-8")
            flags = [
                "--contact",
                "test@example.org",
                "--seed",
                BUILD_SEED,
                "--workers",
                "1",
                "--output",
                self.place.out,
            ]
            self.arguments = ["--config", str(config), *self.inputs, *flags]
            for number, start in enumerate(self.plan.starts):
                if self.run_start(f"{number}", start):
                    break
            self.end_well()
            self.check_builders()

    def start(self, name: str, environment: dict[str, str], *, watched: bool = True) -> Start:
        """A start of the build, which the web knows of if it is `watched`."""
        environment = self.place.environment(name) | environment
        begun = Start(lambda: starts.build(self.arguments), environment, self.place.folder / f"{name}.txt")
        if watched:
            starts.tell_web(self.web_file, environment, begun.process)
        self.begun.append(begun)
        return begun

    def run_start(self, name: str, plan: schedule.Start) -> bool:
        """One start that goes wrong, and at times a second builder beside it; whether one of them finished the build."""
        wrong = {"STORE_FAULTS": " ".join(plan.faults), "STORE_SEED": f"{self.plan.seed} {name}"}
        wrong["STORE_HOLD"] = f"{2 * LEASE_S}"
        mine = self.start(name, {**wrong, **plan.environment})
        other: Start | None = None
        mine.wait(lambda: mine.stopped or self.comes_now(plan, mine))
        if mine.code is None:
            other = self.second_builder(name, plan, mine)
        mine.go_on()
        for one in filter(None, (mine, other)):
            one.wait(lambda one=one: one.stopped)  # type: ignore[misc]
            one.go_on()
            one.wait()
            self.check_end(one, plan if one is mine else schedule.Start(), beside=other is not None)
        return 0 in (mine.code, other.code if other else None)

    def comes_now(self, plan: schedule.Start, mine: Start) -> bool:
        """Whether it is time for the second builder."""
        if ":" in plan.second:
            return mine.has_called(plan.second)
        return bool(plan.second) and any(kind in ("hold", "clock") for kind, _ in mine.struck)

    def second_builder(self, name: str, plan: schedule.Start, mine: Start) -> Start:
        """Somebody else who starts the build, once the first one's lease has run out, if it is not renewed."""
        if mine.stopped or "silent" in plan.kinds:
            time.sleep(1.3 * LEASE_S)
        other = self.start(f"{name}b", {}, watched=False)
        if mine.stopped:
            other.wait()
        return other

    def check_end(self, start: Start, plan: schedule.Start, *, beside: bool) -> None:
        """Notes how a start ended, and a problem where it may not end so."""
        kinds = {kind for kind, _ in start.struck} - SILENT
        self.result.struck.update(start.struck)
        self.result.ends[f"{start.code}"] += 1
        busy = start.code == 2 and "another build" in start.said
        beside = beside or "STORE_LATE" in plan.environment  # which may hide the last lease, of a start that was short
        killed = start.code == -signal.SIGKILL and kinds & {"kill", "after", "torn", "driver"}
        early = start.code == 2 and "make room there" in start.said and "full" in kinds  # before the build had begun
        well = early or start.code == 0 or (start.code == 3 and (kinds or beside)) or killed or (busy and beside)
        if not well or "Traceback" in start.said:
            self.result.problems.append(f"start {start.output.stem} ended with {start.code}: {start.said[-3000:]}")

    def end_well(self) -> None:
        """Starts the build without faults until it ends with 0, and leaves it alone when it is started again."""
        for number in range(CALM_STARTS):
            calm = self.start(f"calm{number}", {})
            calm.wait()
            self.check_end(calm, schedule.Start(), beside=False)
            if calm.code == 0:
                return
        self.result.problems.append(f"it does not end: {calm.said[-2000:]}")

    def check_builders(self) -> None:
        """No two builders were at work at once, but for those that did not know it: they finished and removed nothing. What was
        in flight when they lost their lease cannot be called back."""
        every = [(start, built) for start in self.begun if (built := start.built)]
        for (one, first), (other, second) in itertools.combinations(every, 2):
            begins, ends = max(first[0].began, second[0].began), min(first[-1].began, second[-1].began)
            if begins < ends:
                stale = min(first, second, key=lambda built: built[0].began)
                late = [line for line in stale if line.began > begins and harms(line)]
                self.result.overlaps += 1
                self.result.problems += [
                    f"{one.output.stem} and {other.output.stem} built at once: {line}" for line in late
                ]

    def check(self, calm: dict[str, bytes]) -> None:
        """Compares what there is with what a calm build made, and has it verified."""
        self.result.problems += list(whole.differences(whole.files(self.place.root), calm))
        self.result.problems += [
            f"{name} is left in the temporary directory" for name in whole.left_over(self.place.temporary)
        ]
        verdict = Start(self.verify, self.place.environment("verify"), self.place.folder / "verify.txt")
        verdict.wait()
        if verdict.code:
            self.result.problems.append(f"verify: {verdict.said}")

    def verify(self) -> int:
        from wit.verify import verify

        problems = verify(self.place.out, "full").problems
        print("\n".join(problems))
        return 1 if problems else 0


def harms(line: stores.Line) -> bool:
    """Whether a builder that has lost its lease may not do that: remove anything but its own scratch, finish a stage."""
    finishes = line.place == "run.json" or line.path.endswith("MANIFEST.json")
    return finishes or (line.call == "remove" and line.place != "_tmp")


def preload(names: list[str]) -> None:
    """Imports what a build imports, so that the processes that are forked from this one need not."""
    for name in names:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def calm_build(folder: Path, store: str, inputs: list[str]) -> tuple[dict[str, bytes], dict[str, int], list[str]]:
    """(the files, how many calls there were in each place, the modules that were imported) of a build without faults."""
    place = Place(folder, store)
    folder.mkdir(parents=True)
    one = Simulation(place, Schedule(-1, store, ()), inputs)
    build, modules = starts.build, folder / "modules.json"

    def noting(arguments: Any) -> int:
        try:
            return build(arguments)
        finally:
            modules.write_text(json.dumps(sorted(sys.modules)), encoding="utf-8")

    starts.build = noting
    try:
        one.play()
    finally:
        starts.build = build
    one.check(whole.files(place.root))
    assert not one.result.problems, one.result.problems
    counts = {path.stem: path.stat().st_size for path in (folder / "calm0.counts").glob("*.calls")}
    return whole.files(place.root), counts, json.loads(modules.read_text(encoding="utf-8"))


def play(seed: int, folder: Path, calls: Calls, calm: dict[str, bytes], inputs: list[str]) -> Played:
    """Plays one seed in a folder."""
    plan = schedule.draw(seed, calls)
    one = Simulation(Place(folder, plan.store), plan, inputs)
    folder.mkdir(parents=True)
    try:
        one.play()
        wait_for_orphans(one)
        one.check(calm)
    except Exception:
        one.result.problems.append(traceback.format_exc())
    if one.result.problems:
        one.result.problems.insert(0, f"{plan}")
    return one.result


def wait_for_orphans(one: Simulation, within_s: float = 15) -> None:
    """Waits for processes whose parent was killed; blames those that stay, and ends them."""
    import psutil

    _, alive = psutil.wait_procs(psutil.Process().children(), timeout=within_s)
    for process in alive:
        one.result.problems.append(f"a process is left: {process.cmdline()}")
        process.kill()


def in_processes(seeds: range, jobs: int, folder: Path, *given: Any) -> Iterator[Played]:
    """The seeds' results as they come, so many at once; each is played in a process of its own, forked from this one."""
    left, running = list(seeds)[::-1], dict[int, Path]()
    while left or running:
        while left and len(running) < jobs:
            seed = left.pop()
            running[_fork(seed, folder / f"{seed}", *given)] = folder / f"{seed}"
        process, _ = os.wait()
        if process in running:
            yield _read(running.pop(process))


def _fork(seed: int, folder: Path, *given: Any) -> int:
    process = os.fork()
    if process:
        return process
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
        _write(play(seed, folder, *given), folder)
    finally:
        os._exit(0)


def _write(result: Played, folder: Path) -> None:
    text = {"seed": result.seed, "problems": result.problems, "overlaps": result.overlaps, "ends": dict(result.ends)}
    text["struck"] = [[*key, n] for key, n in result.struck.items()]
    (folder / "result.json").write_text(json.dumps(text), encoding="utf-8")


def _read(folder: Path) -> Played:
    path = folder / "result.json"
    if not path.exists():
        return Played(int(folder.name), ["it was not played to its end"])
    read = json.loads(path.read_text(encoding="utf-8"))
    struck = Counter({(fault, stage): n for fault, stage, n in read["struck"]})
    return Played(read["seed"], read["problems"], read["overlaps"], struck, Counter(read["ends"]))


STAGES = ("start", "candidates", "plan", "download", "select", "publish", "report")


@dataclass
class Total:
    """What came of all seeds."""

    seeds: int = 0
    wrong: int = 0
    overlaps: int = 0
    struck: Counter[tuple[str, str]] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)

    def add(self, one: Played) -> None:
        """Counts a seed, and prints what went wrong in it."""
        self.seeds += 1
        self.wrong += bool(one.problems)
        self.overlaps += one.overlaps
        self.struck.update(one.struck)
        self.ends.update(one.ends)
        if one.problems:
            again = f"play it again: python -m tests.simulate --seeds 1 --first {one.seed}"
            print("\n".join([*one.problems, again]), flush=True)

    def __str__(self) -> str:
        """A table of how often each fault struck in each stage, and how starts ended."""
        lines = [f"{'':<14}" + "".join(f"{stage:>12}" for stage in STAGES)]
        for kind in sorted({kind for kind, _ in self.struck}):
            lines.append(f"{kind:<14}" + "".join(f"{self.struck[kind, stage]:>12}" for stage in STAGES))
        ends = ", ".join(f"{n} with {code}" for code, n in sorted(self.ends.items()))
        lines.append(f"{self.seeds} seeds, {self.ends.total()} starts: {ends}")
        lines.append(f"{self.overlaps} builders went on without their lease; {self.wrong} seeds went wrong")
        return "\n".join(lines)


def calm_builds(folder: Path, inputs: list[str]) -> tuple[Calls, dict[str, bytes]]:
    """(how many calls a calm build makes, by kind of store and place; its files, which are the same on both)."""
    calm, calls = dict[str, bytes](), Calls()
    for store in ("disk", "store"):
        made, calls[store], modules = calm_build(folder / f"calm-{store}", store, inputs)
        preload(modules)
        calm = calm or made
        assert not list(whole.differences(made, calm)), "calm builds on a disk and on a store differ"
    gc.freeze()  # so that forked processes share what was imported
    return calls, calm


def simulate(seeds: range, jobs: int, folder: Path, keep: bool) -> Total:
    """Plays the seeds; what was played by then where it is told to end."""
    total, inputs = Total(), write_sources(folder / "inputs")
    given = (*calm_builds(folder, inputs), inputs)
    with contextlib.suppress(KeyboardInterrupt):
        for one in in_processes(seeds, jobs, folder, *given):
            total.add(one)
            if not keep or not one.problems:
                shutil.rmtree(folder / f"{one.seed}", ignore_errors=True)
    return total


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--keep", type=Path, help="folder in which seeds that go wrong are left")
    given, began = parser.parse_args(), time.monotonic()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="simulate-") as temporary:
        folder = (given.keep or Path(temporary)).absolute()
        seeds = range(given.first, given.first + given.seeds)
        total = simulate(seeds, given.jobs, folder, given.keep is not None)
    print(f"{total}\n{time.monotonic() - began:.0f} s")
    return 1 if total.wrong or total.seeds < given.seeds else 0


if __name__ == "__main__":
    sys.exit(main())
