"""Fingerprints: 32 hex digits of all that a stage's output depends on; and how sets of earlier versions stay valid.

A stage's fingerprint = its own knobs + its schema version + what it reads: the fingerprints above it and, from download on,
the digest of what the stage above really wrote. A set outlives our versions: it may bear a fingerprint of an earlier schema.
So `forms` gives a stage's fingerprint under every schema that this version still reads, and the one found on disk counts. As
long as these tables are kept, nothing is rebuilt because our code changed:

- a new knob says so beside it, `field(default=..., metadata=added(since=3, before=None))`, with the value that means "as
  before": a knob at that value is in no fingerprint. If its default is another value, raise the stage's number in SCHEMAS
  too: sets of earlier schemas then go on without the knob;
- a knob that is gone gets one line in REMOVED, with its default; if a set had another value, its run.json says so;
- a knob that says the same in other words gets one line in REWORDED;
- a changed table raises the stage's number in SCHEMAS, and its readers keep reading the older ones;
- a changed rule raises it too, and a set of an earlier schema keeps the old rule (candidates.rules_under).

A test fails for a new knob that says nothing, and for one that is gone from the code and missing from these tables.
FetchConfig is in no fingerprint: politeness, time-outs and worker numbers change how pictures are fetched, not which.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from wit.errors import InputError
from wit.knobs import ADDED, Added, flag
from wit.runfile import RunFile
from wit.sources import SourceFile
from wit.stages import KINDS, SCHEMAS
from wit.typed import json_digest

BESIDE_CANDIDATES = ("limit", "files_per_part", "url_col", "caption_col", "encoding")  # knobs of the sources


@dataclass(frozen=True, slots=True)
class Removed:
    """A knob that a stage had up to schema `until`. `was` is the value of a set whose run.json does not tell, `instead` the knob
    that took its place, if any did."""

    until: int
    was: Any
    instead: str = ""


@dataclass(frozen=True, slots=True)
class Reworded:
    """A knob that had another name or form up to schema `until`: `before` turns its value of today into {old name: value}."""

    until: int
    before: Callable[[Any], Mapping[str, Any]]


# (stage, schema): whether it changed nothing under these settings (of a BuildConfig). Sets then bear the schema before it.
ALIKE: Mapping[tuple[str, int], Callable[[Any], bool]] = {
    ("select", 3): lambda config: config.plan.target is None and config.plan.cap == "expected",
}
MOOT: Mapping[str, Callable[[Any], bool]] = {  # "section.knob": whether nothing reads it under these settings
    "image.check_pixels": lambda image: not image.keep_original or image.perceptual_hashes,
}


def is_moot(section: str, knob: str, values: Mapping[str, Any]) -> bool:
    """Whether nothing reads the knob under these values of its section, as run.json has them."""
    moot = MOOT.get(f"{section}.{knob}")
    try:
        return moot is not None and moot(SimpleNamespace(**values))
    except AttributeError:  # an earlier version's section, without the knobs that decide
        return False


REMOVED: Mapping[str, Removed] = {  # "section.knob": Removed(until=1, was=50_000)
    "image.min_side_px": Removed(until=2, was=0),
    "plan.rows_per_bucket": Removed(until=2, was=250_000, instead="rows_per_key"),
    "select.rows_per_dedup_bucket": Removed(until=3, was=500_000, instead="rows_per_key"),
}
REWORDED: Mapping[
    str, Reworded
] = {  # "section.knob": Reworded(until=1, before=lambda value: {"old_knob": value == "x"})
    "image.exif": Reworded(
        until=1, before=lambda value: {"extract_exif": {"none": False, "all": True}.get(value, value)}
    ),
}


def check_gone(written: str, where: str = "") -> None:
    """Raises InputError for a flag or a setting that earlier versions had."""
    name = written.lstrip("-").partition("=")[0].replace("-", "_")
    gone = {knob.partition(".")[2]: removed for knob, removed in REMOVED.items()}
    if name in gone:
        why = f"{flag(gone[name].instead)} took its place" if gone[name].instead else "nothing hung on it"
        raise InputError(f"{where}{written} is gone, since {why}: leave it out; sets that were built with it go on")


@dataclass(frozen=True, slots=True)
class Inputs:
    """The inputs of a build, apart from its knobs."""

    seed: int
    queries: str  # digest of the list
    sources: Sequence[SourceFile]
    scorer: tuple[str, str] | None = None  # (model, digest of its weights)
    # {"section.knob": value} of knobs in REMOVED, as the set had them.
    gone: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Above:
    """A stage that another one reads: its fingerprint, under which schema that was made, and the digest of its files."""

    fingerprint: str
    schema: int
    wrote: str
    retries: int = 0


def gone_of(run: RunFile | None) -> dict[str, Any]:
    """{"section.knob": value} of the knobs that are gone, as run.json of the set's last start has them."""
    if run is None:
        return {}
    gone = dict(run.gone)
    for name in REMOVED:
        section, _, knob = name.partition(".")
        had = run.section(section)
        gone |= {name: had[knob]} if knob in had else {}
    return gone


def knobs(section: str, config: Any, schema: int, had: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The knobs of a section as a set of that schema had them; `had` has its values of knobs that are gone (`gone_of`)."""
    own: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        name, value = f"{section}.{field.name}", getattr(config, field.name)
        added, reworded = field.metadata.get(ADDED), REWORDED.get(name)
        if name in MOOT and MOOT[name](config):
            continue
        if reworded and schema <= reworded.until:
            own |= reworded.before(value)
        elif not added or not _as_before(value, field, added, schema):
            own[field.name] = value
    gone = {name.partition(".")[2]: knob for name, knob in REMOVED.items() if name.startswith(f"{section}.")}
    was = {name: (had or {}).get(f"{section}.{name}", knob.was) for name, knob in gone.items() if schema <= knob.until}
    return own | was


def _as_before(value: Any, field: dataclasses.Field[Any], added: Added, schema: int) -> bool:
    return bool(value == added.before or schema < added.since and value == field.default)


def forms(stage: str, config: Any, inputs: Inputs, above: Mapping[str, Above]) -> list[Above]:
    """The stage's fingerprint under every schema that is still read, the newest first; `wrote` is yet empty in each.
    `config` is a BuildConfig; `above` has the stages that this one reads."""
    possible = [
        Above(
            json_digest(stage, schema, _knobs(stage, config, inputs, schema), _reads(stage, inputs, above)), schema, ""
        )
        for schema in range(_newest(stage, config), 1, -1)
    ]
    if stage != "report" and all(read.schema == 1 for read in above.values()):
        possible.append(Above(_first_form(stage, config, inputs, above), 1, ""))
    return possible


def _newest(stage: str, config: Any) -> int:
    """The newest schema that is another one than that before it under these settings."""
    newest = SCHEMAS[stage]
    while (alike := ALIKE.get((stage, newest))) is not None and alike(config):
        newest -= 1
    return newest


def _knobs(stage: str, config: Any, inputs: Inputs, schema: int) -> Any:
    if stage == "score":
        return inputs.scorer
    section = KINDS[stage].section
    own = knobs(section, getattr(config, section), schema, inputs.gone) if section else {}
    return own | (_beside(config.sources, schema) if stage == "candidates" else {})


def _beside(config: Any, schema: int) -> dict[str, Any]:
    fields = {field.name: field for field in dataclasses.fields(config)}
    own = {}
    for name in BESIDE_CANDIDATES:
        added, value = fields[name].metadata.get(ADDED), getattr(config, name)
        if not added or not _as_before(value, fields[name], added, schema):
            own[name] = value
    return own


def _reads(stage: str, inputs: Inputs, above: Mapping[str, Above]) -> Any:
    if stage == "candidates":
        files = [[s.kind, s.name, s.size, s.version] for s in inputs.sources]
        return {"seed": inputs.seed, "queries": inputs.queries, "sources": files}
    if stage == "plan":  # a function of the settings alone
        return {name: read.fingerprint for name, read in above.items()}
    return {name: [read.fingerprint, read.wrote] for name, read in above.items()}


def _first_form(stage: str, config: Any, inputs: Inputs, above: Mapping[str, Above]) -> str:
    """The fingerprint of version 0.1.0: one schema number for all stages, sources by name and size, no digests of files."""
    own = _knobs(stage, config, inputs, 1)
    prints = [read.fingerprint for read in above.values()]
    if stage == "candidates":
        beside = [own.pop(name) for name in BESIDE_CANDIDATES if name in own]
        own = [own, *beside]
        prints = [str(inputs.seed), inputs.queries, *(str([s.kind, s.name, s.size]) for s in inputs.sources)]
    elif "download" in above:
        raw = above["download"]
        shards = json_digest("retries", 1, raw.retries, [raw.fingerprint]) if raw.retries else raw.fingerprint
        prints = [shards, *(above[name].fingerprint for name in ("score",) if name in above)]
    return json_digest(stage, 1, own, prints)
