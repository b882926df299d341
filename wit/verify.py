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

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from wit import ledger, storage
from wit.damage import COPY_OR_WEB, DamagedFile, is_robots
from wit.parts import (
    COUNTS,
    FILE,
    LEDGER,
    MARKER,
    RECORD,
    RUN,
    TOTALS,
    Marker,
    StageDir,
    add_counts,
    bare,
    entries,
    manifest_path,
    read_manifest,
    shaped,
    to_json,
)
from wit.records import SCHEMAS, STAGES, InputError
from wit.remedies import STRANGER, Problem, Problems, directory_of, manifest_of, stage_of, told
from wit.report import FILES
from wit.resume import sealed, written_again
from wit.retry import is_accounting
from wit.shardcheck import READERS, Level, bytes_in, json_in, published_problems, raw_problems, table_in
from wit.shards import REMOVED

EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is off, one line each (empty if nothing is), what could not be looked at, and what was: the stages that are
    finished, those that are still to come, and how much was published."""

    problems: tuple[str, ...]
    notes: tuple[str, ...]
    stages: tuple[str, ...]
    to_come: tuple[str, ...]
    shards: int
    samples: int
    samples_read: int


def verify(out: str, level: Level = "metadata") -> Verdict:
    """Checks a build from its manifests down; raises InputError where there is no build."""
    manifests, problems = _manifests(out)
    if not manifests and not problems and not storage.exists(storage.join(out, "run.json")):
        raise InputError(f"no build in {out}: give the --output directory of python -m pipelines.build")
    run = _run(out)
    for stage, manifest in manifests.items():
        problems += stage_problems(out, stage, manifest, run)
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
    problems, unseen = never_looked_at(run, problems, read)
    to_come = still_to_come(out, run, manifests)
    return Verdict(
        problems=told(problems, manifests, lambda stage: _restorable(out, run, stage)),
        notes=(*notes, *unseen),
        stages=tuple(stage for stage in manifests if stage not in to_come),
        to_come=to_come,
        shards=published["shards"] if published else 0,
        samples=published["samples"] if published else 0,
        samples_read=read,
    )


# With the digests that a build can do without.
ENTRY = FILE | {"sha256": str}
PART = MARKER | {"files": {None: ENTRY}}
DIGESTED = TOTALS | {"parts": [PART]}
DIGESTED_OF = {
    "download": TOTALS | {"parts": [PART | {"files": {None: FILE, "tar": FILE, "parquet": ENTRY}}]},
    "select": TOTALS | {"parts": [PART | {"files": {None: ENTRY, "rows": ENTRY}}]},
    "publish": TOTALS | {"shards": int, "samples": int, "files": [ENTRY]},
}


def _manifests(out: str) -> tuple[dict[str, Marker], list[Problem]]:
    """(the manifests of all stages that finished, what is wrong with others: nothing below those can be trusted)."""
    found, problems = dict[str, Marker](), list[Problem]()
    for stage in STAGES:
        try:
            manifest = read_manifest(out, stage)
        except (OSError, InputError) as error:
            said = error.what if isinstance(error, DamagedFile) else f"{error}"
            problems.append(Problem(manifest_of(stage), f"damaged ({said})"))
            continue
        if manifest is not None and shaped(_strictly(manifest), DIGESTED_OF.get(stage, DIGESTED)):
            found[stage] = manifest
        elif manifest is not None:
            problems.append(Problem(manifest_of(stage), "damaged (it lacks digests)"))
    return found, problems


def _restorable(out: str, run: Marker | None, stage: str) -> bool:
    """Whether the next start can write a stage's manifest again; taken for granted of sets that keep no record."""
    kept = _records(run).get(stage)
    return kept is None or written_again(StageDir(out, stage, kept["fingerprint"]), kept) is not None


# What is finished, and what is being made.


def _making(run: Marker | None) -> set[str]:
    """The stages that the last start was at, or had still to make anew, when it was stopped."""
    run = run or {}
    lists = (run.get("rebuild", {}), run.get("retry", {}))
    return {*run.get("at_work", ()), *(stage for kept in lists for stage in kept.get("pending", ()))}


def still_to_come(out: str, run: Marker | None, manifests: Mapping[str, Marker]) -> tuple[str, ...]:
    """The stages that the set lacks for the settings of its last start; none where run.json does not tell."""
    if run is None:
        return ()
    prints, records, making = run["fingerprints"], _records(run), _making(run)
    scored = "score" in prints or run.get("config", {}).get("score_checkpoint") is not None

    def lacks(stage: str) -> bool:
        found = manifests.get(stage) or records.get(stage)
        if found is None and "stages" not in run:  # version 0.1.0 kept no records of what was deleted since
            return "publish" not in manifests
        return found is None or found["fingerprint"] != prints.get(stage)

    wanted = [stage for stage in STAGES if stage != "report" and (stage != "score" or scored)]
    found = [stage for stage in wanted if stage in making or lacks(stage)]
    page = "report" in records or storage.exists(storage.join(out, "report/index.html"))
    return (*found, *([] if page and "report" not in making and "publish" not in found else ["report"]))


def _strictly(manifest: Marker) -> Marker:
    """The manifest without the accounting of retries, whose parts are the only ones that have no files."""
    parts = manifest.get("parts")
    if not isinstance(parts, list) or manifest["stage"] != "download":
        return manifest
    return manifest | {"parts": [part for part in parts if not (shaped(part, PART) and is_accounting(part["unit"]))]}


# Manifests against files and against each other.


def stage_problems(out: str, stage: str, manifest: Marker, run: Marker | None) -> Problems:
    """One stage by itself."""
    name = manifest_of(stage)
    if manifest["schema_version"] > SCHEMAS[stage]:
        said = f"written with schema {manifest['schema_version']}, this version of wit reads up to {SCHEMAS[stage]}"
        yield Problem(name, said, how="use the version that wrote it, or a later one")
    known = [run["fingerprints"].get(stage), _records(run).get(stage, {}).get("fingerprint")] if run else []
    if known and manifest["fingerprint"] not in known:
        yield Problem(name, "of other settings than run.json, or of another stage")
    for entry in entries(stage, manifest):
        yield from size_problems(out, entry)
    if stage == "publish":
        return
    if lacking := set(manifest.get("wanted", ())) - {p["unit"] for p in manifest["parts"]}:
        yield Problem(name, f"{len(lacking)} of its units are missing ({min(lacking)}, ...)")
    parts = manifest["parts"]
    for count in ("in", "out"):
        if manifest[count] != sum(part[count] for part in parts):
            yield Problem(name, f"says {manifest[count]} {count}, its parts {sum(part[count] for part in parts)}")
    if manifest["dropped"] != add_counts(part["dropped"] for part in parts):
        yield Problem(name, "its losses are not the sum of its parts'")
    for part in parts:
        if stage not in _making(run):
            yield from marker_problems(out, stage, part)
        yield from part_problems(out, stage, part, thinned=manifest.get("dropped_one_in", 1) > 1)


def size_problems(out: str, entry: Mapping[str, Any]) -> Problems:
    name, path = entry["name"], storage.join(out, entry["name"])
    size = storage.size_of_file(path)
    if size is None:
        said = "no file: move away what stands there" if storage.exists(path) else "missing"
        yield Problem(name, said, lost=True, gone=True)
    elif size != entry["bytes"]:
        yield Problem(name, f"{size} bytes, the manifest says {entry['bytes']}", lost=True)


def marker_problems(out: str, stage: str, part: Marker) -> Problems:
    """The marker of a part is there and says what the manifest says."""
    name = f"{directory_of(stage)}/{part['unit']}.json"
    path = storage.join(out, name)
    if not storage.exists(path):
        yield Problem(name, f"the marker of {part['unit']} is missing", lost=True)
    elif not _marker_stands(path, part):
        yield Problem(name, f"the marker of {part['unit']} differs from the manifest")


def part_problems(out: str, stage: str, part: Marker, *, thinned: bool) -> Problems:
    """The tables of a part hold what it counts."""
    files = {label: entry["name"] for label, entry in part["files"].items()}
    if part["unit"].startswith("part-") and "rows" in files:
        yield from _count_problems(out, files["rows"], part["out"], "rows")
    if stage == "download" and "parquet" in files:
        yield from _reason_problems(out, files["parquet"], {**part["dropped"], "": part["out"]})
    elif "dropped" in files and not thinned:
        yield from _reason_problems(out, files["dropped"], part["dropped"])


def _marker_stands(path: str, part: Marker) -> bool:
    """Whether a marker is, to the byte, what the manifest says of it. One of plan may name files between passes besides, long
    removed: then the manifest has its digest, or in sets of version 0.1.0 nothing."""
    data, marker = bytes_in(path), json_in(path)
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


# Of run.json, what is read here.
READ: Mapping[str | None, Any] = {
    "fingerprints": {None: str},
    "config?": {"image?": dict},
    **{name: shape for name, shape in RUN.items() if name in ("at_work?", "rebuild?", "retry?")},
}


def _run(out: str) -> Marker | None:
    """run.json, or None where it is none that a build wrote."""
    run = json_in(storage.join(out, "run.json"))
    return run if run is not None and shaped(run, READ) and _records_hold(run) else None


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


def _count_problems(out: str, name: str, expected: int, what: str) -> Problems:
    table = table_in(storage.join(out, name), ["key"])
    if table is None:
        yield Problem(name, "not a readable parquet file")
    elif len(table) != expected:
        yield Problem(name, f"{len(table)} {what}, the manifest says {expected}")


def _reason_problems(out: str, name: str, expected: Mapping[str, int]) -> Problems:
    """Rows by reason ("" for none) against the marker's counts."""
    table = table_in(storage.join(out, name), ["reason"])
    if table is None:
        yield Problem(name, "not a readable parquet file")
        return
    counted = add_counts({reason or "": 1} for reason in table["reason"].to_pylist())
    if counted != add_counts([expected]):
        yield Problem(name, "its rows by reason are not those of its marker")


def ledger_problems(out: str, manifests: Mapping[str, Marker]) -> Problems:
    """in = out + dropped, within stages and between them, and ledger.json says the same."""
    stages = ledger.stage_totals(manifests)
    for line in ledger.imbalances(stages):
        stage, _, said = line.partition(": ")
        yield Problem(manifest_of(stage), said)
    if "publish" not in manifests:
        return
    found = json_in(storage.join(out, "ledger.json"))
    if found is None or not shaped(found, LEDGER):
        yield Problem("ledger.json", "missing or not what the report stage writes")
        return
    for stage in dict.fromkeys([*stages, *found.get("stages", {})]):
        if found["stages"].get(stage) != stages.get(stage):
            yield Problem("ledger.json", f"{stage} is not the sum of its published parts")
    if found.get("samples") != manifests["publish"]["samples"]:
        said = f"{found.get('samples')} samples, published are {manifests['publish']['samples']}"
        yield Problem("ledger.json", said)


def never_looked_at(run: Marker | None, problems: Sequence[Problem], read: int) -> tuple[list[Problem], list[str]]:
    """(problems, notes): pictures that were stored without a look at their pixels, as was asked for, are no problem."""
    image = (run or {}).get("config", {}).get("image", {})
    looked = not image.get("keep_original") or image.get("perceptual_hashes", True)
    cut = [problem for problem in problems if problem.undecodable]
    if looked or image.get("check_pixels", "none") != "none" or not cut:
        return list(problems), []
    examples = "; ".join(f"{problem.name}: {problem.what}" for problem in cut[:EXAMPLES])
    more = "; ..." if len(cut) > EXAMPLES else ""
    note = (
        f"{len(cut):,} of {read:,} pictures that were read do not decode: the set was built with --check-pixels none, so nobody "
        f"looked at them before; --check-pixels fast --rebuild-from download leaves them out, and asks the web for everything "
        f"again ({examples}{more})"
    )
    return [problem for problem in problems if not problem.undecodable], [note]


# The set as a whole: what is under a digest, and what is not.

OUTSIDE = (".lock", "_LEASE.json")  # of the machine that builds
# Work in progress; what `make demo` trains and evaluates.
OUTSIDE_DIRS = ("_tmp", "_shards", "_retry", "model", "zero-shot")
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


def whole_problems(out: str, run: Marker | None, manifests: Mapping[str, Marker]) -> tuple[list[Problem], list[str]]:
    """(problems, notes) of run.json, of the manifests, and of files that nothing names."""
    named, beside = every_entry(out, run, manifests)
    there = [name for name in storage.find(out) if not _outside(name)]
    problems = run_problems(out, run, manifests)
    asked = [entry["name"] for entry in beside if is_robots(entry["name"])]
    silent = [name for name in asked if not storage.exists(storage.join(out, name))]
    for entry in beside:
        problems += size_problems(out, entry) if entry["name"] not in silent else ()
    notes = [f"{name} is gone: nothing but the next download reads it, which asks servers again" for name in silent]
    found, plain = strangers(run, manifests, [*named, *beside], there)
    problems += found
    notes += [f"no digest covers {', '.join(plain)}: the set is of version 0.1.0"] if plain else []
    left = {name.partition("/")[0] for name in there}
    for stage in (
        stage for stage in _unfinished(run, manifests) if stage in _deleted(run) and stage not in _making(run)
    ):
        if directory_of(stage) not in left:
            gone = gone_problems(stage, run, manifests)
            said = f"{directory_of(stage)}/ was deleted after it was finished: what it wrote is not looked at"
            problems, notes = [*problems, *gone], [*notes, *([] if gone else [said])]
        elif manifest_of(stage) not in there:
            problems.append(Problem(manifest_of(stage), "missing, the stage was finished", lost=True))
    return problems, notes


def _unfinished(run: Marker | None, manifests: Mapping[str, Marker]) -> list[str]:
    """The stages whose manifest is not there; score only where there is to be one."""
    found = [stage for stage in STAGES if stage not in manifests and stage != "report"]
    without = "publish" in manifests and "score" not in (run or {}).get("fingerprints", {})
    return [stage for stage in found if not (without and stage == "score")]


def strangers(
    run: Marker | None, manifests: Mapping[str, Marker], listed: Entries, there: Sequence[str]
) -> tuple[list[Problem], list[str]]:
    """(files that are not of the set, those of it that no digest covers)."""
    covered = {entry["name"] for entry in listed if "sha256" in entry or "xxh3_128" in entry}
    covered |= {manifest_of(stage) for stage in manifests}
    covered |= {f"{directory_of(stage)}/{p['unit']}.json" for stage, m in manifests.items() for p in m.get("parts", ())}
    loose = {entry["name"] for m in manifests.values() for p in m.get("parts", ()) for entry in p.get("beside", ())}
    first = run is not None and "stages" not in run  # version 0.1.0 wrote it
    loose |= {*FILES, "run.json"} if first else set()
    unknown = [name for name in there if name not in covered and name not in loose and name != "run.json"]
    made = {*_unfinished(run, manifests), *_making(run)}
    # What the report wrote stands in run.json, which is named itself where it cannot be read.
    made |= {"report"} if run is None else set()
    open_ = {name for name in unknown if stage_of(name) in made or (first and name.startswith("_demo/"))}
    found = [Problem(n, "not of this set: no manifest names it", how=STRANGER) for n in unknown if n not in open_]
    plain = [name for name in there if name in loose - covered or name in open_]
    return found, plain if first else []


def gone_problems(stage: str, run: Marker | None, manifests: Mapping[str, Marker]) -> list[Problem]:
    """What is wrong with a finished stage of which nothing is left, where the set cannot do without it."""
    if stage == "publish":
        samples = _records(run)["publish"].get("samples", 0)
        return [Problem("shards/", f"gone, with the {samples:,} samples that were published", lost=True)]
    if stage == "download" and "publish" not in manifests and "publish" not in _deleted(run):
        return [Problem("raw/", "gone, and the set that is to be made of it is not published yet", how=COPY_OR_WEB)]
    return []


def _outside(name: str) -> bool:
    return name in OUTSIDE or name.split("/")[0] in OUTSIDE_DIRS or name.split("/")[1:] == [REMOVED]


def run_problems(out: str, run: Marker | None, manifests: Mapping[str, Marker]) -> list[Problem]:
    """run.json against its own digest, and the manifests against those in it."""
    if run is None:
        gone = not storage.exists(storage.join(out, "run.json"))
        return [Problem("run.json", "missing" if gone else "not what a build writes", lost=gone, gone=gone)]
    if "stages" not in run and "sha256" not in run:
        return []
    problems = []
    if bytes_in(storage.join(out, "run.json")) != sealed(run):
        problems.append(Problem("run.json", "its bytes are not those of the digest in it"))
    for stage, manifest in manifests.items():
        recorded = _records(run).get(stage, {})
        if recorded.get("fingerprint") != manifest["fingerprint"]:
            problems.append(Problem(manifest_of(stage), "run.json has no record of it"))
            continue
        data = bytes_in(manifest_path(out, stage)) or b""
        if hashlib.sha256(data).hexdigest() != recorded.get("manifest_sha256"):
            problems.append(Problem(manifest_of(stage), "its bytes are not those of run.json's sha256"))
    return problems


# Every byte.


def digest_problems(out: str, listed: Sequence[dict[str, Any]]) -> list[Problem]:
    """The digest of every file that is under one."""

    def check(entry: dict[str, Any]) -> Problem | None:
        path, name = storage.join(out, entry["name"]), entry["name"]
        digest = next((storage.Digest(a, entry[a]) for a in ("sha256", "xxh3_128") if a in entry), None)
        if digest is None:
            return Problem(name, "the manifest has no digest of it")
        if storage.size_of_file(path) is None:
            return None  # said before
        try:
            found = storage.digest_of(path, digest.algorithm)
        except OSError as error:
            return Problem(name, f"cannot be read ({error})")
        if found != digest:
            return Problem(name, f"its bytes are not those of the manifest's {digest.algorithm}")
        return None

    with ThreadPoolExecutor(READERS) as readers:
        return [problem for problem in readers.map(check, listed) if problem]
