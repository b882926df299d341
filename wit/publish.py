"""publish: keep list + raw shards -> final shards, by copying byte ranges of pictures; txt and json are written anew.

Order is a two-level shuffle fixed by the seed. Raw shards are permuted and cut into groups; inside a raw shard members are
already in the order of a keyed hash. Each group's samples are merged so that every raw shard is spent evenly, and the
stream of all groups is cut every `samples_per_shard`. So a final shard needs one contiguous run of each raw shard of a
group (of two groups at a border): some hundred ranged reads of megabytes, not one a picture.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from wit import parquet, storage
from wit.arrays import Floats, Ints, as_schema, ceil_div
from wit.damage import damaged
from wit.errors import DamagedFile
from wit.hashing import keyed_hash, keyed_hashes
from wit.images.formats import EXTENSIONS
from wit.layout import SHARD_ENDING, SIZES_FILE, next_shards_path, shards_path
from wit.parts import (
    File,
    Manifest,
    Published,
    StageDir,
    check_complete,
    described,
    lacking,
    read_json,
    read_published,
    write_parquet,
)
from wit.ranges import Range, check_ranges
from wit.records import KEEP
from wit.shards import REMOVED, ShardWriter
from wit.stages import KINDS, SCHEMAS
from wit.typed import to_json

MANIFEST_FILE = KINDS["publish"].manifest
READ_GAP_BYTES = 1 << 16  # a gap between two pictures that is cheaper to read than to ask around: 1 ms at 64 MB/s
READERS = 16  # ranged reads in flight, for object stores

# img2dataset's columns first, then ours.
SAMPLES = pa.schema(
    [
        ("url", pa.string()),
        ("caption", pa.string()),
        ("key", pa.string()),
        ("status", pa.string()),  # always "success": rejected pairs are in dropped/
        ("error_message", pa.string()),  # always null
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("original_width", pa.int32()),
        ("original_height", pa.int32()),
        ("exif", pa.string()),
        ("sha256", pa.string()),  # of the picture as it lies in the tar
        ("image_offset", pa.int64()),  # of the picture's bytes in this shard's tar
        ("image_size", pa.int64()),
        *[
            field
            for field in KEEP
            if field.name
            not in (
                *("url", "caption", "key", "width", "height", "original_width", "original_height", "exif", "sha256"),
                *("tar_offset", "tar_size"),
            )
        ],
    ]
)
NOT_IN_JSON = ("image_offset", "image_size", "raw_shard")  # places, not facts about the sample


RANGES = {
    "samples_per_shard": Range(1, 1e9),
    "raw_shards_per_group": Range(1, 1e6),
    "publish_buffer_mb": Range(1e-3, 1e6),
}


@dataclass(frozen=True, slots=True)
class PublishConfig:
    samples_per_shard: int = 10_000
    """samples of a final shard; the last holds the rest"""
    raw_shards_per_group: int = 64
    """raw shards that final shards draw from at once: more mixes better and reads smaller ranges"""
    publish_buffer_mb: float = 64
    """pictures that a publish worker holds; samples are shuffled within it"""

    def __post_init__(self) -> None:
        check_ranges(self, RANGES)


@dataclass(frozen=True, slots=True, order=True)
class KeepPart:
    """The keep list of one raw shard; `path` relative to OUT."""

    unit: str
    path: str
    rows: int


@dataclass(frozen=True, slots=True)
class Run:
    """Rows [start, stop) of a keep part, as a member of the `group`-th group that the final shard draws from."""

    part: KeepPart
    start: int
    stop: int
    group: int


@dataclass(frozen=True, slots=True)
class Assignment:
    """One final shard: its name without extension and what it is made of."""

    name: str
    samples: int
    runs: tuple[Run, ...]


def keep_list_parts(select: Manifest) -> list[KeepPart]:
    """The parts of the select stage's manifest that hold rows."""
    found = [KeepPart(part.unit.place, part.files["rows"].name, part.out) for part in select.of("part")]
    return sorted(part for part in found if part.rows)


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
    """What the shard is a function of (`shard_inputs`)."""
    files: Mapping[str, File]
    """Tar and parquet, by their endings; names relative to the shard's directory."""


def shard_count(samples: int, config: PublishConfig) -> int:
    return ceil_div(samples, config.samples_per_shard)


def plan_shards(parts: Sequence[KeepPart], *, seed: int, config: PublishConfig) -> Iterator[Assignment]:
    """All final shards in order: exactly `samples_per_shard` samples each, except the last."""
    order = np.argsort(keyed_hashes(seed, "publish", [part.unit for part in parts]), kind="stable")
    size = config.samples_per_shard
    width = max(5, len(str(shard_count(sum(part.rows for part in parts), config) - 1)))
    pending: list[Run] = []
    held, number, border = 0, 0, 0
    for start in range(0, len(order), config.raw_shards_per_group):
        group = [parts[i] for i in order[start : start + config.raw_shards_per_group]]
        stream = interleave(group, seed)
        for piece in np.split(stream, range(size - held, len(stream), size)):
            pending += runs_of(group, piece, border)
            held += len(piece)
            if held == size:
                yield Assignment(f"{number:0{width}d}", held, tuple(pending))
                pending, held, number, border = [], 0, number + 1, 0
        border += held > 0
    if held:
        yield Assignment(f"{number:0{width}d}", held, tuple(pending))


def interleave(group: Sequence[KeepPart], seed: int) -> Ints:
    """[samples, 2] (part, row) of the group's samples, every part spent evenly, its rows in order."""
    part = np.repeat(np.arange(len(group)), [p.rows for p in group])
    row = np.concatenate([np.arange(p.rows) for p in group])
    when = np.concatenate([turns(p, 0, p.rows, seed) for p in group])
    order = np.lexsort((part, when))
    return np.stack([part[order], row[order]], axis=1)


def turns(part: KeepPart, start: int, stop: int, seed: int) -> Floats:
    """When rows [start, stop) of the part have their turn, in [0, 1): at equal distances from a seeded phase on."""
    phase = (keyed_hash(seed, "phase", part.unit) >> 11) * 2.0**-53
    return (np.arange(start, stop) + phase) / part.rows


def runs_of(group: Sequence[KeepPart], piece: Ints, border: int) -> list[Run]:
    """The piece of a stream as one run a part."""
    runs = []
    for number, part in enumerate(group):
        rows = piece[piece[:, 0] == number, 1]
        if len(rows):
            runs.append(Run(part, int(rows[0]), int(rows[-1]) + 1, border))
    return runs


# One shard.


def write_shard(stage: StageDir, shard: Assignment, directory: str, *, seed: int, config: PublishConfig) -> ShardMarker:
    """Publishes tar, parquet and, last, NNNNN_stats.json, which is the marker; returns it at once if all three are there."""
    inputs = shard_inputs(stage, shard)
    if (done := shard_marker(directory, shard.name, inputs)) is not None:
        return done
    rows = in_order(read_runs(stage.out, shard.runs, seed), seed=seed, config=config)
    with storage.scratch_dir(stage.out) as scratch:
        local = {name: f"{scratch}/{shard.name}.{name}" for name in ("tar", "parquet")}
        offsets = write_tar(stage.out, rows, local["tar"], config)
        write_parquet(samples_table(rows, offsets), local["parquet"])
        files = {name: described(scratch, storage.name_of(path)) for name, path in local.items()}
        for name, path in local.items():
            storage.publish(path, storage.join(directory, f"{shard.name}.{name}"))
    n = shard.samples
    marker = ShardMarker(shard.name, n, n, 0, 0, {"success": n}, inputs, files)
    storage.write_bytes(storage.join(directory, shard.name + SHARD_ENDING), to_json(marker))
    return marker


def shard_inputs(stage: StageDir, shard: Assignment) -> str:
    """What a published shard is a function of, as 32 hex digits: the settings and its runs of named raw shards."""
    return hashlib.sha256(to_json(["shard", 1, [stage.fingerprint, shard], []])).hexdigest()[:32]


def shard_marker(directory: str, name: str, inputs: str) -> ShardMarker | None:
    """The marker of a shard made of these inputs, if it was published and its files are still there with their sizes."""
    try:
        marker = read_json(storage.join(directory, name + SHARD_ENDING), ShardMarker)
    except DamagedFile:
        return None  # as if it were gone: the shard is made again, and the marker with it
    if marker is None or marker.fingerprint != inputs:
        return None
    whole = all(storage.size_of_file(storage.join(directory, f.name)) == f.bytes for f in marker.files.values())
    return marker if whole else None


def read_runs(out: str, runs: Sequence[Run], seed: int) -> pa.Table:
    """The rows of all runs as KEEP, in their turns."""
    tables = [_read_run(storage.join(out, run.part.path), run.start, run.stop) for run in runs]
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
    with storage.open_write(path) as stream, ThreadPoolExecutor(READERS) as readers:
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
    """The picture if it is that of its row, by the digest taken when it was fetched; raises DamagedFile if not."""
    if hashlib.sha256(picture).hexdigest() != row["sha256"]:
        raise damaged(storage.join(out, row["raw_shard"]), f"the picture of {row['key']} is not that of its sha256")
    return picture


def extension_of(image_format: str) -> str:
    return EXTENSIONS[image_format].extensions[0] if image_format in EXTENSIONS else image_format


def metadata(row: Mapping[str, Any]) -> dict[str, Any]:
    """What KEY.json says: img2dataset's fields, then ours; digests and hashes as hex."""
    given = dict(row) | {"status": "success", "error_message": None}
    values = {name: given[name] for name in SAMPLES.names if name not in NOT_IN_JSON}
    values["phash"] = None if row["phash"] is None else f"{row['phash']:016x}"
    values["pdq"] = None if row["pdq"] is None else row["pdq"].hex()
    return values


def samples_table(rows: pa.Table, offsets: Ints) -> pa.Table:
    """NNNNN.parquet: one row a sample in the order of the tar."""
    return as_schema(SAMPLES, rows, status="success", image_offset=pa.array(offsets), image_size=rows["tar_size"])


@dataclass(frozen=True, slots=True)
class Extent:
    """One ranged read: bytes [start, stop) of a raw tar, and which rows lie in it."""

    path: str
    start: int
    stop: int
    rows: tuple[int, ...]


def extents(rows: pa.Table, *, gap: int) -> list[Extent]:
    """The fewest reads that fetch all pictures without reading over a gap of more than `gap` bytes."""
    paths, starts = rows["raw_shard"].to_pylist(), rows["tar_offset"].to_pylist()
    stops = [start + size for start, size in zip(starts, rows["tar_size"].to_pylist(), strict=True)]
    found: list[tuple[str, int, int, list[int]]] = []
    for row in sorted(range(len(paths)), key=lambda i: (paths[i], starts[i])):
        if found and found[-1][0] == paths[row] and starts[row] - found[-1][2] <= gap:
            path, start, stop, members = found[-1]
            found[-1] = (path, start, max(stop, stops[row]), [*members, row])
        else:
            found.append((paths[row], starts[row], stops[row], [row]))
    return [Extent(path, start, stop, tuple(members)) for path, start, stop, members in found]


def read_pictures(out: str, rows: pa.Table, readers: ThreadPoolExecutor) -> list[memoryview]:
    """The pictures of the rows, in their order."""
    wanted = extents(rows, gap=READ_GAP_BYTES)
    offsets, sizes = rows["tar_offset"].to_pylist(), rows["tar_size"].to_pylist()
    pictures = [memoryview(b"")] * len(rows)
    reads = readers.map(lambda e: storage.read_range(storage.join(out, e.path), e.start, e.stop - e.start), wanted)
    for extent, data in zip(wanted, reads, strict=True):
        view = memoryview(data)
        for row in extent.rows:
            begin = offsets[row] - extent.start
            pictures[row] = view[begin : begin + sizes[row]]
    return pictures


# The whole set.


def begin(stage: StageDir, *, anew: bool = False) -> str:
    """The directory to write shards to: shards/ itself, or while another set stands there (or the same, to be made `anew`)
    one beside it, so that readers have a whole set at every instant."""
    there, beside = read_published(stage.out), next_shards_path(stage.out)
    if there is None and _fingerprint_of(beside) == stage.fingerprint:
        return beside  # whole, and on its way from there
    same = there is not None and there.fingerprint == stage.fingerprint
    if there is None or same or anew:
        storage.remove(beside)
    if there is None and anew:
        stage.forget()
    return shards_path(stage.out) if there is None or same and not anew else beside


def _fingerprint_of(directory: str) -> str | None:
    manifest = read_json(storage.join(directory, MANIFEST_FILE), Published, how=f"delete {directory}")
    return None if manifest is None else manifest.fingerprint


def finish(stage: StageDir, shards: Sequence[ShardMarker], wanted: Sequence[str], directory: str) -> Published:
    """Writes sizes.json and, last, MANIFEST.json; a file that is neither named by them nor a list of tombstones is removed; a
    set that was made beside another one takes its place. Raises Stopped where a wanted shard is missing."""
    check_complete("publish", wanted, (marker.shard for marker in shards))
    manifest = replace(manifest_of(stage, shards), wanted=tuple(sorted(wanted)))
    # The manifest of a set that is mended in place stays until the new one stands.
    named = {*(file.name for file in manifest.files), REMOVED, MANIFEST_FILE}
    for name in storage.list_dir(directory):
        if name not in named:
            storage.remove(storage.join(directory, name))
    storage.write_bytes(storage.join(directory, SIZES_FILE), sizes_json(shards))
    storage.write_bytes(storage.join(directory, MANIFEST_FILE), to_json(manifest))
    if directory != shards_path(stage.out):
        install(stage.out)
    return manifest


def manifest_of(stage: StageDir, shards: Sequence[ShardMarker]) -> Published:
    """MANIFEST.json of these shards, but for the names of those that were wanted."""
    markers = sorted(shards, key=lambda marker: marker.shard)
    samples = sum(marker.count for marker in markers)
    beside = {SIZES_FILE: sizes_json(markers)}
    beside |= {marker.shard + SHARD_ENDING: to_json(marker) for marker in markers}
    files = [replace(file, samples=marker.count) for marker in markers for file in marker.files.values()]
    files += [File(name, len(data), hashlib.sha256(data).hexdigest()) for name, data in beside.items()]
    return Published(
        stage=stage.stage,
        fingerprint=stage.fingerprint,
        schema_version=SCHEMAS["publish"],
        into=samples,
        out=samples,
        dropped={},
        shards=len(markers),
        samples=samples,
        files=tuple(sorted(files, key=lambda file: file.name)),
    )


def sizes_json(shards: Sequence[ShardMarker]) -> bytes:
    """sizes.json: how many samples each tar has."""
    return to_json({marker.files["tar"].name: marker.count for marker in shards})


def manifests_of(stage: StageDir) -> Iterator[Published]:
    """The manifests that the shards in shards/ may have had, by their markers alone; none where one of them is damaged."""
    directory = shards_path(stage.out)
    names = [name for name in storage.list_dir(directory) if name.endswith(SHARD_ENDING)]
    try:
        markers = [m for name in names if (m := read_json(storage.join(directory, name), ShardMarker)) is not None]
    except DamagedFile:
        return
    manifest = manifest_of(stage, markers)
    if not lacking(storage.list_sizes(directory), manifest.files):
        yield replace(manifest, wanted=tuple(sorted(marker.shard for marker in markers)))
        yield manifest  # as of version 0.1.0


def install(out: str) -> None:
    """Puts the whole set in _shards/ in the place of the one in shards/, whose tombstones stay; the latter is removed. Killed
    at any instant, it leaves one of the two whole in shards/ on this machine; elsewhere, where files must be copied one by
    one, none there and the new one whole in _shards/, which the next start of the build copies."""
    old, new = shards_path(out), next_shards_path(out)
    if storage.exists(removed := storage.join(old, REMOVED)):
        storage.copy(removed, storage.join(new, REMOVED))
    if storage.is_local(out):
        storage.exchange(new, old)
        storage.remove(new)
        return
    names = [name for name in storage.list_dir(new) if name != MANIFEST_FILE]
    storage.remove(storage.join(old, MANIFEST_FILE))
    for name in {*storage.list_dir(old)} - {*names}:
        storage.remove(storage.join(old, name))
    for name in [*names, MANIFEST_FILE]:
        storage.copy(storage.join(new, name), storage.join(old, name))
    storage.remove(new)
