"""Brings the markers of finished units back from an engine, as elements of the pipeline.

Files are all that an engine can hand to the process that started its job. So the job writes its elements in batches, one file
each, and they are read from there: a stage need not read its markers one by one at the end.
"""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import apache_beam as beam
import xxhash

from pipelines.engine import Engine
from wit import layout
from wit.arithmetic import ceil_div
from wit.errors import Stopped
from wit.store import fs
from wit.typed import load, to_json

T = TypeVar("T")
BATCH = 1_000  # elements in a file: a few hundred kilobytes


@dataclass(eq=False)  # not frozen: Beam sets attributes of its own
class WriteBatches(beam.PTransform):  # type: ignore[misc]
    """Dataclasses -> files of about BATCH of them below a folder. An element that an engine repeats, byte for byte, is written
    once."""

    folder: str
    batches: int

    def expand(self, elements: beam.PCollection) -> beam.PCollection:
        """Batches elements by a hash of their JSON, so that a repeated element meets its twin."""
        return (
            elements
            | "AsJson" >> beam.Map(to_json)
            | "ToBatch"
            >> beam.Map(lambda data, batches: (xxhash.xxh3_64_intdigest(data) % batches, data), self.batches)
            | "Batch" >> beam.GroupByKey()
            | "WriteBatch" >> beam.Map(_write, self.folder)
        )


def _write(batch: tuple[int, Iterable[bytes]], folder: str) -> None:
    number, elements = batch
    fs.write_bytes(_path(number, folder), b"[" + b",".join(sorted(set(elements))) + b"]")


def gather(
    engine: Engine, build: Callable[[beam.Pipeline], beam.PCollection], kind: type[T], *, out: str, expected: int
) -> list[T]:
    """Runs the pipeline; returns its elements, dataclasses of that kind, each once, in no order. `expected` is about how many
    there will be. Raises what `Engine.run` raises."""
    folder, batches = fs.join(out, layout.SCRATCH, f"units-{secrets.token_hex(8)}"), max(1, ceil_div(expected, BATCH))

    def whole(pipeline: beam.Pipeline) -> None:
        build(pipeline) | "Gather" >> WriteBatches(folder, batches)

    try:
        engine.run(whole)
        return [load(kind, element) for number in range(batches) for element in _read(number, folder)]
    finally:
        with contextlib.suppress(OSError, Stopped):  # the next start removes what is left
            fs.remove(folder)


def _read(number: int, folder: str) -> list[Any]:
    """The elements of a batch; none where nothing fell into it. Asked for by name: a listing may not have it yet."""
    try:
        elements: list[Any] = json.loads(fs.read_bytes(_path(number, folder)))
    except FileNotFoundError:
        return []
    return elements


def _path(number: int, folder: str) -> str:
    return fs.join(folder, f"{number:05d}.json")
