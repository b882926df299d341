"""The only code that opens files: local paths, s3://, gs://, hdfs:// and https:// through fsspec.

A path is a string. A file appears whole or not at all: locally by a temporary name and a rename; on object stores by one
put from memory or from a finished local file, never by an open stream, since a body that raises inside
`with fs.open(path, "wb")` still commits the truncated object (seen with s3fs and gcsfs).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import io
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import xxhash

from wit.damage import damaged
from wit.errors import InputError
from wit.layout import SCRATCH
from wit.store.patience import Patient, PatientStore, Ranges
from wit.store.web import is_web


def is_local(path: str) -> bool:
    return "://" not in path or path.startswith("file://")


def join(*parts: str) -> str:
    return "/".join([parts[0].rstrip("/"), *(part.strip("/") for part in parts[1:])])


def name_of(path: str) -> str:
    return path.rstrip("/").rsplit("/", 1)[-1]


class _Local:
    """What is used here of fsspec's interface, for local files: importing fsspec takes each of a build's processes 70 ms."""

    exists, isdir, size = staticmethod(os.path.exists), staticmethod(os.path.isdir), staticmethod(os.path.getsize)
    ls, open, get_file, copy = (
        staticmethod(lambda path, detail: os.listdir(path)),
        staticmethod(open),
        staticmethod(shutil.copyfile),
        staticmethod(shutil.copyfile),
    )

    def makedirs(self, path: str, exist_ok: bool) -> None:
        os.makedirs(path, exist_ok=exist_ok)

    def invalidate_cache(self, path: str) -> None: ...

    def cat_file(self, path: str, start: int = 0, end: int | None = None) -> bytes:
        with open(path, "rb") as stream:
            stream.seek(start)
            return stream.read(-1 if end is None else end - start)

    def rm(self, path: str, recursive: bool) -> None:
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)


_LOCAL = _Local()
READ_AHEAD_BYTES = 5 << 20  # of a file in a store: fsspec's own


EXTRAS = dict.fromkeys(("s3", "s3a"), "aws") | dict.fromkeys(("gs", "gcs"), "gcp")  # of this package, by scheme


def file_system(path: str) -> tuple[Any, str]:
    """(the file system that a path is of, what it is called there); raises InputError where there is none for its scheme."""
    if is_local(path):
        return _LOCAL, os.path.abspath(os.path.expanduser(path.removeprefix("file://")))
    import fsspec.core

    scheme = path.partition("://")[0]
    try:
        store, inner = fsspec.core.url_to_fs(path, use_listings_cache=False)  # others write there too
    except ImportError as error:
        extra = EXTRAS.get(scheme)
        fix = f"pip install wit[{extra}]" if extra else f"{error}".rstrip(".")
        raise InputError(f"{path} needs a client of {scheme}:// that is not installed: {fix}") from error
    except OSError as error:
        if error.errno is not None:
            raise
        why = f"{error}".partition("\n")[0]  # pyarrow's, of hdfs:// without Java, has a hundred more lines
        raise InputError(
            f"{path} cannot be opened ({why}): install what {scheme}:// needs, or give another place"
        ) from error
    except ValueError as error:  # which fsspec raises for a scheme that nobody knows
        known = "a path of this machine, s3://, gs://, hdfs:// or https://"
        raise InputError(f"{path} cannot be opened ({error}): give {known}") from error
    return (Patient if is_web(path) else PatientStore)(store), inner


def local_path(path: str) -> str:
    """The absolute path of a local file, for libraries that open it themselves."""
    return str(file_system(path)[1])


def exists(path: str) -> bool:
    store, inner = file_system(path)
    return bool(store.exists(inner))


def is_dir(path: str) -> bool:
    store, inner = file_system(path)
    return bool(store.isdir(inner))


def size(path: str) -> int:
    store, inner = file_system(path)
    return int(store.size(inner))


def size_of_file(path: str) -> int | None:
    """The size of a file; None where there is none, or something else than one."""
    store, inner = file_system(path)
    if is_local(path):
        return os.path.getsize(inner) if os.path.isfile(inner) else None
    return int(store.size(inner)) if store.isfile(inner) else None


# What the stores call the version of a file, the most exact first.
VERSIONS = (
    "ETag",
    "etag",
    "generation",
    "Last-Modified",
    "LastModified",
    "last_modified",
    "updated",
    "mtime",
    "created",
)


def is_stream(path: str) -> bool:
    """Whether a local path is neither a file nor a directory but a pipe or a device, which may block and gives its bytes once."""
    return is_local(path) and exists(path) and not is_dir(path) and size_of_file(path) is None


def read_given(flag: str, path: str) -> str:
    """The text of a file that a flag names and that is read again while the build runs; raises InputError where it cannot be."""
    if is_stream(path):
        raise InputError(f"{flag} {path} is no file, and it is read again while the build runs: write it to one")
    try:
        return read_bytes(path).decode()
    except FileNotFoundError:
        raise InputError(f"{flag} {path}: no such file; give the path of one, or leave the flag out") from None
    except UnicodeDecodeError as error:
        raise InputError(
            f"{flag} {path} is no UTF-8 text ({error.reason} at byte {error.start}): give another file"
        ) from error
    except OSError as error:
        why = error.strerror or f"{error}"
        raise InputError(f"{flag} {path} cannot be read ({why}): give a file that this user can read") from error


def version(path: str) -> str | None:
    """What changes when the file does: the modification time of a local one, an object's ETag or generation; None where the
    store tells nothing. Raises OSError whatever the store's own client raises."""
    store, inner = file_system(path)
    if is_local(path):
        return f"modified {os.stat(inner).st_mtime_ns}"
    with _store_errors(path):
        info = store.info(inner)
    return next((f"{name} {info[name]}" for name in VERSIONS if info.get(name)), None)


def exchange(one: str, other: str) -> None:
    """Two local directories take each other's names, in one step where the system can do that."""
    first, second = (os.fsencode(file_system(path)[1]) for path in (one, other))
    try:
        if ctypes.CDLL(None, use_errno=True).renameat2(AT_FDCWD, first, AT_FDCWD, second, RENAME_EXCHANGE) == 0:
            return
    except AttributeError:  # no such call in this C library
        pass
    aside = first + b".old"
    os.rename(first, aside)
    os.rename(second, first)
    os.rename(aside, second)


AT_FDCWD, RENAME_EXCHANGE = -100, 2  # linux/fcntl.h, linux/fs.h


def copy(path: str, to: str) -> None:
    """Copies a file within one store, replacing what was there."""
    store, inner = file_system(path)
    store.copy(inner, file_system(to)[1])


def is_text(word: str) -> bool:
    """Whether it can be written as UTF-8, which a lone surrogate cannot."""
    try:
        word.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_text(path: str) -> None:
    """Raises InputError for a name that is no text here: tables and reports could not say it."""
    if not is_text(path):
        shown = path.encode("utf-8", "backslashreplace").decode()
        raise InputError(
            f"{shown} is no UTF-8 text here: rename the file, or run with LC_ALL=C.UTF-8 where the name is right and the "
            "machine's locale is not"
        )


def glob(pattern: str) -> list[str]:
    """The files that match, sorted, in the form of the pattern (with its scheme, relative if it was)."""
    if is_local(pattern):
        root = Path.cwd()
        import fsspec

        paths = fsspec.filesystem("file").glob(str(root / pattern.removeprefix("file://")))
        relative = not pattern.startswith(("/", "file://"))
        return sorted(os.path.relpath(f, root) if relative else f for f in paths if not os.path.isdir(f))
    store, inner = file_system(pattern)
    return sorted(store.unstrip_protocol(f) for f in store.glob(inner))


def list_dir(path: str) -> list[str]:
    """The names in a directory, sorted; empty where it does not exist."""
    store, inner = file_system(path)
    if not store.isdir(inner):
        return []
    store.invalidate_cache(inner)
    return sorted(name_of(str(entry)) for entry in store.ls(inner, detail=False))


def list_sizes(path: str) -> dict[str, int | None]:
    """The names in a directory with the sizes of files, None for what is none; empty where it does not exist. One listing."""
    store, inner = file_system(path)
    if is_local(path):
        return {name: size_of_file(os.path.join(inner, name)) for name in list_dir(path)}
    if not store.isdir(inner):
        return {}
    store.invalidate_cache(inner)
    entries = store.ls(inner, detail=True)
    return {name_of(str(e["name"])): int(e["size"]) if e["type"] == "file" else None for e in entries}


def find(path: str) -> list[str]:
    """The names of all files below a directory, relative to it, sorted."""
    store, inner = file_system(path)
    if is_local(path):
        walked = (os.path.relpath(os.path.join(at, name), inner) for at, _, names in os.walk(inner) for name in names)
        return sorted(walked)
    store.invalidate_cache(inner)
    root = store.unstrip_protocol(inner).rstrip("/") + "/"
    return sorted(store.unstrip_protocol(name).removeprefix(root) for name in store.find(inner))


def free_bytes(path: str) -> int | None:
    """What the disk of a local directory, there already, has left for this user; None elsewhere."""
    return shutil.disk_usage(file_system(path)[1]).free if is_local(path) else None


def read_bytes(path: str) -> bytes:
    store, inner = file_system(path)
    return bytes(store.cat_file(inner))


def read_range(path: str, start: int, length: int) -> bytes:
    """Exactly `length` bytes from `start`; raises DamagedFile if the file is shorter."""
    store, inner = file_system(path)
    data = bytes(store.cat_file(inner, start=start, end=start + length))
    if len(data) != length:
        raise damaged(path, f"it ends before byte {start + length}")
    return data


@contextlib.contextmanager
def open_read(path: str) -> Iterator[IO[bytes]]:
    """The file as a binary stream, seekable, read ahead in blocks on object stores."""
    store, inner = file_system(path)
    if is_local(path) or is_web(path):
        with store.open(inner, "rb") as stream:
            yield stream
        return
    with io.BufferedReader(Ranges(store, inner), READ_AHEAD_BYTES) as stream:
        yield stream


def download(path: str, local: str) -> None:
    """Copies a file to a local path in one request; raises OSError whatever the store's own client raises."""
    with _store_errors(path):
        store, inner = file_system(path)
        store.get_file(inner, local)


@contextlib.contextmanager
def _store_errors(path: str) -> Iterator[None]:
    try:
        yield
    except OSError:
        raise
    except Exception as error:  # aiohttp, botocore and Google's client share no class of errors
        raise OSError(f"{path}: {type(error).__name__}: {error}") from error


def write_bytes(path: str, data: bytes | memoryview) -> None:
    """Puts the whole file there, or nothing; replaces what was there."""
    store, inner = file_system(path)
    if not is_local(path):
        store.pipe_file(inner, bytes(data))
        return
    with temporary(inner) as name:
        write_through(name, data)
        _into_place(name, inner)


def write_changed(path: str, data: bytes) -> None:
    """As `write_bytes`, but a file that is there already, byte for byte, stays: stores give what is written a new version."""
    if size_of_file(path) != len(data) or read_bytes(path) != data:
        write_bytes(path, data)


UNFINISHED = ".tmp"  # how the names of files end that a killed process left


@contextlib.contextmanager
def temporary(inner: str) -> Iterator[str]:
    """A name beside a local file that no other attempt writes; nothing is left there."""
    os.makedirs(os.path.dirname(inner) or ".", exist_ok=True)
    path = f"{inner}.{os.getpid()}.{os.urandom(4).hex()}{UNFINISHED}"
    try:
        yield path
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def _into_place(temporary: str, inner: str) -> None:
    if os.path.isdir(inner):
        raise IsADirectoryError(errno.EISDIR, "a directory stands where a file is to be", inner)
    os.replace(temporary, inner)


@contextlib.contextmanager
def naming(path: str) -> Iterator[None]:
    """An OSError of the block names this place where it names none, as those of writes to an open file do."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = path
        raise


def write_through(path: str, data: bytes | memoryview) -> None:
    """Writes a local file, and returns when the disk has it."""
    with naming(os.path.dirname(path)), open(path, "wb") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())


def append_bytes(path: str, data: bytes) -> None:
    """Adds to the end of a file that one process writes (metrics); on object stores it is rewritten: keep it small."""
    if not is_local(path):
        write_bytes(path, (read_bytes(path) if exists(path) else b"") + data)
        return
    _, inner = file_system(path)
    os.makedirs(os.path.dirname(inner) or ".", exist_ok=True)
    with naming(inner), open(inner, "ab") as out:
        out.write(data)


def publish(local: str, path: str) -> None:
    """Moves a finished local file to `path`, whole or not at all; the local file is gone afterwards."""
    store, inner = file_system(path)
    if not is_local(path):
        store.put_file(local, inner)
        os.unlink(local)
        return
    with temporary(inner) as name:
        shutil.move(local, name)  # a rename on one file system, a copy across two
        with open(name, "rb") as done:
            os.fsync(done.fileno())
        _into_place(name, inner)


def remove(path: str) -> None:
    """Removes a file or a directory tree; nothing happens where there is none."""
    store, inner = file_system(path)
    if store.exists(inner):
        store.rm(inner, recursive=True)


def local_scratch(out: str) -> str:
    """A directory of this machine for what the workers of one build there share: OUT/_tmp, or one that is named after OUT, the
    user and the last boot."""
    if is_local(out):
        path = os.path.join(out.removeprefix("file://"), SCRATCH)
    else:
        import psutil

        name = xxhash.xxh3_64_hexdigest(f"{os.getuid()} {psutil.boot_time() // 60} {out}".encode())
        path = os.path.join(tempfile.gettempdir(), f"wit-{name}")
    os.makedirs(path, exist_ok=True)
    return path


@contextlib.contextmanager
def scratch_dir(near: str) -> Iterator[str]:
    """A local directory for work in progress, on the same file system as `near` when that is local, removed at the end."""
    root = local_scratch(near) if is_local(near) else None
    path = tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=root)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def sha256_file(path: str) -> str:
    return digest_of(path, "sha256").hex


class Digest(NamedTuple):
    """What the bytes of a file come to, by `algorithm`: sha256 or xxh3_128."""

    algorithm: str
    hex: str


def digest_of(path: str, algorithm: str) -> Digest:
    """The digest of a file; raises ValueError for an algorithm that is none of ours."""
    if algorithm not in ("sha256", "xxh3_128"):
        raise ValueError(f"{algorithm} is no digest that files here bear")
    hasher = hashlib.sha256() if algorithm == "sha256" else xxhash.xxh3_128()
    with open_read(path) as stream:
        while block := stream.read(1 << 20):
            hasher.update(block)
    return Digest(algorithm, hasher.hexdigest())


def open_spool(path: str) -> int:
    """The descriptor of a local scratch file, made where it is missing, for writing and reading back at any place while a
    stage works; it is never published."""
    return os.open(path.removeprefix("file://"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def open_write(path: str) -> IO[bytes]:
    """A new local file for work in progress, which `publish` moves into place when it is finished."""
    return open(path, "wb", buffering=1 << 20)
