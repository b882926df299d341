"""Partitions of the plan to raw shards: fetched, decoded, hashed, encoded and written by the one unit of work that holds them.

A raw shard is a tar of pictures, a table with one row per planned row (failures included) and a table of what varies by
nature. It is published by its marker, whole or not at all; the tail of one shard overlaps with the head of the next.
"""

from __future__ import annotations

import json
import os
import statistics
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from wit import storage
from wit.fetch.config import FetchConfig
from wit.fetch.engine import Engine
from wit.fetch.errors import OutageError
from wit.fetch.outcome import Outcome, Request
from wit.fetch.spool import Spool, Spools
from wit.images.config import ImageConfig
from wit.parts import Marker, StageDir, to_json, write_parquet
from wit.records import FETCH, PLAN, RAW, Reason, keyed_hash
from wit.shards import padding, tar_end, tar_header

_draining = threading.Event()


def drain() -> None:
    """Makes every download of this process stop cleanly: what is requested already is finished, shards that need more are
    left unpublished, and `download_partition` returns the markers there are. For a handler of SIGTERM."""
    _draining.set()


def resume() -> None:
    """Undoes `drain`."""
    _draining.clear()


WINDOW = 2_048  # requests that the engine holds: enough hosts to choose from, little to repeat when it dies
POLL_S = 0.5
ROW_BITS = 32


@dataclass(frozen=True, slots=True)
class Progress:
    """What was done since the last call."""

    shards: int = 0  # published
    rows: int = 0
    successes: int = 0
    bytes: int = 0  # of bodies


@dataclass(slots=True)
class Shard:
    """One raw shard in the making."""

    unit: str
    row_group: int
    rows: pa.Table
    spool: Spool | None = None  # from its first picture on
    outcomes: list[Outcome | None] = field(default_factory=list)
    left: int = 0
    counted: bool = False  # in the progress shown

    def record(self, row: int, outcome: Outcome) -> None:
        self.outcomes[row] = outcome
        self.left -= 1

    def done(self) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome is not None]


def download_partition(
    part: str,
    shards: Sequence[int],
    *,
    out: str,
    fingerprint: str,
    seed: int,
    fetch: FetchConfig,
    image: ImageConfig,
    on_progress: Callable[[Progress], None] | None = None,
) -> list[Marker]:
    """Publishes the raw shards of some row groups of a plan part and returns their markers in that order.

    Shards that this fingerprint has published already are left as they are. Raises OutageError when this machine's
    network seems to be away; killed at any instant, it leaves unpublished only what was in flight."""
    stage = StageDir(out, "download", fingerprint)
    work = PartitionWork(part, stage, seed, fetch, image, on_progress or (lambda progress: None))
    todo = [shard for shard in shards if stage.marker(work.unit(shard)) is None]
    if todo:
        with storage.scratch_dir(out) as scratch, storage.open_read(part) as stream:
            work.run(todo, pq.ParquetFile(stream), scratch)
    found = [stage.marker(work.unit(shard)) for shard in shards]
    return [marker for marker in found if marker is not None]


class PartitionWork:
    """The state of one call of `download_partition`."""

    def __init__(
        self,
        part: str,
        stage: StageDir,
        seed: int,
        fetch: FetchConfig,
        image: ImageConfig,
        on_progress: Callable[[Progress], None],
    ) -> None:
        self.name = storage.name_of(part).partition(".")[0].rpartition("-")[2]
        self.stage, self.seed, self.fetch, self.image = stage, seed, fetch, image
        self.on_progress = on_progress
        self.robots_path = storage.join(stage.path, f"{self.name}.robots.json")
        self.outage = OutageWatch(fetch)
        self.publishing: deque[tuple[Shard, Future[Marker]]] = deque()

    def unit(self, shard: int) -> str:
        return f"{self.name}-{shard:04d}"

    def run(self, todo: Sequence[int], plan: pq.ParquetFile, scratch: str) -> None:
        self.todo = deque(todo)
        self.again: deque[Shard] = deque()  # suspected of an outage of ours
        self.open: dict[int, Shard] = {}
        self.requests: Iterator[Request] = iter(())
        self.plan, self.scratch, self.spools = plan, scratch, Spools(scratch)
        with (
            Engine(self.fetch, self.image, self._spool_of, robots=self._known_robots()) as engine,
            ThreadPoolExecutor(1) as pool,
        ):
            self.engine = engine
            while (self.todo or self.again or self.open) and not self._drained():
                self._feed()
                for outcome in engine.poll(POLL_S):
                    self._take(outcome, pool)
                while self.publishing and self.publishing[0][1].done():
                    self._published()
            while self.publishing:
                self._published()

    def _drained(self) -> bool:
        """Whether a drain was asked for and nothing is on its way any more."""
        return _draining.is_set() and not self.engine.pending

    # --- rows in -------------------------------------------------------------------------------------------------------

    def _feed(self) -> None:
        """Keeps the engine's window filled, shard after shard, unless an outage makes us wait."""
        if self.outage.is_pausing() or _draining.is_set():
            return
        batch: list[Request] = []
        while self.engine.pending + len(batch) < WINDOW:
            request = next(self.requests, None)
            if request is not None:
                batch.append(request)
            elif not self._open_next():
                break
        if batch:
            self.engine.submit(batch)

    def _open_next(self) -> bool:
        """Opens the next shard for requests; False where none is left."""
        if self.todo:
            shard = self._read(self.todo.popleft())
        elif self.again:
            shard = self.again.popleft()
            self.engine.forget_failures()
        else:
            return False
        missing = [row for row, outcome in enumerate(shard.outcomes) if outcome is None]
        shard.left = len(missing)
        if not missing:
            self.on_progress(Progress(shards=1))
            return True
        self.open[shard.row_group] = shard
        self.requests = self._requests(shard, missing)
        return True

    def _read(self, row_group: int) -> Shard:
        rows = self.plan.read_row_group(row_group).select(PLAN.names).cast(PLAN)
        unit = self.unit(row_group)
        return Shard(unit, row_group, rows, outcomes=[None] * len(rows))

    def _requests(self, shard: Shard, missing: list[int]) -> Iterator[Request]:
        urls, domains = shard.rows["url"].to_pylist(), shard.rows["domain"].to_pylist()
        for row in missing:
            yield Request(shard.row_group << ROW_BITS | row, urls[row], domains[row])

    def _spool_of(self, id: int) -> Spool:
        shard = self.open[id >> ROW_BITS]
        shard.spool = shard.spool or self.spools.lend()
        return shard.spool

    # --- outcomes out --------------------------------------------------------------------------------------------------

    def _take(self, outcome: Outcome, pool: ThreadPoolExecutor) -> None:
        shard = self.open[outcome.id >> ROW_BITS]
        shard.record(outcome.id & ((1 << ROW_BITS) - 1), outcome)
        if not shard.counted:
            self.on_progress(Progress(rows=1, successes=outcome.reason is None, bytes=outcome.bytes))
        if shard.left:
            return
        shard.counted = True
        del self.open[shard.row_group]
        if self.outage.suspects(shard):
            self._put_back(shard)
        else:
            self.publishing.append((shard, pool.submit(self._publish, shard)))

    def _published(self) -> None:
        """Waits for the oldest shard that is being published; raises what went wrong with it."""
        shard, future = self.publishing.popleft()
        future.result()
        if shard.spool is not None:
            self.spools.take_back(shard.spool)

    def _put_back(self, shard: Shard) -> None:
        """Asks again, later, for what failed transiently; what succeeded stays."""
        for row, outcome in enumerate(shard.outcomes):
            if outcome is not None and is_transient(outcome):
                shard.outcomes[row] = None
        self.again.append(shard)

    def _publish(self, shard: Shard) -> Marker:
        """Writes the shard's three files and claims its marker; the winner's marker where another was first."""
        outcomes = shard.done()
        self._keep_robots()
        with storage.scratch_dir(self.scratch) as scratch:
            files = {label: storage.join(scratch, f"shard.{ending}") for label, ending in ENDINGS.items()}
            spool = shard.spool.path if shard.spool else storage.join(scratch, "no pictures")
            digest = write_shard(shard, spool, outcomes, files, seed=self.seed)
            dropped = Counter(str(outcome.reason) for outcome in outcomes if outcome.reason is not None)
            successes = len(outcomes) - dropped.total()
            info = {
                "shard": shard.unit,
                "rows": len(outcomes),
                "successes": successes,
                "in": len(outcomes),
                "out": successes,
                "dropped": dict(sorted(dropped.items())),
                "beside": [{"name": f"{self.stage.directory}/{storage.name_of(self.robots_path)}"}],
            }
            marker = self.stage.publish(shard.unit, files, info, {"tar": digest})
        self.on_progress(Progress(shards=1))
        return marker

    def _known_robots(self) -> dict[str, Any]:
        if not storage.exists(self.robots_path):
            return {}
        known: dict[str, Any] = json.loads(storage.read_bytes(self.robots_path))
        return known

    def _keep_robots(self) -> None:
        storage.write_bytes(self.robots_path, to_json(dict(self.engine.robots)))


ENDINGS = {"tar": "tar", "parquet": "parquet", "fetch": "fetch.parquet"}


# --- outages of ours -----------------------------------------------------------------------------------------------------


def is_transient(outcome: Outcome) -> bool:
    return outcome.reason is not None and outcome.reason.transient and outcome.reason is not Reason.BUDGET_SPENT


class OutageWatch:
    """Tells a shard that the web lost from one that our own network lost (design section 5)."""

    def __init__(self, config: FetchConfig) -> None:
        self.config = config
        self.shares: list[float] = []  # of transient failures, in shards that were believed
        self.suspects_in_a_row = 0
        self.pause_until = 0.0

    def is_pausing(self) -> bool:
        return time.monotonic() < self.pause_until

    def suspects(self, shard: Shard) -> bool:
        """Whether a finished shard looks like an outage: then it must not be published. Raises OutageError after several."""
        share = transient_share(shard)
        usual = statistics.median(self.shares) if self.shares else 0.0
        failed = sum(is_transient(outcome) for outcome in shard.done())
        c = self.config
        if failed < c.outage_floor_rows or share <= max(c.outage_floor_share, c.outage_factor * usual):
            self.shares.append(share)
            self.suspects_in_a_row = 0
            return False
        if not self.is_pausing():  # shards that end during a pause tell nothing new
            self._pause(shard, share)
        return True

    def _pause(self, shard: Shard, share: float) -> None:
        self.suspects_in_a_row += 1
        if self.suspects_in_a_row >= self.config.outage_shards:
            raise OutageError(
                f"{share:.0%} of raw shard {shard.unit} failed for want of a network, {self.suspects_in_a_row} times in a "
                "row: nothing of it was published. Start the build again when the network is back; if these hosts are "
                "really gone, with --outage-floor-share 1"
            )
        self.pause_until = time.monotonic() + self.config.outage_pause_s * 2 ** (self.suspects_in_a_row - 1)


def transient_share(shard: Shard) -> float:
    """The smaller of the share of rows and the share of domains, since one large host that is down is no outage of ours."""
    rows: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    for domain, outcome in zip(shard.rows["domain"].to_pylist(), shard.outcomes, strict=True):
        rows[domain] += 1
        failed[domain] += outcome is not None and is_transient(outcome)
    by_domain = sum(failed[domain] / count for domain, count in rows.items()) / max(len(rows), 1)
    return min(failed.total() / max(rows.total(), 1), by_domain)


# --- files ---------------------------------------------------------------------------------------------------------------


def write_shard(shard: Shard, spool: str, outcomes: list[Outcome], files: dict[str, str], *, seed: int) -> str:
    """The tar, the RAW table and the FETCH table, all in the order of the keyed hash of the keys; returns the tar's
    sha256."""
    keys = shard.rows["key"].to_pylist()
    order = sorted(range(len(keys)), key=lambda row: (keyed_hash(seed, "order", keys[row]), keys[row]))
    rows, outcomes = shard.rows.take(pa.array(order, pa.int64())), [outcomes[row] for row in order]
    places, digest = write_tar(spool, [keys[row] for row in order], outcomes, files["tar"])
    write_parquet(raw_table(rows, outcomes, places), files["parquet"])
    write_parquet(fetch_table(rows["key"], outcomes), files["fetch"])
    return digest


def write_tar(spool: str, keys: list[str], outcomes: list[Outcome], path: str) -> tuple[list[int | None], str]:
    """Writes the pictures as KEY.EXT in order; returns where the bytes of each begin, None where there is none, and the
    tar's sha256."""
    places: list[int | None] = []
    tar, pictures = storage.HashedFile(path), storage.open_spool(spool)
    try:
        for key, outcome in zip(keys, outcomes, strict=True):
            if outcome.picture is None:
                places.append(None)
                continue
            tar.write(tar_header(f"{key}.{outcome.picture.format}", outcome.spool_size))
            places.append(tar.size)
            tar.copy(pictures, outcome.spool_offset, outcome.spool_size)
            tar.write(padding(outcome.spool_size))
        tar.write(tar_end(tar.size))
    finally:
        os.close(pictures)
        digest = tar.close()
    return places, digest


def raw_table(rows: pa.Table, outcomes: list[Outcome], places: list[int | None]) -> pa.Table:
    """The RAW table: the planned rows, and what became of each."""
    pictures = [outcome.picture for outcome in outcomes]
    columns: dict[str, list[Any]] = {
        "reason": [None if o.reason is None else str(o.reason) for o in outcomes],
        "detail": [o.detail or None for o in outcomes],
        "http_status": [o.http_status or None for o in outcomes],
        "final_url": [o.final_url if o.http_status else None for o in outcomes],
        "tar_offset": places,
        "tar_size": [None if p is None else o.spool_size for o, p in zip(outcomes, pictures, strict=True)],
        "pdq": [p.pdq if p else None for p in pictures],
    }
    for name in RAW.names[len(PLAN) :]:
        if name not in columns:
            columns[name] = [getattr(p, name) if p else None for p in pictures]
    arrays = [pa.array(columns[field.name], field.type) for field in list(RAW)[len(PLAN) :]]
    return pa.table([*rows.columns, *arrays], schema=RAW)


def fetch_table(keys: pa.ChunkedArray, outcomes: list[Outcome]) -> pa.Table:
    """The FETCH table: attempts, times and the network library's words."""
    columns = {
        "key": keys.combine_chunks(),
        "attempts": [o.attempts for o in outcomes],
        "started": [int(o.started * 1000) for o in outcomes],
        "duration_s": [o.duration_s for o in outcomes],
        "bytes": [o.bytes for o in outcomes],
        "error": [o.error or None for o in outcomes],
    }
    return pa.table([pa.array(columns[f.name], f.type) for f in FETCH], schema=FETCH)
