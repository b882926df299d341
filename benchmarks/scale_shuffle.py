"""The shuffle as it grows, and single units at full width: requests, bytes and memory.

Rows are tiny (a number, a text of 8 letters), and the store is memory that counts. What counts is the number of pieces, not of
rows: tasks times buckets, which grows fourfold with each line.
"""

from __future__ import annotations

import gc
import time
import tracemalloc
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import scale_store
from scale_store import OUT, Counted

from wit.store import shuffle
from wit.store.parts import StageDir
from wit.store.shuffle import Batch, Dealt, Shuffle, Task, read_rows

SCHEMA = pa.schema([("x", pa.int64()), ("text", pa.string())])
SIZES = ((100, 2_000), (200, 4_000), (400, 8_000))
TITLES = (
    "buckets of ten rows",
    "ten rows of each task for each bucket: a unit has the more rows, the more there are, so bytes and memory are a row's",
)
SAMPLED = 50  # one unit in so many has its memory measured: that makes it slow
FULL = {"tasks": 2_000, "buckets": 80_000, "raw": 80_000, "pictures": 1_040}


class Units:
    """What the units of one kind cost, on average, and at most in memory."""

    def __init__(self) -> None:
        self.count = self.requests = self.bytes = self.peak = 0

    def run(self, work: Any) -> Any:
        """Does one unit's work."""
        sampled = self.count % SAMPLED == 0
        asked, moved = sum(Counted.calls.values()), Counted.moved
        if sampled:
            gc.collect()
            before = pa.total_allocated_bytes()
            tracemalloc.start()
        done = work()
        if sampled:
            self.peak = max(self.peak, tracemalloc.get_traced_memory()[1] + max(0, pa.total_allocated_bytes() - before))
            tracemalloc.stop()
        self.count += 1
        self.requests += sum(Counted.calls.values()) - asked
        self.bytes += Counted.moved - moved
        return done


def rows(count: int, seed: int) -> pa.Table:
    numbers = np.random.default_rng(seed).integers(0, 1 << 40, count)
    return pa.table([pa.array(numbers), pa.array([f"{n & 0xFFFFFFFF:08x}" for n in numbers.tolist()])], schema=SCHEMA)


def task(number: int, count: int, buckets: int) -> Task:
    """A task that deals so many rows evenly."""

    def chunks() -> Iterator[Dealt]:
        rng = np.random.default_rng(number)
        for start in range(0, count, shuffle.CHUNK_ROWS):
            some = min(shuffle.CHUNK_ROWS, count - start)
            yield Dealt(rows(some, number + start), np.sort(rng.integers(0, buckets, some)))

    return Task(number, chunks)


def grouped(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, list[Any]]:
    groups: dict[Any, list[Any]] = defaultdict(list)
    for key, value in pairs:
        groups[key].append(value)
    return groups


def by_files(one: Shuffle, tasks: int, rows_a_task: int) -> dict[str, Units]:
    """Runs the shuffle through files; what its tasks, its units of the second level, and its buckets cost."""
    kinds = {name: Units() for name in ("task", "regroup", "bucket")}
    dealt = [kinds["task"].run(lambda n=n: one.deal(task(n, rows_a_task, one.buckets))[0]) for n in range(tasks)]
    extents = [extent for marker in dealt for extent in one.extents(marker)]
    if one.two_levels:
        groups = grouped(one.grouped(extent) for extent in extents)
        regrouped = [kinds["regroup"].run(lambda group=group: one.regroup(group)) for group in groups.items()]
        extents = [extent for marker in regrouped for extent in one.extents(marker)]
    found = 0
    for block in grouped(extents).items():
        for _, pieces in one.of_buckets(block):
            found += len(kinds["bucket"].run(lambda pieces=pieces: read_rows(pieces, SCHEMA)))
    assert found == tasks * rows_a_task, f"{found} rows came of {tasks * rows_a_task}"
    return {name: units for name, units in kinds.items() if units.count}


def by_engine(one: Shuffle, tasks: int, rows_a_task: int) -> dict[str, Units]:
    """Deals to an engine; a batch counts as a request, since it is one element of its GroupByKey."""
    kinds = {name: Units() for name in ("task", "bucket")}
    groups: dict[int, list[Batch]] = defaultdict(list)
    for number in range(tasks):
        batches = kinds["task"].run(lambda number=number: list(one.batches(task(number, rows_a_task, one.buckets))))
        kinds["task"].requests += len(batches)
        kinds["task"].bytes += sum(len(batch.data) for _, batch in batches)
        for bucket, batch in batches:
            groups[bucket].append(batch)
    found = 0
    for pieces in groups.values():
        found += len(kinds["bucket"].run(lambda pieces=pieces: read_rows(pieces, SCHEMA)))
        kinds["bucket"].requests += len(pieces)
        kinds["bucket"].bytes += sum(len(piece.data) for piece in pieces)
    assert found == tasks * rows_a_task
    return kinds


def growth() -> None:
    """Buckets of ten rows, and ten rows of each task for each bucket, by files and by the engine."""
    fsspec.register_implementation("counted", Counted, clobber=True)
    heads = f"{'units':>8}{'rows':>8}{'requests':>10}{'bytes':>12}{'peak kB':>9}   to the first line"
    print(f"{'tasks x buckets':<18}{'form':<10}{'unit':<9}{heads}")
    worst: dict[str, float] = {}
    of_ten: tuple[Callable[[int, int], int], ...] = (lambda t, b: 10 * b // t, lambda t, b: 10 * b)
    for title, rows_a_task in zip(TITLES, of_ten, strict=True):
        print(title)
        for form in (by_files, by_engine):
            first: dict[str, tuple[float, ...]] = {}
            form(
                Shuffle(StageDir(OUT, "plan", "f" * 32), "warm", SCHEMA, 10), 2, 100
            )  # what is loaded once is no unit's
            for tasks, buckets in SIZES if title == TITLES[0] else SIZES[:2]:
                each = rows_a_task(tasks, buckets)
                forget()
                one = Shuffle.of(
                    StageDir(OUT, "plan", "f" * 32), "url", SCHEMA, buckets, rows=tasks * each, tasks=tasks
                )
                for name, units in form(one, tasks, each).items():
                    of_rows = tasks * each / units.count
                    per = 1 if each < 1_000 else of_rows
                    line = (units.requests / units.count, units.bytes / units.count / per, units.peak / 1e3 / per)
                    ratios = [
                        f"{value / max(was, 1e-9):.2f}"
                        for value, was in zip(line, first.setdefault(name, line), strict=True)
                    ]
                    if title == TITLES[0]:
                        worst |= {
                            what: max(worst.get(what, 0), float(r)) for what, r in zip(PER_UNIT, ratios, strict=True)
                        }
                    print(
                        f"{f'{tasks} x {buckets:,}':<18}{form.__name__[3:]:<10}{name:<9}{units.count:>8,}{of_rows:>8,.0f}"
                        f"{line[0]:>10.1f}{line[1]:>12,.1f}{line[2]:>9.3f}   {' '.join(ratios)}",
                        flush=True,
                    )

    for what, ratio in worst.items():
        print(bound(f"{what} of a unit, constant within 10 % as tasks and buckets grow fourfold", ratio, 1.1))


PER_UNIT = ("requests", "bytes", "memory")


def bound(what: str, measured: float, most: float, unit: str = "") -> str:
    """A line for a bound of design section 11, with what was measured, and whether it holds."""
    return f"{what}: {measured:,.2f}{unit} of {most:,.2f}{unit}, {'within' if measured <= most else 'BEYOND'}"


def forget() -> None:
    """An empty store."""
    scale_store.drop_all(OUT)
    Counted.written.clear()
    Counted.calls.clear()
    gc.collect()


def width(latency_s: float) -> None:
    """Single units at full width, each request slept for."""
    fsspec.register_implementation("counted", Counted, clobber=True)
    stage, most = StageDir(OUT, "plan", "f" * 32), list[float]()
    print(f"{'one unit at full width':<58}{'requests':>10}{'seconds':>9}{'peak MB':>9}")
    url = Shuffle.of(stage, "url", SCHEMA, FULL["buckets"], rows=10**10, tasks=FULL["tasks"])
    forget()
    most.append(
        report(
            "one task of 5M rows into 80,000 buckets", lambda: url.deal(task(0, 5_000_000, FULL["buckets"])), latency_s
        )
    )
    forget()
    some = [url.deal(task(n, 20_000, FULL["buckets"]))[0] for n in range(shuffle.FAN_IN)]
    block, pieces = max(grouped(url.grouped(e) for m in some for e in url.extents(m)).items(), key=lambda g: len(g[1]))
    most.append(
        report(
            f"one block of {url.width} buckets out of {len(pieces)} tasks",
            lambda: url.regroup((block, pieces)),
            latency_s,
        )
    )
    forget()
    flat = Shuffle(stage, "flat", SCHEMA, 1)
    every = [flat.deal(task(n, 62, 1))[0] for n in range(FULL["tasks"] // shuffle.FAN_IN + 1)]
    ((_, slices),) = flat.of_buckets((0, [e for m in every for _, e in flat.extents(m)]))
    most.append(
        report(
            f"one bucket of 2,000 tasks: {len(slices)} pieces of the second level",
            lambda: read_rows(slices, SCHEMA),
            latency_s,
        )
    )
    forget()
    every = [flat.deal(task(n, 62, 1))[0] for n in range(FULL["tasks"])]
    ((_, slices),) = flat.of_buckets((0, [e for m in every for _, e in flat.extents(m)]))
    most.append(report("the same, had it but one level: 2,000 pieces", lambda: read_rows(slices, SCHEMA), latency_s))
    forget()
    hashes = Shuffle.of(stage, "hash", SCHEMA, FULL["pictures"] * 4, rows=520_000_000, tasks=FULL["raw"])
    most.append(
        report(
            f"one raw shard into {hashes.buckets:,} buckets of pictures",
            lambda: hashes.deal(task(0, 6_500, hashes.buckets)),
            latency_s,
        )
    )
    print(bound("memory of a worker, whatever the unit", max(most), 2_000, " MB"))


def report(name: str, work: Any, latency_s: float) -> float:
    """Prints what a unit takes; returns its peak of memory in megabytes."""
    Counted.calls.clear()
    Counted.latency_s = latency_s
    gc.collect()
    pool = pa.default_memory_pool()
    before, started = pool.bytes_allocated(), time.monotonic()
    tracemalloc.start()
    try:
        work()
    finally:
        Counted.latency_s = 0.0
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    seconds = time.monotonic() - started
    arrow = max(0, pool.max_memory() - before)
    megabytes = (peak + arrow) / 1e6
    print(f"{name:<58}{sum(Counted.calls.values()):>10,}{seconds:>9.2f}{megabytes:>9.1f}", flush=True)
    return megabytes
