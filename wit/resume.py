"""Going on: which stages stand, which have to run, and what that would cost, decided before anything is touched.

A stage is finished if its manifest bears its fingerprint. The files of a finished stage may be deleted (raw/ is most of a set):
run.json keeps a record of the stage, and nobody misses the files until a stage that has to run reads them. A build stops and
asks only where going on would throw downloads away, or fetch again what was there.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wit import layout
from wit.damage import damaged, missed
from wit.download.retry import in_rounds
from wit.download.rounds import is_accounting
from wit.errors import DamagedFile, InputError
from wit.fingerprints import BESIDE_CANDIDATES, Above, Inputs, forms, is_moot
from wit.knobs import flag
from wit.layout import is_apart
from wit.ledger import LedgerFile, imbalances, stage_totals
from wit.plan.facts import RATES
from wit.plan.passes import without_work
from wit.publish.whole import manifests_of
from wit.runfile import IMPLIED, Record, RunFile, SeenSource
from wit.select.passes import keep_parts
from wit.stages import KINDS, PRODUCTS, SCHEMAS, STAGES
from wit.store import fs, lease
from wit.store.flight import side_by_side
from wit.store.manifests import AnyManifest, Marker, Unit, lacking, read_json, read_manifest, wrote
from wit.store.parts import StageDir
from wit.tally import Tally
from wit.typed import to_json

SOURCES = layout.SOURCES_FILE  # all that the report needs of candidates/, which may be gone while this is there
EVIDENCE = 8  # markers of a stage that are read to learn under which schema it was begun


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of a set: its fingerprint (None while it depends on a stage that is yet to run); its manifest on disk and its
    record in run.json, each only if it bears that fingerprint; and which of its files are gone."""

    name: str
    above: Above | None
    manifest: AnyManifest | None = None
    record: Record | None = None
    missing: tuple[str, ...] = ()

    @property
    def retries(self) -> int:
        """Rounds of --retry-failed in a download."""
        kept = self.manifest or self.record
        return (kept.retries if kept else None) or 0

    @property
    def finished(self) -> bool:
        return self.manifest is not None or self.record is not None

    @property
    def whole(self) -> bool:
        """Whether it finished and all that it wrote can be read."""
        return (self.record if self.name == "report" else self.manifest) is not None and not self.missing

    @property
    def readable(self) -> bool:
        """Whether every file that other stages read is there; they read neither rejected pairs nor restricted/."""
        return self.whole or self.manifest is not None and all(is_apart(name) for name in self.missing)


def survey(out: str, run: RunFile, config: Any, inputs: Inputs) -> dict[str, Stage]:
    """Every stage as it lies under OUT, for these settings; `run` is the last start's run.json."""
    stages: dict[str, Stage] = {}
    names = [name for name in STAGES if name != "score" or inputs.scorer is not None]
    manifests = {name: _manifest(out, run, name) for name in names if name != "report"}
    for name in names:
        read = {above: stages[above].above for above in KINDS[name].hangs_on if above in stages}
        known = {above: form for above, form in read.items() if form is not None and (form.wrote or name == "plan")}
        if known == read:
            possible = forms(name, config, inputs, known)
            if name == "select" and name in run.rebuild.pending:
                possible = possible[:1]  # by the rules of today: nothing is fetched again for it
            stages[name] = _stage(out, run, name, manifests.get(name), possible)
            if name == "download":
                stages[name] = _with_rounds(stages[name], run, config, inputs)
        else:
            stages[name] = Stage(name, None)
    return stages


def _stage(out: str, run: RunFile, name: str, manifest: AnyManifest | None, possible: Sequence[Above]) -> Stage:
    """The stage under whichever form of its fingerprint is found on disk; under the newest form where none is."""
    record = run.records.get(name) or implied(out, run).get(name)
    there = {known.fingerprint for known in (record, manifest) if known}
    there |= {marker.fingerprint for marker in _some_markers(StageDir(out, name, ""))} if manifest is None else set()
    form = next((form for form in possible if form.fingerprint in there), possible[0])
    manifest = manifest if manifest and manifest.fingerprint == form.fingerprint else None
    record = record if record and record.fingerprint == form.fingerprint else None
    if manifest is not None:
        written, missing = wrote(manifest), StageDir(out, name, form.fingerprint).missing(manifest)
    else:
        written, files = (record and record.wrote) or "", (record and record.files) or ()
        names = dict.fromkeys([*(file.name for file in files), *([SOURCES] if name == "report" else [])])
        sizes = {name: fs.size_of_file(fs.join(out, name)) for name in names}
        missing = [name for name in names if name not in {file.name for file in files} and sizes[name] is None]
        missing += lacking(sizes, files)
    known = Stage(name, form, manifest, record, tuple(missing))
    return dataclasses.replace(known, above=dataclasses.replace(form, wrote=written, retries=known.retries))


MOST_ROUNDS = 100  # of retries that are tried for an implied record


def _with_rounds(download: Stage, run: RunFile, config: Any, inputs: Inputs) -> Stage:
    """The download with its number of rounds of retries; where nothing else tells it, worked out from a later fingerprint."""
    record, above = download.record, download.above
    if record is None or above is None or not record.is_implied or record.retries is not None:
        return download
    later = "score" if "score" in run.fingerprints else "select"
    for rounds in range(MOST_ROUNDS):
        counted = dataclasses.replace(above, retries=rounds)
        if run.fingerprints.get(later) in {
            form.fingerprint for form in forms(later, config, inputs, {"download": counted})
        }:
            return dataclasses.replace(download, above=counted, record=dataclasses.replace(record, retries=rounds))
    return download


def _manifest(out: str, run: RunFile, name: str) -> AnyManifest | None:
    """The stage's manifest, whatever its fingerprint. Raises InputError where a later version wrote it, and DamagedFile where its
    digest is not the one in run.json (unless the stage was at work when the last start ended)."""
    path, kept, anew = layout.manifest_path(out, name), run.records.get(name), name in run.rebuild.pending
    there = standing(out, name) if anew and fs.size_of_file(path) is not None else read_manifest(out, name)
    for version in (one.schema_version for one in (there, kept) if one):
        if version is not None and version > SCHEMAS[name]:
            raise InputError(
                f"{path} is of schema {version} and this version of wit reads up to {SCHEMAS[name]}: use the version that "
                "wrote it, or a later one"
            )
    at_work = STAGES if run.at_work is None else run.at_work
    if there is None or name in at_work or anew or kept is None or kept.manifest_sha256 is None:
        return there
    if fs.sha256_file(path) != kept.manifest_sha256:
        raise damaged(path, "it is not the one that run.json has the digest of")
    return there


def _some_markers(stage: StageDir) -> Iterator[Marker]:
    if stage.stage in PRODUCTS:
        return
    for unit in stage.units()[:EVIDENCE]:
        if (marker := stage.any_marker(unit)) is not None:
            yield marker


def standing(out: str, name: str) -> AnyManifest | None:
    """The stage's manifest; None where there is none, or a damaged one."""
    try:
        return read_manifest(out, name)
    except DamagedFile:
        return None


def drop_damaged(out: str, names: Collection[str]) -> None:
    """Removes damaged manifests of these stages, which are to be made anew."""
    for name in (name for name in names if name != "report" and standing(out, name) is None):
        fs.remove(layout.manifest_path(out, name))


def implied(out: str, run: RunFile) -> dict[str, Record]:
    """Records of deleted stages in a set of version 0.1.0, which kept none. They follow from the published set, whose fingerprint
    depends on every stage above it, and from the numbers in ledger.json. `run` is as the last start left it."""
    published = standing(out, "publish") if run.fingerprints else None
    if published is None or published.fingerprint != run.fingerprints.get("publish"):
        return {}
    names = [name for name in run.fingerprints if name not in PRODUCTS and name not in run.records]
    names = [name for name in names if standing(out, name) is None and not StageDir(out, name, "").units()]
    try:
        totals = read_json(fs.join(out, layout.LEDGER_FILE), LedgerFile) if names else None
    except DamagedFile:
        return {}
    if totals is None or totals.samples != published.out or imbalances(counted := stage_totals(totals.stages)):
        return {}
    return {name: _as_counted(run.fingerprints[name], counted[name]) for name in names if name in counted}


def _as_counted(fingerprint: str, tally: Tally) -> Record:
    return Record(fingerprint=fingerprint, wrote=IMPLIED, into=tally.into, out=tally.out, dropped=tally.dropped)


def restore(out: str, records: Mapping[str, Record]) -> None:
    """Writes the missing manifest of each finished stage again, if all its markers and files are there. A manifest is written
    only if its digest is the one in run.json."""
    for name, kept in records.items():
        stage = StageDir(out, name, kept.fingerprint)
        if kept.manifest_sha256 is None or fs.exists(stage.manifest_path):
            continue
        if (data := written_again(stage, kept)) is not None:
            lease.write(out, stage.manifest_path, data)


def written_again(stage: StageDir, kept: Record) -> bytes | None:
    """The manifest with the digest in run.json's record, made from the markers beside it; None where they do not give it."""
    possible = (to_json(manifest) for manifest in restored(stage, kept))
    return next((data for data in possible if hashlib.sha256(data).hexdigest() == kept.manifest_sha256), None)


def restored(stage: StageDir, kept: Record) -> Iterator[AnyManifest]:
    """The manifests that a stage may have had, made from the markers in its directory."""
    if stage.stage == "publish":
        yield from manifests_of(stage)
        return
    read = side_by_side(lambda unit: _whole_marker(stage, unit), stage.units())
    markers = [marker for marker in read if marker is not None]
    markers = [without_work(m) for m in markers] if stage.stage == "plan" else markers
    there = stage.present()
    markers = [m for m in markers if not lacking(there, m.files.values())]
    if stage.stage == "select":
        markers = keep_parts(markers)
    if len(markers) != kept.units:
        return
    info: dict[str, Any] = {"retries": kept.retries, "schema_version": kept.schema_version}
    if stage.stage == "candidates":
        info["dropped_one_in"] = kept.dropped_one_in or 1
    parts = in_rounds(markers) if stage.stage == "download" else markers
    units = tuple(sorted(str(m.unit) for m in markers if m.unit != RATES))
    for wanted in (units, None):  # version 0.1.0 did not name them
        yield stage.summed(parts, wanted=wanted, **info)


def _whole_marker(stage: StageDir, unit: Unit) -> Marker | None:
    try:
        return stage.marker(unit)
    except DamagedFile:
        return None


def to_run(stages: Mapping[str, Stage], asked: Collection[str], rebuilding: Collection[str], retry: bool) -> list[str]:
    """The stages that have to run, in order: those that are not whole, unless they finished once and nobody needs their files."""
    runs: list[str] = []
    stays = _report_must_stay(stages, rebuilding if "publish" in asked else ())
    for name in (name for name in reversed(STAGES) if name in asked and not (name == "report" and stays)):
        stage = stages[name]
        missed = name in PRODUCTS or any(name in _opens(later, stages) for later in runs)
        if (
            name in rebuilding
            or (name == "download" and retry)
            or not (stage.whole or stage.finished and not missed or stage.readable and name not in PRODUCTS)
            or _to_mend(name, stages)
        ):
            runs.append(name)
    return runs[::-1]


def _to_mend(name: str, stages: Mapping[str, Stage]) -> bool:
    """Whether the stage has lost files that its manifest names and that can be made again from other stages' files, without
    asking the web or reading the sources."""
    stage = stages[name]
    made_here = name in ("plan", "score", "select") and stage.manifest is not None and bool(stage.missing)
    return made_here and all(stages[above].readable for above in KINDS[name].opens if above in stages)


def _opens(name: str, stages: Mapping[str, Stage]) -> Sequence[str]:
    again = name == "report" and SOURCES in stages["report"].missing
    return (*KINDS[name].opens, "candidates") if again else KINDS[name].opens


def _report_must_stay(stages: Mapping[str, Stage], rebuilding: Collection[str]) -> bool:
    """Whether the report must stay, even without a record (version 0.1.0 kept none): raw/, which it is made from, is gone."""
    return "publish" not in rebuilding and stages["publish"].whole and not stages["download"].readable


def check_going_on(
    out: str, run: RunFile | None, now: RunFile, stages: Mapping[str, Stage], runs: Sequence[str]
) -> None:
    """Raises InputError where the stages to run would throw downloads away, fetch again what was there, or read files that are
    gone. `run` is the last start's run.json, `now` this start's. Raises Stopped where another builder has taken over."""
    if (why := _why_not(out, run, now, stages, runs)) is not None:
        lease.check(out)  # what another builder made while this one was silent looks like what settings do not go with
        raise InputError(why)


def _why_not(
    out: str, run: RunFile | None, now: RunFile, stages: Mapping[str, Stage], runs: Sequence[str]
) -> str | None:
    """The sentence of `check_going_on`'s InputError; None where nothing speaks against going on."""
    opened = [(later, read) for later in runs for read in KINDS[later].opens if read in stages and read not in runs]
    for later, read in opened:
        if read != "download" and stages[read].finished and not stages[read].readable:
            return f"{_gone(out, stages[read])} and {later} needs it: add {read} to --stages"
    download = stages["download"]
    needed = "download" in runs or any("download" in KINDS[name].opens for name in runs)
    if not needed or download.readable:
        return None
    how = "or say --rebuild-from download, which asks the web for everything again"
    if download.finished and not _all_published(out, download):
        gone = _gone(out, download)
        readers = ", ".join(name for name in runs if "download" in KINDS[name].opens) or "this build"
        differences = [_lost(out, file) for name in PRODUCTS for file in stages[name].missing[:1]]
        differences += changed(run, now, (*FIRST_HALF, "select", "publish"))
        since = f" ({'; '.join(differences)})" if differences else ""
        return f"{gone} and {readers} would need it{since}: put it back, keep the settings, {how}"
    if "download" in runs and not download.finished and _of_others(out, run, download) and (loss := lost(out)):
        why = "; ".join(changed(run, now, FIRST_HALF)) or "the plan is no longer the one that they were planned by"
        keep = (
            f"Keep the settings of {out}/run.json"
            if run
            else "Give the --seed and the settings that they were made with"
        )
        return f"these settings would throw away {loss}: {why}. {keep}, choose another --output, {how}"
    return None


def _gone(out: str, stage: Stage) -> str:
    """The beginning of a sentence: which file of the stage is gone (the first of them), or that all are."""
    if stage.missing:
        return _lost(out, stage.missing[0])
    place = layout.stage_path(out, stage.name)
    return f"what was downloaded to {place} is gone" if stage.name == "download" else f"{place} is gone"


def _lost(out: str, name: str) -> str:
    path = fs.join(out, name)
    if fs.size_of_file(path) is not None:
        return f"{path} is cut off or of another size than was written"
    return f"{path} is no file" if fs.exists(path) else f"{path} is gone"


def passed_over(out: str, stage: Stage) -> str:
    """The line to print for a finished stage that does not run."""
    if stage.whole or stage.name == "report":
        return "finished before"
    directory = StageDir(out, stage.name, stage.above.fingerprint if stage.above else "")
    if not fs.list_dir(directory.path):
        return "finished before; what it wrote is gone and nothing needs it"
    place = fs.join(out, directory.directory)
    lost = _gone(out, stage)
    if stage.manifest is not None:
        return f"finished before; {lost}: nothing needs it now; to mend the set {missed(stage.missing[0])}"
    units, left = (stage.record and stage.record.units) or "many", len(directory.markers())
    files = sum(not name.endswith((".json", layout.UNFINISHED)) for name in fs.list_dir(directory.path))
    if files:
        some = f"markers (.json) of {left} of its {units} units are left, beside {files:,} files"
        lost = f"{directory.manifest_path} is gone and {some}"
        wants = "" if stage.name != "download" else ", and without it other filters would ask the web again"
        return f"finished before; {lost}: nothing needs it now{wants}: put back what is gone of {place}"
    return f"finished before; {lost}: nothing needs it, {place} may be deleted"


def _all_published(out: str, download: Stage) -> bool:
    """Whether every raw shard is there, so that only the manifest has to be written again."""
    units = download.record.units if download.record else None
    if units is None or download.above is None or download.manifest is not None:
        return False
    return len(StageDir(out, "download", download.above.fingerprint).markers()) >= units


def _of_others(out: str, run: RunFile | None, download: Stage) -> bool:
    """Whether raw/ holds shards of other settings, or held them when the set was finished."""
    mine = download.above.fingerprint if download.above else ""
    there = [marker.fingerprint != mine for marker in _some_markers(StageDir(out, "download", ""))]
    before = (run is not None and "download" in run.records) or standing(out, "publish") is not None
    return any(there) or bool(before and not there)


def lost(out: str) -> str:
    """What throwing downloads away would cost, in words; empty where there is nothing to lose."""
    raw, published = standing(out, "download"), standing(out, "publish")
    shards = sum(not is_accounting(unit) for unit in StageDir(out, "download", "").units())
    nothing_fetched = not shards or (raw is not None and not raw.out)
    if nothing_fetched and not (published and published.out):
        return ""
    pictures = f" with {raw.out:,} pictures" if raw else ""
    size = f" ({sum(file.bytes for file in raw.entries) / 1e6:,.1f} MB)" if raw else ""
    samples = f" and the set of {published.out:,} samples made of them" if published else ""
    return f"{shards:,} downloaded shards{pictures}{size}{samples}"


# What has changed since the last start.

FIRST_HALF = ("candidates", "plan", "image")  # downloads depend on these


def changed(run: RunFile | None, now: RunFile, sections: Collection[str]) -> list[str]:
    """One sentence for each setting of these sections, and each input, that differs between two run.json."""
    if run is None:
        return []
    differences = []
    for section in sections:
        was, is_ = run.section(section), now.section(section)
        differences += [
            _knob(name, was[name], is_[name])
            for name in sorted(was.keys() & is_.keys())
            if was[name] != is_[name] and not (is_moot(section, name, was) and is_moot(section, name, is_))
        ]
    for name in BESIDE_CANDIDATES:
        had, has = run.section("sources").get(name), now.section("sources")[name]
        differences += [_knob(name, had, has)] if had != has else []
    if run.seed != now.seed:
        differences.append("--seed is another than the one in run.json")
    if run.queries_sha256 != now.queries_sha256:
        differences.append(f"the query list {now.config['queries']} has other entries than the one that was used")
    return differences + _changed_sources(run.sources, now.sources)


def _knob(name: str, was: Any, is_: Any) -> str:
    return f"{flag(name)} was {was} and is {is_}"


def _changed_sources(was: Sequence[SeenSource], is_: Sequence[SeenSource]) -> list[str]:
    before, now = ({source.name: source for source in sources} for sources in (was, is_))
    differences = [f"the source {name} is new" for name in now if name not in before]
    differences += [f"the source {name} is no longer given" for name in before if name not in now]
    for name in (name for name in now if name in before):
        old, new = before[name], now[name]
        if old.size != new.size:
            grew = (new.size or 0) > (old.size or 0)
            more = "; adding what is new to a finished set (--append) is yet to come" if grew else ""
            differences.append(f"the source {name} had {old.size or 0:,} bytes and has {new.size or 0:,}{more}")
        elif old.version is not None and old.version != new.version:
            differences.append(f"the source {name} was changed: it was {old.version} and is {new.version}")
    return differences
