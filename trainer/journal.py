"""The record of a run: the progress bar, `metrics.jsonl` with a line per logged step, `corrupt.jsonl` with a line per faulty
sample."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from trainer.data import IMAGE, METADATA, Fault
from wit.store import fs

SENTENCES = {
    IMAGE: "corrupt picture, left out of its batch: {key} of {shard}",
    METADATA: "{key}.json of {shard} is no JSON object: trained on without it",
}


class Journal:
    """The record of a run, written by rank 0 alone. A resumed run first drops the lines of metrics.jsonl behind its checkpoint,
    so that every step stands there once. A faulty sample is named once, however often its turn comes."""

    def __init__(self, output: str, console: Console, *, step: int, steps: int) -> None:
        self.metrics, self.corrupt = (fs.join(output, name) for name in ("metrics.jsonl", "corrupt.jsonl"))
        self.console = console
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        self.bar = Progress(*columns, TextColumn("{task.fields[status]}"), console=console)
        self.task = self.bar.add_task("train", total=steps, completed=step, status="first shards")
        self.known: dict[Fault, None] = {}

    def go_on(self, step: int) -> None:
        """Drops lines of steps after `step`, and a line that a crash cut off; at step 0, all lines."""
        kept = [row for row in rows_of(self.metrics) if row.get("step", step + 1) <= step]
        fs.write_bytes(self.metrics, lines_of(kept))
        names = [field.name for field in dataclasses.fields(Fault)]
        rows = [row for row in rows_of(self.corrupt) if step and all(name in row for name in names)]
        self.known = {Fault(*(row[name] for name in names)): None for row in rows}
        if fs.exists(self.corrupt):
            fs.write_bytes(self.corrupt, lines_of(map(row_of, self.known)))

    def note(self, faults: Iterable[Fault]) -> None:
        """Prints and writes down the faults that are new."""
        new = [fault for fault in dict.fromkeys(faults) if fault not in self.known]
        for fault in new:
            self.console.print(SENTENCES[fault.reason].format(key=fault.key, shard=fault.shard), markup=False)
        if new:
            fs.append_bytes(self.corrupt, lines_of(map(row_of, new)))
        self.known |= dict.fromkeys(new)

    def record(self, row: dict[str, Any]) -> None:
        """Shows a step in the bar, and appends its row to metrics.jsonl."""
        status = (
            f"loss {row['loss']:.3f}  in-batch accuracy {row['accuracy']:.3f}  {row['samples_per_s']:,.0f} samples/s"
        )
        self.bar.update(self.task, completed=row["step"], status=status)
        fs.append_bytes(self.metrics, lines_of([row]))

    def faults(self) -> str:
        """Half a sentence: how many faults of each kind there were, and where they are named."""
        counts = Counter(fault.reason for fault in self.known)
        parts = [f"{counts[IMAGE]:,} corrupt pictures", f"{counts[METADATA]:,} unreadable KEY.json"]
        return f"{' and '.join(parts)} ({'named in ' + self.corrupt if counts else 'none to name'})"


def row_of(fault: Fault) -> dict[str, Any]:
    """The fault as a row of corrupt.jsonl."""
    return dataclasses.asdict(fault) | {"masked": fault.reason == IMAGE}


def lines_of(rows: Iterable[dict[str, Any]]) -> bytes:
    """The rows as JSON, one a line."""
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def rows_of(path: str) -> list[dict[str, Any]]:
    """The objects in a file of JSON lines; other lines are skipped, since the last one may be cut off."""
    rows = []
    for line in fs.read_bytes(path).split(b"\n") if fs.exists(path) else []:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows
