"""Partitions of the plan to raw shards: fetched, decoded, hashed, encoded and written by the one unit of work that holds them.

A raw shard is a tar of pictures, a table with one row per planned row (failures included) and a table of what varies by
nature. It is published by its marker, whole or not at all; the tail of one shard overlaps with the head of the next.
"""

from __future__ import annotations

import json
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow.parquet as pq

from wit import parquet, storage
from wit.fetch.config import FetchConfig
from wit.fetch.engine import Engine
from wit.fetch.outcome import Outcome, Request
from wit.images.config import ImageConfig
from wit.outage import OutageWatch, is_transient
from wit.parts import Marker, StageDir, to_json
from wit.rawshard import RawShard, in_order
from wit.records import PLAN

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
    todo = [shard for shard in shards if stage.done(work.unit(shard)) is None]
    if todo:
        with storage.scratch_dir(out) as scratch, parquet.open_file(part) as plan:
            work.run(todo, plan, scratch)
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
        self.appending: deque[tuple[Future[None], list[Outcome]]] = deque()  # with what is out of its spool then
        self.publishing: deque[Future[None]] = deque()

    def unit(self, shard: int) -> str:
        return f"{self.name}-{shard:04d}"

    def run(self, todo: Sequence[int], plan: pq.ParquetFile, scratch: str) -> None:
        self.todo = deque(todo)
        self.again: deque[RawShard] = deque()  # suspected of an outage of ours
        self.open: dict[int, RawShard] = {}
        self.requests: Iterator[Request] = iter(())
        self.plan, self.scratch = plan, scratch
        with (
            ThreadPoolExecutor(1) as appender,
            ThreadPoolExecutor(1) as publisher,  # apart, since it waits for the disk
            Engine(self.fetch, self.image, scratch, robots=self._known_robots()) as engine,
        ):
            self.engine, self.appender, self.publisher = engine, appender, publisher
            try:
                while (self.todo or self.again or self.open) and not self._drained():
                    self._feed()
                    for outcome in engine.poll(POLL_S):
                        self._take(outcome)
                    self._appended(wait=False)
                    while self.publishing and self.publishing[0].done():
                        self.publishing.popleft().result()
                for future in self.publishing:
                    future.result()
            finally:
                appender.shutdown()  # whatever stops us, shards that are complete are published
                publisher.shutdown()
                for shard in (*self.open.values(), *self.again):
                    shard.close()

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

    def _read(self, row_group: int) -> RawShard:
        rows = self.plan.read_row_group(row_group).select(PLAN.names).cast(PLAN)
        return RawShard(self.unit(row_group), row_group, in_order(rows, self.seed), self.scratch)

    def _requests(self, shard: RawShard, missing: list[int]) -> Iterator[Request]:
        urls, domains = shard.rows["url"].to_pylist(), shard.rows["domain"].to_pylist()
        for row in missing:
            yield Request(shard.row_group << ROW_BITS | row, urls[row], domains[row])

    # --- outcomes out --------------------------------------------------------------------------------------------------

    def _take(self, outcome: Outcome) -> None:
        shard = self.open[outcome.id >> ROW_BITS]
        shard.record(outcome.id & ((1 << ROW_BITS) - 1), outcome)
        if not shard.counted:
            self.on_progress(Progress(rows=1, successes=outcome.reason is None, bytes=outcome.bytes))
        if ready := shard.take_ready():
            self.appending.append((self.appender.submit(shard.append, ready), ready))
        if shard.left:
            return
        shard.counted = True
        suspect = self.outage.suspects(shard)
        del self.open[shard.row_group]
        if suspect:
            self._put_back(shard)
        else:
            written = self.appender.submit(shard.append, [])  # after all that was to be
            self.publishing.append(self.publisher.submit(self._publish, shard, written))

    def _put_back(self, shard: RawShard) -> None:
        """Asks again, later, for what failed transiently; what succeeded stays."""
        self._appended()
        failed = [row for row, o in enumerate(shard.outcomes) if o is not None and is_transient(o)]
        shard.ask_again(failed, self.engine.spools)
        self.again.append(shard)

    def _appended(self, wait: bool = True) -> None:
        """Gives back the places in the spools of what is in a tar by now; raises what went wrong on the way."""
        while self.appending and (wait or self.appending[0][0].done()):
            future, outcomes = self.appending.popleft()
            future.result()
            for outcome in outcomes:
                if outcome.spool is not None:
                    self.engine.spools.release(outcome.spool)
                    outcome.spool = None

    def _publish(self, shard: RawShard, written: Future[None]) -> None:
        """Ends the shard's three files and claims its marker, unless another was first."""
        written.result()
        self._keep_robots()
        with storage.scratch_dir(self.scratch) as scratch:
            files = {label: storage.join(scratch, f"shard.{ending}") for label, ending in ENDINGS.items()}
            restricted = storage.join(scratch, "shard.restricted.parquet")
            digest = shard.write(files["parquet"], files["fetch"], restricted)
            if storage.exists(restricted):
                files["restricted"] = restricted
            outcomes = shard.done()
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
            self.stage.publish(shard.unit, files | {"tar": shard.tar_path}, info, {"tar": digest})
        self.on_progress(Progress(shards=1))

    def _known_robots(self) -> dict[str, Any]:
        if not storage.exists(self.robots_path):
            return {}
        known: dict[str, Any] = json.loads(storage.read_bytes(self.robots_path))
        return known

    def _keep_robots(self) -> None:
        storage.write_bytes(self.robots_path, to_json(dict(self.engine.robots)))


ENDINGS = {"parquet": "parquet", "fetch": "fetch.parquet"}
