"""The published set as a whole: where it is made, its manifest, and how it replaces an older set."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from wit.errors import DamagedFile
from wit.layout import SHARD_ENDING, SIZES_FILE, next_shards_path, shards_path
from wit.publish.shard import ShardMarker
from wit.shards import REMOVED
from wit.stages import KINDS, SCHEMAS
from wit.store import fs, lease
from wit.store.flight import side_by_side
from wit.store.manifests import File, Published, lacking, pieces_of, read_json, read_published, stands
from wit.store.parts import StageDir, check_complete
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
    manifest = read_json(fs.join(directory, MANIFEST_FILE), Published, how=f"delete {directory}")
    return None if manifest is None else manifest.fingerprint


def standing(directory: str, shards: Iterable[ShardMarker]) -> list[ShardMarker]:
    """Those of some shards whose marker and files are there, whole. One listing, and a request for each file that the listing
    does not have: it may come late."""
    there = fs.list_sizes(directory)
    return [one for one in shards if stands(directory, one.shard + SHARD_ENDING, one.files.values(), there)]


def finish(stage: StageDir, shards: Sequence[ShardMarker], wanted: Sequence[str], directory: str) -> Published:
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
        install(stage.out)
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


def install(out: str) -> None:
    """Replaces the set in shards/ by the whole set in _shards/; tombstones are kept. If this is killed on a local disk, one of
    the two sets stands whole in shards/. On object stores files are copied one by one: there shards/ may then hold no whole set,
    but _shards/ holds the new one, which the next start of the build copies."""
    old, new = shards_path(out), next_shards_path(out)
    if fs.exists(removed := fs.join(old, REMOVED)):
        fs.copy(removed, fs.join(new, REMOVED))
    if fs.is_local(out):
        fs.exchange(new, old)
        fs.remove(new)
        return
    there, names = fs.list_sizes(old), {*fs.list_dir(new)} - {MANIFEST_FILE}
    fs.remove(fs.join(old, MANIFEST_FILE))
    fs.remove_entries(old, {name: there[name] for name in there.keys() - names})

    def install_file(name: str) -> None:
        lease.check(out)
        fs.copy(fs.join(new, name), fs.join(old, name))

    for name in [
        *sorted(names),
        MANIFEST_FILE,
    ]:  # one at a time: a builder that freezes here overwrites one file at most
        install_file(name)
    fs.remove(new)
