"""download: host partitions of shard lists -> raw tars and tables. Image bytes never leave the unit of work."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import apache_beam as beam
import pyarrow as pa

from pipelines import progress
from pipelines.context import Context
from wit import parquet, preflight, retry, storage
from wit.download import download_partition, drain, resume
from wit.fetch.config import FetchConfig
from wit.fetch.errors import OutageError
from wit.images.config import ImageConfig
from wit.parts import Marker, StageDir, check_complete
from wit.records import STAGES, InputError, Stopped


@dataclass(frozen=True, slots=True)
class Partition:
    """One host partition: its plan part and the shards (row groups) of it that are not published yet."""

    part: str
    shards: tuple[int, ...]


@dataclass(eq=False)  # not frozen: Beam sets attributes of its own
class DownloadPartition(beam.DoFn):  # type: ignore[misc]
    stage: StageDir
    seed: int
    fetch: FetchConfig
    image: ImageConfig

    def process(self, partition: Partition) -> Iterator[Marker]:
        try:
            yield from self.download(partition)
        except OutageError as error:  # an engine would hand on its traceback, or try again at once
            storage.write_bytes(outage_path(self.stage), str(error).encode())

    def download(self, partition: Partition) -> list[Marker]:
        return download_partition(
            partition.part,
            partition.shards,
            out=self.stage.out,
            fingerprint=self.stage.fingerprint,
            seed=self.seed,
            fetch=self.fetch,
            image=self.image,
            on_progress=lambda done: progress.advance(done.shards, pairs=done.rows),
        )


def before_download(stages: list[str]) -> list[str]:
    """Those of the stages that send no request to hosts of pictures."""
    return [name for name in stages if STAGES.index(name) < STAGES.index("download")]


def outage_path(stage: StageDir) -> str:
    return storage.join(stage.path, "_OUTAGE.txt")


def raw_unit(part_unit: str, shard: int) -> str:
    return f"{part_unit.rpartition('-')[2]}-{shard:04d}"


class Drained(Stopped):
    """The download was asked to stop, and did so cleanly."""


@contextlib.contextmanager
def draining_on_sigterm() -> Iterator[threading.Event]:
    """While the block runs, SIGTERM finishes what is requested and leaves the rest unpublished; the event tells of it."""
    asked = threading.Event()

    def stop(*_: object) -> None:
        asked.set()
        drain()

    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGTERM, before)
        resume()


def run_download(context: Context) -> Marker:
    """Every raw shard of the plan, and if asked for a further round over what failed for a passing reason."""
    stage = context.stage("download")
    manifest = stage.manifest() or first_pass(context)
    if context.retries == manifest.get("retries", 0):
        return manifest
    part, shards, accounting = retry.write_round(
        stage,
        context.retries,
        manifest["parts"],
        context.config.retried_reasons(),
        rows_per_shard=context.config.plan.rows_per_raw_shard,
    )
    name = retry.partition_name(context.retries)
    again = {f"{name}-{s:04d}": (part, s) for s in range(shards)}
    markers = [*manifest["parts"], accounting, *download_parts(context, again)]
    storage.remove(storage.join(stage.out, "_retry"))
    return stage.finish(markers, [marker["unit"] for marker in markers], retries=context.retries)


def first_pass(context: Context) -> Marker:
    """Every raw shard of the plan, and the rounds of retries that were finished if it is only their manifest that is gone."""
    stage, planned = context.stage("download"), plan_parts(context)
    tell_what_it_takes(context)
    markers = download_parts(context, planned)
    rounds, retried = retry.finished_rounds(stage.markers(), context.config.plan.rows_per_raw_shard)
    info = {"retries": rounds} if rounds else {}
    return stage.finish([*markers, *retried], [*planned, *(marker["unit"] for marker in retried)], **info)


def plan_parts(context: Context) -> dict[str, tuple[str, int]]:
    """Raw unit -> (plan part, row group) of every shard of the plan."""
    plan, above = context.manifest("plan"), context.stage("plan")
    parts = [marker for marker in plan["parts"] if marker["unit"].startswith("part-")]
    return {raw_unit(m["unit"], s): (above.file(m, "rows"), s) for m in parts for s in range(m["shards"])}


def pending_of(context: Context, wanted: dict[str, tuple[str, int]]) -> list[Partition]:
    """The wanted raw shards that are not there yet."""
    published = {marker["unit"] for marker in context.stage("download").markers()}
    by_part: dict[str, list[int]] = {}
    for unit, (part, shard) in wanted.items():
        if unit not in published:
            by_part.setdefault(part, []).append(shard)
    return [Partition(part, tuple(shards)) for part, shards in by_part.items()]


def tell_what_it_takes(context: Context) -> None:
    """Prints what the download of a finished plan will take; raises InputError where the disk will not do."""
    config = context.config
    pending = pending_of(context, plan_parts(context))
    if context.stage("download").manifest() or not pending:
        print("to fetch   nothing", file=sys.stderr)
        return
    found = preflight.preflight(
        map(hosts_of, pending),
        fetch=config.fetch,
        image=config.image,
        workers=min(config.processes(), len(pending)),
        copies=1 + ("publish" in config.stage_names()),
        bytes_per_picture=config.picture_bytes,
    )
    free = storage.free_bytes(config.output)
    for line in preflight.lines(found, free):
        print(line, file=sys.stderr)
    if free is not None and found.bytes_needed > free:
        raise InputError(
            f"the disk of {config.output} has {free / 1e9:,.3f} GB free and the set needs about "
            f"{found.bytes_needed / 1e9:,.3f} GB: make room, choose another --output, a smaller --image-size or --target, "
            "or give --picture-bytes where your pictures are smaller than usual"
        )


def hosts_of(partition: Partition) -> pa.Table:
    with parquet.open_file(partition.part) as file:
        return file.read_row_groups(list(partition.shards), columns=["host", "domain"])


def download_parts(context: Context, wanted: dict[str, tuple[str, int]]) -> list[Marker]:
    """Publishes the wanted raw shards that are not there yet; returns their markers."""
    config, stage = context.config, context.stage("download")
    pending = pending_of(context, wanted)
    storage.remove(outage_path(stage))
    download = DownloadPartition(stage, context.seed, config.fetch, config.image)
    bar = progress.bar("download", stage, total=sum(len(p.shards) for p in pending), unit="shards")
    with draining_on_sigterm() as asked_to_stop, bar:
        if pending:
            context.engine.run(
                lambda p: (
                    p | "Partitions" >> beam.Create(pending) | beam.Reshuffle() | "Download" >> beam.ParDo(download)
                )
            )
    markers = stage.markers()
    if storage.exists(outage_path(stage)):
        raise OutageError(storage.read_bytes(outage_path(stage)).decode())
    missing = wanted.keys() - {marker["unit"] for marker in markers}
    if missing and asked_to_stop.is_set():
        raise Drained(
            f"by SIGTERM, {len(missing)} of {len(wanted)} raw shards are not published: start the build again"
        )
    check_complete(stage.stage, wanted, (str(marker["unit"]) for marker in markers))
    return [marker for marker in markers if marker["unit"] in wanted]
