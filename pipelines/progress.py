"""Progress bars with rates and time left. A local run's DoFns count here; on a cluster the bar counts published markers, and the
last line what came back from workers."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from wit.store.manifests import Marker, Unit
from wit.store.parts import StageDir

POLL_S = 0.5
# At most: markers are counted by a listing, which costs a request for 1,000 names on an object store.
LISTED_EVERY_S = 10.0
LISTING_SHARE = 0.05  # of the time, at most, is spent on listings

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
    console = Console(file=sys.stderr)
    columns = (
        TextColumn("{task.description:<10}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    started = time.monotonic()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as shown:
        task = shown.add_task(name, total=total, rate="")
        stop = threading.Event()
        poller = threading.Thread(target=_poll, args=(shown, task, stage, stop, started), daemon=True)
        poller.start()
        try:
            yield
        finally:
            stop.set()
            poller.join()
    seconds = time.monotonic() - started
    done, pairs = _counts["units"], _counts["pairs"]
    what = f"{done:,} {unit}" + (f", {pairs:,} pairs, {pairs / max(seconds, 1e-9):,.0f}/s" if pairs else "")
    console.print(f"{name:<10} {what}, {seconds:.1f} s", highlight=False)


def next_listing(began: float, ended: float) -> float:
    """When markers may be listed again, after a listing that began and ended at these times in seconds."""
    return max(began + LISTED_EVERY_S, ended + (ended - began) / LISTING_SHARE)


def _poll(shown: Progress, task: TaskID, stage: StageDir | None, stop: threading.Event, started: float) -> None:
    listing = started + LISTED_EVERY_S
    while not stop.wait(POLL_S):
        if stage is not None and not _counts["units"]:
            if time.monotonic() >= listing:
                began = time.monotonic()
                shown.update(task, completed=_published(stage))
                listing = next_listing(began, time.monotonic())
            continue
        pairs, seconds = _counts["pairs"], time.monotonic() - started
        rate = f"{pairs:,} pairs, {pairs / seconds:,.0f}/s" if pairs else ""
        shown.update(task, completed=_counts["units"], rate=rate)
