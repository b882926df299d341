"""Is what lies under OUT what its manifests say, and does every pair add up? Reads everything, changes nothing.

Every file of a set is under a digest. Those of parts and tars stand in their stage's manifest. Those of manifests, of robots.txt
answers and of the report's files stand in run.json, which bears a digest of itself. Locks, work in progress, tombstones, and
models that were trained into OUT are under none. A note says which finished stages were deleted, and so not looked at, and which
files have no digest because the set is of version 0.1.0.

metadata   every file is there with its size, and no other; rows, sums and the ledger agree; keys are right and unique
sample     besides: a share of the samples, chosen by hash, is read by offset, compared with its digest and decoded
full       besides: the digest of every file, and every sample of every tar
"""

from __future__ import annotations

import hashlib
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from itertools import chain

from wit import layout, ledger
from wit.checks import Check, Checks, Look, Seen, here, look_at_all
from wit.damage import COPY_OR_WEB, is_robots
from wit.download.published import with_pictures
from wit.download.rounds import is_accounting
from wit.errors import DamagedFile, InputError
from wit.fingerprints import is_moot
from wit.hashing import name_hash
from wit.keycheck import Run, Runs, sum_of
from wit.layout import directory_of, manifest_of
from wit.remedies import STRANGER, Problem, Problems, sentences, stage_of
from wit.resume import implied, written_again
from wit.runfile import Record, RunFile, SeenSource, load_run, sealed
from wit.shardcheck import SHARDS, Level, Shard, bytes_in, json_in, set_problems, shards_of, table_in
from wit.shards import REMOVED
from wit.stages import PRODUCTS, SCHEMAS, STAGES, USUAL
from wit.store import fs
from wit.store.flight import side_by_side
from wit.store.manifests import AnyManifest, File, Manifest, Published, Sizes, read_manifest
from wit.store.parts import StageDir
from wit.tally import Tally, add_up
from wit.typed import load

EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result: problems, one line each (none if all is right); notes on what could not be looked at; which stages are finished
    or still to come; how much was published, and how many samples were read."""

    problems: tuple[str, ...]
    notes: tuple[str, ...]
    stages: tuple[str, ...]
    to_come: tuple[str, ...]
    shards: int
    samples: int
    samples_read: int


def verify(out: str, level: Level = "metadata", look: Look = here, *, folder: str | None = None) -> Verdict:
    """Checks a build from its manifests down; raises InputError where there is no build. `look` reads what is many, in threads or
    on an engine; hashes of keys are written to `folder` meanwhile, a temporary directory if it is None."""
    with tempfile.TemporaryDirectory(prefix="wit-verify-") as temporary:
        return _verify(out, Checks(out, folder or temporary, level), look)


def _verify(out: str, checks: Checks, look: Look) -> Verdict:
    manifests, problems = _manifests(out)
    if not manifests and not problems and not fs.exists(layout.run_path(out)):
        raise InputError(f"no build in {out}: give the --output directory of python -m pipelines.build")
    run = _run(out)
    sights = Sights.of(look, list(checks_of(checks, run, manifests)))
    there = fs.find_sizes(out)
    for stage, manifest in manifests.items():
        problems += stage_problems(out, stage, manifest, run, there)
        problems += sights.problems("parts", stage)
    more, notes = whole_problems(out, run, manifests, there)
    problems += more
    found_set = manifests.get("publish")
    published = found_set if isinstance(found_set, Published) else None
    problems += ledger_problems(out, {**_deleted(out, run), **manifests}, published or _records(run).get("publish"))
    if published is not None:
        problems += set_problems(out, published, shards_of(out, published))
        problems += [*sights.problems("shards"), *sights.problems_of_samples()]
        problems += key_problems(shards_of(out, published), sights, checks, look)
    problems += [*sights.problems("bytes"), *sights.problems("raw")]
    read = sights.read
    problems, unseen = never_looked_at(run, problems, read)
    to_come = still_to_come(out, run, manifests)
    return Verdict(
        problems=sentences(problems, manifests, lambda stage: _restorable(out, run, stage)),
        notes=(*notes, *unseen),
        stages=tuple(stage for stage in manifests if stage not in to_come),
        to_come=to_come,
        shards=published.shards if published else 0,
        samples=published.samples if published else 0,
        samples_read=read,
    )


Manifests = Mapping[str, AnyManifest]


def checks_of(checks: Checks, run: RunFile | None, manifests: Manifests) -> Iterator[Check]:
    """What is many, to be looked at by many."""
    select, download, published = (manifests.get(stage) for stage in ("select", "download", "publish"))
    for stage, manifest in manifests.items():
        if isinstance(manifest, Manifest):
            thinned, marked = (manifest.dropped_one_in or 1) > 1, stage not in _making(run)
            yield from checks.of_parts(stage, manifest.parts, thinned=thinned, marked=marked)
    if isinstance(published, Published):
        yield from checks.of_shards(shards_of(checks.out, published))
        parts = select.parts if isinstance(select, Manifest) else ()
        yield from checks.of_keep_list(part.files["rows"] for part in parts if "rows" in part.files)
    if checks.level == "full":
        yield from checks.of_bytes(chain.from_iterable(every_file(checks.out, run, manifests)))
        yield from checks.of_raw(with_pictures(download.parts) if isinstance(download, Manifest) else ())


@dataclass(frozen=True, slots=True)
class Sights:
    """What came of all checks, in their order."""

    seen: tuple[Seen, ...]

    @classmethod
    def of(cls, look: Look, checks: Sequence[Check]) -> Sights:
        """Looks at all of them."""
        return cls(tuple(look_at_all(look, [replace(check, number=number) for number, check in enumerate(checks)])))

    @property
    def read(self) -> int:
        """How many samples were read."""
        return sum(one.read for one in self.seen)

    def problems(self, kind: str, stage: str = "") -> list[Problem]:
        """The problems of tables and files of that kind."""
        return [p for one in self.seen if (one.kind, one.stage) == (kind, stage) for p in one.problems]

    def problems_of_samples(self) -> list[Problem]:
        """The problems of samples."""
        return [problem for one in self.seen for problem in one.of_samples]

    def keys(self, kind: str) -> tuple[Run, ...]:
        """The runs of keys of that kind."""
        return tuple(one.keys for one in self.seen if one.kind == kind and one.keys is not None)


def key_problems(shards: Sequence[Shard], sights: Sights, checks: Checks, look: Look) -> Problems:
    """Problems if a key is there twice, or keys differ from the keep list's. An unreadable file was reported before."""
    published, kept = sights.keys("shards"), sights.keys("keep")
    whole = bool(kept) and all(run.whole for run in (*published, *kept))
    Runs(published, kept if whole else None).write(checks.folder)
    compared = sum_of(one.compared for one in look_at_all(look, checks.of_keys()) if one.compared is not None)
    if compared.again:
        yield from (
            Problem(SHARDS, f"key {key} is there more than once") for key in _twice(shards, set(compared.again))
        )
    if compared.differ:
        yield Problem(
            SHARDS,
            f"{compared.missing} selected samples are missing and {compared.extra} are there without being selected",
        )


def _twice(shards: Sequence[Shard], hashes: Set[int]) -> list[str]:
    """The keys that are there more than once, of those with these hashes."""
    tables = side_by_side(lambda shard: table_in(shard.path(shard.parquet), ["key"]), shards)
    keys = (key for table in tables if table is not None for key in table["key"].to_pylist())
    counts = Counter(key for key in keys if name_hash(key) in hashes)
    return sorted(key for key, count in counts.items() if count > 1)


def _manifests(out: str) -> tuple[dict[str, AnyManifest], list[Problem]]:
    """(the sound manifests, problems of the others). Files of a stage whose manifest is damaged cannot be checked."""
    manifests, problems = dict[str, AnyManifest](), list[Problem]()
    for stage in STAGES:
        if off := no_file(out, manifest_of(stage)):
            problems.append(off)
            continue
        try:
            manifest = read_manifest(out, stage)
        except (OSError, InputError) as error:
            what = error.what if isinstance(error, DamagedFile) else f"{error}"
            problems.append(Problem(manifest_of(stage), f"damaged ({what})"))
            continue
        if manifest is None:
            continue
        if lacking := _lacks(manifest):
            problems.append(Problem(manifest_of(stage), f"damaged ({lacking})"))
        else:
            manifests[stage] = manifest
    return manifests, problems


# The labels of the files that every unit of a stage has; accounting units of retries have none.
LABELS = {"download": ("tar", "parquet"), "select": ("rows",)}


def _lacks(manifest: AnyManifest) -> str:
    """What the manifest lacks, in words, though it could be loaded; empty where it lacks nothing."""
    if not all(file.digests for file in manifest.entries):
        return "it lacks digests"
    parts = manifest.parts if isinstance(manifest, Manifest) else ()
    wanted = LABELS.get(manifest.stage, ())
    units = (part for part in parts if not is_accounting(part.unit))
    return "" if all(label in part.files for part in units for label in wanted) else "it lacks files"


def _restorable(out: str, run: RunFile | None, stage: str) -> bool:
    """Whether the next start can write a stage's manifest again. In a set without records one marker is enough."""
    kept = _records(run).get(stage)
    if kept is None:
        return stage in PRODUCTS or bool(StageDir(out, stage, "").units())
    return written_again(StageDir(out, stage, kept.fingerprint), kept) is not None


# What is finished, and what is being made.


def _making(run: RunFile | None) -> set[str]:
    """The stages that the last start was running, or had still to make anew, when it was stopped."""
    return {*(run.at_work or ()), *run.rebuild.pending, *run.retry.pending} if run else set()


def still_to_come(out: str, run: RunFile | None, manifests: Manifests) -> tuple[str, ...]:
    """The stages that the set still lacks, by the settings of its last start; none where there is no run.json."""
    if run is None:
        return ()
    prints, records, making = run.fingerprints, _records(run), _making(run)
    scored = "score" in prints or run.config.get("score_checkpoint") is not None

    def lacks(stage: str) -> bool:
        known = manifests.get(stage) or records.get(stage)
        if known is None and run.stages is None:  # version 0.1.0 kept no records of what was deleted since
            return "publish" not in manifests
        return known is None or known.fingerprint != prints.get(stage)

    wanted = [stage for stage in STAGES if stage != "report" and (stage != "score" or scored)]
    to_come = [stage for stage in wanted if stage in making or lacks(stage)]
    page = "report" in records or fs.exists(fs.join(out, layout.PAGE_FILE))
    return (*to_come, *([] if page and "report" not in making and "publish" not in to_come else ["report"]))


# Manifests against files and against each other.


def stage_problems(out: str, stage: str, manifest: AnyManifest, run: RunFile | None, there: Sizes) -> Problems:
    """The manifest of one stage, with the files that it names."""
    name = manifest_of(stage)
    if manifest.schema_version > SCHEMAS[stage]:
        what = f"written with schema {manifest.schema_version}, this version of wit reads up to {SCHEMAS[stage]}"
        yield Problem(name, what, how="use the version that wrote it, or a later one")
    kept = _records(run).get(stage)
    known = [run.fingerprints.get(stage), kept.fingerprint if kept else None] if run else []
    if known and manifest.fingerprint not in known:
        yield Problem(name, "of other settings than run.json, or of another stage")
    for file in manifest.entries:
        yield from size_problems(out, file, there)
    if isinstance(manifest, Published):
        return
    if lacking := set(manifest.wanted or ()) - {str(part.unit) for part in manifest.parts}:
        yield Problem(name, f"{len(lacking)} of its units are missing ({min(lacking)}, ...)")
    total = add_up(manifest.parts)
    for count, says, sums in (("in", manifest.into, total.into), ("out", manifest.out, total.out)):
        if says != sums:
            yield Problem(name, f"says {says} {count}, its parts {sums}")
    if manifest.dropped != total.dropped:
        yield Problem(name, "its losses are not the sum of its parts'")


def no_file(out: str, name: str) -> Problem | None:
    """The problem where something stands that is no file; None where a file does, or nothing."""
    path = fs.join(out, name)
    if fs.size_of_file(path) is not None or not fs.exists(path):
        return None
    return Problem(name, "no file: move away what stands there", lost=True, gone=True)


def size_problems(out: str, file: File, there: Sizes) -> Problems:
    size = there.get(file.name)
    size = fs.size_of_file(fs.join(out, file.name)) if size is None else size  # a listing may come late
    if size is None:
        yield no_file(out, file.name) or Problem(file.name, "missing", lost=True, gone=True)
    elif size != file.bytes:
        yield Problem(file.name, f"{size} bytes, the manifest says {file.bytes}", lost=True)


def _run(out: str) -> RunFile | None:
    """run.json; None where it is missing or not what a build writes."""
    parsed = json_in(layout.run_path(out))
    try:
        run = load_run(parsed) if parsed is not None else None
    except ValueError:
        return None
    return run if run is not None and _records_hold(run) else None


def _records(run: RunFile | None) -> dict[str, Record]:
    """What run.json keeps of stages that finished."""
    return run.records if run else {}


def _records_hold(run: RunFile) -> bool:
    """Whether every record has the fields and digests that checks need."""
    return all(
        (
            record.tally is None
            or record.is_implied
            or None not in (record.wrote, record.units, record.manifest_sha256, record.beside)
        )
        and (stage != "report" or record.files is not None)
        and all(file.digests for file in (*(record.beside or ()), *(record.files or ())))
        for stage, record in run.records.items()
    )


def ledger_problems(out: str, totals: Mapping[str, Tally], published: Published | Record | None) -> Problems:
    """Problems unless in = out + dropped, within stages and between them, and ledger.json has the same numbers."""
    stages = ledger.stage_totals(totals)
    for stage, what in ledger.imbalances(stages):
        yield Problem(manifest_of(stage), what)
    if published is None:
        return
    try:
        written = load(ledger.LedgerFile, json_in(fs.join(out, layout.LEDGER_FILE)))
    except ValueError:
        unknown = [directory_of(stage) for stage in USUAL if stage not in stages and stage != "report"]
        how = f"put a copy back: it alone has the numbers of {unknown[0]}/, which was deleted" if unknown else None
        yield Problem(layout.LEDGER_FILE, "missing or not what the report stage writes", how=how)
        return
    for stage in dict.fromkeys([*stages, *written.stages]):
        if written.stages.get(stage) != stages.get(stage):
            yield Problem(layout.LEDGER_FILE, f"{stage} is not the sum of its published parts")
    if written.samples != published.samples:
        yield Problem(layout.LEDGER_FILE, f"{written.samples} samples, published are {published.samples}")


def never_looked_at(run: RunFile | None, problems: Sequence[Problem], read: int) -> tuple[list[Problem], list[str]]:
    """(problems, notes). If the user had pictures stored unseen (--check-pixels), those that do not decode become a note."""
    image = run.section("image") if run else {}
    looked = not image.get("keep_original") or is_moot("image", "check_pixels", image)
    check = image.get("check_pixels", "none")
    cut = [problem for problem in problems if problem.undecodable]
    if looked or check == "full" or not cut:
        return list(problems), []
    examples = "; ".join(f"{problem.name}: {problem.what}" for problem in cut[:EXAMPLES])
    more = "; ..." if len(cut) > EXAMPLES else ""
    seen = "nobody looked at them before" if check == "none" else "JPEG and WebP were told by their structure alone"
    note = (
        f"{len(cut):,} of {read:,} pictures that were read do not decode: the set was built with --check-pixels {check}, so "
        f"{seen}; --check-pixels full --rebuild-from download leaves them out, and asks the web for everything "
        f"again ({examples}{more})"
    )
    return [problem for problem in problems if not problem.undecodable], [note]


# The set as a whole: what is under a digest, and what is not.

OUTSIDE = (layout.LOCK_FILE, layout.OLD_LEASE)
# Work in progress; what `make demo` trains and evaluates.
OUTSIDE_DIRS = (layout.SCRATCH, layout.WORK, layout.LEASES, layout.NEXT_SHARDS, layout.RETRY, "model", "zero-shot")


def _deleted(out: str, run: RunFile | None) -> dict[str, Tally]:
    """The statistics of stages that count pairs, from run.json; of deleted stages in sets of version 0.1.0, from `implied`."""
    records = _records(run) | (implied(out, run) if run else {})
    tallies = {stage: records[stage].tally for stage in STAGES if stage in records}
    return {stage: tally for stage, tally in tallies.items() if tally is not None}


def every_file(out: str, run: RunFile | None, manifests: Manifests) -> tuple[list[File], list[File]]:
    """(files that manifests name, further files that run.json has a digest of), relative to OUT."""
    named = [file for manifest in manifests.values() for file in manifest.entries]
    records = _records(run)
    beside = [file for stage in manifests if stage in records for file in records[stage].beside or ()]
    beside += (records["report"].files or ()) if "report" in records else ()
    for source in run.sources if run else ():
        name, (how, _, digest) = below(source), (source.version or "").partition(" ")
        if name and how == "sha256" and fs.exists(fs.join(out, name)):
            beside.append(File(name, source.size or 0, digest))
    return named, beside


def below(source: SeenSource) -> str | None:
    """The name, relative to OUT, of a source that was made there (the demonstration web's); None for any other."""
    label = source.label or ""
    return label.replace("demo/", f"{layout.DEMO}/", 1) if label.startswith("demo/") else None


def whole_problems(
    out: str, run: RunFile | None, manifests: Manifests, sizes: Sizes
) -> tuple[list[Problem], list[str]]:
    """(problems, notes) of run.json, of the manifests, and of files that nothing names."""
    named, beside = every_file(out, run, manifests)
    there = [name for name in sizes if not _outside(name)]
    problems = run_problems(out, run, manifests)
    asked = [file.name for file in beside if is_robots(file.name)]
    silent = [name for name in asked if not fs.exists(fs.join(out, name))]
    for file in beside:
        problems += size_problems(out, file, sizes) if file.name not in silent else ()
    notes = [f"{name} is gone: nothing but the next download reads it, which asks servers again" for name in silent]
    strange, plain = strangers(run, manifests, [*named, *beside], there)
    problems += strange
    notes += [f"no digest covers {', '.join(plain)}: the set is of version 0.1.0"] if plain else []
    problems += loose_problems(out, run)
    left = {name.partition("/")[0] for name in there}
    deleted = _deleted(out, run)
    for stage in (stage for stage in _unfinished(run, manifests) if stage in deleted and stage not in _making(run)):
        if directory_of(stage) not in left:
            gone = gone_problems(stage, run, manifests, deleted)
            note = f"{directory_of(stage)}/ was deleted after it was finished: what it wrote is not looked at"
            problems, notes = [*problems, *gone], [*notes, *([] if gone else [note])]
        elif not fs.exists(layout.manifest_path(out, stage)):
            problems.append(Problem(manifest_of(stage), "missing, the stage was finished", lost=True))
    return problems, notes


def _unfinished(run: RunFile | None, manifests: Manifests) -> list[str]:
    """The stages whose manifest is not there; score only where there is to be one."""
    unfinished = [stage for stage in STAGES if stage not in manifests and stage != "report"]
    without = "publish" in manifests and "score" not in (run.fingerprints if run else {})
    return [stage for stage in unfinished if not (without and stage == "score")]


def strangers(
    run: RunFile | None, manifests: Manifests, listed: Sequence[File], there: Sequence[str]
) -> tuple[list[Problem], list[str]]:
    """(problems of files that are not of the set, files of the set that no digest covers)."""
    parts = [(stage, p) for stage, m in manifests.items() if isinstance(m, Manifest) for p in m.parts]
    covered = {file.name for file in listed if file.digests} | {manifest_of(stage) for stage in manifests}
    covered |= {f"{directory_of(stage)}/{part.unit}.json" for stage, part in parts}
    loose = {beside.name for _, part in parts for beside in part.beside}
    # A source that was made under OUT, if the store's version of it is no digest.
    loose |= {name for source in (run.sources if run else ()) if (name := below(source))}
    first = run is not None and run.is_first
    # Nothing else has these names. The next start of version 0.1.0's set records stages with a manifest, and the report has none.
    loose |= {*layout.REPORT_FILES, *([layout.RUN_FILE] if first else [])}
    unknown = [name for name in there if name not in covered and name not in loose and name != layout.RUN_FILE]
    made = {*_unfinished(run, manifests), *_making(run)}
    # The report's files are named in run.json; an unreadable run.json is a problem of its own.
    made |= {"report"} if run is None else set()
    open_ = {name for name in unknown if stage_of(name) in made or (first and name.startswith(f"{layout.DEMO}/"))}
    strange = [Problem(n, "not of this set: no manifest names it", how=STRANGER) for n in unknown if n not in open_]
    plain = [name for name in there if name in loose - covered or name in open_]
    return strange, plain if first else [name for name in plain if name in layout.REPORT_FILES]


def loose_problems(out: str, run: RunFile | None) -> list[Problem]:
    """Problems of the report's files where run.json has no record of it, as in sets of version 0.1.0."""
    if run is None or "report" in run.records:
        return []
    page = fs.size_of_file(fs.join(out, layout.PAGE_FILE)) is not None and "report" not in _making(run)
    problems = []
    for name in layout.REPORT_FILES:
        if off := no_file(out, name):
            problems.append(off)
        elif page and name != layout.LEDGER_FILE and not fs.exists(fs.join(out, name)):  # the ledger is read elsewhere
            problems.append(Problem(name, "missing", lost=True, gone=True))
    return problems


def gone_problems(stage: str, run: RunFile | None, manifests: Manifests, deleted: Mapping[str, Tally]) -> list[Problem]:
    """Problems of a finished stage that is wholly gone, if the set cannot do without it."""
    if stage == "publish":
        samples = _records(run)["publish"].samples or 0
        return [Problem("shards/", f"gone, with the {samples:,} samples that were published", lost=True)]
    if stage == "download" and "publish" not in manifests and "publish" not in deleted:
        return [Problem("raw/", "gone, and the set that is to be made of it is not published yet", how=COPY_OR_WEB)]
    return []


def _outside(name: str) -> bool:
    return name in OUTSIDE or name.split("/")[0] in OUTSIDE_DIRS or name.split("/")[1:] == [REMOVED]


def run_problems(out: str, run: RunFile | None, manifests: Manifests) -> list[Problem]:
    """Compares run.json with its own digest, and the manifests with their digests in it."""
    name, path = layout.RUN_FILE, layout.run_path(out)
    if run is None:
        gone = not fs.exists(path)
        return [Problem(name, "missing" if gone else "not what a build writes", lost=gone, gone=gone)]
    if run.is_first:
        return []
    problems = []
    if bytes_in(path) != sealed(json_in(path) or {}):
        problems.append(Problem(name, "its bytes are not those of the digest in it"))
    for stage, manifest in manifests.items():
        kept = _records(run).get(stage)
        if kept is None or kept.fingerprint != manifest.fingerprint:
            problems.append(Problem(manifest_of(stage), "run.json has no record of it"))
            continue
        data = bytes_in(layout.manifest_path(out, stage)) or b""
        if hashlib.sha256(data).hexdigest() != kept.manifest_sha256:
            problems.append(Problem(manifest_of(stage), "its bytes are not those of run.json's sha256"))
    return problems
