"""Durable tables between stages: parts behind exclusive markers, one manifest a stage, written last.

A unit of work writes its files under names that bear a digest of their content and then claims `UNIT.json`. Readers
believe markers only: of several attempts at a unit the first to claim wins, and what losers wrote is removed. A stage whose
`_MANIFEST.json` bears its fingerprint is finished.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from wit import storage
from wit.damage import damaged
from wit.records import SCHEMAS, STAGES, Stopped

Marker = dict[str, Any]
Sizes = Mapping[str, int | None]  # of what is there, by its name relative to OUT; None for what is no file
DIRECTORY = {"download": "raw", "publish": "shards"}  # the others bear their stage's name
MANIFEST = {"publish": "MANIFEST.json"}  # for readers of the published set; the others are our own: _MANIFEST.json
# What stands under OUT as a directory: those of the stages, and what they share.
DIRECTORIES = frozenset("dropped restricted ledger _tmp _retry _shards _demo".split()).union(
    DIRECTORY.get(stage, stage) for stage in STAGES
)
KEPT = ("removed.txt",)  # tombstones outlive every rebuild


def to_json(value: object) -> bytes:
    """One stable byte string for one value: sorted keys, two spaces, a newline at the end."""
    plain = lambda v: asdict(v) if is_dataclass(v) and not isinstance(v, type) else str(v)  # noqa: E731
    return json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, default=plain).encode() + b"\n"


def write_parquet(table: pa.Table, path: str, *, row_group_size: int = 1 << 17) -> None:
    """The same bytes for the same rows: fixed codec and row groups, and no metadata but the schema."""
    pq.write_table(
        table, path, compression="zstd", compression_level=3, row_group_size=row_group_size, store_schema=True
    )


APART = ("dropped", "restricted")  # labels of files that stand in a directory of their own


@dataclass(frozen=True, slots=True)
class StageDir:
    """One stage's directory under OUT, as seen by one run: only what bears its fingerprint counts."""

    out: str
    stage: str
    fingerprint: str

    @property
    def directory(self) -> str:
        return DIRECTORY.get(self.stage, self.stage)

    @property
    def path(self) -> str:
        return storage.join(self.out, self.directory)

    @property
    def manifest_path(self) -> str:
        return manifest_path(self.out, self.stage)

    def marker_path(self, unit: str) -> str:
        return storage.join(self.path, f"{unit}.json")

    def marker(self, unit: str) -> Marker | None:
        """The unit's marker if a run with this fingerprint published it."""
        marker = read_json(self.marker_path(unit), MARKER)
        return marker if marker and marker["fingerprint"] == self.fingerprint else None

    def done(self, unit: str) -> Marker | None:
        """The unit's marker if it was published and its files are still there, whole: then there is nothing to do."""
        marker = self.marker(unit)
        files = (marker or {"files": {}})["files"].values()
        whole = all(storage.size_of_file(storage.join(self.out, e["name"])) == e["bytes"] for e in files)
        return marker if whole else None

    def markers(self) -> list[Marker]:
        """All published units of this fingerprint whose files are still there, whole, in the order of their names."""
        there = self.present()
        found = [self.marker(unit) for unit in self.units()]
        return [m for m in found if m is not None and not lacking(there, m["files"].values())]

    def units(self) -> list[str]:
        """The units that have a marker, whatever its fingerprint, in order."""
        names = [n.removesuffix(".json") for n in storage.list_dir(self.path) if n.endswith(".json")]
        return [n for n in names if not n.startswith("_") and "." not in n]

    def present(self) -> Sizes:
        """The names, relative to OUT, of all files that the stage has there, with their sizes, for one listing a directory."""
        found = {f"{self.directory}/{name}": size for name, size in storage.list_sizes(self.path).items()}
        for place in APART:
            sizes = storage.list_sizes(storage.join(self.out, place))
            found |= {f"{place}/{name}": n for name, n in sizes.items() if name.startswith(f"{self.stage}-")}
        return found

    def missing(self, manifest: Marker) -> list[str]:
        """The files that the stage's manifest names and that are gone, or of another size than it says, relative to OUT. A byte
        that was flipped is `wit.verify`'s to find: that takes reading everything."""
        return lacking(self.present(), entries(self.stage, manifest))

    def forget(self) -> None:
        """Removes the markers, so that every unit is made again. What the manifest names stays until another one stands."""
        for unit in self.units():
            storage.remove(self.marker_path(unit))

    def publish(
        self,
        unit: str,
        files: Mapping[str, str],
        info: Mapping[str, Any],
        digests: Mapping[str, storage.Digest] | None = None,
    ) -> Marker:
        """Moves finished local files (label -> path) into place and claims the unit; returns the winner's marker.

        Names in markers are relative to OUT; what has a label in APART goes to OUT/LABEL. `digests` (by label)
        saves reading large files back whose writer has hashed them."""
        entries = {}
        for label, local in files.items():
            digest = (digests or {}).get(label) or storage.Digest("sha256", storage.sha256_file(local))
            place = f"{label}/{self.stage}-{unit}" if label in APART else f"{self.directory}/{unit}"
            suffix = "".join(storage.name_of(local).partition(".")[1:])
            name = f"{place}.{digest.hex[:12]}{suffix}"
            entry = {"name": name, "bytes": os.path.getsize(local), digest.algorithm: digest.hex}
            storage.publish(local, storage.join(self.out, str(entry["name"])))
            entries[label] = entry
        mine: Marker = {"unit": unit, "fingerprint": self.fingerprint, "files": entries, **info}
        if storage.claim(self.marker_path(unit), to_json(mine)):
            return mine
        winner = self.done(unit)
        if winner is None:  # left by another fingerprint, or its files are gone: never ours to respect
            storage.write_bytes(self.marker_path(unit), to_json(mine))
            return mine
        kept = {entry["name"] for entry in winner["files"].values()}
        for entry in entries.values():
            if entry["name"] not in kept:
                storage.remove(storage.join(self.out, str(entry["name"])))
        return winner

    def file(self, marker: Marker, label: str) -> str:
        return storage.join(self.out, marker["files"][label]["name"])

    def manifest(self) -> Marker | None:
        """The stage's manifest if it finished under this fingerprint; raises DamagedFile where it is damaged."""
        found = read_manifest(self.out, self.stage)
        return found if found and found["fingerprint"] == self.fingerprint else None

    def finish(self, markers: Sequence[Marker], wanted: Iterable[str], **info: Any) -> Marker:
        """Writes the manifest, the sum of the markers, then removes every file that none of them names: in this order,
        since a marker on disk may name files between passes that the manifest no longer does. Raises Stopped, and writes
        nothing, where a wanted unit is missing, whatever the engine said of its job."""
        units = sorted(wanted)
        check_complete(self.stage, units, (str(m["unit"]) for m in markers))
        manifest = self.summed(markers, wanted=units, **info)
        storage.write_bytes(self.manifest_path, to_json(manifest))
        self.tidy(markers)
        return manifest

    def summed(self, markers: Sequence[Marker], **info: Any) -> Marker:
        """The manifest of these units."""
        return {
            "stage": self.stage,
            "fingerprint": self.fingerprint,
            "schema_version": SCHEMAS[self.stage],
            "parts": list(markers),
            "in": sum(m["in"] for m in markers),
            "out": sum(m["out"] for m in markers),
            "dropped": add_counts(m["dropped"] for m in markers),
            **info,
        }

    def clear(self) -> None:
        """Removes the stage's whole output, the manifest first, so that no reader believes in what is half gone."""
        storage.remove(self.manifest_path)
        self.tidy(())

    def tidy(self, markers: Sequence[Marker]) -> None:
        """The janitor: losers of a race, unfinished files and units of another fingerprint go; a marker that is gone,
        or of another size, is written again."""
        named = {f"{self.directory}/{m['unit']}.json": m for m in markers}
        keep = set(named) | {e["name"] for m in markers for e in [*m["files"].values(), *m.get("beside", ())]}
        own = {f"{self.directory}/{name}" for name in (storage.name_of(self.manifest_path), *KEPT)}
        there = self.present()
        for name in sorted(there.keys() - keep - own):
            storage.remove(storage.join(self.out, name))
        for name, part in sorted(named.items()):
            data = to_json(bare(part))
            if name not in there or there[name] not in (len(data), part.get("marker_bytes", len(data))):
                storage.write_bytes(storage.join(self.out, name), data)


def check_complete(stage: str, wanted: Collection[str], published: Iterable[str]) -> None:
    """Raises Stopped unless every wanted unit was published."""
    if missing := sorted(set(wanted) - set(published)):
        raise Stopped(
            f"{len(missing)} of the {len(wanted)} units of {stage} were not published ({missing[0]}, ...): start the build "
            "again to go on"
        )


def bare(part: Marker) -> Marker:
    """A manifest's part as the marker that it was made of, without what the manifest added."""
    return {name: value for name, value in part.items() if name not in ("marker_sha256", "marker_bytes")}


def lacking(there: Sizes, named: Iterable[Mapping[str, Any]]) -> list[str]:
    """The files of markers or manifests that are not there, or of another size."""
    return sorted({entry["name"] for entry in named if there.get(entry["name"]) != entry["bytes"]})


def manifest_path(out: str, stage: str) -> str:
    return storage.join(out, DIRECTORY.get(stage, stage), MANIFEST.get(stage, "_MANIFEST.json"))


def read_manifest(out: str, stage: str) -> Marker | None:
    """The stage's manifest, whatever its fingerprint; raises DamagedFile where it is none."""
    return read_json(manifest_path(out, stage), PUBLISHED if stage == "publish" else OF_PARTS, stage=stage)


# What JSON of ours has at least: types, [shape] for lists, {None: shape} for every further field of an object, `x?` for what
# not every version writes.

Shape = dict[str | None, Any]

FILE: Shape = {"name": str, "bytes": int}
COUNTS: Shape = {"in": int, "out": int, "dropped": {None: int}}
MARKER: Shape = {**COUNTS, "beside?": [{"name": str}], "unit": str, "fingerprint": str, "files": {None: FILE}}
TOTALS: Shape = {
    **COUNTS,
    "wanted?": [str],
    "retries?": int,
    "dropped_one_in?": int,
    "stage": str,
    "fingerprint": str,
    "schema_version": int,
}
OF_PARTS: Shape = TOTALS | {"parts": [MARKER]}  # _MANIFEST.json
PUBLISHED: Shape = TOTALS | {"shards": int, "samples": int, "files": [FILE | {"samples?": int}]}  # MANIFEST.json
SHARD: Shape = {"fingerprint": str, "shard": str, "count": int, "files": {None: FILE, "tar": FILE}}  # NNNNN_stats.json
LEDGER: Shape = {"stages": {None: COUNTS}, "samples": int}
RECORD: Shape = {
    "fingerprint": str,
    "schema_version?": int,
    "retries?": int,
    "files?": [FILE],
    "fetch?": dict,
    **{f"{name}?": kind for name, kind in COUNTS.items()},
}
NUMBER, MAYBE = (int, float), (str, type(None))
RUN: Shape = {  # run.json, also of version 0.1.0
    "config": {"fetch": dict, **{f"{name}?": dict for name in ("candidates", "plan", "image", "select", "publish")}},
    "seed": int,
    "queries_sha256": str,
    "sources": [{"path": str, "label": MAYBE, "size": (int, type(None)), "version?": MAYBE}],
    "timings_s?": {None: NUMBER},
    "peak_memory_mb?": NUMBER,
    "gone?": dict,
    "at_work?": [str],
    "rebuild?": {"from": MAYBE, "pending": [str], "begun": [str]},
    "retry?": {"reasons": [str], "round": int, "pending": [str]},
}
RECORDS: Shape = {"stages": {None: RECORD}, "fingerprints": {None: str}}  # and of every later one


def shaped(value: object, shape: Any) -> bool:
    """Whether JSON has at least the fields of a shape, every further field the shape under None, and those named
    `x?`, where it has them, theirs."""
    if isinstance(shape, list):
        return isinstance(value, list) and all(shaped(item, shape[0]) for item in value)
    if not isinstance(shape, dict):
        return isinstance(value, shape)
    if not isinstance(value, dict):
        return False
    if None in shape and not all(shaped(item, shape[None]) for item in value.values()):
        return False
    optional = {name.rstrip("?"): inner for name, inner in shape.items() if name and name.endswith("?")}
    if not all(shaped(value[name], inner) for name, inner in optional.items() if name in value):
        return False
    needed = {name: inner for name, inner in shape.items() if name and not name.endswith("?")}
    return all(name in value and shaped(value[name], inner) for name, inner in needed.items())


def read_json(path: str, shape: Any = None, *, how: str | None = None, stage: str | None = None) -> Marker | None:
    """The JSON object in a file, None where there is no file; raises DamagedFile, with what mends it (`how`, where its place does
    not tell), where it is none, lacks fields of the shape, or is another stage's."""
    if not storage.exists(path):
        return None
    if storage.size_of_file(path) is None:
        raise damaged(path, "it is no file", how)
    try:
        found = json.loads(storage.read_bytes(path))
    except (ValueError, RecursionError) as error:
        raise damaged(path, f"it is not JSON: {error}", how) from error
    if not isinstance(found, dict):
        raise damaged(path, "it is no JSON object", how)
    if not shaped(found, shape or {}) or (stage is not None and found["stage"] != stage):
        raise damaged(path, "it lacks fields", how)
    return found


def entries(stage: str, manifest: Marker) -> list[dict[str, Any]]:
    """Every file that the manifest names, relative to OUT, with its size and digest."""
    if stage == "publish":
        return [entry | {"name": f"shards/{entry['name']}"} for entry in manifest["files"]]
    return [entry for part in manifest["parts"] for entry in part["files"].values()]


def described(out: str, name: str) -> dict[str, Any]:
    """Name, size and digest of a file under OUT."""
    path = storage.join(out, name)
    return {"name": name, "bytes": storage.size(path), "sha256": storage.sha256_file(path)}


def wrote(manifest: Marker) -> str:
    """The digest of what a finished stage wrote, as 32 hex digits; without what varies by nature."""
    found = [
        [entry["name"], *(entry[name] for name in ("sha256", "xxh3_128") if name in entry)]
        for entry in entries(manifest["stage"], manifest)
        if not entry["name"].endswith(".fetch.parquet")
    ]
    return hashlib.sha256(to_json(sorted(found))).hexdigest()[:32]


def add_counts(parts: Any) -> dict[str, int]:
    """Sums mappings of counts; zero counts vanish, keys are in order."""
    total: dict[str, int] = {}
    for part in parts:
        for name, count in part.items():
            total[str(name)] = total.get(str(name), 0) + int(count)
    return {name: total[name] for name in sorted(total) if total[name]}
