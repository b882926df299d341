"""A store on fsspec that counts, delays, fails, throttles, truncates and reorders, seeded: what object stores do to a build, on a
directory of this machine.

Its scheme is other://; a process finds it where the package that `install` writes is on its path. What it does wrong is said in
the environment, so that every process of a build gets it (and `faults` has what happens at one call alone: kills, a full disk):

    STORE_FAILS   share of calls that fail, 0 to 1
    STORE_SHORT   share of reads that end early
    STORE_TORN    share of puts that leave a part of the object under its name, and fail; only of objects whose names bear a
                  digest: any other is put by a name of its own and a rename where a store tears puts, as HDFS does
    STORE_LATE    seconds for which a listing does not have what was just put
    STORE_DELAY   seconds that each call takes
    STORE_REORDER seconds by which a call may take longer, so that calls in flight are answered in another order; listings
                  come in any order then
    STORE_RATE    calls a second, of all processes that share STORE_COUNTS, above which it answers 503
    STORE_AFTER   seconds after which such an answer asks to be called again (Retry-After)
    STORE_CLOCK   seconds by which its clock is off: the times that it gives what is put

A call that fails raises one of FAULTS, before it has done anything or after it has done all: then only the answer was lost.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import faults
from faults import Call, setting
from fsspec.implementations.local import LocalFileSystem


class Throttled(Exception):
    """As clients of Google's and of aiohttp's raise it: a status and headers, and no errno."""

    status = 503

    def __init__(self, words: str) -> None:
        super().__init__(words)
        after = os.environ.get("STORE_AFTER")
        self.headers = {"Retry-After": after} if after else {}


class ClientPayloadError(Exception):
    """aiohttp's, of a body that has fewer bytes than its header said."""


FAULTS = (
    ConnectionResetError(104, "Connection reset by peer"),
    TimeoutError("timed out"),
    OSError(16, "SlowDown: Please reduce your request rate."),
    Throttled("503 Service Unavailable"),
)
LIES = ("after", "before", "before")  # two of three fail before anything was done
OLD = 0o640  # the mode of what was put over an older object: a listing that is late has the name
BEARS_DIGEST = re.compile(r"\.[0-9a-f]{12}\.[^/]*$")
UNFINISHED = ".put-"  # the beginning of the name of what is on its way


class OtherStore(LocalFileSystem):  # type: ignore[misc]
    """Objects that are put whole. Each put gives a new version, as object stores do."""

    protocol = ("other",)

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        return super()._strip_protocol(os.fspath(path).removeprefix("other://"))

    def unstrip_protocol(self, name: str) -> str:
        return f"other://{self._strip_protocol(name)}"

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_: Any) -> None:
        name = "create" if mode == "create" else "put"
        self._call(name, path, lambda call: self._put(call, bytes(value)))

    def put_file(self, lpath: str, rpath: str, **_: Any) -> None:
        self._call("put", rpath, lambda call: self._put(call, Path(lpath).read_bytes()))

    def copy(self, path1: str, path2: str, **_: Any) -> None:
        data = Path(self._strip_protocol(path1)).read_bytes
        self._call("copy", path2, lambda call: self._put(call, data()))

    def info(self, path: str, **given: Any) -> Any:
        return self._call("info", path, lambda _: super(OtherStore, self).info(path, **given))

    def ls(self, path: str, detail: bool = False, **given: Any) -> Any:
        every = super().ls
        return self._call("list", path, lambda call: _listed(call, every(path, detail=True, **given), detail))

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> Any:
        whole = super().cat_file
        return self._call("get", path, lambda call: _cut_off(call, whole(path, start=start, end=end), end))

    def get_file(self, rpath: str, lpath: str, **_: Any) -> None:
        whole = super().cat_file
        self._call("get", rpath, lambda call: Path(lpath).write_bytes(_cut_off(call, whole(rpath), None)))

    def rm(self, path: str | list[str], recursive: bool = False, maxdepth: int | None = None) -> Any:
        named = path if isinstance(path, str) else path[0]
        return self._call("remove", named, lambda _: super(OtherStore, self).rm(path, recursive=recursive))

    def _put(self, call: Call, data: bytes) -> None:
        """Puts the whole object, with the time of the store's clock; a part of it where the call is torn."""
        dies, tears = faults.is_torn(call), call.name != "create" and BEARS_DIGEST.search(call.path) is not None
        if dies and not tears:
            faults.die()
        torn = tears and (dies or call.hits("TORN"))
        with _on_its_way(call.path) as there:
            there.write_bytes(data[: len(data) // 2] if torn else data)
            if clock := faults.clock_s():
                os.utime(there, (now := time.time() + clock, now))
            if os.path.exists(call.path):
                there.chmod(OLD)
            (os.link if call.name == "create" else os.replace)(there, call.path)
        if dies:
            faults.die()
        if torn:
            faults.log(call, "put in part")
            raise FAULTS[0]

    def _call(self, name: str, path: str, work: Callable[[Call], Any]) -> Any:
        with faults.one_call() as counts:
            inner = self._strip_protocol(path)
            return _answered(faults.counted(name, inner), work) if counts else work(Call(name, inner, "", 0))


def _answered(call: Call, work: Callable[[Call], Any]) -> Any:
    """What the call gives, if it is not hit by anything."""
    _wait(call)
    faults.before(call)
    if _is_throttled():
        faults.log(call, "throttled")
        raise Throttled("503 Service Unavailable")
    if call.hits("FAILS"):
        _fail(call, work)
    result = work(call)
    faults.after(call)
    faults.log(call, "done")
    return result


def _wait(call: Call) -> None:
    if (pause_s := setting("DELAY") + setting("REORDER") * call.draw("order")) > 0:
        time.sleep(pause_s)


def _fail(call: Call, work: Callable[[Call], Any]) -> None:
    number = int(call.draw("how") * 2**32)
    lie, fault = LIES[number % len(LIES)], FAULTS[number // 8 % len(FAULTS)]
    if lie == "after":
        work(call)
    faults.log(call, f"failed {lie}")
    raise fault


TIME = struct.Struct("<q")


def _is_throttled() -> bool:
    """Whether STORE_RATE calls were made within the last second. Their times stand in one file, in the order of the calls."""
    if not (rate := int(setting("RATE"))):
        return False
    fd = os.open(f"{os.environ['STORE_COUNTS']}/times", os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        now = time.monotonic_ns()
        os.write(fd, TIME.pack(now))
        earlier = os.lseek(fd, 0, os.SEEK_CUR) - (rate + 1) * TIME.size
        return earlier >= 0 and now - TIME.unpack(os.pread(fd, TIME.size, earlier))[0] < 1e9
    finally:
        os.close(fd)


def _listed(call: Call, every: list[dict[str, Any]], detail: bool) -> list[Any]:
    """A listing, without what is on its way and what was just put."""
    late = time.time() - setting("LATE")
    old = [one for one in every if not setting("LATE") or one["mtime"] <= late or _is_known(one)]
    old = [one for one in old if not os.path.basename(one["name"]).startswith(UNFINISHED)]
    if setting("REORDER"):
        old.sort(key=lambda one: faults.fraction(f"{call.number} {one['name']}"))
    return old if detail else [one["name"] for one in old]


def _is_known(one: dict[str, Any]) -> bool:
    return bool(one["type"] == "directory" or one["mode"] & 0o777 == OLD)


def _cut_off(call: Call, data: bytes, end: int | None) -> bytes:
    """What was read; at times the beginning of it. Clients see that of a whole file, by its length; not all see it of a range."""
    if not data or not call.hits("SHORT"):
        return data
    faults.log(call, "short")
    if end is None or call.draw("how") < 0.5:
        raise ClientPayloadError("Response payload is not completed")
    return data[: len(data) // 2]


@contextlib.contextmanager
def _on_its_way(path: str) -> Iterator[Path]:
    """Where an object is written before it is there: no listing has it, and a killed process leaves it."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    there = Path(os.path.dirname(path), f"{UNFINISHED}{os.urandom(8).hex()}")
    try:
        yield there
    finally:
        there.unlink(missing_ok=True)


class Line(NamedTuple):
    """A line of the log."""

    began: int  # monotonic nanoseconds
    process: int
    call: str
    what: str
    place: str
    path: str


def lines(log: Path) -> list[Line]:
    """What the log says, in the order in which calls ended."""
    whole = log.read_text(encoding="utf-8").rpartition("\n")[0] if log.exists() else ""  # a line may be on its way
    cells = [line.split("\t") for line in whole.splitlines()]
    return [Line(int(at), int(process), *rest) for at, process, *rest in cells]


def counted(log: Path) -> Counter[str]:
    """How often each call was made, and how many failed, by what the log says."""
    every = lines(log)
    return Counter(line.call for line in every) + Counter(line.what for line in every)


def install(site: Path) -> Path:
    """Writes a package that brings the scheme into a directory, which is to stand on the path of processes that use it."""
    info = site / "other_store-1.dist-info"
    info.mkdir(parents=True)
    shutil.copyfile(__file__, site / "other_store.py")
    shutil.copyfile(faults.__file__, site / "faults.py")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other-store\nVersion: 1\n", encoding="utf-8")
    (info / "entry_points.txt").write_text("[fsspec.specs]\nother = other_store:OtherStore\n", encoding="utf-8")
    return site


if __name__ == "__main__":
    install(Path(sys.argv[1]))
