"""Partitions of the plan to raw shards: fetched, decoded, hashed, encoded and written by the one worker that owns their domains.

A raw shard is a tar of pictures, a table with one row per planned row (failures included) and a table of what varies by
nature. It is published by its marker, whole or not at all; the tail of one shard overlaps with the head of the next.
"""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from wit import parquet, storage
from wit.arrays import ceil_div
from wit.damage import damaged
from wit.fetch.config import FetchConfig
from wit.fetch.engine import Engine, Known
from wit.fetch.outcome import Outcome, Request
from wit.images.config import ImageConfig
from wit.images.expected import expected_hash
from wit.outage import OutageWatch
from wit.parts import NUMBER, Marker, Shape, StageDir, read_json, shaped, to_json
from wit.rawshard import RawShard, in_order
from wit.records import PLAN

_draining = threading.Event()


def drain() -> None:
    """Makes every download of this process stop cleanly: what is requested already is finished, shards that need more are
    left unpublished, and `download` returns the markers there are. For a handler of SIGTERM."""
    _draining.set()


def resume() -> None:
    """Undoes `drain`."""
    _draining.clear()


WINDOW = 2_048  # requests that the engine holds: enough hosts to choose from, little to repeat when it dies
POLL_S = 0.5
SIDE_BY_SIDE = 8  # giants that one worker takes at a time: at 20 requests a second each keeps it from idling
KNOWN_FILE = ".robots.json"
KNOWN: Shape = {
    "robots": {None: {"fetched": NUMBER, "text": str, "agent?": str}},
    "hosts": {None: {"delays_s": {None: NUMBER}, "closed_until": NUMBER, "status": int}},
}
KEEP_KNOWN_S = 5.0  # between two writings of what servers said, while no shard is published
ROW_BITS = 32


@dataclass(frozen=True, slots=True)
class Progress:
    """What was done since the last call."""

    shards: int = 0  # published
    rows: int = 0
    successes: int = 0
    bytes: int = 0  # of bodies


PartShards = tuple[str, tuple[int, ...]]  # path of a plan part, and shards (row groups) of it


def download_partition(part: str, shards: Sequence[int], **how: Any) -> list[Marker]:
    """`download` of some shards of one plan part."""
    return download(Owner(part_name(part), (((part, tuple(shards)),),)), **how)


@dataclass(frozen=True, slots=True)
class Owner:
    """What one worker has to itself: chains of plan parts, the parts of each taken in turn, the chains side by side. A host
    partition is one chain of one part; the partitions of a giant domain are a chain."""

    name: str  # of what servers told it, among all workers
    chains: tuple[tuple[PartShards, ...], ...]
    hears_all: bool = False  # what servers told any owner: a round of retries has the domains of all

    @property
    def units(self) -> frozenset[str]:
        """The raw shards to be."""
        return frozenset(Planned(part, s).unit for chain in self.chains for part, shards in chain for s in shards)

    def without(self, done: Collection[str]) -> Owner:
        """The owner without the raw shards that are there already."""
        chains = []
        for chain in self.chains:
            left = [(part, tuple(s for s in shards if Planned(part, s).unit not in done)) for part, shards in chain]
            chains.append(tuple((part, shards) for part, shards in left if shards))
        return replace(self, chains=tuple(chain for chain in chains if chain))


def hosts_of(owner: Owner) -> pa.Table:
    """Planned rows by domain and host of all that an owner is to fetch: columns domain, host and rows."""
    counted = [_NO_HOSTS.empty_table()]
    for part, shards in (one for chain in owner.chains for one in chain):
        with parquet.open_file(part) as file:
            rows = file.read_row_groups(list(shards), columns=["domain", "host"])
        by_host = rows.group_by(["domain", "host"]).aggregate([([], "count_all")])
        counted.append(by_host.select(["domain", "host", "count_all"]).rename_columns(_NO_HOSTS.names).cast(_NO_HOSTS))
    added = pa.concat_tables(counted).group_by(["domain", "host"]).aggregate([("rows", "sum")])
    return added.select(["domain", "host", "rows_sum"]).rename_columns(_NO_HOSTS.names)


_NO_HOSTS = pa.schema([("domain", pa.string()), ("host", pa.string()), ("rows", pa.int64())])


def owners_of(parts: Sequence[tuple[str, int, int, int | None]]) -> list[Owner]:
    """The owners of plan parts, each given as (path, shards, rows, number of the giant that it is a piece of): giants first, the
    largest of them spread over as few workers as have SIDE_BY_SIDE each, since they take longest; then one owner a partition."""
    giants: dict[int, list[tuple[str, int, int]]] = {}
    for path, shards, rows, giant in parts:
        if giant is not None:
            giants.setdefault(giant, []).append((path, shards, rows))
    sized = sorted(giants.values(), key=lambda pieces: (-sum(rows for _, _, rows in pieces), pieces))
    chains = [tuple((path, tuple(range(shards))) for path, shards, _ in pieces) for pieces in sized]
    workers = ceil_div(len(chains), SIDE_BY_SIDE)
    found = [Owner(part_name(mine[0][0][0]), tuple(mine)) for n in range(workers) if (mine := chains[n::workers])]
    alone = [(path, shards) for path, shards, _, giant in parts if giant is None]
    return found + [Owner(part_name(path), (((path, tuple(range(shards))),),)) for path, shards in alone]


SPLIT = (
    -1
)  # the number of the giant that stands for all domains of a plan of version 0.1 that were split over partitions


def has_split_domains(part: str) -> bool:
    """Whether a plan part of version 0.1 holds pieces of domains that were to be fetched from several partitions at once."""
    return any(split > 1 for split in parquet.read_table(part, ["domain_split"])["domain_split"].unique().to_pylist())


def download(
    owner: Owner,
    *,
    out: str,
    fingerprint: str,
    seed: int,
    fetch: FetchConfig,
    image: ImageConfig,
    on_progress: Callable[[Progress], None] | None = None,
) -> list[Marker]:
    """Publishes the raw shards of an owner and returns their markers in order.

    Shards that this fingerprint has published already are left as they are. Raises OutageError when this machine's
    network seems to be away; killed at any instant, it leaves unpublished only what was in flight."""
    stage = StageDir(out, "download", fingerprint)
    planned = [[Planned(part, s) for part, shards in chain for s in shards] for chain in owner.chains]
    todo = [[one for one in chain if stage.done(one.unit) is None] for chain in planned]
    if any(todo):
        work = Work(owner, stage, seed, fetch, image, on_progress or (lambda progress: None))
        with storage.scratch_dir(out) as scratch:
            work.run(todo, scratch)
    found = [stage.marker(one.unit) for chain in planned for one in chain]
    return [marker for marker in found if marker is not None]


def part_name(part: str) -> str:
    """The number of a plan part, which is in the name of all that comes of it."""
    return storage.name_of(part).partition(".")[0].rpartition("-")[2]


@dataclass(frozen=True, slots=True)
class Planned:
    """A raw shard to be: a row group of a plan part."""

    part: str
    row_group: int

    @property
    def unit(self) -> str:
        return f"{part_name(self.part)}-{self.row_group:04d}"


class Chain:
    """Shards that are fetched one after the other, the tail of one overlapping with the head of the next."""

    def __init__(self, todo: Sequence[Planned]) -> None:
        self.todo = deque(todo)
        self.again: deque[RawShard] = deque()  # suspected of an outage of ours
        self.requests: Iterator[Request] = iter(())
        self.pending = 0  # requests that have no outcome yet


class Work:
    """The state of one call of `download`."""

    def __init__(
        self,
        owner: Owner,
        stage: StageDir,
        seed: int,
        fetch: FetchConfig,
        image: ImageConfig,
        on_progress: Callable[[Progress], None],
    ) -> None:
        self.stage, self.seed, self.fetch, self.image = stage, seed, fetch, image
        self.on_progress = on_progress
        self.known_path, self.hears_all = storage.join(stage.path, owner.name + KNOWN_FILE), owner.hears_all
        self.kept = -1  # what of `engine.learnt` the file has
        self.keep_at = 0.0
        self.outage = OutageWatch(fetch)
        self.appending: deque[tuple[Future[None], list[Outcome]]] = deque()  # with what is out of its spool then
        self.publishing: deque[Future[None]] = deque()
        self.open: dict[int, tuple[RawShard, Chain]] = {}  # by number
        self.numbers = itertools.count()

    def run(self, todo: Sequence[Sequence[Planned]], scratch: str) -> None:
        self.chains = [Chain(chain) for chain in todo if chain]
        self.scratch = scratch
        with (
            ThreadPoolExecutor(1) as appender,
            ThreadPoolExecutor(1) as publisher,  # apart, since it waits for the disk
            Engine(self.fetch, self.image, scratch, known=self._known(), places=places_path(self.stage.out)) as engine,
        ):
            self.engine, self.appender, self.publisher = engine, appender, publisher
            try:
                while self._has_work() and not self._drained():
                    self._feed()
                    for outcome in engine.poll(POLL_S):
                        self._take(outcome)
                    self._appended(wait=False)
                    self._keep_known()
                    while self.publishing and self.publishing[0].done():
                        self.publishing.popleft().result()
                for future in self.publishing:
                    future.result()
            finally:
                appender.shutdown()  # whatever stops us, shards that are complete are published
                publisher.shutdown()
                for shard in [*(s for s, _ in self.open.values()), *(s for chain in self.chains for s in chain.again)]:
                    shard.close()

    def _has_work(self) -> bool:
        return bool(self.open) or any(chain.todo or chain.again for chain in self.chains)

    def _drained(self) -> bool:
        """Whether a drain was asked for and nothing is on its way any more."""
        return _draining.is_set() and not self.engine.pending

    # --- rows in -------------------------------------------------------------------------------------------------------

    def _feed(self) -> None:
        """Keeps the engine's window filled, each chain with its share, shard after shard, unless an outage makes us wait."""
        if self.outage.is_pausing() or _draining.is_set():
            return
        batch: list[Request] = []
        for chain in self.chains:
            while chain.pending < WINDOW // len(self.chains):
                request = next(chain.requests, None)
                if request is not None:
                    chain.pending += 1
                    batch.append(request)
                elif not self._open_next(chain):
                    break
        if batch:
            self.engine.submit(batch)

    def _open_next(self, chain: Chain) -> bool:
        """Opens the chain's next shard for requests; False where none is left."""
        if chain.todo:
            shard = self._read(chain.todo.popleft())
        elif chain.again:
            shard = chain.again.popleft()
            self.engine.forget_failures()
        else:
            return False
        missing = [row for row, outcome in enumerate(shard.outcomes) if outcome is None]
        shard.left = len(missing)
        if not missing:
            self.on_progress(Progress(shards=1))
            return True
        self.open[shard.number] = shard, chain
        chain.requests = self._requests(shard, missing)
        return True

    def _read(self, planned: Planned) -> RawShard:
        with parquet.open_file(planned.part) as part:
            rows = part.read_row_group(planned.row_group).select(PLAN.names).cast(PLAN)
        return RawShard(planned.unit, next(self.numbers), in_order(rows, self.seed), self.scratch)

    def _requests(self, shard: RawShard, missing: list[int]) -> Iterator[Request]:
        urls, domains = shard.rows["url"].to_pylist(), shard.rows["domain"].to_pylist()
        expected = self._expected(shard) if self.image.verify_hash else [""] * len(urls)
        for row in missing:
            yield Request(shard.number << ROW_BITS | row, urls[row], domains[row], expected[row])

    def _expected(self, shard: RawShard) -> list[str]:
        """The hash that the list has of each row's picture."""
        column = self.image.verify_hash or ""
        rows = (json.loads(extra) if extra else {} for extra in shard.rows["extra"].to_pylist())
        return [expected_hash(column, row.get(column)) for row in rows]

    # --- outcomes out --------------------------------------------------------------------------------------------------

    def _take(self, outcome: Outcome) -> None:
        shard, chain = self.open[outcome.id >> ROW_BITS]
        chain.pending -= 1
        shard.record(outcome.id & ((1 << ROW_BITS) - 1), outcome)
        if not shard.counted:
            self.on_progress(Progress(rows=1, successes=outcome.reason is None, bytes=outcome.bytes))
        if ready := shard.take_ready():
            self.appending.append((self.appender.submit(shard.append, ready), ready))
        if shard.left:
            return
        shard.counted = True
        suspect = self.outage.suspects(shard)
        del self.open[shard.number]
        if suspect:
            self._put_back(shard, chain)
        else:
            self._keep_known(now=True)
            written = self.appender.submit(shard.append, [])  # after all that was to be
            self.publishing.append(self.publisher.submit(self._publish, shard, written))

    def _put_back(self, shard: RawShard, chain: Chain) -> None:
        """Asks again, later, for what nobody answered; what was answered stays."""
        self._appended()
        failed = [row for row, o in enumerate(shard.outcomes) if o is not None and self.outage.is_unanswered(o)]
        shard.ask_again(failed, self.engine.spools)
        chain.again.append(shard)

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
                "beside": [{"name": f"{self.stage.directory}/{storage.name_of(self.known_path)}"}],
            }
            self.stage.publish(shard.unit, files | {"tar": shard.tar_path}, info, {"tar": digest})
        self.on_progress(Progress(shards=1))

    def _known(self) -> Known:
        """What servers said to earlier workers of this owner, or to all."""
        paths = [self.known_path]
        if self.hears_all:
            names = [name for name in storage.list_dir(self.stage.path) if name.endswith(KNOWN_FILE)]
            paths += [storage.join(self.stage.path, name) for name in names]
        known: Known = {"robots": {}, "hosts": {}}
        for path in paths:
            found = read_json(path) or {}
            if "hosts" not in found:  # of version 0.1: robots.txt alone
                found = {"robots": found, "hosts": {}}
            if not shaped(found, KNOWN):
                raise damaged(path, "it lacks fields")
            for kind in known:
                known[kind] |= found[kind]
        return known

    def _keep_known(self, now: bool = False) -> None:
        """Writes down what servers said, before a shard is published and now and then: a restart must not forget it."""
        if self.engine.learnt != self.kept and (now or time.monotonic() >= self.keep_at):
            self.kept, self.keep_at = self.engine.learnt, time.monotonic() + KEEP_KNOWN_S
            storage.write_bytes(self.known_path, to_json(self.engine.known))


PLACES = "places"


def places_path(out: str) -> str:
    """The file in which all workers of a build on this machine count their requests; its times are those since the last boot."""
    return storage.join(storage.local_scratch(out), PLACES)


ENDINGS = {"parquet": "parquet", "fetch": "fetch.parquet"}
