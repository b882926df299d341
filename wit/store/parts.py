"""Durable tables between stages: parts behind exclusive markers, one manifest a stage, written last.

A unit of work writes its files under names that bear a digest of their content, and then claims its marker, `UNIT.json`.
Readers believe markers only: the first of several attempts to claim wins, and the losers' files are removed. A stage is finished
when its `_MANIFEST.json` bears its fingerprint.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeVar

import pyarrow as pa
import xxhash

from wit import layout
from wit.arithmetic import batches
from wit.damage import damaged
from wit.errors import WorkLost
from wit.layout import APART, REMOVED_FILE
from wit.stages import SCHEMAS
from wit.store import claims, fs, lease
from wit.store.awaited import Awaited
from wit.store.flight import side_by_side
from wit.store.listing import Listing, listed, names_in
from wit.store.manifests import (
    AnyManifest,
    Beside,
    File,
    Manifest,
    Marker,
    Outline,
    Sizes,
    Unit,
    files_of,
    lacking,
    named,
    outlined,
    pieces_of,
    read_json,
    read_manifest,
    stands,
)
from wit.store.packed import Packed
from wit.store.parquet import write_parquet
from wit.store.scratch import scratch_dir
from wit.store.streams import read_stream, write_stream
from wit.tally import NOTHING, Sum, Tally, add_up
from wit.typed import Rest, dump, load, to_json

T = TypeVar("T")
KEPT = (REMOVED_FILE,)  # tombstones outlive every rebuild
NEWLINE = b"\n"  # that a file of JSON ends with
TOGETHER = 1_000  # markers whose files are looked up together


class Untidy(NamedTuple):
    """What stands in a stage's directories and should not, and what should and does not."""

    besides: Sizes
    lost: list[Marker]


@dataclass(frozen=True, slots=True)
class StageDir:
    """One stage's directory under OUT, as seen by one run: only what bears its fingerprint counts."""

    out: str
    stage: str
    fingerprint: str
    anew: bool = False
    """Whether the user asks for the stage to be made anew: then no file that is there is taken for what its name says."""
    between: bool = False
    """Whether this is where the stage keeps what its passes hand on (`at_work`), and not what it gives."""

    @property
    def at_work(self) -> StageDir:
        """Where the stage keeps what its passes hand on: no manifest names it, and it is removed when the stage is finished. Its
        units are spread over 256 directories, since stores bound what one prefix takes."""
        return replace(self, between=True)

    @property
    def directory(self) -> str:
        """The stage's directory, relative to OUT."""
        return layout.work_of(self.stage) if self.between else layout.directory_of(self.stage)

    @property
    def path(self) -> str:
        """The stage's directory, OUT included."""
        return fs.join(self.out, self.directory)

    @property
    def manifest_path(self) -> str:
        """Where the stage's manifest stands, or will."""
        return layout.manifest_path(self.out, self.stage)

    def marker_path(self, unit: Unit) -> str:
        """Where the unit's marker stands, or will."""
        return fs.join(self.out, f"{self._place(unit)}.json")

    def _place(self, unit: Unit) -> str:
        """What the names of a unit's files begin with, relative to OUT."""
        spread = f"/{xxhash.xxh3_64_intdigest(str(unit).encode()) & 0xFF:02x}" if self.between else ""
        return f"{self.directory}{spread}/{unit}"

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
        return marker if all(fs.size_of_file(fs.join(self.out, f.name)) == f.bytes for f in files) else None

    def once(self, unit: Unit, work: Callable[[], Marker]) -> Marker:
        """The unit's marker: the one that is there (`done`), or else the one that `work` publishes."""
        return self.done(unit) or work()

    def facts(self, marker: Marker, kind: type[T]) -> T:
        """The stage's own record of a unit, as that dataclass; raises DamagedFile where a field is missing."""
        try:
            return load(kind, marker.facts)
        except ValueError as error:
            raise damaged(self.marker_path(marker.unit), error) from error

    def markers(self) -> list[Marker]:
        """All published units of this fingerprint whose files are still there, whole, in the order of their names."""
        there = self.present()
        markers = side_by_side(self.marker, self.units())
        return [m for m in markers if m is not None and not lacking(there, m.files.values())]

    def standing(self, markers: Iterable[Marker | bytes], there: Sizes | None = None) -> Packed[Marker]:
        """Those of the markers (one may be given as its JSON) that are there, with all their files, whole: in the order of their
        names. One listing, unless `present` was asked before and gave `there`, and a request for each file that it does not
        have: it may come late."""
        there = self.present() if there is None else there
        every = markers if isinstance(markers, Packed) and markers.is_ordered else packed(markers)
        gone = {one.unit for one in self._in_doubt(every, Listing.of(there)) if not self._stands(one, there)}
        return packed(data for one, data in outlined(every) if one.unit not in gone) if gone else every

    def _in_doubt(self, markers: Iterable[Marker | bytes], there: Listing) -> Iterator[Outline]:
        """The markers that a listing does not have, or not with all of their files, whole."""
        directory = self.directory
        for some in batches((one for one, _ in outlined(markers)), TOGETHER):
            names = [f"{directory}/{one.unit}.json" for one in some]
            files = [file for one in some for file in one.files.values()]
            sizes = iter(there.sizes_of([file.name for file in files]))
            for one, marked in zip(some, there.sizes_of(names), strict=True):
                whole = [next(sizes) == file.bytes for file in one.files.values()]
                if marked is None or not all(whole):
                    yield one

    def _stands(self, one: Outline, there: Sizes) -> bool:
        return stands(self.out, f"{self.directory}/{one.unit}.json", one.files.values(), there)

    def units(self) -> list[Unit]:
        """The units that have a marker, whatever its fingerprint, in the order of their markers' names."""
        return [Unit.parse(name) for name in sorted(self.each_unit(), key=lambda name: f"{name}.json")]

    def each_unit(self) -> Iterator[str]:
        """The same units' names, in no order: they take no memory."""
        names = (n.removesuffix(".json") for n in names_in(self.path) if n.endswith(".json"))
        return (n for n in names if not n.startswith("_") and "." not in n)

    def present(self) -> Listing:
        """{name relative to OUT: size} of all files that the stage has under OUT; costs one listing a directory."""
        places = [(self.directory, ""), *((place, f"{self.stage}-") for place in APART)]
        return listed((fs.join(self.out, place), f"{place}/", beginning) for place, beginning in places)

    def missing(self, manifest: AnyManifest) -> list[str]:
        """The files of the manifest, relative to OUT, that are gone or of another size than it says. Only `wit.verify`, which
        reads everything, finds a flipped byte. What a listing lacks, which may be late, is asked for, up to the first that is
        gone."""
        there, sizes = self.present(), dict[str, int]()
        for some in batches(files_of(manifest), TOGETHER):
            found = there.sizes_of([file.name for file in some])
            sizes |= {file.name: file.bytes for file, size in zip(some, found, strict=True) if size != file.bytes}
        lacks = sorted(sizes)
        return list(itertools.dropwhile(lambda name: fs.size_of_file(fs.join(self.out, name)) == sizes[name], lacks))

    def forget(self, units: Iterable[Unit] | None = None) -> None:
        """Removes the markers of these units, or of all, so that they are made again. The files of the manifest stay until a new
        manifest stands."""
        self._remove({f"{self.directory}/{unit}.json": 0 for unit in (self.units() if units is None else units)})

    def publish(
        self,
        unit: Unit,
        files: Mapping[str, str],
        tally: Tally = NOTHING,
        *,
        facts: object = None,
        beside: Sequence[Beside] = (),
        digests: Mapping[str, fs.Digest] | None = None,
    ) -> Marker:
        """Moves finished local files (label -> path) into place and claims the unit; returns the winner's marker.

        Names in markers are relative to OUT; a file with a label in APART goes to OUT/LABEL. `facts`, a dataclass, is the
        stage's own record of the unit. `digests` (by label) spares large files, hashed by their writer, a second reading."""
        entries = {}
        for label, local in files.items():
            digest = (digests or {}).get(label) or fs.Digest("sha256", fs.sha256_file(local))
            entries[label] = File.of(self._name(unit, label, local, digest), os.path.getsize(local), digest)
            put = fs.publish if self.anew else fs.publish_once
            put(local, fs.join(self.out, entries[label].name))
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
        if claims.claim(self.marker_path(unit), to_json(mine)):
            return mine
        winner = self.done(unit)
        if winner is None:  # left by another fingerprint, or its files are gone: never ours to respect
            lease.write(self.out, self.marker_path(unit), to_json(mine))
            return mine
        kept = {file.name for file in winner.files.values()}
        for file in entries.values():
            if file.name not in kept:
                fs.remove(fs.join(self.out, file.name))
        return winner

    def _name(self, unit: Unit, label: str, local: str, digest: fs.Digest) -> str:
        """What a file of a unit is called, relative to OUT: no other attempt gives the name to other bytes."""
        place = f"{label}/{self.stage}-{unit}" if label in APART else self._place(unit)
        return f"{place}.{digest.hex[:12]}{''.join(fs.name_of(local).partition('.')[1:])}"

    def publish_tables(self, unit: Unit, tables: Mapping[str, pa.Table], tally: Tally, **more: Any) -> Marker:
        """`publish` of tables by label; an empty table of rejects is left out."""
        with scratch_dir(self.out) as scratch:
            files = write_tables(scratch, tables)
            return self.publish(unit, files, tally, **more)

    def publish_streams(self, unit: Unit, tables: Mapping[str, pa.Table]) -> Marker:
        """`publish` of tables by label, as Arrow streams: what one pass hands on to another, which `read` gives back."""
        with scratch_dir(self.out) as scratch:
            files = {label: fs.join(scratch, f"{label}.arrow") for label in tables}
            for label, path in files.items():
                write_stream(tables[label], path)
            return self.publish(unit, files)

    def read(self, marker: Marker, label: str) -> pa.Table:
        """The table that `publish_streams` wrote, in one chunk; raises DamagedFile where it is no such file, and WorkLost where
        it was spent."""
        if label not in marker.files:
            raise work_lost(f"{self.path}: {marker.unit} ({label})")
        return read_stream(self.file(marker, label)).combine_chunks()

    def spend(self, marker: Marker, labels: Collection[str], held: int) -> Marker:
        """Removes the unit's files with these labels, which nobody reads any more. Its marker stays and names them no longer, so
        that the unit is not made again. `held` is the number of the lease under which that is done (`lease.number_held`): once
        another builder has taken it, nothing is removed."""
        gone = {label: file for label, file in marker.files.items() if label in labels}
        if not gone or lease.is_taken(self.out, held):
            return marker
        left = replace(marker, files={label: file for label, file in marker.files.items() if label not in gone})
        fs.rewrite_bytes(self.marker_path(marker.unit), to_json(left))
        self._remove({file.name: file.bytes for file in gone.values()})
        return left

    def file(self, marker: Marker, label: str) -> str:
        """The path of the unit's file with that label; raises KeyError where it has none."""
        return fs.join(self.out, marker.files[label].name)

    def manifest(self) -> Manifest | None:
        """The stage's manifest if it finished under this fingerprint; raises DamagedFile where it is damaged."""
        written = read_manifest(self.out, self.stage)
        return written if isinstance(written, Manifest) and written.fingerprint == self.fingerprint else None

    def finish(
        self, markers: Sequence[Marker], wanted: Iterable[Unit], *, there: Sizes | None = None, **info: Any
    ) -> Manifest:
        """Writes the manifest, the sum of the markers, and then removes every file that none of them names; `there` is what
        `present` gave, if it was asked before. In this order, since a marker on disk may still name files between passes that
        are not in the manifest. Raises Stopped, and writes nothing, where a wanted unit is missing, even if the engine reported
        success."""
        awaited, total = Awaited(map(str, wanted)), Sum()

        def noted() -> Iterator[tuple[Outline, bytes]]:
            for one, data in outlined(markers):
                awaited.came(one.unit)
                total.add(one)
                yield one, data

        untidy = self._untidy(noted(), there)
        awaited.check(self.stage)
        manifest = self._manifest(markers, total.tally, wanted=tuple(awaited.names), **info)
        lease.write_pieces(self.out, self.manifest_path, pieces_of(manifest))
        self._make_tidy(untidy)
        return manifest

    def summed(self, markers: Sequence[Marker], **info: Any) -> Manifest:
        """The manifest of these units; `info` sets further fields of it."""
        return self._manifest(markers, add_up(one for one, _ in outlined(markers)), **info)

    def _manifest(self, markers: Sequence[Marker], total: Tally, **info: Any) -> Manifest:
        return Manifest(
            stage=self.stage,
            fingerprint=self.fingerprint,
            parts=markers if isinstance(markers, Packed) else tuple(markers),
            into=total.into,
            out=total.out,
            dropped=total.dropped,
            **{"schema_version": SCHEMAS[self.stage]} | info,
        )

    def clear(self) -> None:
        """Removes the stage's whole output; the manifest goes first, so that no reader trusts a stage that is half gone."""
        lease.check(self.out)
        fs.remove(self.manifest_path)
        self.tidy(())

    def tidy(self, markers: Iterable[Marker], there: Sizes | None = None) -> None:
        """Removes every file of the stage that these markers do not name: a lost race's, unfinished ones, another fingerprint's.
        Writes a marker again that is gone, or of another size; a listing that is late is not believed there."""
        self._make_tidy(self._untidy(outlined(markers), there))

    def _untidy(self, markers: Iterable[tuple[Outline, bytes]], there: Sizes | None) -> Untidy:
        """What is there besides these markers' files, and which markers are gone, or of another size."""
        found, lost, directory = Listing.of(self.present() if there is None else there), list[Marker](), self.directory

        def kept() -> Iterator[str]:
            yield from (f"{directory}/{name}" for name in (fs.name_of(self.manifest_path), *KEPT))
            for some in batches(markers, TOGETHER):
                names = [f"{directory}/{one.unit}.json" for one, _ in some]
                yield from names
                yield from (file.name for one, _ in some for file in one.files.values())
                yield from (beside.name for one, _ in some for beside in one.beside)
                for size, (one, data) in zip(found.sizes_of(names), some, strict=True):
                    if size != (one.marker_bytes or len(data) + len(NEWLINE)):
                        lost.append(load(Marker, json.loads(data)))

        return Untidy(found.besides(kept()), lost)

    def _make_tidy(self, untidy: Untidy) -> None:
        self._remove(untidy.besides)
        for marker in untidy.lost:
            data, path = to_json(marker.bare), self.marker_path(marker.unit)
            if fs.size_of_file(path) not in (len(data), marker.size):
                lease.write(self.out, path, data)

    def _remove(self, there: Sizes) -> None:
        """Removes what stands under these names, relative to OUT. One request at a time: whoever freezes between asking for the
        lease and removing removes but what is in that one."""
        fs.remove_entries(self.out, there)


def packed(markers: Iterable[Marker | bytes]) -> Packed[Marker]:
    """The markers (one may be given as its JSON) in the order of their names."""
    return Packed.in_order(Marker, named(data for _, data in outlined(markers)))


def work_lost(what: str) -> WorkLost:
    """The error where a pass is to read what was spent."""
    return WorkLost(f"{what} is gone: remove all of {layout.WORK} in the output, and start the build again")


def write_tables(scratch: str, tables: Mapping[str, pa.Table], **options: Any) -> dict[str, str]:
    """Writes each table to a local file; returns label -> path. An empty table of rejects is left out."""
    files = {}
    for label, table in tables.items():
        if label != layout.DROPPED or len(table):
            files[label] = fs.join(scratch, f"{label}.parquet")
            write_parquet(table, files[label], **options)
    return files
