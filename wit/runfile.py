"""run.json: what a set is made with, which stages are finished, and what the last start was doing. It bears its own digest."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from wit import layout
from wit.damage import damaged
from wit.stages import ALL
from wit.store import fs
from wit.store.manifests import AnyManifest, File, Manifest, Published, described, outlined, read_object, wrote
from wit.tally import Tally
from wit.typed import Rest, dump, load, optional, rest, to_json

IMPLIED = "implied"  # stands in `Record.wrote` instead of a digest
READERS = 8  # requests in flight
AT_WORK = "RUNNING"  # the state of a job, as Beam calls it, of whose end nothing is known


@dataclass(slots=True, kw_only=True)
class Record:
    """What run.json keeps of a stage that finished."""

    fingerprint: str
    schema_version: int | None = optional(None)
    into: int | None = optional(None, name="in")
    out: int | None = optional(None)
    dropped: Mapping[str, int] | None = optional(None)
    dropped_one_in: int | None = optional(None)
    retries: int | None = optional(None)
    samples: int | None = optional(None)
    wrote: str | None = optional(None)
    """The digest of all that it wrote (`wit.store.manifests.wrote`)."""
    units: int | None = optional(None)
    """How many units its manifest names."""
    manifest_sha256: str | None = optional(None)
    beside: tuple[File, ...] | None = optional(None)
    """Files that units keep beside their own: what servers said in robots.txt, which like times varies from run to run."""
    files: tuple[File, ...] | None = optional(None)
    """The files of the report, which has no manifest."""
    fetch: Mapping[str, Any] | None = optional(None)
    """The FetchConfig of a download."""
    others: Rest = rest()

    @property
    def tally(self) -> Tally | None:
        """The stage's statistics; None for a stage that counts no pairs."""
        if self.into is None or self.out is None or self.dropped is None:
            return None
        return Tally(into=self.into, out=self.out, dropped=self.dropped)

    @property
    def is_implied(self) -> bool:
        """Whether the record was worked out for a deleted stage (`wit.resume.implied`): version 0.1.0 kept no records."""
        return self.wrote == IMPLIED


@dataclass(slots=True)
class Rebuild:
    """The stages that --rebuild-from, of this start or of a killed one, still has to make anew; and which of them are begun."""

    from_: str | None = field(default=None, metadata={"json": "from"})
    pending: list[str] = field(default_factory=list)
    begun: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Retry:
    """The round of --retry-failed or --retry-reason that is under way, and the stages still to run for it."""

    reasons: list[str] = field(default_factory=list)
    round: int = 0
    pending: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class SeenSource:
    """A source file as it was when a build began."""

    path: str
    label: str | None
    size: int | None
    version: str | None = optional(None)
    others: Rest = rest()

    @property
    def name(self) -> str:
        """What the tables call it."""
        return self.label or self.path


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """The last job that an engine elsewhere was given: a driver that dies leaves it running, and the next start finds it by
    this."""

    stage: str
    name: str
    id: str
    endpoint: str = ""
    """HOST:PORT of its job server; empty where it has none that outlives the driver."""
    state: str = AT_WORK
    """In which it ended, if its driver saw that."""
    others: Rest = rest()


@dataclass(frozen=True, slots=True)
class Workers:
    """What the workers of an engine elsewhere said of a stage."""

    engine_s: float
    """The seconds of the stage in which its busiest worker had nothing of ours in hand."""
    workers: int
    """How many processes gave something back."""
    worker_mb: float
    """Memory of the largest, with all processes below it."""


@dataclass(slots=True, kw_only=True)
class RunFile:
    """run.json. Version 0.1.0 had neither records nor a digest: `stages` is None."""

    config: dict[str, Any]
    seed: int
    queries_sha256: str
    sources: tuple[SeenSource, ...]
    beam_flags: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    timings_s: dict[str, float] = field(default_factory=dict)
    peak_memory_mb: float = 0.0
    workers: Mapping[str, Workers] | None = optional(None)
    """By stage; None as long as all stages ran on this machine's own engine."""
    asked_again: Mapping[str, int] | None = optional(None)
    """How often a store was asked again, by the reason, over all starts."""
    gone: Mapping[str, Any] = field(default_factory=dict)
    """The set's values of knobs that this version no longer has."""
    fingerprints: dict[str, str] = field(default_factory=dict)
    stages: dict[str, Record] | None = None
    at_work: list[str] | None = None
    """The stages whose manifests may differ from the records; None if an earlier version wrote it, which did not say."""
    job: Job | None = optional(None)
    """None as long as all jobs ran on this machine's own engine."""
    rebuild: Rebuild = field(default_factory=Rebuild)
    retry: Retry = field(default_factory=Retry)
    score_model: Mapping[str, str] | None = optional(None)
    sha256: str = optional("")
    others: Rest = rest()

    @property
    def records(self) -> dict[str, Record]:
        return self.stages if self.stages is not None else {}

    @property
    def is_first(self) -> bool:
        """Whether version 0.1.0 wrote it."""
        return self.stages is None and not self.sha256

    def section(self, name: str) -> Mapping[str, Any]:
        """The knobs of that section; empty where the version that wrote them had none."""
        if name == "sources" and name not in self.config:  # up to version 0.4 they stood at the top
            return self.config
        knobs: Mapping[str, Any] = self.config.get(name, {})
        return knobs


def load_run(parsed: Mapping[str, Any]) -> RunFile:
    """run.json as it was parsed; raises ValueError where it lacks fields."""
    run = load(RunFile, parsed)
    for name in ("fetch", *(kind.section for kind in ALL if kind.section)):
        if not isinstance(run.config.get(name, None if name == "fetch" else {}), Mapping):
            raise ValueError(f"config: {name} is no JSON object")
    return run


def read_run(out: str) -> RunFile | None:
    """run.json of the last start; None where there is none. Raises DamagedFile where its bytes or fields are not as written."""
    path = layout.run_path(out)
    parsed = read_object(path)
    if parsed is None:
        return None
    if ("stages" in parsed or "sha256" in parsed) and fs.read_bytes(path) != sealed(parsed):
        raise damaged(path, "its bytes are not those of the digest in it")
    try:
        return load_run(parsed)
    except ValueError as error:
        raise damaged(path, error) from error


def sealed(run: RunFile | Mapping[str, Any]) -> bytes:
    """The bytes of run.json, with the digest of all its other fields."""
    body = {name: value for name, value in dump(run).items() if name != "sha256"}
    return to_json(body | {"sha256": hashlib.sha256(to_json(body)).hexdigest()})


def recorded(out: str, manifest: AnyManifest, before: Record | None = None) -> Record:
    """The record of a finished stage. `before`, the record so far, is returned as long as the manifest has not changed."""
    digest = fs.sha256_file(layout.manifest_path(out, manifest.stage))
    if before and before.manifest_sha256 == digest:
        return before
    return Record(
        fingerprint=manifest.fingerprint,
        schema_version=manifest.schema_version,
        into=manifest.into,
        out=manifest.out,
        dropped=manifest.dropped,
        dropped_one_in=manifest.dropped_one_in,
        retries=manifest.retries,
        samples=manifest.samples if isinstance(manifest, Published) else None,
        wrote=wrote(manifest),
        units=len(manifest.parts if isinstance(manifest, Manifest) else manifest.files),
        manifest_sha256=digest,
        beside=_beside(out, manifest),
    )


def _beside(out: str, manifest: AnyManifest) -> tuple[File, ...]:
    parts = manifest.parts if isinstance(manifest, Manifest) else ()
    names = sorted({beside.name for one, _ in outlined(parts) for beside in one.beside})
    there = [name for name in names if fs.exists(fs.join(out, name))]
    with ThreadPoolExecutor(READERS) as readers:
        return tuple(readers.map(lambda name: described(out, name), there))
