"""A store on fsspec that counts, and fails as it is told: what object stores do to a build, on a directory of this machine.

Its scheme is other://; a process finds it where the package that `install` writes is on its path. What it does wrong is said in
the environment, so that every process of a build gets it:

    STORE_LOG    file to which each call appends a line: process, call, what became of it
    STORE_FAILS  share of calls that fail, 0 to 1
    STORE_SEED   which of them
    STORE_LATE   seconds for which a listing does not have what was just put

A call that fails raises one of FAULTS, before it has done anything or after it has done all: then only the answer was lost.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from fsspec.implementations.local import LocalFileSystem


class Throttled(Exception):
    """As clients of Google's and of aiohttp's raise it: a status and no errno."""

    status = 503


FAULTS = (
    ConnectionResetError(104, "Connection reset by peer"),
    TimeoutError("timed out"),
    OSError(16, "SlowDown: Please reduce your request rate."),
    Throttled("503 Service Unavailable"),
)


class _Here(threading.local):
    depth = 0


_here = _Here()
LIES = ("after", "before", "before")  # two of three fail before anything was done


class OtherStore(LocalFileSystem):  # type: ignore[misc]
    """Objects that are put whole. Each put gives a new version, as object stores do."""

    protocol = ("other",)
    calls = 0

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        return super()._strip_protocol(os.fspath(path).removeprefix("other://"))

    def unstrip_protocol(self, name: str) -> str:
        return f"other://{self._strip_protocol(name)}"

    def _put(self, path: str, data: bytes, how: str) -> None:
        path = self._strip_protocol(path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, how) as file:
            file.write(data)

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_: Any) -> None:
        how = "xb" if mode == "create" else "wb"
        self._call("create" if mode == "create" else "put", lambda: self._put(path, value, how))

    def put_file(self, lpath: str, rpath: str, **_: Any) -> None:
        def put() -> None:
            target = self._strip_protocol(rpath)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            shutil.copyfile(lpath, target)

        self._call("put", put)

    def info(self, path: str, **given: Any) -> Any:
        return self._call("info", lambda: super(OtherStore, self).info(path, **given))

    def ls(self, path: str, detail: bool = False, **given: Any) -> Any:
        late = time.time() - float(os.environ.get("STORE_LATE", "0"))

        def listed() -> list[Any]:
            every = super(OtherStore, self).ls(path, detail=True, **given)
            old = [one for one in every if one["type"] == "directory" or one["mtime"] <= late]
            return old if detail else [one["name"] for one in old]

        return self._call("list", listed)

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **given: Any) -> Any:
        return self._call("get", lambda: super(OtherStore, self).cat_file(path, start=start, end=end, **given))

    def copy(self, path1: str, path2: str, **given: Any) -> Any:
        return self._call("copy", lambda: super(OtherStore, self).copy(path1, path2, **given))

    def rm(self, path: str, recursive: bool = False, maxdepth: int | None = None) -> Any:
        return self._call("remove", lambda: super(OtherStore, self).rm(path, recursive=recursive))

    def _call(self, name: str, work: Any) -> Any:
        if _here.depth:  # what a call does inside is its own business
            return work()
        _here.depth += 1
        try:
            return self._counted(name, work)
        finally:
            _here.depth -= 1

    def _counted(self, name: str, work: Any) -> Any:
        OtherStore.calls += 1
        draw = _draw(f"{os.environ.get('STORE_SEED', '')} {os.getpid()} {OtherStore.calls}")
        if draw >= float(os.environ.get("STORE_FAILS", "0")) * 2**32:
            _log(name, "done")
            return work()
        number = _draw(f"how {draw}")
        lie, fault = LIES[number % len(LIES)], FAULTS[number // 8 % len(FAULTS)]
        if lie == "after":
            work()
        _log(name, f"failed {lie}")
        raise fault


def _draw(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def _log(name: str, what: str) -> None:
    if path := os.environ.get("STORE_LOG"):
        with open(path, "a", encoding="utf-8") as file:
            file.write(f"{os.getpid()} {name} {what}\n")


def counted(log: Path) -> Counter[str]:
    """How often each call was made, and how many failed, by what the log says."""
    lines = [line.split(" ", 2)[1:] for line in log.read_text(encoding="utf-8").splitlines()]
    return Counter(name for name, _ in lines) + Counter(what for _, what in lines)


def install(site: Path) -> Path:
    """Writes a package that brings the scheme into a directory, which is to stand on the path of processes that use it."""
    info = site / "other_store-1.dist-info"
    info.mkdir(parents=True)
    shutil.copyfile(__file__, site / "other_store.py")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other-store\nVersion: 1\n", encoding="utf-8")
    (info / "entry_points.txt").write_text("[fsspec.specs]\nother = other_store:OtherStore\n", encoding="utf-8")
    return site


if __name__ == "__main__":
    install(Path(sys.argv[1]))
