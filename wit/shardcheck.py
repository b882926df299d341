"""The part of `wit.verify` that reads pictures: shards are compared with their tables, every sample with its row."""

from __future__ import annotations

import functools
import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from wit.errors import DamagedFile, InputError
from wit.hashing import keyed_hashes
from wit.layout import SHARD_ENDING, SIZES_FILE, directory_of, manifest_of
from wit.publish.sample import SAMPLES, extension_of, metadata
from wit.records import pair_key
from wit.remedies import OURS, Problem, Problems
from wit.shards import BLOCK, Member, iter_members, tar_header
from wit.store import fs, parquet
from wit.store.manifests import Published

Level = Literal["metadata", "sample", "full"]
Found = tuple[list[Problem], int]  # problems, and how many samples were read for them

# The share of samples read at level "sample": a defect in one picture of a hundred is found in a set of 500 (p > 0.99).
SHARDS = directory_of("publish")
SHARE = 0.01
READERS = 8  # decoding and digests release the GIL


def json_in(path: str) -> dict[str, Any] | None:
    """The JSON object in a file; None where the file cannot be read or holds no object."""
    try:
        parsed = json.loads(bytes_in(path) or b"")
    except (ValueError, RecursionError):
        return None
    return parsed if isinstance(parsed, dict) else None


def bytes_in(path: str) -> bytes | None:
    """The bytes of a file; None where it cannot be read."""
    try:
        return fs.read_bytes(path) if fs.size_of_file(path) is not None else None
    except OSError:
        return None


def read_columns(path: str, columns: Sequence[str]) -> pa.Table:
    """Columns of a parquet file, all their bytes checked; raises OSError, DamagedFile or ArrowException where it is damaged."""
    table = parquet.read_table(path, columns)
    table.validate(full=True)
    return table


def table_in(path: str, columns: Sequence[str]) -> pa.Table | None:
    """As read_columns; None where the file is damaged."""
    if fs.size_of_file(path) is None:
        return None
    try:
        return read_columns(path, columns)
    except (OSError, InputError, pa.ArrowException):
        return None


# Published shards.


@dataclass(frozen=True, slots=True)
class Shard:
    """One published shard as its manifest describes it; names of files are relative to OUT."""

    out: str
    number: str
    samples: int

    @property
    def tar(self) -> str:
        return f"{SHARDS}/{self.number}.tar"

    @property
    def parquet(self) -> str:
        return f"{SHARDS}/{self.number}.parquet"

    @property
    def stats(self) -> str:
        return f"{SHARDS}/{self.number}{SHARD_ENDING}"

    def path(self, name: str) -> str:
        return fs.join(self.out, name)


def set_problems(out: str, manifest: Published, shards: Sequence[Shard]) -> Problems:
    """The set as a whole: names, counts, sizes.json."""
    name, sizes_name = manifest_of("publish"), f"{SHARDS}/{SIZES_FILE}"
    if sum(shard.samples for shard in shards) != manifest.samples or manifest.out != manifest.samples:
        yield Problem(name, f"{manifest.samples} samples are not the sum over its shards")
    if len(shards) != manifest.shards:
        yield Problem(name, f"{manifest.shards} shards, but {len(shards)} tars")
    sizes = json_in(fs.join(out, sizes_name))
    if sizes != {f"{shard.number}.tar": shard.samples for shard in shards}:
        yield Problem(sizes_name, "not what the manifest says")
    counted = {file.name: file.samples for file in manifest.files}
    if any(counted.get(f"{shard.number}.parquet") != shard.samples for shard in shards):
        yield Problem(name, "a tar and its parquet file have different counts")


def shards_of(out: str, manifest: Published) -> list[Shard]:
    """The shards of a published set."""
    tars = [file for file in manifest.files if file.name.endswith(".tar")]
    return [Shard(out, file.name.removesuffix(".tar"), -1 if file.samples is None else file.samples) for file in tars]


def row_problems(shard: Shard) -> tuple[list[str] | None, list[Problem]]:
    """(keys, problems) of a shard's parquet file and stats; the tar is not read. Keys are None where the file is unreadable."""
    columns = ["key", "canonical_url", "caption", "status", "image_offset", "image_size"]
    table = table_in(shard.path(shard.parquet), columns)
    if table is None or any(column.null_count for column in table.columns):
        return None, [Problem(shard.parquet, "not a readable parquet file of samples")]
    problems = []
    if len(table) != shard.samples:
        problems.append(Problem(shard.parquet, f"{len(table)} rows, the manifest says {shard.samples} samples"))
    stats = json_in(shard.path(shard.stats)) or {}
    if (stats.get("count"), stats.get("successes")) != (shard.samples, shard.samples):
        problems.append(Problem(shard.stats, f"another count than the manifest's {shard.samples}"))
    keys: list[str] = table["key"].to_pylist()
    pairs = zip(keys, table["canonical_url"].to_pylist(), table["caption"].to_pylist(), strict=True)
    problems += [
        Problem(shard.parquet, f"{key} is not the key of its URL and caption")
        for key, url, caption in pairs
        if key != pair_key(url, caption)
    ]
    if pc.any(pc.not_equal(table["status"], "success")).as_py():
        problems.append(Problem(shard.parquet, "holds rows that are no success"))
    ends = pc.add(table["image_offset"], table["image_size"]).to_numpy()
    if (table["image_offset"].to_numpy()[1:] < ends[:-1]).any():
        problems.append(Problem(shard.parquet, "pictures overlap in the tar"))
    return keys, problems


# Samples.


def _rows(shard: Shard) -> list[dict[str, Any]]:
    table = read_columns(shard.path(shard.parquet), SAMPLES.names)
    if any(table[name].null_count for name in ("key", "caption", "format", "image_offset", "image_size")):
        raise InputError("its parquet file has rows that are no sample")
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def why(error: Exception) -> str:
    """What is wrong with a file that could not be read, in words."""
    return error.what if isinstance(error, DamagedFile) else f"{error}"


def reading(check: Callable[[Shard], Found]) -> Callable[[Shard], Found]:
    """The check, made to report an unreadable file as a problem of the shard."""

    @functools.wraps(check)
    def checked(shard: Shard) -> Found:
        if any(fs.size_of_file(shard.path(name)) is None for name in (shard.tar, shard.parquet)):
            return [], 0  # reported before
        try:
            return check(shard)
        except (OSError, InputError, pa.ArrowException) as error:
            return [Problem(shard.tar, why(error))], 0

    return checked


@reading
def sampled_problems(shard: Shard) -> Found:
    """(problems, samples read): a share of the pictures, at least one, read by offset."""
    rows = _rows(shard)
    hashes = keyed_hashes(0, "verify", [row["key"] for row in rows]).tolist()
    bound = max(int(SHARE * 2**64), min(hashes, default=0))
    chosen = [row for row, drawn in zip(rows, hashes, strict=True) if drawn <= bound]
    problems = []
    for row in chosen:
        head = fs.read_range(shard.path(shard.tar), row["image_offset"] - BLOCK, BLOCK + row["image_size"])
        if head[:BLOCK] != tar_header(member_name(row), row["image_size"]):
            what = f"no tar header of {member_name(row)} before byte {row['image_offset']}"
            problems.append(Problem(shard.tar, what))
        problems += picture_problems(shard.tar, row, head[BLOCK:])
    return problems, len(chosen)


@reading
def shard_problems(shard: Shard) -> Found:
    """(problems, samples read): every member of the tar against the parquet file."""
    rows = _rows(shard)
    problems: list[Problem] = []
    members = iter_members(shard.path(shard.tar))
    for row in rows:
        three = [member for _, member in zip(range(3), members, strict=False)]
        if [member.name for member in three] != [
            f"{row['key']}.{e}" for e in (extension_of(row["format"]), "txt", "json")
        ]:
            what = f"the files of {row['key']} are not where the parquet file has them"
            return [*problems, Problem(shard.tar, what)], 0
        problems += sample_problems(shard.tar, row, three)
    if (left := next(members, None)) is not None:
        problems.append(Problem(shard.tar, f"{left.name} is in no row of the parquet file"))
    return problems, len(rows)


def member_name(row: Mapping[str, Any]) -> str:
    return f"{row['key']}.{extension_of(row['format'])}"


def sample_problems(tar: str, row: dict[str, Any], members: Sequence[Member]) -> Problems:
    """Picture, caption and metadata of one sample."""
    image, caption, described = members
    if (image.offset, len(image.data)) != (row["image_offset"], row["image_size"]):
        yield Problem(tar, f"{image.name} is not at the offset and size of its row")
    yield from picture_problems(tar, row, image.data)
    if caption.data != row["caption"].encode():
        yield Problem(tar, f"{caption.name} is not the caption of its row")
    if described.data != json.dumps(metadata(row), ensure_ascii=False).encode():
        yield Problem(tar, f"{described.name} is not the metadata of its row")


def picture_problems(tar: str, row: Mapping[str, Any], data: bytes) -> Problems:
    """Problems if a picture's bytes have another digest than its row, or decode to another size. Only bytes with the right digest
    are decoded: the download's decoder has met those, in a process of its own."""
    if hashlib.sha256(data).hexdigest() != row["sha256"]:
        yield Problem(tar, f"the picture of {row['key']} is not that of its sha256")
        return
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            size = image.size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        yield Problem(tar, f"the picture of {row['key']} does not decode ({error})", how=OURS, undecodable=True)
        return
    if size != (row["width"], row["height"]):
        what = f"{size[0]} x {size[1]} pixels, its row says {row['width']} x {row['height']}"
        yield Problem(tar, f"the picture of {row['key']} has {what}")


LOOKS: Mapping[Level, Callable[[Shard], Found] | None] = {
    "metadata": None,
    "sample": sampled_problems,
    "full": shard_problems,
}


# Raw shards.


def raw_problems(out: str, tar: str, parquet: str) -> list[Problem]:
    """Every picture of a raw tar against its row."""
    table = table_in(fs.join(out, parquet), ["key", "reason", "tar_offset", "tar_size", "format", "sha256"])
    path = fs.join(out, tar)
    if table is None or fs.size_of_file(path) is None:
        return []  # reported before
    rows = [row for row in table.to_pylist() if row["reason"] is None]
    expected = [(member_name(row), row["tar_offset"], row["tar_size"], row["sha256"]) for row in rows]
    try:
        pictures = [
            (member.name, member.offset, len(member.data), hashlib.sha256(member.data).hexdigest())
            for member in iter_members(path)
        ]
    except (OSError, InputError) as error:
        return [Problem(tar, why(error))]
    return [] if pictures == expected else [Problem(tar, f"its pictures are not those of {fs.name_of(parquet)}")]
