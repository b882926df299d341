"""Is what lies under OUT what its manifests say, and does every pair add up? Reads everything, changes nothing.

Every file of a set is under a digest: parts and tars in their stage's manifest; manifests, what servers said in robots.txt
and the report's files in run.json, which bears a digest of itself. Outside are locks, work in progress, tombstones, and
models that were trained into OUT. Stages that were deleted since they finished are not looked at; sets of version 0.1.0 have
fewer digests: both are said in a note.

metadata   every file is there with its size, and no other; rows, sums and the ledger agree; keys are right and unique
sample     besides: a share of the samples, chosen by hash, is read by offset, compared with its digest and decoded
full       besides: the digest of every file, and every sample of every tar
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from wit import ledger, parquet, storage
from wit.damage import ANEW, damaged, mend, missed
from wit.errors import InputError
from wit.hashing import keyed_hashes, name_hashes
from wit.layout import APART, manifest_path
from wit.parts import (
    COUNTS,
    DIRECTORY,
    FILE,
    LEDGER,
    MARKER,
    RECORD,
    RUN,
    TOTALS,
    Marker,
    add_counts,
    bare,
    entries,
    read_manifest,
    shaped,
)
from wit.publish import SAMPLES, extension_of, metadata
from wit.records import pair_key
from wit.report import FILES
from wit.resume import sealed
from wit.retry import is_accounting, with_pictures
from wit.shards import BLOCK, REMOVED, Member, iter_members, tar_header
from wit.stages import SCHEMAS, STAGES
from wit.typed import to_json

Level = Literal["metadata", "sample", "full"]
Problems = Iterator[str]

SHARE = (
    0.01  # of samples read at level "sample": a defect in one picture of a hundred is found in a set of 500 (p > 0.99)
)
READERS = 8  # decoding and digests release the GIL


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is off, one line each (empty if nothing is), what could not be looked at, and what was."""

    problems: tuple[str, ...]
    notes: tuple[str, ...]
    stages: tuple[str, ...]
    shards: int
    samples: int
    samples_read: int


def verify(out: str, level: Level = "metadata") -> Verdict:
    """Checks a build from its manifests down; raises InputError where there is no build."""
    manifests, problems = _manifests(out)
    if not manifests and not problems:
        raise InputError(f"no build in {out}: give the --output directory of python -m pipelines.build")
    run = _run(out)
    problems += [p for stage, manifest in manifests.items() for p in stage_problems(out, stage, manifest, run or {})]
    found, notes = whole_problems(out, run, manifests)
    problems += found
    problems += ledger_problems(out, _deleted(run) | manifests)
    read = 0
    if (published := manifests.get("publish")) is not None:
        found, read = published_problems(out, published, manifests.get("select"), level)
        problems += found
    if level == "full":
        problems += digest_problems(out, [entry for entries in every_entry(out, run, manifests) for entry in entries])
        problems += raw_problems(out, manifests.get("download"))
    shards, samples = (published["shards"], published["samples"]) if published else (0, 0)
    return Verdict(tuple(dict.fromkeys(problems)), tuple(notes), tuple(manifests), shards, samples, read)


# With the digests that a build can do without.
ENTRY = FILE | {"sha256": str}
PART = MARKER | {"files": {None: ENTRY}}
DIGESTED = TOTALS | {"parts": [PART]}
DIGESTED_OF = {
    "download": TOTALS | {"parts": [PART | {"files": {None: FILE, "tar": FILE, "parquet": ENTRY}}]},
    "select": TOTALS | {"parts": [PART | {"files": {None: ENTRY, "rows": ENTRY}}]},
    "publish": TOTALS | {"shards": int, "samples": int, "files": [ENTRY]},
}


def _manifests(out: str) -> tuple[dict[str, Marker], list[str]]:
    """(the manifests of all stages that finished, what is wrong with others: nothing below those can be trusted)."""
    found, problems = dict[str, Marker](), list[str]()
    for stage in STAGES:
        path = manifest_path(out, stage)
        try:
            manifest = read_manifest(out, stage)
        except (OSError, InputError) as error:
            problems.append(f"{error}")
            continue
        if manifest is not None and shaped(_strictly(manifest), DIGESTED_OF.get(stage, DIGESTED)):
            found[stage] = manifest
        elif manifest is not None:
            problems.append(f"{damaged(path, 'it lacks digests')}")
    return found, problems


def _strictly(manifest: Marker) -> Marker:
    """The manifest without the accounting of retries, whose parts are the only ones that have no files."""
    parts = manifest.get("parts")
    if not isinstance(parts, list) or manifest["stage"] != "download":
        return manifest
    return manifest | {"parts": [part for part in parts if not (shaped(part, PART) and is_accounting(part["unit"]))]}


# Manifests against files and against each other.


def stage_problems(out: str, stage: str, manifest: Marker, run: Marker) -> Problems:
    """One stage by itself."""
    if manifest["schema_version"] > SCHEMAS[stage]:
        yield f"{stage}: written with schema {manifest['schema_version']}, this version of wit reads up to {SCHEMAS[stage]}"
    if manifest["fingerprint"] not in (
        run.get("fingerprints", {}).get(stage),
        _records(run).get(stage, {}).get("fingerprint"),
    ):
        yield f"{stage}: the manifest is of other settings than run.json, or of another stage"
    for entry in entries(stage, manifest):
        yield from size_problems(out, entry)
    if stage != "publish" and (lacking := set(manifest.get("wanted", ())) - {p["unit"] for p in manifest["parts"]}):
        yield f"{stage}: {len(lacking)} of its units are missing ({min(lacking)}, ...)"
    if stage == "publish":
        return
    parts = manifest["parts"]
    for name in ("in", "out"):
        if manifest[name] != sum(part[name] for part in parts):
            yield f"{stage}: the manifest says {manifest[name]} {name}, its parts {sum(part[name] for part in parts)}"
    if manifest["dropped"] != add_counts(part["dropped"] for part in parts):
        yield f"{stage}: the manifest's losses are not the sum of its parts'"
    for part in parts:
        yield from part_problems(out, stage, part, thinned=manifest.get("dropped_one_in", 1) > 1)


def size_problems(out: str, entry: Mapping[str, Any]) -> Problems:
    size = storage.size_of_file(storage.join(out, entry["name"]))
    if size is None:
        yield f"{entry['name']}: missing; {missed(entry['name'])}"
    elif size != entry["bytes"]:
        yield f"{entry['name']}: {size} bytes, the manifest says {entry['bytes']}; {missed(entry['name'])}"


def part_problems(out: str, stage: str, part: Marker, *, thinned: bool) -> Problems:
    """One part: its marker is still there and its tables hold what it counts."""
    if not _marker_stands(storage.join(out, "raw" if stage == "download" else stage, f"{part['unit']}.json"), part):
        yield f"{stage}: the marker of {part['unit']} is missing or differs from the manifest; {ANEW}"
    files = {label: storage.join(out, entry["name"]) for label, entry in part["files"].items()}
    if part["unit"].startswith("part-") and "rows" in files:
        yield from _count_problems(files["rows"], part["out"], "rows")
    if stage == "download" and "parquet" in files:
        yield from _reason_problems(files["parquet"], {**part["dropped"], "": part["out"]})
    elif "dropped" in files and not thinned:
        yield from _reason_problems(files["dropped"], part["dropped"])


def _marker_stands(path: str, part: Marker) -> bool:
    """Whether a marker is, to the byte, what the manifest says of it. One of plan may name files between passes besides, long
    removed: then the manifest has its digest, or in sets of version 0.1.0 nothing."""
    data, marker = _bytes(path), _json(path)
    if data is None or marker is None:
        return False
    digest = part.get("marker_sha256")
    if digest is not None and hashlib.sha256(data).hexdigest() == digest:
        return True
    return data == to_json(bare(part)) or (digest is None and data == to_json(marker) and _within(part, marker))


def _within(part: Marker, marker: Marker) -> bool:
    """Whether the manifest's part is its marker, which may name files between passes besides."""
    files = marker.get("files")
    if not isinstance(files, dict) or any(files.get(label) != entry for label, entry in part["files"].items()):
        return False
    return all(name == "files" or marker.get(name) == value for name, value in part.items())


def _json(path: str) -> Marker | None:
    """The JSON object in a file, or None where there is none."""
    try:
        found = json.loads(_bytes(path) or b"")
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _bytes(path: str) -> bytes | None:
    """What is in a file, or None where there is none that can be read."""
    try:
        return storage.read_bytes(path) if storage.size_of_file(path) is not None else None
    except OSError:
        return None


def _run(out: str) -> Marker | None:
    """run.json, or None where it is none that a build wrote."""
    run = _json(storage.join(out, "run.json"))
    return run if run is not None and shaped(run, {"fingerprints": {None: str}}) and _records_hold(run) else None


def _records(run: Marker | None) -> dict[str, Marker]:
    """What run.json keeps of stages that finished."""
    found: dict[str, Marker] = (run or {}).get("stages", {})
    return found


def _records_hold(run: Marker) -> bool:
    stages = run.get("stages", {})
    counted = RECORD | {"wrote": str, "units": int, "manifest_sha256": str, "beside": [ENTRY]} | COUNTS
    shapes = {"report": RECORD | {"files": [ENTRY]}}
    return (
        isinstance(stages, dict)
        and all(shaped(record, shapes.get(stage, RECORD)) for stage, record in stages.items())
        and all(shaped(r, counted) for r in stages.values() if "in" in r)
        and shaped(run.get("sources", []), RUN["sources"])
    )


def read_columns(path: str, columns: Sequence[str]) -> pa.Table:
    """Columns of a parquet file, all their bytes checked; raises OSError, DamagedFile or ArrowException where it is damaged."""
    table = parquet.read_table(path, columns)
    table.validate(full=True)
    return table


def _table(path: str, columns: Sequence[str]) -> pa.Table | None:
    """As read_columns; None where the file is damaged."""
    if storage.size_of_file(path) is None:
        return None
    try:
        return read_columns(path, columns)
    except (OSError, InputError, pa.ArrowException):
        return None


def _count_problems(path: str, expected: int, what: str) -> Problems:
    table = _table(path, ["key"])
    if table is None:
        yield f"{path}: not a readable parquet file; {mend(path)}"
    elif len(table) != expected:
        yield f"{path}: {len(table)} {what}, the manifest says {expected}"


def _reason_problems(path: str, expected: Mapping[str, int]) -> Problems:
    """Rows by reason ("" for none) against the marker's counts."""
    table = _table(path, ["reason"])
    if table is None:
        yield f"{path}: not a readable parquet file; {mend(path)}"
        return
    counted = add_counts({reason or "": 1} for reason in table["reason"].to_pylist())
    if counted != add_counts([expected]):
        yield f"{path}: its rows by reason are not those of its marker"


def ledger_problems(out: str, manifests: Mapping[str, Marker]) -> Problems:
    """in = out + dropped, within stages and between them, and ledger.json says the same."""
    stages = ledger.stage_totals(manifests)
    yield from ledger.imbalances(stages)
    if "publish" not in manifests:
        return
    found = _json(storage.join(out, "ledger.json"))
    if found is None or not shaped(found, LEDGER):
        yield "ledger.json: missing or not what the report stage writes"
        return
    for stage in dict.fromkeys([*stages, *found.get("stages", {})]):
        if found["stages"].get(stage) != stages.get(stage):
            yield f"ledger.json: {stage} is not the sum of its published parts"
    if found.get("samples") != manifests["publish"]["samples"]:
        yield f"ledger.json: {found.get('samples')} samples, published are {manifests['publish']['samples']}"


# The set as a whole: what is under a digest, and what is not.

OUTSIDE = (".lock", "_LEASE.json")  # of the machine that builds
OUTSIDE_DIRS = (
    "_tmp",
    "_shards",
    "_retry",
    "model",
    "zero-shot",
)  # work in progress; what `make demo` trains and evaluates
Entries = list[dict[str, Any]]


def _deleted(run: Marker | None) -> dict[str, Marker]:
    """What run.json recorded of stages that count pairs."""
    records = _records(run)
    return {stage: records[stage] for stage in STAGES if "in" in records.get(stage, {})}


def every_entry(out: str, run: Marker | None, manifests: Mapping[str, Marker]) -> tuple[Entries, Entries]:
    """(files that manifests name, further files that run.json has a digest of), relative to OUT."""
    run = run or {}
    named = [entry for stage, manifest in manifests.items() for entry in entries(stage, manifest)]
    records = run.get("stages", {})
    beside = [entry for stage in manifests for entry in records.get(stage, {}).get("beside", ())]
    beside += records.get("report", {}).get("files", [])
    for source in run.get("sources", ()):
        name, (how, _, digest) = _below(out, source), (source.get("version") or "").partition(" ")
        beside += [{"name": name, "bytes": source["size"], "sha256": digest}] if name and how == "sha256" else []
    return named, beside


def _below(out: str, source: Mapping[str, Any]) -> str | None:
    """The name relative to OUT of a source that lies there: the demonstration web's."""
    label = str(source.get("label", ""))
    name = label.replace("demo/", "_demo/", 1)
    return name if label.startswith("demo/") and storage.exists(storage.join(out, name)) else None


def whole_problems(out: str, run: Marker | None, manifests: Mapping[str, Marker]) -> tuple[list[str], list[str]]:
    """(problems, notes) of run.json, of the manifests, and of files that nothing names."""
    named, beside = every_entry(out, run, manifests)
    covered = {entry["name"] for entry in [*named, *beside] if "sha256" in entry or "xxh3_128" in entry}
    covered |= {name_in(out, manifest_path(out, stage)) for stage in manifests}
    covered |= {f"{_place(stage)}/{p['unit']}.json" for stage, m in manifests.items() for p in m.get("parts", ())}
    loose = {entry["name"] for m in manifests.values() for p in m.get("parts", ()) for entry in p.get("beside", ())}
    first = run is not None and "stages" not in run  # version 0.1.0 wrote it
    loose |= {*FILES, "run.json"} if first else set()
    there = [name for name in storage.find(out) if not _outside(name)]
    unfinished = [stage for stage in STAGES if stage not in manifests and stage != "report"]
    if "publish" in manifests and "score" not in (run or {}).get("fingerprints", {}):
        unfinished = [stage for stage in unfinished if stage != "score"]
    problems = [*run_problems(out, run, manifests), *deleted_problems(out, run, there, unfinished)]
    for entry in beside:
        problems += size_problems(out, entry)
    unknown = [n for n in there if n not in covered and n not in loose and n != "run.json"]
    open_ = [
        n for n in unknown if any(_belongs(n, stage) for stage in unfinished) or (first and n.startswith("_demo/"))
    ]
    problems += [f"{name}: not of this set: no manifest names it" for name in unknown if name not in open_]
    plain = [name for name in there if name in loose - covered or name in open_ and first]
    notes = [f"no digest covers {', '.join(plain)}: the set is of version 0.1.0"] if plain else []
    left = {name.partition("/")[0] for name in there}
    gone = [stage for stage in unfinished if stage in _deleted(run) and _place(stage) not in left]
    notes += [f"{_place(stage)}/ was deleted after it was finished: what it wrote is not looked at" for stage in gone]
    return problems, notes


def _outside(name: str) -> bool:
    return name in OUTSIDE or name.split("/")[0] in OUTSIDE_DIRS or name.split("/")[1:] == [REMOVED]


def _place(stage: str) -> str:
    return DIRECTORY.get(stage, stage)


def _belongs(name: str, stage: str) -> bool:
    """Whether a file is one of the stage's."""
    directory, _, rest = name.partition("/")
    return rest != "" and directory == _place(stage) or (directory in APART and rest.startswith(f"{stage}-"))


def name_in(out: str, path: str) -> str:
    return path.removeprefix(out.rstrip("/") + "/")


def run_problems(out: str, run: Marker | None, manifests: Mapping[str, Marker]) -> Problems:
    """run.json against its own digest, and the manifests against those in it."""
    if run is None:
        yield f"run.json: missing or not what a build writes; {mend('run.json')}"
        return
    if "stages" not in run and "sha256" not in run:
        return
    if _bytes(storage.join(out, "run.json")) != sealed(run):
        yield f"run.json: its bytes are not those of the digest in it; {mend('run.json')}"
    for stage, manifest in manifests.items():
        path = manifest_path(out, stage)
        recorded = run.get("stages", {}).get(stage, {})
        if recorded.get("fingerprint") != manifest["fingerprint"]:
            yield f"{name_in(out, path)}: run.json has no record of it"
        elif hashlib.sha256(_bytes(path) or b"").hexdigest() != recorded.get("manifest_sha256"):
            yield f"{name_in(out, path)}: its bytes are not those of run.json's sha256; {mend(path)}"


def deleted_problems(out: str, run: Marker | None, there: Sequence[str], unfinished: Sequence[str]) -> Problems:
    """Stages that were finished and of which only some files are left."""
    for stage in unfinished:
        if stage in _deleted(run) and any(name.startswith(f"{_place(stage)}/") for name in there):
            needless = "" if stage == "publish" else f", or delete {_place(stage)}/, which a finished set does not need"
            yield (
                f"{name_in(out, manifest_path(out, stage))}: missing, the stage was finished; start the build again, which "
                f"writes it anew from what lies beside it{needless}"
            )


# Published shards.


@dataclass(frozen=True, slots=True)
class Shard:
    """One published shard as its manifest describes it."""

    directory: str
    name: str
    samples: int

    @property
    def tar(self) -> str:
        return storage.join(self.directory, f"{self.name}.tar")

    @property
    def parquet(self) -> str:
        return storage.join(self.directory, f"{self.name}.parquet")


def published_problems(out: str, manifest: Marker, select: Marker | None, level: Level) -> tuple[list[str], int]:
    """(problems, samples read) of shards/."""
    directory = storage.join(out, "shards")
    tars = [entry for entry in manifest["files"] if entry["name"].endswith(".tar")]
    shards = [Shard(directory, entry["name"].removesuffix(".tar"), entry.get("samples", -1)) for entry in tars]
    problems = list(set_problems(directory, manifest, shards))
    with ThreadPoolExecutor(READERS) as readers:
        keys, wrong = zip(*readers.map(row_problems, shards), strict=True) if shards else ((), ())
        problems += [problem for found in wrong for problem in found]
        read = {"metadata": None, "sample": sampled_problems, "full": shard_problems}[level]
        looked = list(readers.map(read, shards)) if read else []
    problems += [problem for found, _ in looked for problem in found]
    problems += key_problems(out, list(keys), select)
    return problems, sum(count for _, count in looked)


def set_problems(directory: str, manifest: Marker, shards: Sequence[Shard]) -> Problems:
    """The set as a whole: names, counts, sizes.json, and no file that the manifest does not know."""
    if sum(shard.samples for shard in shards) != manifest["samples"] or manifest["out"] != manifest["samples"]:
        yield f"shards/MANIFEST.json: {manifest['samples']} samples are not the sum over its shards"
    if len(shards) != manifest["shards"]:
        yield f"shards/MANIFEST.json: {manifest['shards']} shards, but {len(shards)} tars"
    if _json(storage.join(directory, "sizes.json")) != {f"{shard.name}.tar": shard.samples for shard in shards}:
        yield "shards/sizes.json: not what the manifest says"
    counted = {entry["name"]: entry.get("samples") for entry in manifest["files"]}
    if any(counted.get(f"{shard.name}.parquet") != shard.samples for shard in shards):
        yield "shards/MANIFEST.json: a tar and its parquet file have different counts"
    known = {entry["name"] for entry in manifest["files"]} | {"MANIFEST.json", REMOVED}
    for name in storage.list_dir(directory):
        if name not in known:
            yield f"shards/{name}: not in the manifest"


def row_problems(shard: Shard) -> tuple[list[str], list[str]]:
    """(keys, problems) of a shard's parquet file and stats, without looking into the tar."""
    columns = ["key", "canonical_url", "caption", "status", "image_offset", "image_size"]
    table = _table(shard.parquet, columns)
    if table is None or any(column.null_count for column in table.columns):
        return [], [f"{shard.parquet}: not a readable parquet file of samples"]
    problems = []
    if len(table) != shard.samples:
        problems.append(f"{shard.parquet}: {len(table)} rows, the manifest says {shard.samples} samples")
    stats = _json(shard.tar.removesuffix(".tar") + "_stats.json") or {}
    if (stats.get("count"), stats.get("successes")) != (shard.samples, shard.samples):
        problems.append(f"{shard.name}_stats.json: missing, or another count than the manifest's {shard.samples}")
    keys: list[str] = table["key"].to_pylist()
    pairs = zip(keys, table["canonical_url"].to_pylist(), table["caption"].to_pylist(), strict=True)
    problems += [
        f"{shard.parquet}: {key} is not the key of its URL and caption"
        for key, url, caption in pairs
        if key != pair_key(url, caption)
    ]
    if pc.any(pc.not_equal(table["status"], "success")).as_py():
        problems.append(f"{shard.parquet}: holds rows that are no success")
    ends = pc.add(table["image_offset"], table["image_size"]).to_numpy()
    if (table["image_offset"].to_numpy()[1:] < ends[:-1]).any():
        problems.append(f"{shard.parquet}: pictures overlap in the tar")
    return keys, problems


def key_problems(out: str, keys: Sequence[Sequence[str]], select: Marker | None) -> Problems:
    """No key twice, and exactly those of the keep list."""
    published = np.sort(np.concatenate([_short(some) for some in [[], *keys]]))
    again = np.unique(published[1:][published[1:] == published[:-1]])
    if len(again):
        counts = Counter(key for some in keys for key, short in zip(some, _short(some), strict=True) if short in again)
        yield from (f"shards: key {key} is there more than once" for key in sorted(counts) if counts[key] > 1)
    if select is None:
        return
    parts = [part["files"]["rows"]["name"] for part in select["parts"] if "rows" in part["files"]]
    tables = [_table(storage.join(out, name), ["key"]) for name in parts]
    kept = np.sort(np.concatenate([_short([]), *(_short(t["key"].to_pylist()) for t in tables if t is not None)]))
    if not np.array_equal(kept, published):
        missing, extra = np.setdiff1d(kept, published), np.setdiff1d(published, kept)
        yield f"shards: {len(missing)} selected samples are missing and {len(extra)} are there without being selected"


def _short(keys: Sequence[str]) -> npt.NDArray[np.uint64]:
    """64 bits of each key, for sets of many."""
    return name_hashes(keys)


# Samples.


def _rows(shard: Shard) -> list[dict[str, Any]]:
    table = read_columns(shard.parquet, SAMPLES.names)
    if any(table[name].null_count for name in ("key", "caption", "format", "image_offset", "image_size")):
        raise InputError("its parquet file has rows that are no sample")
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def reading(check: Callable[[Shard], tuple[list[str], int]]) -> Callable[[Shard], tuple[list[str], int]]:
    """The check, with files that cannot be read as problems of the shard."""

    @functools.wraps(check)
    def checked(shard: Shard) -> tuple[list[str], int]:
        if lost := [path for path in (shard.tar, shard.parquet) if storage.size_of_file(path) is None]:
            return [f"{path}: missing, or no file" for path in lost], 0
        try:
            return check(shard)
        except (OSError, InputError, pa.ArrowException) as error:
            return [f"{shard.tar}: {error}"], 0

    return checked


@reading
def sampled_problems(shard: Shard) -> tuple[list[str], int]:
    """(problems, samples read): a share of the pictures, at least one, read by offset."""
    rows = _rows(shard)
    hashes = keyed_hashes(0, "verify", [row["key"] for row in rows]).tolist()
    bound = max(int(SHARE * 2**64), min(hashes, default=0))
    chosen = [row for row, drawn in zip(rows, hashes, strict=True) if drawn <= bound]
    problems = []
    for row in chosen:
        head = storage.read_range(shard.tar, row["image_offset"] - BLOCK, BLOCK + row["image_size"])
        if head[:BLOCK] != tar_header(member_name(row), row["image_size"]):
            problems.append(f"{shard.tar}: no tar header of {member_name(row)} before byte {row['image_offset']}")
        problems += picture_problems(shard.tar, row, head[BLOCK:])
    return problems, len(chosen)


@reading
def shard_problems(shard: Shard) -> tuple[list[str], int]:
    """(problems, samples read): every member of the tar against the parquet file."""
    rows = _rows(shard)
    problems: list[str] = []
    members = iter_members(shard.tar)
    for row in rows:
        three = [member for _, member in zip(range(3), members, strict=False)]
        if [member.name for member in three] != [
            f"{row['key']}.{e}" for e in (extension_of(row["format"]), "txt", "json")
        ]:
            return [*problems, f"{shard.tar}: the files of {row['key']} are not where the parquet file has them"], 0
        problems += sample_problems(shard.tar, row, three)
    if (left := next(members, None)) is not None:
        problems.append(f"{shard.tar}: {left.name} is in no row of the parquet file")
    return problems, len(rows)


def member_name(row: Mapping[str, Any]) -> str:
    return f"{row['key']}.{extension_of(row['format'])}"


def sample_problems(path: str, row: dict[str, Any], members: Sequence[Member]) -> Problems:
    """Picture, caption and metadata of one sample."""
    image, caption, said = members
    if (image.offset, len(image.data)) != (row["image_offset"], row["image_size"]):
        yield f"{path}: {image.name} is not at the offset and size of its row"
    yield from picture_problems(path, row, image.data)
    if caption.data != row["caption"].encode():
        yield f"{path}: {caption.name} is not the caption of its row"
    if said.data != json.dumps(metadata(row), ensure_ascii=False).encode():
        yield f"{path}: {said.name} is not the metadata of its row"


def picture_problems(path: str, row: Mapping[str, Any], data: bytes) -> Problems:
    """The bytes are those of the digest and decode to the size of the row. Only bytes whose digest is right are decoded:
    the decoder has met them before, in a process of its own."""
    name = f"{path}: {row['key']}"
    if hashlib.sha256(data).hexdigest() != row["sha256"]:
        yield f"{name}: the picture is not that of its sha256"
        return
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            size = image.size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        yield f"{name}: the picture does not decode ({error})"
        return
    if size != (row["width"], row["height"]):
        yield f"{name}: the picture has {size[0]} x {size[1]} pixels, its row says {row['width']} x {row['height']}"


# Every byte.


def digest_problems(out: str, listed: Sequence[dict[str, Any]]) -> list[str]:
    """The digest of every file that is under one."""

    def check(entry: dict[str, Any]) -> str | None:
        path, name = storage.join(out, entry["name"]), entry["name"]
        digest = next((storage.Digest(a, entry[a]) for a in ("sha256", "xxh3_128") if a in entry), None)
        if digest is None:
            return f"{name}: the manifest has no digest of it"
        if storage.size_of_file(path) is None:
            return None  # said before
        try:
            found = storage.digest_of(path, digest.algorithm)
        except OSError as error:
            return f"{name}: cannot be read ({error})"
        if found != digest:
            return f"{name}: its bytes are not those of the manifest's {digest.algorithm}; {mend(name)}"
        return None

    with ThreadPoolExecutor(READERS) as readers:
        return [problem for problem in readers.map(check, listed) if problem]


def raw_problems(out: str, download: Marker | None) -> list[str]:
    """Every picture of every raw tar against its row."""
    parts = [part["files"] for part in with_pictures(download["parts"])] if download else []
    paths = [(storage.join(out, f["tar"]["name"]), storage.join(out, f["parquet"]["name"])) for f in parts]
    with ThreadPoolExecutor(READERS) as readers:
        return [problem for found in readers.map(lambda pair: _raw_problems(*pair), paths) for problem in found]


def _raw_problems(tar: str, parquet: str) -> list[str]:
    table = _table(parquet, ["key", "reason", "tar_offset", "tar_size", "format", "sha256"])
    if table is None or storage.size_of_file(tar) is None:
        return []  # said before
    rows = [row for row in table.to_pylist() if row["reason"] is None]
    expected = [(member_name(row), row["tar_offset"], row["tar_size"], row["sha256"]) for row in rows]
    try:
        found = [
            (member.name, member.offset, len(member.data), hashlib.sha256(member.data).hexdigest())
            for member in iter_members(tar)
        ]
    except (OSError, InputError) as error:
        return [f"{tar}: {error}"]
    return [] if found == expected else [f"{tar}: its pictures are not those of {storage.name_of(parquet)}"]
