"""Markers and manifests, and how they are read: a marker records which files a unit wrote, a manifest sums up a stage."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import msgspec

from wit import layout
from wit.damage import NO_FILE, damaged
from wit.stages import SCHEMAS
from wit.store import fs
from wit.store.packed import Packed
from wit.tally import Tally
from wit.typed import Rest, json_digest, json_pieces, load, optional, rest, to_json

T = TypeVar("T")
D = TypeVar("D")
RAW_SHARD = re.compile(r"r?\d+-\d+")
Sizes = Mapping[str, int | None]  # by name relative to OUT; None for anything that is no file
INSIDE = b"\n    "  # what begins the lines of an item in a manifest's list; its own lines begin without


@dataclass(frozen=True, slots=True, order=True)
class Unit:
    """A piece of a stage's work: what is done (`part`, `merge`, ...; empty for a raw shard), and to which piece."""

    kind: str
    place: str = ""

    @classmethod
    def parse(cls, name: str) -> Unit:
        """The unit whose `str` is this name."""
        if RAW_SHARD.fullmatch(name):
            return cls("", name)
        kind, _, place = name.partition("-")
        return cls(sys.intern(kind), place)

    @classmethod
    def numbered(cls, kind: str, number: int) -> Unit:
        """The unit of that number; five digits, so that names sort as numbers do."""
        return cls(kind, f"{number:05d}")

    @classmethod
    def raw(cls, partition: str, shard: int) -> Unit:
        """The raw shard of that number of a partition."""
        return cls("", f"{partition}-{shard:04d}")

    def as_(self, kind: str) -> Unit:
        """The unit of another pass over the same piece."""
        return Unit(kind, self.place)

    @property
    def is_retry(self) -> bool:
        """Whether it belongs to a raw shard of a round of retries."""
        return self.place.startswith("r")

    def __str__(self) -> str:
        return "-".join(filter(None, (self.kind, self.place)))


@dataclass(frozen=True, slots=True)
class File:
    """A file that was written: its name relative to OUT (a published one: to shards/), size in bytes, and digest."""

    name: str
    bytes: int
    sha256: str = optional("")
    xxh3_128: str = optional("")
    samples: int | None = optional(None)
    """How many samples the shard of a published file has."""

    @classmethod
    def of(cls, name: str, size: int, digest: fs.Digest) -> File:
        """The entry of a file with that digest, of either algorithm."""
        given = {digest.algorithm: digest.hex}
        return cls(name, size, given.get("sha256", ""), given.get("xxh3_128", ""))

    @property
    def digest(self) -> fs.Digest | None:
        """The file's digest, SHA-256 if it has both; None where the entry has none."""
        by_algorithm = {"sha256": self.sha256, "xxh3_128": self.xxh3_128}
        return next((fs.Digest(name, digest) for name, digest in by_algorithm.items() if digest), None)

    @property
    def digests(self) -> tuple[str, ...]:
        """The hex digits of each digest that the entry has."""
        return tuple(digest for digest in (self.sha256, self.xxh3_128) if digest)


@dataclass(frozen=True, slots=True)
class Beside:
    """A file that units share and keep beside their own; its content varies from run to run."""

    name: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", sys.intern(self.name))


@dataclass(frozen=True, slots=True, kw_only=True)
class Marker(Tally):
    """The commit record of a unit, written by the attempt that counts: its files by label, and what it counted."""

    unit: Unit
    fingerprint: str
    files: Mapping[str, File]
    beside: tuple[Beside, ...] = optional(())
    marker_sha256: str = optional("")
    """In a manifest, if the marker on disk has more in it: the digest and the size of the one on disk."""
    marker_bytes: int | None = optional(None)
    facts: Rest = rest()
    """What the stage itself records of the unit; `StageDir.facts` reads it."""

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "fingerprint", sys.intern(self.fingerprint)
        )  # a driver holds 80,000 markers with the same

    @property
    def bare(self) -> Marker:
        """The marker as it lies on disk, without what a manifest added."""
        return replace(self, marker_sha256="", marker_bytes=None) if self.marker_sha256 else self

    @property
    def size(self) -> int:
        """How many bytes it has on disk."""
        return self.marker_bytes or len(to_json(self.bare))


class OutlinedFile(msgspec.Struct, frozen=True, gc=False):
    """A File."""

    name: str
    bytes: int
    sha256: str = ""
    xxh3_128: str = ""
    samples: int | None = None


class OutlinedBeside(msgspec.Struct, frozen=True, gc=False):
    """A Beside."""

    name: str


class Outline(msgspec.Struct, frozen=True, gc=False):
    """A marker without its facts: all that the driver asks of most. It is decoded in an eighth of the time."""

    unit: str
    fingerprint: str
    into: int = msgspec.field(name="in")
    out: int
    dropped: dict[str, int]
    files: dict[str, OutlinedFile]
    beside: list[OutlinedBeside] = []
    marker_sha256: str = ""
    marker_bytes: int | None = None


outline = msgspec.json.Decoder(Outline).decode


def outlined(markers: Iterable[Marker | bytes]) -> Iterator[tuple[Outline, bytes]]:
    """(outline, JSON without the newline at its end) of each of the markers; one may be given as its JSON."""
    return decoded(markers, outline)


def decoded(markers: Iterable[Marker | bytes], decode: Callable[[bytes], D]) -> Iterator[tuple[D, bytes]]:
    """As `outlined`, by any decoder."""
    every = markers.json() if isinstance(markers, Packed) else markers
    written = ((one if isinstance(one, bytes) else to_json(one)).rstrip() for one in every)
    return ((decode(data), data) for data in written)


class Head(msgspec.Struct, frozen=True, gc=False):
    """Of a marker what tells it from others, and the pairs that went in."""

    unit: str
    into: int = msgspec.field(name="in")

    @property
    def file(self) -> str:
        """The name of its file; markers lie in the order of these."""
        return f"{self.unit}.json"


head = msgspec.json.Decoder(Head).decode


def named(markers: Iterable[bytes]) -> Iterator[tuple[str, bytes]]:
    """(name of its file, JSON) of each of the markers."""
    return ((head(data).file, data) for data in markers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished(Tally):
    """The fields that every manifest of a finished stage has."""

    stage: str
    fingerprint: str
    schema_version: int
    wanted: tuple[str, ...] | None = optional(None)
    """The units that were wanted; version 0.1.0 did not say."""
    retries: int | None = optional(None)
    """Rounds of --retry-failed in a download; None where there were none."""
    dropped_one_in: int | None = optional(None)
    """n: one in n rejected pairs is written to dropped/."""
    others: Rest = rest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest(Finished):
    """_MANIFEST.json: the sum of a stage's markers, and the markers."""

    parts: Sequence[Marker]

    def of(self, kind: str) -> Iterator[Marker]:
        """The markers of the units of that kind; of others nothing but their names is decoded."""
        ours = (data for one, data in decoded(self.parts, head) if Unit.parse(one.unit).kind == kind)
        return (load(Marker, json.loads(data)) for data in ours)

    def outlines(self, kind: str) -> Iterator[Outline]:
        """The same in outline."""
        return (one for one, _ in outlined(self.parts) if Unit.parse(one.unit).kind == kind)

    @property
    def entries(self) -> Iterator[File]:
        """Every file that it names, relative to OUT."""
        return (file for part in self.parts for file in part.files.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Published(Finished):
    """MANIFEST.json of the published set, for its readers."""

    shards: int
    samples: int
    files: Sequence[File]

    @property
    def entries(self) -> Iterator[File]:
        """Every file that it names, relative to OUT."""
        return (replace(file, name=f"{layout.directory_of('publish')}/{file.name}") for file in self.files)


AnyManifest = Manifest | Published


def lacking(there: Sizes, files: Iterable[File | OutlinedFile]) -> list[str]:
    """The names of the files that are not there, or of another size."""
    return sorted({file.name for file in files if there.get(file.name) != file.bytes})


def with_digest(marker: Marker, on_disk: Marker) -> Marker:
    """The marker for a manifest; if the one on disk has more in it, with the digest and the size of that."""
    if marker == on_disk:
        return marker
    data = to_json(on_disk)
    return replace(marker, marker_sha256=hashlib.sha256(data).hexdigest(), marker_bytes=len(data))


def stands(directory: str, marker: str, files: Collection[File | OutlinedFile], there: Sizes) -> bool:
    """Whether a marker and its files are there, whole; all names are relative to the directory. A listing may be late: where
    `there` lacks one of them, each is asked for."""
    if there.get(marker) is not None and not lacking(there, files):
        return True
    asked = {name: fs.size_of_file(fs.join(directory, name)) for name in (marker, *(file.name for file in files))}
    return asked[marker] is not None and not lacking(asked, files)


# In and out of files.


def read_json(path: str, kind: type[T], *, how: str | None = None) -> T | None:
    """The JSON object in a file as that dataclass; None where there is no file. Raises DamagedFile where the file holds no such
    object; the error says what mends it: `how`, or else what its place in OUT tells."""
    parsed = read_object(path, how=how)
    if parsed is None:
        return None
    try:
        return load(kind, parsed)
    except ValueError as error:
        raise damaged(path, error, how) from error


def read_object(path: str, *, how: str | None = None) -> dict[str, Any] | None:
    """The JSON object in a file as a dict; returns None and raises as `read_json` does."""
    try:
        if (data := fs.read_if_there(path)) is None:
            return None
        parsed = json.loads(data)
    except IsADirectoryError as error:
        raise damaged(path, "it is no file", NO_FILE) from error
    except (ValueError, RecursionError) as error:
        raise damaged(path, f"it is not JSON: {error}", how) from error
    if not isinstance(parsed, dict):
        raise damaged(path, "it is no JSON object", how)
    return parsed


def read_manifest(out: str, stage: str) -> AnyManifest | None:
    """The stage's manifest, whatever its fingerprint; None where there is none. Raises DamagedFile where the file is no
    manifest, is another stage's, or has this version's schema and yet a field unknown to it."""
    path = layout.manifest_path(out, stage)
    manifest = (
        _read_long(path, Published, "files", File)
        if stage == "publish"
        else _read_long(path, Manifest, "parts", Marker)
    )
    if manifest is None:
        return None
    if manifest.stage != stage:
        raise damaged(path, f"it is the manifest of {manifest.stage}")
    if manifest.others and manifest.schema_version == SCHEMAS[stage]:
        raise damaged(path, f"no version of wit writes {sorted(manifest.others)[0]}")
    return manifest


def pieces_of(manifest: AnyManifest) -> Iterator[bytes]:
    """The JSON of a manifest, an item of its long list at a time."""
    name, items = ("files", manifest.files) if isinstance(manifest, Published) else ("parts", manifest.parts)
    return json_pieces(manifest, name, items.json() if isinstance(items, Packed) else map(to_json, items))


def _read_long(path: str, kind: type[T], name: str, of: type[Any]) -> T | None:
    """`read_json` of an object with one long list, which is packed: as a tree of dicts it is ten times as large as the file."""
    try:
        with fs.naming(path):
            raw = msgspec.json.decode(fs.read_bytes(path), type=dict[str, msgspec.Raw])
        items = msgspec.json.decode(raw.pop(name), type=list[msgspec.Raw])
        fields = {field: json.loads(bytes(value)) for field, value in raw.items()} | {name: []}
        own = (bytes(item).replace(INSIDE, b"\n") for item in items)
        long = Packed(of, map(_sound, own)) if of is Marker else Packed.checked(of, own)
        return replace(load(kind, fields), **{name: long})  # type: ignore[type-var]
    except (OSError, KeyError, ValueError, RecursionError, msgspec.MsgspecError):
        return read_json(path, kind)  # says what is wrong with it


def _sound(marker: bytes) -> bytes:
    """The JSON of a marker, if it is one: raises ValueError, and says why."""
    try:
        outline(marker)
    except msgspec.MsgspecError:
        load(Marker, json.loads(marker))
    return marker


def read_published(out: str) -> Published | None:
    """`read_manifest` of the published set."""
    manifest = read_manifest(out, "publish")
    return manifest if isinstance(manifest, Published) else None


def described(out: str, name: str) -> File:
    """Name, size and digest of a file under OUT."""
    path = fs.join(out, name)
    return File(name, fs.size(path), fs.sha256_file(path))


def files_of(manifest: AnyManifest) -> Iterator[File | OutlinedFile]:
    """Every file that it names, relative to OUT: as `entries`, in less time."""
    if isinstance(manifest, Published):
        return manifest.entries
    return (file for one, _ in outlined(manifest.parts) for file in one.files.values())


def wrote(manifest: AnyManifest) -> str:
    """One digest of all files of a finished stage, as 32 hex digits; fetch tables, which vary from run to run, are left out."""
    digests = [
        (file.name, *filter(None, (file.sha256, file.xxh3_128)))
        for file in files_of(manifest)
        if not file.name.endswith(".fetch.parquet")
    ]
    return json_digest(*sorted(digests))
