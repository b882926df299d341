"""download: host partitions of shard lists -> raw tars and tables. Image bytes never leave the unit of work."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType

import apache_beam as beam

from pipelines import progress
from pipelines.context import Context
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
from wit.early import handled
from wit.errors import Drained, OutageError, Stopped
from wit.fetch.config import FetchConfig
from wit.images.config import ImageConfig
from wit.layout import OUTAGE_FILE, RETRY
from wit.plan.facts import GIANT_UNKNOWN, Partition
from wit.stages import before_stage
from wit.store import fs
from wit.store.manifests import Manifest, Marker, Unit
from wit.store.parts import StageDir, check_complete


@dataclass(eq=False)  # not frozen: Beam sets attributes of its own
class DownloadOwner(beam.DoFn):  # type: ignore[misc]
    stage: StageDir
    seed: int
    fetch: FetchConfig
    image: ImageConfig

    def process(self, owner: Owner) -> Iterator[Marker]:
        try:
            yield from self.download(owner)
        except OutageError as error:  # an engine would hand on its traceback, or try again at once
            fs.write_bytes(outage_path(self.stage), str(error).encode())

    def download(self, owner: Owner) -> list[Marker]:
        return download(
            owner,
            out=self.stage.out,
            fingerprint=self.stage.fingerprint,
            seed=self.seed,
            fetch=self.fetch,
            image=self.image,
            on_progress=lambda done: progress.advance(done.shards, pairs=done.rows),
        )


def before_download(stages: list[str]) -> list[str]:
    """Those of the stages that send no request to hosts of pictures."""
    return [name for name in stages if name in before_stage("download")]


def outage_path(stage: StageDir) -> str:
    return fs.join(stage.path, OUTAGE_FILE)


@contextlib.contextmanager
def draining_on_sigterm() -> Iterator[threading.Event]:
    """While the block runs, SIGTERM finishes what is requested and leaves the rest unpublished, and the event tells of it; a
    second one does what it would have done without this."""
    asked = threading.Event()
    before = signal.getsignal(signal.SIGTERM)

    def stop(number: int, frame: FrameType | None) -> None:
        if asked.is_set() and callable(before):
            before(number, frame)
        asked.set()
        drain()

    with handled(stop, signal.SIGTERM):
        try:
            yield asked
        finally:
            resume()


def run_download(context: Context) -> Manifest:
    """Every raw shard of the plan, and if asked for a further round over what failed for a passing reason."""
    stage = context.stage("download")
    manifest = stage.manifest() or first_pass(context)
    if context.retries == (manifest.retries or 0):
        return manifest
    part, shards, accounting = retry.write_round(
        stage,
        context.retries,
        manifest.parts,
        context.config.retried_reasons(),
        rows_per_shard=context.config.plan.rows_per_raw_shard,
    )
    name = retry.partition_name(context.retries)
    again = [Owner(name, ((PartShards(name, part, tuple(range(shards))),),), hears_all=True)]
    markers = [*manifest.parts, accounting, *download_parts(context, again)]
    fs.remove(fs.join(stage.out, RETRY))
    return stage.finish(markers, [marker.unit for marker in markers], retries=context.retries)


def first_pass(context: Context) -> Manifest:
    """Every raw shard of the plan, and the rounds of retries that were finished if it is only their manifest that is gone."""
    stage, owners = context.stage("download"), plan_owners(context)
    tell_what_it_takes(context)
    markers = download_parts(context, owners)
    rounds, retried = retry.finished_rounds(stage.markers(), context.config.plan.rows_per_raw_shard)
    info = {"retries": rounds} if rounds else {}
    return stage.finish([*markers, *retried], [*units_of(owners), *(marker.unit for marker in retried)], **info)


def plan_owners(context: Context) -> list[Owner]:
    """Who downloads which parts of the plan, the slowest first."""
    above = context.stage("plan")
    return owners_of([plan_part(above, marker) for marker in context.manifest("plan").of("part")])


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


def pending_of(context: Context, owners: list[Owner]) -> list[Owner]:
    """The owners, with those raw shards that are not there yet."""
    published = {marker.unit for marker in context.stage("download").markers()}
    return [left for owner in owners if (left := owner.without(published)).chains]


def tell_what_it_takes(context: Context) -> None:
    """Prints what the download of a finished plan will take; raises Stopped where the disk will not do."""
    config = context.config
    pending = pending_of(context, plan_owners(context))
    if context.stage("download").manifest() or not pending:
        print("to fetch   nothing", file=sys.stderr)
        return
    needs = preflight.preflight(
        map(hosts_of, pending),
        fetch=config.fetch,
        image=config.image,
        workers=min(config.processes(), len(pending)),
        copies=1 + ("publish" in config.stage_names()),
        bytes_per_picture=config.picture_bytes,
    )
    free = fs.free_bytes(config.output)
    for line in preflight.lines(needs, free):
        print(line, file=sys.stderr)
    if free is not None and needs.bytes_needed > free:
        raise Stopped(  # not as bad input: the plan stands by now
            f"the disk of {config.output} has {free / 1e9:,.3f} GB free and the set needs about "
            f"{needs.bytes_needed / 1e9:,.3f} GB: make room, choose another --output, a smaller --image-size or --target, "
            "or give --picture-bytes where your pictures are smaller than usual"
        )


def download_parts(context: Context, owners: list[Owner]) -> list[Marker]:
    """Publishes the raw shards of the owners that are not there yet; returns their markers."""
    config, stage = context.config, context.stage("download")
    wanted, pending = set(units_of(owners)), pending_of(context, owners)
    fs.remove(outage_path(stage))
    download = DownloadOwner(stage, context.seed, config.fetch, config.image)
    bar = progress.bar("download", stage, total=len(units_of(pending)), unit="shards")
    with draining_on_sigterm() as asked_to_stop, bar:
        if pending:
            context.engine.run(
                lambda p: p | "Owners" >> beam.Create(pending) | beam.Reshuffle() | "Download" >> beam.ParDo(download)
            )
    markers = stage.markers()
    if fs.exists(outage_path(stage)):
        raise OutageError(fs.read_bytes(outage_path(stage)).decode())
    missing = wanted - {marker.unit for marker in markers}
    if asked_to_stop.is_set():
        raise Drained(
            f"by SIGTERM, {len(wanted) - len(missing)} of {len(wanted)} raw shards are published: start the build again"
        )
    check_complete(stage.stage, [str(unit) for unit in wanted], (str(marker.unit) for marker in markers))
    return [marker for marker in markers if marker.unit in wanted]
