"""Partitions of the plan -> raw shards, fetched, decoded, hashed, encoded and written by the one worker that owns their domains.

A raw shard is a tar of pictures, a table with one row per planned row (failures included), and a table of all that varies from
run to run. Its marker publishes it, whole or not at all. The tail of one shard is fetched together with the head of the next.
"""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import pyarrow as pa

from wit.arithmetic import ceil_div
from wit.damage import damaged
from wit.download.met import TellsAddresses
from wit.download.outage import OutageWatch
from wit.download.rawshard import RawShard, in_order
from wit.fetch.config import FetchConfig
from wit.fetch.engine import Engine, Known
from wit.fetch.outcome import Outcome, Request
from wit.images.config import ImageConfig
from wit.images.expected import expected_hash
from wit.layout import KNOWN_ENDING, PLACES_FILE, RESTRICTED
from wit.records import PLAN
from wit.store import fs, lease, parquet
from wit.store.flight import side_by_side
from wit.store.manifests import Beside, Marker, Unit, read_object
from wit.store.parts import StageDir
from wit.store.scratch import local_scratch, scratch_dir
from wit.store.turns import never
from wit.tally import Tally, add_counts
from wit.typed import load, to_json
from wit.urls import host_of

_draining = threading.Event()


def drain() -> None:
    """Makes every download of this process stop cleanly: requests in flight are finished, incomplete shards stay unpublished, and
    `download` returns the markers there are. For a handler of SIGTERM."""
    _draining.set()


def resume() -> None:
    """Undoes `drain`."""
    _draining.clear()


WINDOW = 2_048  # requests that the engine holds: many hosts to choose from, and little to repeat when the engine dies
POLL_S = 0.5
SIDE_BY_SIDE = 8  # giants that one worker takes at a time: one alone, at 20 requests a second, would leave it idle
KEEP_KNOWN_S = 5.0  # between two writings of what servers said, unless a shard is published sooner
ROW_BITS = 32


@dataclass(frozen=True, slots=True)
class RobotsOfOrigin:
    """The robots.txt of an origin, as it is kept."""

    fetched: float
    text: str
    agent: str = ""


@dataclass(frozen=True, slots=True)
class WishOfHost:
    """The delays that a host asked for, in seconds, and until when it is left alone."""

    delays_s: Mapping[str, float]
    closed_until: float
    status: int


@dataclass(frozen=True, slots=True)
class Heard:
    """The file of what servers told the owner of a partition."""

    robots: Mapping[str, RobotsOfOrigin]
    hosts: Mapping[str, WishOfHost]


@dataclass(frozen=True, slots=True)
class Progress:
    """Work done since the last report."""

    shards: int = 0  # published
    rows: int = 0


@dataclass(frozen=True, slots=True, order=True)
class PartShards:
    """Raw shards to make: row groups of the plan part at `path`. `name` is the partition's, and its units' too."""

    name: str
    path: str
    shards: tuple[int, ...]


def download_partition(part: PartShards, **how: Any) -> list[Marker]:
    """`download` of some shards of one plan part."""
    return download(Owner(part.name, ((part,),)), **how)


@dataclass(frozen=True, slots=True)
class Owner:
    """The domains that one worker has to itself, as chains of plan parts. Chains are fetched side by side, the parts of a chain
    in turn. A host partition is one chain of one part; the partitions of a giant domain are one chain."""

    name: str  # of the file that keeps what servers told it
    chains: tuple[tuple[PartShards, ...], ...]
    hears: tuple[str, ...] = ()
    """Files, relative to OUT, of what servers told earlier owners of its domains: in a round of retries."""

    @property
    def units(self) -> frozenset[Unit]:
        """The raw shards to make."""
        return frozenset(planned.unit for chain in self.chains for part in chain for planned in planned_of(part))

    def without(self, done: Collection[Unit]) -> Owner:
        """The owner without the raw shards that are there already."""
        chains = []
        for chain in self.chains:
            left = [
                replace(part, shards=tuple(s for s in part.shards if Unit.raw(part.name, s) not in done))
                for part in chain
            ]
            chains.append(tuple(part for part in left if part.shards))
        return replace(self, chains=tuple(chain for chain in chains if chain))


def hosts_of(owner: Owner) -> pa.Table:
    """How many rows an owner is to fetch, by domain and host: columns domain, host and rows."""
    counted = [_NO_HOSTS.empty_table()]
    for part in (part for chain in owner.chains for part in chain):
        with parquet.open_file(part.path) as file:
            rows = file.read_row_groups(list(part.shards), columns=["domain", "host"])
        by_host = rows.group_by(["domain", "host"]).aggregate([([], "count_all")])
        counted.append(by_host.select(["domain", "host", "count_all"]).rename_columns(_NO_HOSTS.names).cast(_NO_HOSTS))
    added = pa.concat_tables(counted).group_by(["domain", "host"]).aggregate([("rows", "sum")])
    return added.select(["domain", "host", "rows_sum"]).rename_columns(_NO_HOSTS.names)


_NO_HOSTS = pa.schema([("domain", pa.string()), ("host", pa.string()), ("rows", pa.int64())])


@dataclass(frozen=True, slots=True, order=True)
class PlanPart:
    """A part of the plan: its raw shards, their rows in all, and the number of the giant it is a piece of, if any."""

    part: PartShards
    rows: int
    giant: int | None


def owners_of(parts: Sequence[PlanPart]) -> list[Owner]:
    """The owners of plan parts. Giants come first, since they take longest; they are dealt out, the largest first, to as few
    owners as can take SIDE_BY_SIDE each. Then comes one owner for each other partition."""
    giants: dict[int, list[PlanPart]] = {}
    for one in parts:
        if one.giant is not None:
            giants.setdefault(one.giant, []).append(one)
    sized = sorted(giants.values(), key=lambda pieces: (-sum(piece.rows for piece in pieces), pieces))
    chains = [tuple(piece.part for piece in pieces) for pieces in sized]
    workers = ceil_div(len(chains), SIDE_BY_SIDE)
    of_giants = [Owner(mine[0][0].name, tuple(mine)) for n in range(workers) if (mine := chains[n::workers])]
    return of_giants + [Owner(one.part.name, ((one.part,),)) for one in parts if one.giant is None]


# The giant's number that stands for all domains that a plan of version 0.1 split over partitions.
SPLIT = -1


def has_split_domains(part: str) -> bool:
    """Whether a plan part of version 0.1 holds pieces of a domain that the plan split over several partitions."""
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
    is_over: Callable[[], bool] = never,
    tells_addresses: bool = False,
) -> list[Marker]:
    """Publishes the raw shards of an owner and returns their markers in order. Once `is_over` says so, it stops as after `drain`.
    Where workers do not see each other, raw shards tell the addresses that they met (`wit.download.met`).

    Shards already published under this fingerprint are left as they are. Raises OutageError when this machine's network seems to
    be away. If it is killed, only the shards in flight are left unpublished."""
    stage = StageDir(out, "download", fingerprint)
    planned = [[one for part in chain for one in planned_of(part)] for chain in owner.chains]
    units = [one.unit for chain in planned for one in chain]
    there = {unit: marker for unit in units if (marker := stage.done(unit)) is not None}
    todo = [[one for one in chain if one.unit not in there] for chain in planned]
    if any(todo):
        tell = on_progress or (lambda progress: None)
        work = Work(owner, stage, seed, fetch, image, tell, is_over, tells_addresses)
        with scratch_dir(out) as scratch:
            work.run(todo, scratch)
    markers = [there.get(unit) or stage.marker(unit) for unit in units]
    return [marker for marker in markers if marker is not None]


class Planned(NamedTuple):
    """A raw shard to make: a row group of a plan part."""

    unit: Unit
    path: str
    row_group: int


def planned_of(part: PartShards) -> list[Planned]:
    """The raw shards to make from a part, in order."""
    return [Planned(Unit.raw(part.name, shard), part.path, shard) for shard in part.shards]


class Chain:
    """Shards that are fetched one after the other, the tail of one overlapping with the head of the next."""

    def __init__(self, todo: Sequence[Planned]) -> None:
        self.todo = deque(todo)
        self.again: deque[RawShard] = deque()  # looked like an outage of ours
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
        is_over: Callable[[], bool] = never,
        tells_addresses: bool = False,
    ) -> None:
        self.is_over, self.tells_addresses = is_over, tells_addresses
        self.stage, self.seed, self.fetch, self.image = stage, seed, fetch, image
        self.on_progress = on_progress
        self.owner, self.known_path = owner, fs.join(stage.path, owner.name + KNOWN_ENDING)
        self.kept = -1  # `engine.learnt` when the file was last written
        self.keep_at = 0.0
        self.outage = OutageWatch(fetch)
        self.appending: deque[tuple[Future[None], list[Outcome]]] = deque()  # with the outcomes whose spools it frees
        self.publishing: deque[Future[None]] = deque()
        self.open: dict[int, tuple[RawShard, Chain]] = {}  # by number
        self.numbers = itertools.count()

    def run(self, todo: Sequence[Sequence[Planned]], scratch: str) -> None:
        """Fetches and publishes the shards of all chains; returns early after `drain`. Raises OutageError."""
        self.chains = [Chain(chain) for chain in todo if chain]
        self.scratch, places = scratch, fs.join(local_scratch(self.stage.out), PLACES_FILE)
        with (
            ThreadPoolExecutor(1) as appender,
            ThreadPoolExecutor(1) as publisher,  # a second one, since it waits for the disk
            Engine(self.fetch, self.image, scratch, known=self._known(), places=places) as engine,
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
                appender.shutdown()  # complete shards are published, whatever stops us
                publisher.shutdown()
                for shard in [*(s for s, _ in self.open.values()), *(s for chain in self.chains for s in chain.again)]:
                    shard.abandon()

    def _has_work(self) -> bool:
        return bool(self.open) or any(chain.todo or chain.again for chain in self.chains)

    def _drained(self) -> bool:
        """Whether a drain was asked for, and no request is in flight any more."""
        return self._drains() and not self.engine.pending

    def _drains(self) -> bool:
        """Whether no more requests are to be sent."""
        return _draining.is_set() or self.is_over()

    # --- rows in -------------------------------------------------------------------------------------------------------

    def _feed(self) -> None:
        """Keeps the engine's window filled, an equal share for each chain. Does nothing during an outage's pause; for a drain it
        takes back what was not sent yet, or a slow host would keep the process for as long as its share of the window takes."""
        if self._drains():
            self.engine.recall()
            return
        if self.outage.is_pausing():
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
        """Opens the chain's next shard for requests; False if none is left."""
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
        with parquet.open_file(planned.path) as part:
            rows = part.read_row_group(planned.row_group).select(PLAN.names).cast(PLAN)
        return RawShard(planned.unit, next(self.numbers), in_order(rows, self.seed), self.scratch)

    def _requests(self, shard: RawShard, missing: list[int]) -> Iterator[Request]:
        urls, domains = shard.rows["url"].to_pylist(), shard.rows["domain"].to_pylist()
        expected = self._expected(shard) if self.image.verify_hash else [""] * len(urls)
        for row in missing:
            yield Request(shard.number << ROW_BITS | row, urls[row], domains[row], expected[row])

    def _expected(self, shard: RawShard) -> list[str]:
        """The hash of each row's picture, as the source list gives it."""
        column = self.image.verify_hash or ""
        rows = (json.loads(extra) if extra else {} for extra in shard.rows["extra"].to_pylist())
        return [expected_hash(column, row.get(column)) for row in rows]

    # --- outcomes out --------------------------------------------------------------------------------------------------

    def _take(self, outcome: Outcome) -> None:
        shard, chain = self.open[outcome.id >> ROW_BITS]
        chain.pending -= 1
        shard.record(outcome.id & ((1 << ROW_BITS) - 1), outcome)
        if not shard.counted:
            self.on_progress(Progress(rows=1))
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
            written = self.appender.submit(shard.append, [])  # behind every append before it
            self.publishing.append(self.publisher.submit(self._publish, shard, written))

    def _put_back(self, shard: RawShard, chain: Chain) -> None:
        """Queues the shard again for the rows that nobody answered; the other outcomes stay."""
        self._appended()
        failed = [row for row, o in enumerate(shard.outcomes) if o is not None and self.outage.is_unanswered(o)]
        shard.ask_again(failed, self.engine.spools)
        chain.again.append(shard)

    def _appended(self, wait: bool = True) -> None:
        """Frees the spool space of pictures that are in a tar by now; raises the error of an append that failed."""
        while self.appending and (wait or self.appending[0][0].done()):
            future, outcomes = self.appending.popleft()
            future.result()
            for outcome in outcomes:
                if outcome.spool is not None:
                    self.engine.spools.release(outcome.spool)
                    outcome.spool = None

    def _publish(self, shard: RawShard, written: Future[None]) -> None:
        """Ends the shard's files and claims its marker, unless another attempt was first."""
        written.result()
        with scratch_dir(self.scratch) as scratch:
            files = {label: fs.join(scratch, f"shard.{ending}") for label, ending in ENDINGS.items()}
            restricted = fs.join(scratch, "shard.restricted.parquet")
            digest = shard.write(files["parquet"], files["fetch"], restricted, tells_addresses=self.tells_addresses)
            if fs.exists(restricted):
                files[RESTRICTED] = restricted
            outcomes = shard.done()
            dropped = Counter(str(outcome.reason) for outcome in outcomes if outcome.reason is not None)
            tally = Tally(into=len(outcomes), out=len(outcomes) - dropped.total(), dropped=add_counts([dropped]))
            known = Beside(f"{self.stage.directory}/{fs.name_of(self.known_path)}")
            all_files, digests = files | {"tar": shard.tar_path}, {"tar": digest}
            facts = TellsAddresses() if self.tells_addresses else None
            self.stage.publish(shard.unit, all_files, tally, facts=facts, beside=[known], digests=digests)
        self.on_progress(Progress(shards=1))

    def _known(self) -> Known:
        """What servers told earlier workers of this owner and the owners that it hears; raises DamagedFile for a bad file.
        Of what it hears, robots.txt is taken over for its own hosts alone: there may be very many others."""
        known: Known = {"robots": {}, "hosts": {}}
        hosts = set(hosts_of(self.owner)["host"].to_pylist()) if self.owner.hears else set()
        for heard in side_by_side(_read_heard, (fs.join(self.stage.out, name) for name in self.owner.hears)):
            known["robots"] |= {at: said for at, said in heard["robots"].items() if host_of(at) in hosts}
            known["hosts"] |= heard["hosts"]
        own = _read_heard(self.known_path)
        return {kind: known[kind] | own[kind] for kind in known}

    def _keep_known(self, now: bool = False) -> None:
        """Writes down what servers said, before a shard is published and every KEEP_KNOWN_S: a restart must not forget it."""
        if self.engine.learnt != self.kept and (now or time.monotonic() >= self.keep_at):
            self.kept, self.keep_at = self.engine.learnt, time.monotonic() + KEEP_KNOWN_S
            lease.check(self.stage.out)  # a later builder's file is under a digest by now
            fs.write_bytes(self.known_path, to_json(self.engine.known))


def _read_heard(path: str) -> Known:
    heard = read_object(path) or {}
    if "hosts" not in heard:  # of version 0.1: robots.txt alone
        heard = {"robots": heard, "hosts": {}}
    try:
        load(Heard, heard)
    except ValueError as error:
        raise damaged(path, error) from error
    return heard


ENDINGS = {"parquet": "parquet", "fetch": "fetch.parquet"}
