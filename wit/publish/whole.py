"""The published set as a whole: where it is made, its manifest, and how it replaces an older set."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from wit.arithmetic import batches
from wit.errors import DamagedFile, Stopped
from wit.layout import SHARD_ENDING, SIZES_FILE, next_shards_path, shards_path
from wit.publish.shard import ShardMarker
from wit.shards import REMOVED
from wit.stages import KINDS, SCHEMAS
from wit.store import fs, lease
from wit.store.awaited import check_complete
from wit.store.flight import side_by_side
from wit.store.manifests import File, Published, lacking, pieces_of, read_json, read_published, stands
from wit.store.parts import StageDir
from wit.typed import to_json

MANIFEST_FILE = KINDS["publish"].manifest


def begin(stage: StageDir, *, anew: bool = False) -> str:
    """The directory to write shards to: shards/ itself; or, while another set stands there (or the same, to be made `anew`), a
    directory beside it, so that readers have a whole set at every instant."""
    there, beside = read_published(stage.out), next_shards_path(stage.out)
    if there is None and _fingerprint_of(beside) == stage.fingerprint:
        return beside  # whole already, but the copy into shards/ was cut off
    same = there is not None and there.fingerprint == stage.fingerprint
    if there is None or same or anew:
        fs.remove(beside)
    if there is None and anew:
        stage.forget()
    return shards_path(stage.out) if there is None or same and not anew else beside


def _fingerprint_of(directory: str) -> str | None:
    manifest = _manifest_in(directory)
    return None if manifest is None else manifest.fingerprint


def _manifest_in(directory: str) -> Published | None:
    """The manifest of a set that is made beside another; None where it is not whole."""
    return read_json(fs.join(directory, MANIFEST_FILE), Published, how=f"delete {directory}")


def standing(directory: str, shards: Iterable[ShardMarker]) -> list[ShardMarker]:
    """Those of some shards whose marker and files are there, whole. One listing, and a request for each file that the listing
    does not have: it may come late."""
    there = fs.list_sizes(directory)
    return [one for one in shards if stands(directory, one.shard + SHARD_ENDING, one.files.values(), there)]


FILES_OF_A_SHARD = 3  # tar, table and marker: what is copied together


@dataclass(frozen=True, slots=True)
class Names:
    """Files that are copied together; how they are called in either directory."""

    names: tuple[str, ...]


class _TakenOver(Exception):
    """Another builder is at work by now."""


@dataclass(frozen=True, slots=True)
class Copier:
    """Copies files from _shards/ to shards/ for the builder that holds the lease of that number, or 0 for none. It may run on any
    worker: who is to copy asks for the lease itself, before each attempt."""

    out: str
    lease: int

    def __call__(self, files: Names) -> Names:
        """The files that were copied: not all of them once another builder has taken over."""
        return Names(tuple(name for name in side_by_side(self._copied, files.names) if name))

    def _copied(self, name: str) -> str:
        def ask() -> None:
            if lease.is_taken(self.out, self.lease):
                raise _TakenOver

        try:
            fs.copy(fs.join(next_shards_path(self.out), name), fs.join(shards_path(self.out), name), before=ask)
        except _TakenOver:
            return ""
        except FileNotFoundError:  # its successor is done with the set, or has thrown it away
            if lease.is_taken(self.out, self.lease):
                return ""
            raise
        return name


Copying = Callable[[Copier, Sequence[Names]], Iterable[Names]]


def copy_here(copier: Copier, files: Sequence[Names]) -> Iterator[Names]:
    """Copies in this process, several at a time."""
    return side_by_side(copier, files)


def finish(
    stage: StageDir,
    shards: Sequence[ShardMarker],
    wanted: Sequence[str],
    directory: str,
    copying: Copying = copy_here,
) -> Published:
    """Writes sizes.json and, last, MANIFEST.json. Files that the manifest does not name are removed, but not tombstones. A set
    made beside another then takes the other's place. Raises Stopped where a wanted shard is missing."""
    check_complete("publish", wanted, (marker.shard for marker in shards))
    manifest = replace(manifest_of(stage, shards), wanted=tuple(sorted(wanted)))
    lease.check(stage.out)
    # While a set is mended in place, its old manifest stays until the new one stands.
    named = {*(file.name for file in manifest.files), REMOVED, MANIFEST_FILE}
    there = fs.list_sizes(directory)
    fs.remove_entries(directory, {name: there[name] for name in there.keys() - named})
    fs.write_bytes(fs.join(directory, SIZES_FILE), sizes_json(shards))
    lease.write_pieces(stage.out, fs.join(directory, MANIFEST_FILE), pieces_of(manifest))
    if directory != shards_path(stage.out):
        install(stage.out, copying)
    return manifest


def manifest_of(stage: StageDir, shards: Sequence[ShardMarker]) -> Published:
    """MANIFEST.json of these shards, except for its field `wanted`."""
    markers = sorted(shards, key=lambda marker: marker.shard)
    samples = sum(marker.count for marker in markers)
    beside = {SIZES_FILE: sizes_json(markers)}
    beside |= {marker.shard + SHARD_ENDING: to_json(marker) for marker in markers}
    files = [replace(file, samples=marker.count) for marker in markers for file in marker.files.values()]
    files += [File(name, len(data), hashlib.sha256(data).hexdigest()) for name, data in beside.items()]
    return Published(
        stage=stage.stage,
        fingerprint=stage.fingerprint,
        schema_version=SCHEMAS["publish"],
        into=samples,
        out=samples,
        dropped={},
        shards=len(markers),
        samples=samples,
        files=tuple(sorted(files, key=lambda file: file.name)),
    )


def sizes_json(shards: Sequence[ShardMarker]) -> bytes:
    """sizes.json: how many samples each tar has."""
    return to_json({marker.files["tar"].name: marker.count for marker in shards})


def manifests_of(stage: StageDir) -> Iterator[Published]:
    """The manifests that shards/ may have had, by its markers alone; none where a marker or a file is damaged or gone."""
    directory = shards_path(stage.out)
    names = [name for name in fs.list_dir(directory) if name.endswith(SHARD_ENDING)]
    try:
        read = side_by_side(lambda name: read_json(fs.join(directory, name), ShardMarker), names)
        markers = [marker for marker in read if marker is not None]
    except DamagedFile:
        return
    manifest = manifest_of(stage, markers)
    if not lacking(fs.list_sizes(directory), manifest.files):
        yield replace(manifest, wanted=tuple(sorted(marker.shard for marker in markers)))
        yield manifest  # as of version 0.1.0


def install(out: str, copying: Copying = copy_here) -> None:
    """Replaces the set in shards/ by the whole set in _shards/; tombstones are kept. If this is killed on a local disk, one of
    the two sets stands whole in shards/. On object stores files are copied, by whatever `copying` calls the copier with: there
    shards/ may then hold no whole set, but _shards/ holds the new one, which the next start of the build copies.

    However many copies are under way when a builder freezes, what it sends once it wakes harms no set that stands: a copy reads
    _shards/, within the store, and a successor empties that before it writes other bytes into shards/, and once its set stands
    there. Then the copy finds nothing; before that, under the same settings, it gives the same bytes. What is left needs a second
    successor that makes a third set in _shards/ while the first builder still is frozen: as many files of that set as copies were
    under way may come into shards/ too early. It mends that when it is done; if it never is, a start under the settings of the
    set that stands finds them by their sizes, and makes them again."""
    old, new = shards_path(out), next_shards_path(out)
    if fs.exists(removed := fs.join(old, REMOVED)):
        fs.copy(removed, fs.join(new, REMOVED))
    if fs.is_local(out):
        fs.exchange(new, old)
        fs.remove(new)
        return
    manifest, there = _manifest_in(new), fs.list_sizes(old)
    if manifest is None:
        raise Stopped(f"{new} holds no whole set: start the build again to go on")
    # By the manifest, since a listing may come late.
    names = {file.name for file in manifest.files} | ({REMOVED} if fs.exists(fs.join(new, REMOVED)) else set())
    fs.remove(fs.join(old, MANIFEST_FILE))
    fs.remove_entries(old, {name: there[name] for name in there.keys() - names})
    every = [Names(tuple(some)) for some in batches(sorted(names), FILES_OF_A_SHARD)]
    copied = [name for some in copying(Copier(out, lease.number_held(out)), every) for name in some.names]
    lease.check(out)
    check_complete("publish", names, copied)
    fs.copy(fs.join(new, MANIFEST_FILE), fs.join(old, MANIFEST_FILE), before=lambda: lease.check(out))
    fs.remove(new)
