"""Durable tables between stages: parts behind exclusive markers, one manifest a stage, written last.

A unit of work writes its files under names that bear a digest of their content and then claims `UNIT.json`. Readers
believe markers only: of several attempts at a unit the first to claim wins, and what losers wrote is removed. A stage whose
`_MANIFEST.json` bears its fingerprint is finished.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from wit import layout, storage
from wit.damage import NO_FILE, damaged
from wit.errors import Stopped
from wit.layout import APART
from wit.stages import KINDS, SCHEMAS
from wit.typed import Rest, dump, load, named, optional, rest, to_json

T = TypeVar("T")
Sizes = Mapping[str, int | None]  # of what is there, by its name relative to OUT; None for what is no file
KEPT = ("removed.txt",)  # tombstones outlive every rebuild


# What flows between stages.


@dataclass(frozen=True, slots=True, order=True)
class Unit:
    """A piece of a stage's work: what is done (`part`, `merge`, ...; nothing for a raw shard) and to which piece."""

    kind: str
    place: str = ""

    @classmethod
    def parse(cls, name: str) -> Unit:
        """The unit that `str` of it names."""
        if re.fullmatch(r"r?\d+-\d+", name):
            return cls("", name)
        kind, _, place = name.partition("-")
        return cls(kind, place)

    @classmethod
    def numbered(cls, kind: str, number: int) -> Unit:
        return cls(kind, f"{number:05d}")

    @classmethod
    def raw(cls, partition: str, shard: int) -> Unit:
        """The raw shard of that number of a partition."""
        return cls("", f"{partition}-{shard:04d}")

    def as_(self, kind: str) -> Unit:
        """Another pass over the same piece."""
        return Unit(kind, self.place)

    @property
    def is_retry(self) -> bool:
        """Whether it belongs to a raw shard of a round of retries."""
        return self.place.startswith("r")

    def __str__(self) -> str:
        return "-".join(filter(None, (self.kind, self.place)))


@dataclass(frozen=True, slots=True)
class File:
    """A file that was written: its name relative to OUT (to shards/ for published ones), size, and digest."""

    name: str
    bytes: int
    sha256: str = optional("")
    xxh3_128: str = optional("")
    samples: int | None = optional(None)
    """Of a published file: how many samples its shard has."""

    @classmethod
    def of(cls, name: str, size: int, digest: storage.Digest) -> File:
        given = {digest.algorithm: digest.hex}
        return cls(name, size, given.get("sha256", ""), given.get("xxh3_128", ""))

    @property
    def digest(self) -> storage.Digest | None:
        found = {"sha256": self.sha256, "xxh3_128": self.xxh3_128}
        return next((storage.Digest(name, digest) for name, digest in found.items() if digest), None)

    @property
    def digests(self) -> tuple[str, ...]:
        return tuple(digest for digest in (self.sha256, self.xxh3_128) if digest)


@dataclass(frozen=True, slots=True)
class Beside:
    """A file that units keep beside their own, which varies by nature."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """The statistics of a unit or a stage, in pairs of the whole stage: into = out + all of dropped, by Reason."""

    into: int = named("in")
    out: int
    dropped: Mapping[str, int]


NOTHING = Tally(
    into=0, out=0, dropped={}
)  # of a pass in the middle of a stage: only the first takes in, only the last gives out


@dataclass(frozen=True, slots=True, kw_only=True)
class Marker(Tally):
    """The commit record of a unit: whose attempt counts, and its files by label."""

    unit: Unit
    fingerprint: str
    files: Mapping[str, File]
    beside: tuple[Beside, ...] = optional(())
    marker_sha256: str = optional("")
    """In a manifest, where the marker on disk says more: its digest and size."""
    marker_bytes: int | None = optional(None)
    facts: Rest = rest()
    """What the stage itself has to say of the unit, as `StageDir.facts` reads it."""

    @property
    def bare(self) -> Marker:
        """The marker as it lies on disk, without what a manifest added."""
        return replace(self, marker_sha256="", marker_bytes=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished(Tally):
    """What every manifest says of a stage that is finished."""

    stage: str
    fingerprint: str
    schema_version: int
    wanted: tuple[str, ...] | None = optional(None)
    """The units that were wanted; version 0.1.0 did not say."""
    retries: int | None = optional(None)
    """Rounds of --retry-failed that a download has, where it has any."""
    dropped_one_in: int | None = optional(None)
    """One in so many rejected pairs is written down."""
    others: Rest = rest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest(Finished):
    """_MANIFEST.json: the sum of a stage's markers, and the markers."""

    parts: tuple[Marker, ...]

    def of(self, kind: str) -> list[Marker]:
        """The markers of the units of that kind."""
        return [part for part in self.parts if part.unit.kind == kind]

    @property
    def entries(self) -> list[File]:
        """Every file that it names, relative to OUT."""
        return [file for part in self.parts for file in part.files.values()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Published(Finished):
    """MANIFEST.json of the published set, for its readers."""

    shards: int
    samples: int
    files: tuple[File, ...]

    @property
    def entries(self) -> list[File]:
        """Every file that it names, relative to OUT."""
        return [replace(file, name=f"{KINDS['publish'].directory}/{file.name}") for file in self.files]


AnyManifest = Manifest | Published


@dataclass(frozen=True, slots=True)
class StageDir:
    """One stage's directory under OUT, as seen by one run: only what bears its fingerprint counts."""

    out: str
    stage: str
    fingerprint: str

    @property
    def directory(self) -> str:
        return KINDS[self.stage].directory

    @property
    def path(self) -> str:
        return layout.stage_path(self.out, self.stage)

    @property
    def manifest_path(self) -> str:
        return layout.manifest_path(self.out, self.stage)

    def marker_path(self, unit: Unit) -> str:
        return storage.join(self.path, f"{unit}.json")

    def any_marker(self, unit: Unit) -> Marker | None:
        """The unit's marker, whatever its fingerprint."""
        return read_json(self.marker_path(unit), Marker)

    def marker(self, unit: Unit) -> Marker | None:
        """The unit's marker if a run with this fingerprint published it."""
        marker = self.any_marker(unit)
        return marker if marker and marker.fingerprint == self.fingerprint else None

    def done(self, unit: Unit) -> Marker | None:
        """The unit's marker if it was published and its files are still there, whole: then there is nothing to do."""
        marker = self.marker(unit)
        files = marker.files.values() if marker else ()
        return marker if all(storage.size_of_file(storage.join(self.out, f.name)) == f.bytes for f in files) else None

    def once(self, unit: Unit, work: Callable[[], Marker]) -> Marker:
        """The marker of the unit: the one that is there, or what `work` publishes."""
        return self.done(unit) or work()

    def facts(self, marker: Marker, kind: type[T]) -> T:
        """What the stage said of a unit, as that dataclass; raises DamagedFile where a field is missing."""
        try:
            return load(kind, marker.facts)
        except ValueError as error:
            raise damaged(self.marker_path(marker.unit), error) from error

    def markers(self) -> list[Marker]:
        """All published units of this fingerprint whose files are still there, whole, in the order of their names."""
        there = self.present()
        found = [self.marker(unit) for unit in self.units()]
        return [m for m in found if m is not None and not lacking(there, m.files.values())]

    def units(self) -> list[Unit]:
        """The units that have a marker, whatever its fingerprint, in the order of their names."""
        names = [n.removesuffix(".json") for n in storage.list_dir(self.path) if n.endswith(".json")]
        return [Unit.parse(n) for n in names if not n.startswith("_") and "." not in n]

    def present(self) -> Sizes:
        """The names, relative to OUT, of all files that the stage has there, with their sizes, for one listing a directory."""
        found = {f"{self.directory}/{name}": size for name, size in storage.list_sizes(self.path).items()}
        for place in APART:
            sizes = storage.list_sizes(storage.join(self.out, place))
            found |= {f"{place}/{name}": n for name, n in sizes.items() if name.startswith(f"{self.stage}-")}
        return found

    def missing(self, manifest: AnyManifest) -> list[str]:
        """The files that the stage's manifest names and that are gone, or of another size than it says, relative to OUT. A byte
        that was flipped is `wit.verify`'s to find: that takes reading everything."""
        return lacking(self.present(), manifest.entries)

    def forget(self) -> None:
        """Removes the markers, so that every unit is made again. What the manifest names stays until another one stands."""
        for unit in self.units():
            storage.remove(self.marker_path(unit))

    def publish(
        self,
        unit: Unit,
        files: Mapping[str, str],
        tally: Tally = NOTHING,
        *,
        facts: object = None,
        beside: Sequence[Beside] = (),
        digests: Mapping[str, storage.Digest] | None = None,
    ) -> Marker:
        """Moves finished local files (label -> path) into place and claims the unit; returns the winner's marker.

        Names in markers are relative to OUT; what has a label in APART goes to OUT/LABEL. `facts`, a dataclass, is what the
        stage has to say of the unit. `digests` (by label) saves reading large files back whose writer has hashed them."""
        entries = {}
        for label, local in files.items():
            digest = (digests or {}).get(label) or storage.Digest("sha256", storage.sha256_file(local))
            place = f"{label}/{self.stage}-{unit}" if label in APART else f"{self.directory}/{unit}"
            suffix = "".join(storage.name_of(local).partition(".")[1:])
            name = f"{place}.{digest.hex[:12]}{suffix}"
            entries[label] = File.of(name, os.path.getsize(local), digest)
            storage.publish(local, storage.join(self.out, name))
        mine = Marker(
            into=tally.into,
            out=tally.out,
            dropped=tally.dropped,
            unit=unit,
            fingerprint=self.fingerprint,
            files=entries,
            beside=tuple(beside),
            facts=Rest(dump(facts) if facts is not None else {}),
        )
        if storage.claim(self.marker_path(unit), to_json(mine)):
            return mine
        winner = self.done(unit)
        if winner is None:  # left by another fingerprint, or its files are gone: never ours to respect
            storage.write_bytes(self.marker_path(unit), to_json(mine))
            return mine
        kept = {file.name for file in winner.files.values()}
        for file in entries.values():
            if file.name not in kept:
                storage.remove(storage.join(self.out, file.name))
        return winner

    def publish_tables(self, unit: Unit, tables: Mapping[str, pa.Table], tally: Tally, **more: Any) -> Marker:
        """`publish` of tables by label; rejects where there are none are left out."""
        with storage.scratch_dir(self.out) as scratch:
            files = write_tables(scratch, tables)
            return self.publish(unit, files, tally, **more)

    def file(self, marker: Marker, label: str) -> str:
        return storage.join(self.out, marker.files[label].name)

    def manifest(self) -> Manifest | None:
        """The stage's manifest if it finished under this fingerprint; raises DamagedFile where it is damaged."""
        found = read_manifest(self.out, self.stage)
        return found if isinstance(found, Manifest) and found.fingerprint == self.fingerprint else None

    def finish(self, markers: Sequence[Marker], wanted: Iterable[Unit], **info: Any) -> Manifest:
        """Writes the manifest, the sum of the markers, then removes every file that none of them names: in this order,
        since a marker on disk may name files between passes that the manifest no longer does. Raises Stopped, and writes
        nothing, where a wanted unit is missing, whatever the engine said of its job."""
        units = sorted(map(str, wanted))
        check_complete(self.stage, units, (str(marker.unit) for marker in markers))
        manifest = self.summed(markers, wanted=tuple(units), **info)
        storage.write_bytes(self.manifest_path, to_json(manifest))
        self.tidy(markers)
        return manifest

    def summed(self, markers: Sequence[Marker], **info: Any) -> Manifest:
        """The manifest of these units."""
        total = add_up(markers)
        return Manifest(
            stage=self.stage,
            fingerprint=self.fingerprint,
            parts=tuple(markers),
            into=total.into,
            out=total.out,
            dropped=total.dropped,
            **{"schema_version": SCHEMAS[self.stage]} | info,
        )

    def clear(self) -> None:
        """Removes the stage's whole output, the manifest first, so that no reader believes in what is half gone."""
        storage.remove(self.manifest_path)
        self.tidy(())

    def tidy(self, markers: Sequence[Marker]) -> None:
        """The janitor: losers of a race, unfinished files and units of another fingerprint go; a marker that is gone,
        or of another size, is written again."""
        by_name = {f"{self.directory}/{marker.unit}.json": marker for marker in markers}
        keep = set(by_name) | {file.name for m in markers for file in m.files.values()}
        keep |= {file.name for m in markers for file in m.beside}
        own = {f"{self.directory}/{name}" for name in (storage.name_of(self.manifest_path), *KEPT)}
        there = self.present()
        for name in sorted(there.keys() - keep - own):
            storage.remove(storage.join(self.out, name))
        for name, part in sorted(by_name.items()):
            data = to_json(part.bare)
            if name not in there or there[name] not in (len(data), part.marker_bytes or len(data)):
                storage.write_bytes(storage.join(self.out, name), data)


def check_complete(stage: str, wanted: Collection[str], published: Iterable[str]) -> None:
    """Raises Stopped unless every wanted unit was published."""
    if missing := sorted(set(wanted) - set(published)):
        raise Stopped(
            f"{len(missing)} of the {len(wanted)} units of {stage} were not published ({missing[0]}, ...): start the build "
            "again to go on"
        )


def lacking(there: Sizes, files: Iterable[File]) -> list[str]:
    """The files of markers or manifests that are not there, or of another size."""
    return sorted({file.name for file in files if there.get(file.name) != file.bytes})


def with_digest(marker: Marker, on_disk: bytes) -> Marker:
    """The marker for a manifest, where the one on disk says more."""
    if to_json(marker) == on_disk:
        return marker
    return replace(marker, marker_sha256=hashlib.sha256(on_disk).hexdigest(), marker_bytes=len(on_disk))


# In and out of files.


def read_json(path: str, kind: type[T], *, how: str | None = None) -> T | None:
    """The JSON object in a file as that dataclass, None where there is no file; raises DamagedFile, with what mends it (`how`,
    where its place does not tell), where it is none or lacks fields."""
    found = read_object(path, how=how)
    if found is None:
        return None
    try:
        return load(kind, found)
    except ValueError as error:
        raise damaged(path, error, how) from error


def read_object(path: str, *, how: str | None = None) -> dict[str, Any] | None:
    """The JSON object in a file as it is; None and errors as `read_json`."""
    if not storage.exists(path):
        return None
    if storage.size_of_file(path) is None:
        raise damaged(path, "it is no file", NO_FILE)
    try:
        found = json.loads(storage.read_bytes(path))
    except (ValueError, RecursionError) as error:
        raise damaged(path, f"it is not JSON: {error}", how) from error
    if not isinstance(found, dict):
        raise damaged(path, "it is no JSON object", how)
    return found


def read_manifest(out: str, stage: str) -> AnyManifest | None:
    """The stage's manifest, whatever its fingerprint; raises DamagedFile where it is none, is another stage's, or has a field
    that this version, which wrote it, does not know."""
    path = layout.manifest_path(out, stage)
    found = read_json(path, Published) if stage == "publish" else read_json(path, Manifest)
    if found is None:
        return None
    if found.stage != stage:
        raise damaged(path, f"it is the manifest of {found.stage}")
    if found.others and found.schema_version == SCHEMAS[stage]:
        raise damaged(path, f"no version of wit writes {sorted(found.others)[0]}")
    return found


def read_published(out: str) -> Published | None:
    """`read_manifest` of the published set."""
    found = read_manifest(out, "publish")
    return found if isinstance(found, Published) else None


def described(out: str, name: str) -> File:
    """Name, size and digest of a file under OUT."""
    path = storage.join(out, name)
    return File(name, storage.size(path), storage.sha256_file(path))


def wrote(manifest: AnyManifest) -> str:
    """The digest of what a finished stage wrote, as 32 hex digits; without what varies by nature."""
    found = [[file.name, *file.digests] for file in manifest.entries if not file.name.endswith(".fetch.parquet")]
    return hashlib.sha256(to_json(sorted(found))).hexdigest()[:32]


def write_parquet(table: pa.Table, path: str, *, row_group_size: int = 1 << 17) -> None:
    """The same bytes for the same rows: fixed codec and row groups, and no metadata but the schema."""
    pq.write_table(
        table, path, compression="zstd", compression_level=3, row_group_size=row_group_size, store_schema=True
    )


def write_tables(scratch: str, tables: Mapping[str, pa.Table], **options: Any) -> dict[str, str]:
    """Writes each table to a local file (label -> path); rejects where there are none are left out."""
    files = {}
    for label, table in tables.items():
        if label != layout.DROPPED or len(table):
            files[label] = storage.join(scratch, f"{label}.parquet")
            write_parquet(table, files[label], **options)
    return files


def add_up(parts: Iterable[Tally]) -> Tally:
    """The sum of some statistics."""
    found = list(parts)
    dropped = add_counts(one.dropped for one in found)
    return Tally(into=sum(one.into for one in found), out=sum(one.out for one in found), dropped=dropped)


def add_counts(parts: Iterable[Mapping[Any, int]]) -> dict[str, int]:
    """Sums mappings of counts; zero counts vanish, keys are in order."""
    total: dict[str, int] = {}
    for part in parts:
        for name, count in part.items():
            total[str(name)] = total.get(str(name), 0) + int(count)
    return {name: total[name] for name in sorted(total) if total[name]}
