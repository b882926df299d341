"""One final shard: ranged reads of raw tars, one tar in its order, two tables, and the marker last."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from wit.arrays import Ints
from wit.damage import damaged
from wit.errors import DamagedFile
from wit.hashing import keyed_hashes
from wit.layout import SHARD_ENDING
from wit.publish.config import PublishConfig
from wit.publish.order import Assignment, Run, turns
from wit.publish.sample import extension_of, metadata, samples_table
from wit.records import KEEP
from wit.shards import ShardWriter
from wit.store import fs, parquet
from wit.store.manifests import File, described, read_json
from wit.store.parquet import write_parquet
from wit.store.parts import StageDir
from wit.store.scratch import scratch_dir
from wit.typed import json_digest, to_json

READ_GAP_BYTES = 1 << 16  # reading across a gap of this size (1 ms at 64 MB/s) is cheaper than a second request
READERS = 16  # ranged reads in flight, for object stores


@dataclass(frozen=True, slots=True)
class ShardMarker:
    """NNNNN_stats.json, the marker of a published shard: img2dataset's fields without its times, which would differ from build
    to build, then ours."""

    shard: str
    count: int
    successes: int
    failed_to_download: int
    failed_to_resize: int
    status_dict: Mapping[str, int]
    fingerprint: str
    """A digest of all that the shard depends on (`shard_inputs`)."""
    files: Mapping[str, File]
    """Tar and parquet, by their endings; names relative to the shard's directory."""


def write_shard(stage: StageDir, shard: Assignment, directory: str, *, seed: int, config: PublishConfig) -> ShardMarker:
    """Publishes tar, parquet and, last, the marker NNNNN_stats.json; returns the marker at once if all three are there."""
    inputs = shard_inputs(stage, shard)
    if (done := shard_marker(directory, shard.name, inputs)) is not None:
        return done
    rows = in_order(read_runs(stage.out, shard.runs, seed), seed=seed, config=config)
    with scratch_dir(stage.out) as scratch:
        local = {name: f"{scratch}/{shard.name}.{name}" for name in ("tar", "parquet")}
        offsets = write_tar(stage.out, rows, local["tar"], config)
        write_parquet(samples_table(rows, offsets), local["parquet"])
        files = {name: described(scratch, fs.name_of(path)) for name, path in local.items()}
        if (done := shard_marker(directory, shard.name, inputs)) is not None:  # another attempt was faster
            return done
        for name, path in local.items():
            fs.publish(path, fs.join(directory, f"{shard.name}.{name}"))
    n = shard.samples
    marker = ShardMarker(shard.name, n, n, 0, 0, {"success": n}, inputs, files)
    fs.write_bytes(fs.join(directory, shard.name + SHARD_ENDING), to_json(marker))
    return marker


def shard_inputs(stage: StageDir, shard: Assignment) -> str:
    """32 hex digits of all that a published shard depends on: the stage's fingerprint, and its runs of named raw shards."""
    return json_digest("shard", 1, [stage.fingerprint, shard], [])


def shard_marker(directory: str, name: str, inputs: str) -> ShardMarker | None:
    """The marker of a shard, if it was published from these inputs and its files are still there with their sizes."""
    try:
        marker = read_json(fs.join(directory, name + SHARD_ENDING), ShardMarker)
    except DamagedFile:
        return None  # as if it were gone: the shard is made again, and the marker with it
    if marker is None or marker.fingerprint != inputs:
        return None
    whole = all(fs.size_of_file(fs.join(directory, f.name)) == f.bytes for f in marker.files.values())
    return marker if whole else None


def read_runs(out: str, runs: Sequence[Run], seed: int) -> pa.Table:
    """The rows of all runs as KEEP, ordered by group and turn."""
    tables = [_read_run(fs.join(out, run.part.path), run.start, run.stop) for run in runs]
    when = np.concatenate([run.group + turns(run.part, run.start, run.stop, seed) for run in runs])
    return pa.concat_tables(tables).take(pa.array(np.argsort(when, kind="stable"))).combine_chunks()


def _read_run(path: str, start: int, stop: int) -> pa.Table:
    """Rows [start, stop), from the row groups that hold them."""
    with parquet.open_file(path) as file:
        sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
        ends = np.cumsum(sizes)
        first, last = np.searchsorted(ends, [start, stop - 1], side="right").tolist()
        rows = file.read_row_groups(range(first, last + 1))
    skipped = int(ends[first]) - sizes[first]
    return rows.slice(start - skipped, stop - start).cast(KEEP)


def in_order(rows: pa.Table, *, seed: int, config: PublishConfig) -> pa.Table:
    """The rows in the order of the tar: by keyed hash within each window of the buffer."""
    window = windows(rows, config)
    return rows.take(pa.array(np.lexsort((keyed_hashes(seed, "shard order", rows["key"].to_pylist()), window))))


def windows(rows: pa.Table, config: PublishConfig) -> Ints:
    """The window of each row: consecutive rows whose pictures fill the buffer together."""
    sizes: Ints = rows["tar_size"].to_numpy()
    return (np.cumsum(sizes) - sizes) // max(1, int(config.publish_buffer_mb * 1_000_000))


def write_tar(out: str, rows: pa.Table, path: str, config: PublishConfig) -> Ints:
    """Writes the shard's tar to a local path; returns the offset of each picture in it."""
    window = windows(rows, config)
    offsets: list[int] = []
    with fs.open_write(path) as stream, ThreadPoolExecutor(READERS) as readers:
        tar = ShardWriter(stream)
        for number in np.unique(window):
            offsets += _write_window(out, rows.filter(pa.array(window == number)), tar, readers)
        tar.close()
    return np.array(offsets, np.int64)


def _write_window(out: str, rows: pa.Table, tar: ShardWriter, readers: ThreadPoolExecutor) -> list[int]:
    pictures = read_pictures(out, rows, readers)
    return [
        tar.add(row["key"], sound(out, row, picture), extension_of(row["format"]), row["caption"], metadata(row))
        for row, picture in zip(rows.to_pylist(), pictures, strict=True)
    ]


def sound(out: str, row: Mapping[str, Any], picture: memoryview) -> memoryview:
    """The picture, if it has the digest in its row, taken when it was fetched; raises DamagedFile if not."""
    if hashlib.sha256(picture).hexdigest() != row["sha256"]:
        raise damaged(fs.join(out, row["raw_shard"]), f"the picture of {row['key']} is not that of its sha256")
    return picture


@dataclass(frozen=True, slots=True)
class Extent:
    """One ranged read: bytes [start, stop) of a raw tar, and which rows lie in it."""

    path: str
    start: int
    stop: int
    rows: tuple[int, ...]


def extents(rows: pa.Table, *, gap: int) -> list[Extent]:
    """The fewest reads that fetch all pictures and read across no gap of more than `gap` bytes."""
    paths, starts = rows["raw_shard"].to_pylist(), rows["tar_offset"].to_pylist()
    stops = [start + size for start, size in zip(starts, rows["tar_size"].to_pylist(), strict=True)]
    reads: list[list[int]] = []
    reach = 0  # of the last read
    for row in sorted(range(len(paths)), key=lambda i: (paths[i], starts[i])):
        if reads and paths[row] == paths[reads[-1][0]] and starts[row] - reach <= gap:
            reads[-1].append(row)
            reach = max(reach, stops[row])
        else:
            reads.append([row])
            reach = stops[row]
    return [Extent(paths[r[0]], starts[r[0]], max(stops[row] for row in r), tuple(r)) for r in reads]


def read_pictures(out: str, rows: pa.Table, readers: ThreadPoolExecutor) -> list[memoryview]:
    """The pictures of the rows, in their order."""
    wanted = extents(rows, gap=READ_GAP_BYTES)
    offsets, sizes = rows["tar_offset"].to_pylist(), rows["tar_size"].to_pylist()
    pictures = [memoryview(b"")] * len(rows)
    reads = readers.map(lambda e: fs.read_range(fs.join(out, e.path), e.start, e.stop - e.start), wanted)
    for extent, data in zip(wanted, reads, strict=True):
        view = memoryview(data)
        for row in extent.rows:
            begin = offsets[row] - extent.start
            pictures[row] = view[begin : begin + sizes[row]]
    return pictures
