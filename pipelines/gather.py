"""Hands the items of a stage to an engine, and brings the markers of finished units back, as elements of the pipeline.

Files are all that an engine can hand to the process that started its job. So the job writes its elements in batches, one file
each, and they are read from there: a stage need not read its markers one by one. What the job begins with goes the other way in
a file, too (`wit.store.roster`): elements that are created in a job's graph make it as large as they are.
"""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from types import UnionType
from typing import Any, TypeVar

import apache_beam as beam
import msgspec
import xxhash
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.timestamp import MIN_TIMESTAMP
from apache_beam.utils.windowed_value import WindowedValue

from pipelines import progress, worked
from pipelines.engine import Engine
from pipelines.worked import AtWork, Worked
from wit import layout
from wit.arithmetic import ceil_div
from wit.errors import Stopped
from wit.store import fs, lease, patience
from wit.store.flight import side_by_side
from wit.store.manifests import Marker, head
from wit.store.packed import Packed
from wit.store.parts import StageDir
from wit.store.roster import Roster, roster
from wit.typed import load, to_json

S = TypeVar("S")
T = TypeVar("T")
BATCH = 1_000  # elements in a file: a few hundred kilobytes


@dataclass(eq=False)  # not frozen: Beam sets attributes of its own
class Dealt(beam.PTransform):  # type: ignore[misc]
    """The items of a roster as elements: the job's graph holds their number alone."""

    items: Roster[Any]
    metered: bool = False
    """Whether workers are to know for how long they are at work."""

    def expand(self, begin: beam.pvalue.PBegin) -> beam.PCollection:
        """The numbers are spread over the workers, each of which reads the roster once."""
        numbers = begin | beam.Impulse() | "Numbers" >> beam.FlatMap(_numbers, len(self.items))
        spread = numbers | "Spread" >> beam.Reshuffle()
        if self.metered:
            spread |= "AtWork" >> beam.ParDo(AtWork())
        return spread | "Items" >> beam.Map(self.items.__getitem__)


def _numbers(_: bytes, count: int) -> range:
    return range(count)


@dataclass(eq=False)  # not frozen: Beam sets attributes of its own
class WriteBatches(beam.PTransform):  # type: ignore[misc]
    """Dataclasses -> files of about BATCH of them below a folder. An element that an engine repeats, byte for byte, is written
    once."""

    folder: str
    batches: int
    metered: bool = False
    """Whether workers are to say for how long they were at work."""

    def expand(self, elements: beam.PCollection) -> beam.PCollection:
        """Batches elements by a hash of their JSON, so that a repeated element meets its twin."""
        return (
            elements
            | "AsJson" >> beam.ParDo(_AsJsonMetered() if self.metered else _AsJson())
            | "ToBatch"
            >> beam.Map(lambda data, batches: (xxhash.xxh3_64_intdigest(data) % batches, data), self.batches)
            | "Batch" >> beam.GroupByKey()
            | "WriteBatch" >> beam.Map(_write, self.folder)
        )


@dataclass(frozen=True, slots=True)
class AskedAgain:
    """What a process asked of the store again since it told last; `token` keeps two that are alike apart."""

    token: str
    asked_again: dict[str, int]


class _AsJson(beam.DoFn):  # type: ignore[misc]
    def process(self, element: Any) -> Iterator[bytes]:
        """The element; behind it, now and then, what this process asked again. An engine that repeats a bundle loses some of
        that."""
        yield to_json(element)
        if kinds := patience.counted():
            yield to_json(AskedAgain(secrets.token_hex(8), kinds))


class _AsJsonMetered(_AsJson):
    def finish_bundle(self) -> Iterator[WindowedValue]:
        """What this process did so far, once a bundle."""
        yield WindowedValue(to_json(worked.meter.told()), MIN_TIMESTAMP, [GlobalWindow()])


def _write(batch: tuple[int, Iterable[bytes]], folder: str) -> None:
    number, elements = batch
    fs.write_bytes(_path(number, folder), b"[" + b",".join(sorted(set(elements))) + b"]")


def gather(
    engine: Engine,
    items: Sequence[S],
    of: type[S],
    work: Callable[[beam.PCollection], beam.PCollection],
    kind: type[T] | UnionType,
    *,
    out: str,
    expected: int | None = None,
) -> Packed[T]:
    """Runs a job on items, dataclasses (or numbers) of the type `of`; returns its elements, dataclasses of that kind, each once:
    markers in the order of their names, others in none. `expected` is about how many there will be: as many as items, if it is
    not given. Raises what `Engine.run` raises."""
    return gather_apart(engine, items, of, work, kind, (), out=out, expected=expected)[0]


def gather_apart(
    engine: Engine,
    items: Sequence[S],
    of: type[S],
    work: Callable[[beam.PCollection], beam.PCollection],
    kind: type[T] | UnionType,
    few: tuple[type[Any], ...],
    *,
    out: str,
    expected: int | None = None,
) -> tuple[Packed[T], list[Any]]:
    """As `gather` of a job with elements of other kinds, too: (those of `kind`, the few others)."""
    files = max(1, ceil_div(len(items) if expected is None else expected, BATCH))
    with scratch_folder(out) as folder:
        with roster(items, of, out=out) as listed:
            far = not engine.local
            engine.run(lambda p: work(p | Dealt(listed, far)) | "Gather" >> WriteBatches(folder, files, far))
        elements, others = read_back(folder, files, kind, few)
    return elements, others


def remove_work(engine: Engine, stage: StageDir) -> None:
    """Removes what the passes of a finished stage handed on, of all stages: none before it needs any. By the engine where it has
    workers elsewhere, since a store takes a request for 1,000 names."""
    folder = stage.at_work.path
    lease.check(stage.out)
    if not engine.local and (below := [fs.join(folder, name) for name in fs.list_dir(folder)]):
        engine.run(lambda p: p | beam.Create(below) | beam.Reshuffle() | "RemoveWork" >> beam.Map(fs.remove))
    fs.remove(fs.join(stage.out, layout.WORK))


@contextlib.contextmanager
def scratch_folder(out: str) -> Iterator[str]:
    """A new folder below OUT, which all workers of a job reach; removed at the end, or by the next start."""
    folder = fs.join(out, layout.SCRATCH, f"units-{secrets.token_hex(8)}")
    try:
        yield folder
    finally:
        with contextlib.suppress(OSError, Stopped):
            fs.remove(folder)


def read_back(
    folder: str, files: int, kind: type[T] | UnionType, few: tuple[type[Any], ...]
) -> tuple[Packed[T], list[Any]]:
    """(the elements of that kind, the few of other kinds) in the files that `WriteBatches` wrote."""
    read = side_by_side(lambda number: _read(number, folder), range(files))
    elements = (bytes(element) for batch in read for element in split(batch))
    others = list[Any]()
    names = {one: frozenset(field.name for field in fields(one)) for one in (AskedAgain, Worked, *few)}
    signs = [(one, [f'"{name}"'.encode() for name in sorted(names[one], key=len, reverse=True)]) for one in names]

    def is_other(element: bytes) -> bool:
        """Whether it is of one of the few kinds, with all of its fields and no others; then it is kept."""
        for one, quoted in signs:  # the longest first: nearly no element has it
            if (
                quoted[0] in element
                and all(sign in element for sign in quoted)
                and (parsed := json.loads(element)).keys() == names[one]
            ):
                others.append(load(one, parsed))
                return True
        return False

    many = (element for element in elements if not is_other(element))
    found = _markers(many) if kind is Marker else Packed[T](kind, many)
    for one in (one for one in others if isinstance(one, AskedAgain)):
        patience.count(one.asked_again)
    worked.heard.of_a_job(one for one in others if isinstance(one, Worked))
    return found, [one for one in others if not isinstance(one, AskedAgain | Worked)]


def _markers(elements: Iterable[bytes]) -> Packed[Any]:
    """The markers in the order of their names; the bar learns of them."""
    units, pairs = 0, 0

    def counted() -> Iterator[tuple[str, bytes]]:
        nonlocal units, pairs
        for element in elements:
            one = head(element)
            units, pairs = units + 1, pairs + one.into
            yield one.file, element

    found = Packed[Any].in_order(Marker, counted())
    progress.learn(units, pairs)
    return found


split = msgspec.json.Decoder(list[msgspec.Raw]).decode


def _read(number: int, folder: str) -> bytes:
    """The elements of a batch; none where nothing fell into it. Asked for by name: a listing may not have it yet."""
    try:
        return fs.read_bytes(_path(number, folder))
    except FileNotFoundError:
        return b"[]"


def _path(number: int, folder: str) -> str:
    return fs.join(folder, f"{number:05d}.json")
