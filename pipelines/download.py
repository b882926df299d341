"""download: host partitions of shard lists -> raw tars and tables. Image bytes never leave the unit of work."""

from __future__ import annotations

import contextlib
import functools
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import FrameType

import apache_beam as beam

from pipelines import progress
from pipelines.context import Context
from pipelines.gather import gather
from wit.download import preflight, retry
from wit.download.partition import (
    SPLIT,
    Owner,
    PartShards,
    PlanPart,
    download,
    drain,
    has_split_domains,
    hosts_of,
    owners_of,
    resume,
)
from wit.download.retry import Attempted, Failed, RoundPart
from wit.download.watch import Watch
from wit.early import handled
from wit.errors import Busy, Drained, OutageError, Stopped
from wit.fetch.config import FetchConfig
from wit.images.config import ImageConfig
from wit.layout import DRAIN_FILE, OUTAGE_FILE, RETRY
from wit.plan.facts import GIANT_UNKNOWN, Partition
from wit.stages import before_stage
from wit.store import fs
from wit.store.awaited import check_complete
from wit.store.manifests import Manifest, Marker, Unit, outlined
from wit.store.packed import Packed
from wit.store.parts import StageDir, packed
from wit.store.turns import forget_turns, never, turn


@dataclass(eq=False)  # not frozen: Beam sets attributes of its own
class DownloadOwner(beam.DoFn):  # type: ignore[misc]
    """Owner -> markers of the raw shards it published. An outage goes into a file that `download_parts` reads."""

    stage: StageDir
    seed: int
    fetch: FetchConfig
    image: ImageConfig
    slots: int = 0
    """How many owners are worked on at once, where an engine has workers that are not this process's: one may be run twice at
    once there, and hears no signal. 0: all are this process's."""

    def process(self, owner: Owner) -> Iterator[Marker]:
        """Yields the markers of the owner; after an outage none, and the reason is in `outage_path`."""
        try:
            yield from self.download(owner)
        except OutageError as error:  # raised, an engine would print its traceback or try again at once
            fs.write_bytes(outage_path(self.stage), str(error).encode())

    def download(self, owner: Owner) -> list[Marker]:
        """Publishes the owner's raw shards, when nobody else is at work on them and a slot is free; who waits holds no fetch
        engine. Raises OutageError where the network is away."""
        if not self.slots:
            return self.publish(owner, never)
        slots = [f"slot-{number:05d}" for number in range(self.slots)]
        with (
            contextlib.suppress(Busy),  # the job is to stop, and others are at work
            turn(self.stage.out, owner.name, give_up=self.is_drained) as taken,
            turn(self.stage.out, *slots, give_up=self.is_drained) as slot_taken,
            Watch(self.is_drained, lambda: taken() or slot_taken()) as over,
        ):
            return self.publish(owner, over)
        return []

    def is_drained(self) -> bool:
        """Whether the driver was told to stop."""
        return fs.exists(drain_path(self.stage))

    def publish(self, owner: Owner, is_over: Callable[[], bool]) -> list[Marker]:
        """The markers of the owner's raw shards: all, unless `is_over` says so."""
        return download(
            owner,
            out=self.stage.out,
            fingerprint=self.stage.fingerprint,
            seed=self.seed,
            fetch=self.fetch.shared(self.slots) if self.slots else self.fetch,
            image=self.image,
            on_progress=lambda done: progress.advance(done.shards, pairs=done.rows),
            is_over=is_over,
            tells_addresses=bool(self.slots),
        )


def before_download(stages: list[str]) -> list[str]:
    """The stages among these that send no request to hosts of pictures."""
    return [name for name in stages if name in before_stage("download")]


def outage_path(stage: StageDir) -> str:
    """Where a worker leaves word that the network is away."""
    return fs.join(stage.path, OUTAGE_FILE)


def drain_path(stage: StageDir) -> str:
    """Where the driver leaves word that workers are to stop; they look for it."""
    return fs.join(stage.path, DRAIN_FILE)


def tell_workers_to_stop(stage: StageDir) -> None:
    """Leaves word for workers elsewhere, from a thread: a handler of a signal must not wait for a store."""
    threading.Thread(target=fs.write_bytes, args=(drain_path(stage), b""), daemon=True).start()


@contextlib.contextmanager
def draining_on_sigterm(stop_workers: Callable[[], None] = drain) -> Iterator[threading.Event]:
    """While the block runs, the first SIGTERM sets the event that is yielded, lets requests in flight finish, and leaves the rest
    unpublished. A second SIGTERM goes to the handler that was set before."""
    asked = threading.Event()
    before = signal.getsignal(signal.SIGTERM)

    def stop(number: int, frame: FrameType | None) -> None:
        if asked.is_set() and callable(before):
            before(number, frame)
        asked.set()
        stop_workers()

    with handled(stop, signal.SIGTERM):
        try:
            yield asked
        finally:
            resume()


def run_download(context: Context) -> Manifest:
    """Fetches every raw shard of the plan; if asked, one more round over rows that failed for a passing reason."""
    stage = context.stage("download")
    manifest = stage.manifest() or first_pass(context)
    if context.retries == (manifest.retries or 0):
        return manifest
    markers = [*manifest.parts, *run_round(context, manifest)]
    fs.remove(fs.join(stage.out, RETRY))
    return stage.finish(markers, [marker.unit for marker in markers], retries=context.retries)


def run_round(context: Context, manifest: Manifest) -> list[Marker]:
    """Fetches the rows of a finished download again that failed for a reason that was asked for; returns the markers of the
    round, its accounting first."""
    stage, number, reasons = context.stage("download"), context.retries, context.config.retried_reasons()
    config, giants = context.config.plan, retry.giants_of(plan_parts(context))
    most = retry.rows_of_a_partition(retry.begun(stage, number, reasons), config.rows_per_partition)
    passes = retry.Passes(stage.out, reasons, config.rows_per_raw_shard)
    every = retry.attempted(manifest.parts)
    found = gather(
        context.engine, every, Attempted, lambda some: some | "Find" >> beam.Map(passes.find), Failed, out=stage.out
    )
    check_complete(stage.stage, [one.name for one in every], (one.name for one in found))
    parts = retry.lay_out(number, found, giants, rows_per_partition=most)
    written = gather(
        context.engine,
        parts,
        RoundPart,
        lambda some: some | "Write" >> beam.Map(passes.write),
        RoundPart,
        out=stage.out,
    )
    check_complete(stage.stage, [part.name for part in parts], (part.name for part in written))
    plan = retry.planned(stage.out, parts, found, giants, config.rows_per_raw_shard)
    accounting = retry.account(stage, number, reasons, found, plan)
    owners = retry.hearing(owners_of(plan), parts, manifest.parts)
    return [accounting, *download_parts(context, owners, pending_of(owners, stage.units()))]


def first_pass(context: Context) -> Manifest:
    """Fetches every raw shard of the plan. Rounds of retries that were finished are kept, should only the manifest be gone."""
    stage, owners = context.stage("download"), plan_owners(context)
    pending = pending_of(owners, stage.units())
    tell(context, pending)
    markers = download_parts(context, owners, pending)
    rounds, retried = retry.finished_rounds(stage, context.config.plan.rows_per_raw_shard)
    info = {"retries": rounds} if rounds else {}
    every = [*markers, *retried] if retried else markers
    return stage.finish(every, [*units_of(owners), *(marker.unit for marker in retried)], **info)


def plan_owners(context: Context) -> list[Owner]:
    """Who downloads which parts of the plan, the slowest first."""
    return owners_of(plan_parts(context))


def plan_parts(context: Context) -> list[PlanPart]:
    """The host partitions of the plan."""
    above = context.stage("plan")
    return [plan_part(above, marker) for marker in context.manifest("plan").of("part")]


def plan_part(above: StageDir, marker: Marker) -> PlanPart:
    """A host partition as the plan has it."""
    facts, path = above.facts(marker, Partition), above.file(marker, "rows")
    giant = facts.giant
    if giant == GIANT_UNKNOWN:  # version 0.1
        giant = SPLIT if has_split_domains(path) else None
    return PlanPart(PartShards(marker.unit.place, path, tuple(range(facts.shards))), marker.out, giant)


def units_of(owners: list[Owner]) -> list[Unit]:
    """The raw shards that the owners are to publish."""
    return [unit for owner in owners for unit in sorted(owner.units)]


def pending_of(owners: list[Owner], published: Iterable[Unit]) -> list[Owner]:
    """The owners that still have raw shards to publish, with those shards alone. By the names of markers: that one is of other
    settings, or has lost a file, the worker finds."""
    done = frozenset(published)
    return [left for owner in owners if (left := owner.without(done)).chains]


def tell_what_it_takes(context: Context) -> None:
    """Prints what the download of a finished plan will take; raises Stopped where the disk will not do."""
    stage = context.stage("download")
    tell(context, [] if stage.manifest() else pending_of(plan_owners(context), stage.units()))


def asked_of_owner(owner: Owner, fetch: FetchConfig) -> preflight.Asked:
    """What the owner is to fetch, in numbers."""
    return preflight.asked_of(owner.name, hosts_of(owner), fetch)


def tell(context: Context, pending: list[Owner]) -> None:
    """Prints what these downloads will take; raises Stopped where the disk will not do."""
    config = context.config
    if not pending:
        print("to fetch   nothing", file=sys.stderr)
        return
    asked = gather(
        context.engine,
        pending,
        Owner,
        lambda every: every | "HostsOf" >> beam.Map(asked_of_owner, config.fetch),
        preflight.Asked,
        out=config.output,
    )
    needs = preflight.preflight(
        asked,
        fetch=config.fetch,
        image=config.image,
        workers=min(config.processes() if context.engine.local else config.fetch.fetch_workers, len(pending)),
        copies=1 + ("publish" in config.stage_names()),
        bytes_per_picture=config.picture_bytes,
    )
    free = fs.free_bytes(config.output)
    for line in preflight.lines(needs, free):
        print(line, file=sys.stderr)
    if free is not None and needs.bytes_needed > free:
        raise Stopped(  # and not InputError: the plan stands by now
            f"the disk of {config.output} has {free / 1e9:,.3f} GB free and the set needs about "
            f"{needs.bytes_needed / 1e9:,.3f} GB: make room, choose another --output, a smaller --image-size or --target, "
            "or give --picture-bytes where your pictures are smaller than usual"
        )


def download_parts(context: Context, owners: list[Owner], pending: list[Owner]) -> Packed[Marker]:
    """Publishes the owners' missing raw shards, by their names those of `pending`; returns the markers of all. Raises OutageError
    where the network is away, Drained after SIGTERM, and Stopped where a shard is missing without either."""
    config, stage = context.config, context.stage("download")
    wanted = set(units_of(owners))
    for word in (outage_path(stage), drain_path(stage)):
        fs.remove(word)
    local = context.engine.local
    slots = 0 if local else config.fetch.fetch_workers
    download = DownloadOwner(stage, context.seed, config.fetch, config.image, slots)
    stop_workers = drain if local else functools.partial(tell_workers_to_stop, stage)
    left = len(units_of(pending))
    with draining_on_sigterm(stop_workers) as asked_to_stop, progress.bar("download", stage, total=left, unit="shards"):
        published = gather(
            context.engine,
            owners,
            Owner,
            lambda every: every | "Download" >> beam.ParDo(download),
            Marker,
            out=stage.out,
            expected=len(wanted),
        )
    forget_turns(stage.out)
    fs.remove(drain_path(stage))
    markers = stage.standing(published)
    if fs.exists(outage_path(stage)):
        raise OutageError(fs.read_bytes(outage_path(stage)).decode())
    names, there = set(map(str, wanted)), {one.unit for one, _ in outlined(markers)}
    if asked_to_stop.is_set():
        raise Drained(
            f"by SIGTERM, {len(names & there)} of {len(names)} raw shards are published: start the build again"
        )
    check_complete(stage.stage, names, there)
    return packed(data for one, data in outlined(markers) if one.unit in names) if there - names else markers
