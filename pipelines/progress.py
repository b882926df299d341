"""Progress bars with rates and time left, and where there is no terminal a line a minute. A local run's DoFns count here; on a
cluster the bar counts published markers, and the last line what came back from workers."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from wit.errors import Stopped
from wit.store.manifests import Marker, Unit
from wit.store.parts import StageDir

POLL_S = 0.5
# At most: markers are counted by a listing, which costs a request for 1,000 names on an object store.
LISTED_EVERY_S = 10.0
LISTING_SHARE = 0.05  # of the time, at most, is spent on listings
LOGGED_EVERY_S = 60.0  # a line, where there is no terminal

_lock = threading.Lock()
_counts = {"units": 0, "pairs": 0}


def advance(units: int, pairs: int = 0) -> None:
    """Counts finished units (files, shards, parts) and pairs of the running stage."""
    with _lock:
        _counts["units"] += units
        _counts["pairs"] += pairs


def learn(units: int, pairs: int) -> None:
    """Counts what workers elsewhere have done and gave back, where nothing was counted here."""
    if not _counts["units"]:
        advance(units, pairs)


@dataclass(frozen=True, slots=True)
class Counted:
    """A unit of work that counts as one in the running stage's progress, with the pairs that its marker counts in."""

    work: Callable[..., Any]

    def __call__(self, *given: Any) -> Any:
        done = self.work(*given)
        advance(1, pairs=done.into if isinstance(done, Marker) else 0)
        return done


def _published(stage: StageDir) -> int:
    return sum(1 for name in stage.each_unit() if Unit.parse(name).place)


@contextlib.contextmanager
def bar(name: str, stage: StageDir | None, *, total: int | None, unit: str) -> Iterator[None]:
    """Shows the running stage until the block ends, then leaves one line with what was done and how fast."""
    with _lock:
        _counts.update(units=0, pairs=0)
    console, started = Console(file=sys.stderr), time.monotonic()
    with Progress(*_columns(unit), console=console, transient=True, disable=not console.is_terminal) as shown:
        task = shown.add_task(name, total=total, rate="")

        def show(done: int, pairs: int) -> None:
            seconds = time.monotonic() - started
            if console.is_terminal:
                shown.update(task, completed=done, rate=_rate(pairs, seconds))
            else:
                line = f"{name:<10} {so_far(done, total, unit, pairs, seconds)}"
                print(line, file=sys.stderr, flush=True)

        stop, every_s = threading.Event(), POLL_S if console.is_terminal else LOGGED_EVERY_S
        poller = threading.Thread(target=_poll, args=(show, every_s, stage, stop), daemon=True)
        poller.start()
        try:
            yield
        finally:
            stop.set()
            poller.join()
    seconds = time.monotonic() - started
    done, pairs = _counts["units"], _counts["pairs"]
    what = ", ".join(filter(None, [f"{done:,} {unit}", _rate(pairs, seconds), f"{seconds:.1f} s"]))
    console.print(f"{name:<10} {what}", highlight=False)


def _columns(unit: str) -> list[ProgressColumn]:
    named = (TextColumn(text) for text in (unit, "{task.fields[rate]}"))
    times = (TimeElapsedColumn(), TimeRemainingColumn())
    return [TextColumn("{task.description:<10}"), BarColumn(), MofNCompleteColumn(), *named, *times]


def _rate(pairs: int, seconds: float) -> str:
    return f"{pairs:,} pairs, {pairs / max(seconds, 1e-9):,.0f}/s" if pairs else ""


def next_listing(began: float, ended: float) -> float:
    """When markers may be listed again, after a listing that began and ended at these times in seconds."""
    return max(began + LISTED_EVERY_S, ended + (ended - began) / LISTING_SHARE)


def so_far(done: int, total: int | None, unit: str, pairs: int, seconds: float) -> str:
    """What a stage has done after so many seconds, how fast, and about how long the rest will take."""
    parts = [f"{done:,} of {total:,} {unit}" if total is not None else f"{done:,} {unit}"]
    parts += [_rate(pairs, seconds)] if pairs else []
    parts += [f"{timedelta(seconds=round(seconds))} so far"]
    if total is not None and 0 < done < total:
        parts += [f"about {timedelta(seconds=round(seconds * (total - done) / done))} left"]
    return ", ".join(parts)


def _poll(show: Callable[[int, int], None], every_s: float, stage: StageDir | None, stop: threading.Event) -> None:
    """Shows, every so often, the units and pairs that are done."""
    listing = time.monotonic() + min(every_s, LISTED_EVERY_S)
    while not stop.wait(every_s):
        done = _counts["units"]
        if stage is not None and not done:
            began = time.monotonic()
            if began < listing:
                continue
            try:
                done = _published(stage)
            except (OSError, Stopped):  # the job will say so, if it lasts
                continue
            finally:
                listing = next_listing(began, time.monotonic())
        show(done, _counts["pairs"])
