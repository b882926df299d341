"""What is told of a run: the progress bar, `metrics.jsonl` with a line per logged step, `corrupt.jsonl` with a line per sample
that something is wrong with."""

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
    """Written by rank 0 alone. On resumption lines of metrics.jsonl after the checkpoint are dropped, so that every step is
    there once; a sample is named once, however often its turn comes."""

    def __init__(self, output: str, console: Console, *, step: int, steps: int) -> None:
        self.metrics, self.corrupt = (fs.join(output, name) for name in ("metrics.jsonl", "corrupt.jsonl"))
        self.console = console
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        self.bar = Progress(*columns, TextColumn("{task.fields[status]}"), console=console)
        self.task = self.bar.add_task("train", total=steps, completed=step, status="first shards")
        self.known: dict[Fault, None] = {}

    def go_on(self, step: int) -> None:
        """Drops what the files say of later steps, and what a crash cut off; all of it where the run starts anew."""
        kept = [row for row in rows_of(self.metrics) if row.get("step", step + 1) <= step]
        fs.write_bytes(self.metrics, lines_of(kept))
        names = [field.name for field in dataclasses.fields(Fault)]
        rows = [row for row in rows_of(self.corrupt) if step and all(name in row for name in names)]
        self.known = {Fault(*(row[name] for name in names)): None for row in rows}
        if fs.exists(self.corrupt):
            fs.write_bytes(self.corrupt, lines_of(map(row_of, self.known)))

    def note(self, faults: Iterable[Fault]) -> None:
        """Names samples that were not named before."""
        new = [fault for fault in dict.fromkeys(faults) if fault not in self.known]
        for fault in new:
            self.console.print(SENTENCES[fault.reason].format(key=fault.key, shard=fault.shard), markup=False)
        if new:
            fs.append_bytes(self.corrupt, lines_of(map(row_of, new)))
        self.known |= dict.fromkeys(new)

    def record(self, row: dict[str, Any]) -> None:
        status = (
            f"loss {row['loss']:.3f}  in-batch accuracy {row['accuracy']:.3f}  {row['samples_per_s']:,.0f} samples/s"
        )
        self.bar.update(self.task, completed=row["step"], status=status)
        fs.append_bytes(self.metrics, lines_of([row]))

    def faults(self) -> str:
        """What was found wrong with samples, in half a sentence."""
        counts = Counter(fault.reason for fault in self.known)
        parts = [f"{counts[IMAGE]:,} corrupt pictures", f"{counts[METADATA]:,} unreadable KEY.json"]
        return f"{' and '.join(parts)} ({'named in ' + self.corrupt if counts else 'none to name'})"


def row_of(fault: Fault) -> dict[str, Any]:
    return dataclasses.asdict(fault) | {"masked": fault.reason == IMAGE}


def lines_of(rows: Iterable[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def rows_of(path: str) -> list[dict[str, Any]]:
    """The lines of a file of JSON objects, without what is none: the last one may be cut off."""
    rows = []
    for line in fs.read_bytes(path).split(b"\n") if fs.exists(path) else []:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows
