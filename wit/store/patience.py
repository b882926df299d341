"""Stores that fail now and then: what may pass is asked again, after pauses that double; what may not is raised at once.

At 0.4 % of calls that fail 24 of 25 starts died without it. The clients of some stores are patient themselves; this is for those
that are not, and for what they let through. It relies on what errors bear (a status, an errno, a kind), since aiohttp, botocore
and Google's client share no class. What was asked again is counted, by kind, for the build's summary.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import io
import os
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from wit.errors import StoreAway

T = TypeVar("T")
ATTEMPTS = 8
FIRST_PAUSE_S = 0.25  # doubled before each further attempt: 32 s in all, half of it or one and a half by the jitter
ERRNOS = {
    errno.EAGAIN: "busy",
    errno.EBUSY: "busy",  # s3fs' word for SlowDown
    errno.EINTR: "interrupted",
    **dict.fromkeys((errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETRESET, errno.ENETUNREACH), "no network"),
    errno.ETIMEDOUT: "time-outs",
}
# By name, so that nobody need import their modules: of aiohttp and botocore.
TIMEOUTS = frozenset("ServerTimeoutError ReadTimeoutError ConnectTimeoutError".split())
LOST = frozenset(
    "ClientConnectionError ClientPayloadError ServerDisconnectedError HTTPClientError ConnectionClosedError "
    "EndpointConnectionError IncompleteReadError ResponseStreamingError".split()
)
MET_ANOTHER = 409  # S3's answer to a conditional write that met another one: who asks again learns who won
NEVER = (StoreAway, FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError, NotADirectoryError)
# What does the same when it is done twice.
CALLS = frozenset("info modified ls glob find isfile isdir size cat_file get_file makedirs".split())


def may_pass(error: BaseException) -> bool:
    """Whether what a store's client raised may be other the next time."""
    return why_again(error) is not None


def why_again(error: BaseException) -> str | None:
    """In a word or two why what a store's client raised may be other the next time; None where it will be the same."""
    if isinstance(error, NEVER):
        return None
    for one in _with_causes(error):
        status = status_of(one)
        if status is not None:
            return f"{status}" if status_may_pass(status) or status == MET_ANOTHER else None
        if isinstance(one, TimeoutError) or _is_of(one, TIMEOUTS):
            return "time-outs"
        if isinstance(one, ConnectionError) or _is_of(one, LOST):
            return "lost connections"
        if isinstance(one, OSError) and one.errno in ERRNOS:
            return ERRNOS[one.errno]
    return None


def _is_of(error: BaseException, kinds: frozenset[str]) -> bool:
    return any(kind.__name__ in kinds for kind in type(error).__mro__)


def status_may_pass(status: int) -> bool:
    """Whether an HTTP status is one that servers give for a while: too busy, too early, too many, their own faults."""
    return status in (408, 425, 429) or 500 <= status < 600


def _with_causes(error: BaseException) -> Iterator[BaseException]:
    """The error, and what brought it about."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        yield error
        error = error.__cause__ or error.__context__  # type: ignore[assignment]


def status_of(error: BaseException) -> int | None:
    """The HTTP status that an error bears: aiohttp's `status`, gcsfs' `code`, botocore's `response`; None where it bears none."""
    response = getattr(error, "response", None)
    metadata = response.get("ResponseMetadata", {}) if isinstance(response, dict) else {}
    for value in (getattr(error, "status", None), getattr(error, "code", None), metadata.get("HTTPStatusCode")):
        if isinstance(value, int) or (isinstance(value, str) and value.isdecimal()):
            return int(value)
    return None


_lock = threading.Lock()
_asked_again: Counter[str] = Counter()


def count(kinds: Mapping[str, int]) -> None:
    """Counts in this process what was asked again, here or in another process, by the reason."""
    with _lock:
        _asked_again.update(kinds)


def counted() -> dict[str, int]:
    """What was asked again since this was called last, by the reason. Who calls it tells somebody, or counts it again."""
    with _lock:
        kinds = dict(_asked_again)
        _asked_again.clear()
    return kinds


def in_words(kinds: Mapping[str, int]) -> str:
    """The counts as a sentence, the most frequent reason first."""
    by_number = sorted(kinds.items(), key=lambda item: (-item[1], item[0]))
    times, reasons = sum(kinds.values()), ", ".join(f"{n:,} {why}" for why, n in by_number)
    return f"the store was asked again {times:,} time{'s' if times > 1 else ''}: {reasons}"


def pause(attempt: int, name: str) -> None:
    """Waits before the attempt after this one; processes that failed together do not come back together."""
    jitter = zlib.crc32(f"{os.getpid()} {name} {attempt}".encode()) / 2**32
    time.sleep(FIRST_PAUSE_S * 2 ** (attempt - 1) * (0.5 + jitter))


def patient(call: Callable[..., T], name: str = "") -> Callable[..., T]:
    """The call, made up to ATTEMPTS times where what it raises may pass, then StoreAway; what may not pass is raised as it is.
    `name` is what it is about, where that is not its first argument."""

    @functools.wraps(call)
    def again(*given: Any, **named: Any) -> T:
        for attempt in range(1, ATTEMPTS):
            try:
                return call(*given, **named)
            except Exception as error:
                if (why := why_again(error)) is None:
                    raise
                count({why: 1})
            pause(attempt, name or f"{given[0]}")
        try:
            return call(*given, **named)
        except Exception as error:
            if not may_pass(error):
                raise
            why = f"{type(error).__name__}: {error}".partition("\n")[0]
            about = f"{name or given[0]} ({why}, {ATTEMPTS} times in a row)"
            raise StoreAway(f"the store does not answer for {about}: start again when it is back") from error

    return again


class Patient:
    """A file system of fsspec's whose calls are patient where doing one twice does no harm."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        return patient(found) if name in CALLS else found

    def info_or_none(self, path: str) -> Mapping[str, Any] | None:
        """What the store tells of a name, in one request; None where nothing has it."""
        try:
            info: Mapping[str, Any] = self.info(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return info


class PatientStore(Patient):
    """One that is written to, too."""

    def exists(self, path: str) -> bool:
        """Whether there is a file or a directory. Some file systems of fsspec's take every error for a no."""
        return self._kind(path) is not None

    def isdir(self, path: str) -> bool:
        """Whether there is a directory, or objects whose names begin as it is called."""
        return self._kind(path) == "directory"

    def isfile(self, path: str) -> bool:
        """Whether there is a file."""
        return self._kind(path) == "file"

    def _kind(self, path: str) -> str | None:
        info = self.info_or_none(path)
        return None if info is None else str(info["type"])

    def pipe_file(
        self, path: str, data: bytes, mode: str = "overwrite", *, before: Callable[[], object] = bool
    ) -> None:
        """Puts the whole file, and calls `before` before each attempt. Not patient where it is to create one: the answer to a
        first attempt may have been lost."""

        def put(path: str) -> None:
            before()
            self._store.pipe_file(path, data, mode=mode)

        (patient(put) if mode == "overwrite" else put)(path)

    def cat_file(self, path: str, start: int = 0, end: int | None = None) -> bytes:
        """The bytes from `start` up to `end`; fewer only where the file has no more. Not every client notices a body that broke
        off, of a range least of all."""
        return patient(self._whole_range)(path, start, end)

    def _whole_range(self, path: str, start: int, end: int | None) -> bytes:
        data = bytes(self._store.cat_file(path, start=start or None, end=end))
        if end is not None and len(data) < end - start and start + len(data) < int(self.size(path)):
            raise ConnectionAbortedError(errno.ECONNABORTED, f"it broke off at byte {start + len(data)}", path)
        return data

    def copy(self, path: str, to: str, *, before: Callable[[], object] = bool) -> None:
        """Copies a file within the store, and calls `before` before each attempt."""

        def put(to: str) -> None:
            before()
            self._store.copy(path, to)

        patient(put)(to)

    def put_file(self, local: str, path: str, *, before: Callable[[], object] = bool) -> None:
        """Puts a copy of a local file, and calls `before` before each attempt."""

        def put(path: str) -> None:
            before()
            self._store.put_file(local, path)

        patient(put)(path)

    def put_new(self, local: str, path: str) -> None:
        """Puts a copy of a local file under a name that nobody gives to other bytes; may raise FileExistsError where it is
        taken."""
        self.put_file(local, path)

    def rewrite(self, path: str, data: bytes) -> None:
        """Puts the whole file, whose name is there at every instant if it was before."""
        self.pipe_file(path, data)

    def rm(self, path: str, recursive: bool, *, before: Callable[[], object] = bool) -> None:
        """Removes a file or a tree, and calls `before` before each attempt. That an earlier attempt, or another process, was
        first is no error."""

        def remove(path: str) -> None:
            before()
            self._store.rm(path, recursive=recursive)

        with contextlib.suppress(FileNotFoundError):
            patient(remove)(path)

    def rm_files(self, paths: Sequence[str], *, before: Callable[[], object] = bool) -> None:
        """Removes files, with one request where the store can do that, and calls `before` before each attempt. Where one is gone
        already, which ends such a request midway, each is removed alone."""

        def remove(paths: list[str]) -> None:
            before()
            self._store.rm(paths)

        try:
            patient(remove, f"{len(paths)} files to remove")(list(paths))
        except FileNotFoundError:
            for path in paths:
                self.rm(path, recursive=False, before=before)


class Ranges(io.RawIOBase):
    """A file of a store as a stream, read by ranges: each is asked for again where it fails, whatever was read before."""

    def __init__(self, store: Any, path: str) -> None:
        self._store, self._path = store, path
        self._at, self._size = 0, int(store.size(path))

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        end = min(self._at + len(buffer), self._size)
        if end <= self._at:
            return 0
        data = self._store.cat_file(self._path, start=self._at, end=end)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)
