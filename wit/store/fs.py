"""The only code that opens files: local paths, s3://, gs://, hdfs:// and https:// through fsspec.

A path is a string. A file appears whole or not at all: locally by a temporary name and a rename; on object stores by one put,
from memory or from a finished local file. Nothing is written there through an open stream: a body that raises inside
`with fs.open(path, "wb")` still commits the truncated object (seen with s3fs and gcsfs).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import hashlib
import io
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import xxhash

from wit.arithmetic import batches
from wit.damage import damaged
from wit.errors import InputError
from wit.layout import UNFINISHED
from wit.store.hdfs import HdfsStore
from wit.store.patience import Patient, PatientStore, Ranges
from wit.store.web import is_web


def is_local(path: str) -> bool:
    """Whether the path is of this machine: without a scheme, or file://."""
    return "://" not in path or path.startswith("file://")


def join(*parts: str) -> str:
    """One path of these parts, with one slash between them."""
    return "/".join([parts[0].rstrip("/"), *(part.strip("/") for part in parts[1:])])


def name_of(path: str) -> str:
    """The last part of a path."""
    return path.rstrip("/").rsplit("/", 1)[-1]


def bucket_and_key(folder: str) -> tuple[str, str]:
    """Of a folder's name on an object store: its bucket, and what the keys below it begin with."""
    bucket, _, key = folder.partition("/")
    return bucket, f"{key.rstrip('/')}/" if key else ""


class _Local:
    """The part of fsspec's interface that is used here, for local files: importing fsspec costs each process 70 ms."""

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

    def rm_files(self, paths: Sequence[str], *, before: Callable[[], object]) -> None:
        for path in paths:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


_LOCAL = _Local()
READ_AHEAD_BYTES = 5 << 20  # of a file in a store: fsspec's own


EXTRAS = dict.fromkeys(("s3", "s3a"), "aws") | dict.fromkeys(("gs", "gcs"), "gcp")  # of this package, by scheme


PROMISES: dict[str, type[PatientStore]] = {"hdfs": HdfsStore}  # of schemes whose clients keep none of their own


def file_system(path: str) -> tuple[Any, str]:
    """(file system, the path's name on it); raises InputError where no file system is known or installed for its scheme."""
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
    except ValueError as error:  # fsspec's, for a scheme that nobody knows
        known = "a path of this machine, s3://, gs://, hdfs:// or https://"
        raise InputError(f"{path} cannot be opened ({error}): give {known}") from error
    return (Patient if is_web(path) else PROMISES.get(scheme, PatientStore))(store), inner


def local_path(path: str) -> str:
    """The absolute path of a local file, for libraries that open it themselves."""
    return str(file_system(path)[1])


def exists(path: str) -> bool:
    """Whether anything stands there, file or directory."""
    store, inner = file_system(path)
    return bool(store.exists(inner))


def is_dir(path: str) -> bool:
    """Whether a directory stands there, or on object stores a prefix of names."""
    store, inner = file_system(path)
    return bool(store.isdir(inner))


def size(path: str) -> int:
    """The size of a file in bytes; raises FileNotFoundError where there is none."""
    store, inner = file_system(path)
    return int(store.size(inner))


def size_of_file(path: str) -> int | None:
    """The size of a file in bytes; None where nothing stands, or something that is no file."""
    store, inner = file_system(path)
    if is_local(path):
        return os.path.getsize(inner) if os.path.isfile(inner) else None
    info = store.info_or_none(inner)
    return int(info["size"]) if info is not None and info["type"] == "file" else None


# The names that stores give to a file's version, the most exact first.
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
    """Whether a local path is a pipe or a device, which may block and gives its bytes only once."""
    return is_local(path) and exists(path) and not is_dir(path) and size_of_file(path) is None


def read_given(flag: str, path: str) -> str:
    """The text of a file that a flag names; raises InputError where it cannot be read, now and again while the build runs."""
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
    """A text that changes when the file does: the modification time of a local one, an object's ETag or generation; None where
    the store tells nothing. Any error of the store's client becomes an OSError."""
    store, inner = file_system(path)
    if is_local(path):
        return f"modified {os.stat(inner).st_mtime_ns}"
    with _store_errors(path):
        info = store.info(inner)
    return next((f"{name} {info[name]}" for name in VERSIONS if info.get(name)), None)


def exchange(one: str, other: str) -> None:
    """Swaps the names of two local directories, in one step where the system can do that."""
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


def copy(path: str, to: str, *, before: Callable[[], object] = bool) -> None:
    """Copies a file within one store, replacing what was there. `before` is called before each attempt, and stops them by what it
    raises."""
    store, inner = file_system(path)
    if is_local(path):
        before()
        store.copy(inner, file_system(to)[1])
    else:
        store.copy(inner, file_system(to)[1], before=before)


def is_text(word: str) -> bool:
    """Whether the word can be written as UTF-8; one with a lone surrogate cannot."""
    try:
        word.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_text(path: str) -> None:
    """Raises InputError for a path that is no UTF-8 text: tables and reports could not hold it."""
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
    if not is_local(path):
        return sorted(list_sizes(path))
    store, inner = file_system(path)
    return sorted(store.ls(inner, detail=False)) if store.isdir(inner) else []


def list_sizes(path: str) -> dict[str, int | None]:
    """{name: size in bytes, or None for anything but a file} of a directory; empty where it does not exist. One listing."""
    store, inner = file_system(path)
    if is_local(path):
        return {name: size_of_file(os.path.join(inner, name)) for name in list_dir(path)}
    store.invalidate_cache(inner)
    try:
        entries = store.ls(inner, detail=True)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    # A file is listed as itself, and so is the object without bytes that some tools put where a directory begins.
    below = [entry for entry in entries if str(entry["name"]).strip("/") != inner.strip("/")]
    return {name_of(str(e["name"])): int(e["size"]) if e["type"] == "file" else None for e in below}


def find(path: str) -> list[str]:
    """The names of all files below a directory, relative to it, sorted."""
    return list(find_sizes(path))


def find_sizes(path: str) -> dict[str, int | None]:
    """{name relative to a directory: size in bytes, or None for a link to nowhere and the like} of all files below it, in the
    order of their names."""
    store, inner = file_system(path)
    if is_local(path):
        walked = (os.path.relpath(os.path.join(at, name), inner) for at, _, names in os.walk(inner) for name in names)
        return {name: size_of_file(os.path.join(inner, name)) for name in sorted(walked)}
    store.invalidate_cache(inner)
    root = store.unstrip_protocol(inner).rstrip("/") + "/"
    sizes = {
        store.unstrip_protocol(n).removeprefix(root): int(e["size"]) for n, e in store.find(inner, detail=True).items()
    }
    return {name: sizes[name] for name in sorted(sizes)}


def free_bytes(path: str) -> int | None:
    """The bytes that this user may still write to the disk of an existing local directory; None on object stores."""
    return shutil.disk_usage(file_system(path)[1]).free if is_local(path) else None


def read_bytes(path: str) -> bytes:
    """The whole file; raises FileNotFoundError where there is none."""
    store, inner = file_system(path)
    return bytes(store.cat_file(inner))


def read_if_there(path: str) -> bytes | None:
    """The whole file; None where there is none. Raises IsADirectoryError where something else stands on this machine."""
    if is_local(path) and size_of_file(path) is None and exists(path):
        raise IsADirectoryError(errno.EISDIR, "no file stands there", path)
    try:
        return read_bytes(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def read_range(path: str, start: int, length: int) -> bytes:
    """Exactly `length` bytes from `start`; raises DamagedFile if the file is shorter."""
    store, inner = file_system(path)
    data = bytes(store.cat_file(inner, start=start, end=start + length))
    if len(data) != length:
        raise damaged(path, f"it ends before byte {start + length}")
    return data


def modified(path: str) -> float:
    """When a file was written last, by the clock of its store, in seconds."""
    store, inner = file_system(path)
    return os.stat(inner).st_mtime if is_local(path) else float(store.modified(inner).timestamp())


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
    """Copies a file to a local path in one request. Any error of the store's client becomes an OSError."""
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


def write_bytes(path: str, data: bytes | memoryview, *, before: Callable[[], object] = bool) -> None:
    """Puts the whole file there, or nothing; replaces what was there. `before` is called before each attempt, and stops them by
    what it raises."""
    if is_local(path):
        write_pieces(path, [data], before=before)
        return
    store, inner = file_system(path)
    store.pipe_file(inner, bytes(data), before=before)


def write_pieces(path: str, pieces: Iterable[bytes | memoryview], *, before: Callable[[], object] = bool) -> None:
    """As `write_bytes` of all pieces behind one another, on this machine; it holds one of them at a time."""
    inner = file_system(path)[1]
    before()
    with temporary(inner) as name:
        write_through(name, pieces)
        _into_place(name, inner)


def rewrite_bytes(path: str, data: bytes) -> None:
    """As `write_bytes`, of a small file whose name is to be there at every instant. On HDFS a reader may see it half written."""
    store, inner = file_system(path)
    if is_local(path):
        write_bytes(path, data)
    else:
        store.rewrite(inner, data)


def write_changed(path: str, data: bytes) -> None:
    """As `write_bytes`, but leaves a file alone that has these bytes already: writing it would give it a new version."""
    if size_of_file(path) != len(data) or read_bytes(path) != data:
        write_bytes(path, data)


@contextlib.contextmanager
def temporary(inner: str) -> Iterator[str]:
    """A new name beside a local file, unique to this attempt. Whatever stands there when the block ends is removed."""
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
    """Puts this path into an OSError of the block that names none, as from a write to an open file."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = path
        raise


def write_through(path: str, pieces: Iterable[bytes | memoryview]) -> None:
    """Writes a local file of these pieces, and returns when the disk has it."""
    with naming(os.path.dirname(path)), open(path, "wb") as out:
        out.writelines(pieces)
        out.flush()
        os.fsync(out.fileno())


def append_bytes(path: str, data: bytes) -> None:
    """Appends to a file that only one process writes (metrics). On object stores this rewrites the file: keep it small."""
    if not is_local(path):
        write_bytes(path, (read_bytes(path) if exists(path) else b"") + data)
        return
    _, inner = file_system(path)
    os.makedirs(os.path.dirname(inner) or ".", exist_ok=True)
    with naming(inner), open(inner, "ab") as out:
        out.write(data)


def publish(local: str, path: str, *, before: Callable[[], object] = bool) -> None:
    """Moves a finished local file to `path`, whole or not at all; replaces what was there. `before` is as for `write_bytes`."""
    store, inner = file_system(path)
    if not is_local(path):
        store.put_file(local, inner, before=before)
        os.unlink(local)
        return
    before()
    with temporary(inner) as name:
        shutil.move(local, name)  # a rename on one file system, a copy across two
        with open(name, "rb") as done:
            os.fsync(done.fileno())
        _into_place(name, inner)


WORTH_ASKING_BYTES = 8 << 20  # of an upload: asking for a name that is not there costs S3 two requests, as long as this


def publish_once(local: str, path: str) -> None:
    """`publish` to a name that bears a digest of the content. In a store a large file of that name and size is not uploaded
    again; on HDFS, where a put is seen half done, none of that name and size is touched."""
    if is_local(path):
        publish(local, path)
        return
    bytes_wanted, (store, inner) = os.path.getsize(local), file_system(path)
    if bytes_wanted < WORTH_ASKING_BYTES or size_of_file(path) != bytes_wanted:
        try:
            store.put_new(local, inner)
        except FileExistsError:
            if size_of_file(path) != bytes_wanted:  # it was cut off
                store.put_file(local, inner)
    os.unlink(local)


_before_removal: list[Callable[[str], None]] = []


@contextlib.contextmanager
def asking_before_removal(ask: Callable[[str], None]) -> Iterator[None]:
    """For the block each removal of this process from a store first calls `ask` with the path, which raises where it must not
    be."""
    _before_removal.append(ask)
    try:
        yield
    finally:
        _before_removal.remove(ask)


def may_remove(path: str) -> None:
    """Raises what `asking_before_removal` does for the path."""
    for ask in _before_removal:
        ask(path)


def remove(path: str) -> None:
    """Removes a file or a directory tree; nothing happens where there is none."""
    store, inner = file_system(path)
    if not is_local(path):
        store.rm(inner, recursive=True, before=lambda: may_remove(path))
    elif store.exists(inner):
        store.rm(inner, recursive=True)


BULK = 1_000  # names that one request removes, on S3 and GCS


def remove_entries(path: str, sizes: Mapping[str, int | None]) -> None:
    """Removes what `list_sizes` has told of, or some of it: files BULK at a time, and directories with all that is in them.
    Nothing happens for what is not there."""
    store = file_system(path)[0]
    files = (join(path, name) for name in sorted(sizes) if sizes[name] is not None)
    for batch in batches(files, BULK):
        store.rm_files([file_system(file)[1] for file in batch], before=functools.partial(may_remove, batch[0]))
    for name in sorted(name for name, size in sizes.items() if size is None):
        remove(join(path, name))


def sha256_file(path: str) -> str:
    """The SHA-256 of a file, as 64 hex digits."""
    return digest_of(path, "sha256").hex


class Digest(NamedTuple):
    """A file's digest as hex digits, and its `algorithm`: sha256 or xxh3_128."""

    algorithm: str
    hex: str


def digest_of(path: str, algorithm: str) -> Digest:
    """The digest of a file; raises ValueError for any other algorithm than sha256 and xxh3_128."""
    if algorithm not in ("sha256", "xxh3_128"):
        raise ValueError(f"{algorithm} is no digest that files here bear")
    hasher = hashlib.sha256() if algorithm == "sha256" else xxhash.xxh3_128()
    with open_read(path) as stream:
        while block := stream.read(1 << 20):
            hasher.update(block)
    return Digest(algorithm, hasher.hexdigest())


def open_spool(path: str) -> int:
    """The descriptor of a local scratch file, which is created if missing. A stage writes and reads it at any offset; it is
    never published."""
    return os.open(path.removeprefix("file://"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def open_write(path: str) -> IO[bytes]:
    """A new local file for work in progress, which `publish` moves into place when it is finished."""
    return open(path, "wb", buffering=1 << 20)
