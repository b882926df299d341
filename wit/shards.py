"""The shard format: tars of `KEY.jpg`, `KEY.txt`, `KEY.json`, as img2dataset writes and webdataset and open_clip read them.

Tars are written with our own ustar header (25 us a sample where tarfile takes 80) and depend on nothing but their content.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any

import pyarrow as pa

from wit.damage import damaged, mend
from wit.errors import InputError
from wit.images.formats import SAMPLE_EXTENSIONS
from wit.layout import REMOVED_FILE
from wit.store import fs, parquet

REMOVED = REMOVED_FILE  # beside the shards: one hash a line, a sample's key or the SHA-256 of a picture
AGAIN = "fetch or publish the shard again"  # of a shard that no build of ours wrote
BLOCK = 512
END = bytes(2 * BLOCK)
RECORD = 20 * BLOCK  # a tar's length is a multiple of this

_MODE_TO_GID = b"0000644\0" + b"0000000\0" + b"0000000\0"
_AFTER_SIZE = b"00000000000\0"  # mtime 0
_TAIL = b"ustar\x0000" + bytes(32) + bytes(32) + b"0000000\0" + b"0000000\0" + bytes(155 + 12)
_FIXED_SUM = sum(_MODE_TO_GID) + sum(_AFTER_SIZE) + 8 * ord(" ") + ord("0") + sum(_TAIL)


@dataclass(frozen=True, slots=True)
class Sample:
    """One picture with its caption, as a shard holds it; `extension` without the dot."""

    key: str
    image_bytes: bytes
    extension: str
    caption: str
    metadata: dict[str, Any]
    readable: bool = True  # False where KEY.json is no JSON object: `metadata` is empty then


@dataclass(frozen=True, slots=True)
class ShardInfo:
    """A published shard and the samples that `iter_samples` yields from it."""

    path: str
    samples: int


@dataclass(frozen=True, slots=True)
class Member:
    """One file of a tar; `offset` is where its data starts."""

    name: str
    offset: int
    data: bytes


def tar_header(name: str, size: int) -> bytes:
    """The 512-byte ustar header of a regular file: mode 0644, owner 0 without names, mtime 0."""
    encoded, digits = name.encode(), b"%011o\0" % size
    if len(encoded) > 100 or len(digits) > 12:
        raise ValueError(f"no room in a ustar header for {name!r} of {size} bytes")
    checksum = _FIXED_SUM + sum(encoded) + sum(digits)
    head = encoded + bytes(100 - len(encoded)) + _MODE_TO_GID + digits + _AFTER_SIZE
    return b"%b%06o\0 0%b%b" % (head, checksum, bytes(100), _TAIL)


def padding(size: int) -> bytes:
    """The zero bytes between a member of `size` bytes and the next header."""
    return bytes(-size % BLOCK)


def tar_end(size: int) -> bytes:
    """The zero bytes that end a tar whose members fill `size` bytes."""
    return END + bytes(-(size + len(END)) % RECORD)


class ShardWriter:
    """Appends samples to a tar in a binary stream; the same samples give the same bytes."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.size = 0

    def add_member(self, name: str, data: bytes | memoryview) -> int:
        """Returns the offset of the data in the tar."""
        offset = self.size + BLOCK
        for piece in (tar_header(name, len(data)), data, padding(len(data))):
            self.size += self._stream.write(piece)
        return offset

    def add(
        self, key: str, image: bytes | memoryview, extension: str, caption: str, metadata: Mapping[str, Any]
    ) -> int:
        """Appends KEY.EXTENSION, KEY.txt and KEY.json; returns the offset of the picture in the tar."""
        offset = self.add_member(f"{key}.{extension}", image)
        self.add_member(f"{key}.txt", caption.encode())
        self.add_member(f"{key}.json", json.dumps(metadata, ensure_ascii=False).encode())
        return offset

    def close(self) -> None:
        """Ends the tar; the stream stays open."""
        self.size += self._stream.write(tar_end(self.size))


def iter_members(path: str) -> Iterator[Member]:
    """The regular files of a tar, streamed in order. Pax and GNU long names are read, and tars packed by gzip.

    Raises DamagedFile where the tar is cut off or a header is damaged; members yielded before that are sound."""
    with fs.open_read(path) as stream:
        packed = stream.read(2) == b"\x1f\x8b"
        stream.seek(0)
        if packed:
            with gzip.GzipFile(fileobj=stream) as unpacked:
                yield from _members(unpacked, path)
        else:
            yield from _members(stream, path)


def _members(stream: IO[bytes] | gzip.GzipFile, path: str) -> Iterator[Member]:
    position, long_name = 0, None
    while (header := _read(stream, BLOCK, path, position)) != bytes(BLOCK):
        _check(header, path, position)
        size = _octal(header[124:136])
        data = _read(stream, size + -size % BLOCK, path, position)[:size]
        kind = header[156:157]
        if kind in b"0\0":
            yield Member(long_name or _name(header), position + BLOCK, data)
        long_name = _long_name(kind, data)
        position += BLOCK + size + -size % BLOCK


def _read(stream: IO[bytes] | gzip.GzipFile, length: int, path: str, position: int) -> bytes:
    try:
        data = stream.read(length)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise damaged(path, error, mend(path, AGAIN)) from error
    if len(data) != length:
        raise damaged(path, f"it is cut off within the member at byte {position}", mend(path, AGAIN))
    return data


def _check(header: bytes, path: str, position: int) -> None:
    if _octal(header[148:156]) != sum(header) - sum(header[148:156]) + 8 * ord(" ") or _octal(header[124:136]) < 0:
        raise damaged(path, f"no tar header at byte {position}", mend(path, AGAIN))


def _octal(field: bytes) -> int:
    """The number in a header field, -1 if there is none."""
    digits = field.strip(b"\0 ")
    return int(digits, 8) if digits and not digits.strip(b"01234567") else -1


def _name(header: bytes) -> str:
    name, prefix = header[:100].rstrip(b"\0"), header[345:500].rstrip(b"\0")
    ustar = header[257:263] == b"ustar\0"  # GNU's old format uses these bytes otherwise
    return (prefix + b"/" + name if ustar and prefix else name).decode(errors="replace")


def _long_name(kind: bytes, data: bytes) -> str | None:
    """The name that this header gives to the member after it."""
    if kind == b"L":
        return data.rstrip(b"\0").decode(errors="replace")
    if kind == b"x":
        records = (line.partition(b" ")[2].partition(b"=") for line in data.split(b"\n"))
        return next((value.decode(errors="replace") for name, _, value in records if name == b"path"), None)
    return None


def split_name(name: str) -> tuple[str, str]:
    """(key, extension) as webdataset takes them: up to the first dot of the last part of the path."""
    directory, slash, base = name.rpartition("/")
    stem, _, extension = base.partition(".")
    return directory + slash + stem, extension.lower()


def is_sample_file(name: str) -> bool:
    """Whether webdataset takes a member for a file of a sample. It leaves out names that begin with a dot (macOS puts `._x.jpg`
    beside each `x.jpg`), names without extension, and `__named__` ones."""
    base = name.rpartition("/")[2]
    return "." in base and not base.startswith(".") and not re.match(r"__[^/]*__($|/)", name)


def iter_samples(path: str) -> Iterator[Sample]:
    """The samples of a shard in order. Removed ones are left out and, as in open_clip, those without picture or caption.

    Files of a sample must be adjacent, as webdataset wants them. Raises InputError where the tar is damaged."""
    gone = removed_hashes(_directory(path))
    key, files = None, dict[str, bytes]()
    for member in iter_members(path):
        if not is_sample_file(member.name):
            continue
        stem, extension = split_name(member.name)
        if stem != key:
            yield from _sample(key, files, gone)
            key, files = stem, {}
        files[extension] = member.data
    yield from _sample(key, files, gone)


def _sample(key: str | None, files: dict[str, bytes], gone: frozenset[str]) -> Iterator[Sample]:
    extension = next((e for e in SAMPLE_EXTENSIONS if e in files), None)
    if key is None or extension is None or "txt" not in files:
        return
    metadata = _metadata(files.get("json", b"{}"))
    if gone and not gone.isdisjoint(_hashes(key, files[extension], metadata)):
        return
    readable, caption = metadata is not None, files["txt"].decode(errors="replace")
    yield Sample(key, files[extension], extension, caption, metadata or {}, readable)


def _metadata(text: bytes) -> dict[str, Any] | None:
    """What KEY.json says; None where it is no JSON object."""
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):  # no JSON, no UTF-8, a number of 5,000 digits; nested too deeply
        return None
    return parsed if isinstance(parsed, dict) else None


def _hashes(key: str, image: bytes, metadata: dict[str, Any] | None) -> list[str]:
    """The names by which a tombstone may mean the sample. Without metadata the digest is taken of the picture itself."""
    if metadata is None:
        return [key, hashlib.sha256(image).hexdigest()]
    return [key, *(value for name in ("sha256", "original_sha256") if isinstance(value := metadata.get(name), str))]


def _directory(path: str) -> str:
    return path.rpartition("/")[0] or "."


def removed_hashes(directory: str) -> frozenset[str]:
    """The tombstones of a directory of shards: keys and SHA-256 digests whose samples no reader may see."""
    path = fs.join(directory, REMOVED)
    return frozenset(fs.read_bytes(path).decode().split()) if fs.exists(path) else frozenset()


def list_shards(directory: str) -> list[ShardInfo]:
    """The published shards in the order of their names, with their counts of samples after removals.

    Counts come from sizes.json, or from img2dataset's NNNNN_stats.json where there is none."""
    counts = _counts(directory)
    if not counts:
        if tars := [name for name in fs.list_dir(directory) if name.endswith((".tar", ".tar.gz"))]:
            raise InputError(
                f"{directory} holds {tars[0]} and {len(tars) - 1:,} tars more, but no sizes.json that says how many samples are "
                f'in each: write {{"{tars[0]}": 10000, ...}} there'
            )
        raise InputError(
            f"no shards in {directory}: give the directory that holds 00000.tar and sizes.json, "
            "which python -m pipelines.build writes to OUT/shards"
        )
    gone = removed_hashes(directory)
    return [
        ShardInfo(path, count - _removed_from(path, gone))
        for name, count in sorted(counts.items())
        for path in [fs.join(directory, name)]
    ]


def _counts(directory: str) -> dict[str, int]:
    path = fs.join(directory, "sizes.json")
    if fs.exists(path):
        return {name: _count(path, number) for name, number in _object(path).items()}
    stats = [name for name in fs.list_dir(directory) if name.endswith("_stats.json")]
    paths = {name.replace("_stats.json", ".tar"): fs.join(directory, name) for name in stats}
    return {name: _count(path, _object(path).get("successes")) for name, path in paths.items()}


def _object(path: str) -> dict[str, Any]:
    parsed = _metadata(fs.read_bytes(path))
    if parsed is None:
        raise damaged(path, "it is no JSON object", mend(path, AGAIN))
    return parsed


def _count(path: str, number: object) -> int:
    if not isinstance(number, int) or number < 0:
        raise damaged(path, f"{number!r} is no count of samples", mend(path, AGAIN))
    return number


def _removed_from(path: str, gone: frozenset[str]) -> int:
    """How many samples of the shard the tombstones hide, counted in the parquet file beside it."""
    if not gone:
        return 0
    with parquet.open_file(path.removesuffix(".tar") + ".parquet") as file:
        named = [n for n in ("key", "sha256", "original_sha256") if n in file.schema_arrow.names]
        table = file.read(columns=[*named, "status"])
    hashes = pa.array(sorted(gone), pa.string())
    import pyarrow.compute as pc  # not above: it would cost a writer of tars 40 ms

    hits = [pc.is_in(table[name], value_set=hashes) for name in named]  # a null is in no set
    hit = pc.and_(functools.reduce(pc.or_, hits), pc.equal(table["status"], "success"))
    return int(pc.sum(hit).as_py() or 0)
