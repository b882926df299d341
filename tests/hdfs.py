"""A stand-in for HDFS and fsspec's client of it, on a directory of this machine: as careless as the client really is.

The name node (Hadoop's FSDirRenameOp) renames in one step, into a directory where the target is one, and refuses a name that is
taken. The client (pyarrow's `HadoopFileSystem::Move`, fsspec's `AbstractFileSystem.pipe_file` and `put_file`) removes a file that
is in the way of a move and tries again, looks whether a file is there before it creates one, and writes in place. Processes that
use it call `install`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

BLOCK_S = 0.0002  # between two halves of a file: whoever looks meanwhile sees the first
REFUSED = OSError(errno.EIO, "HDFS Rename failed")


class NameNode:
    """What one call of it does; link(2) refuses a name that is taken, as it does."""

    @staticmethod
    def rename(source: str, target: str) -> None:
        if os.path.isdir(target):
            target = os.path.join(target, os.path.basename(source))
        try:
            os.link(source, target)
        except OSError:
            raise REFUSED from None
        with contextlib.suppress(FileNotFoundError):
            os.unlink(source)


class HdfsClient(LocalFileSystem):  # type: ignore[misc]
    """Of hdfs:///PATH, which is PATH here."""

    protocol = "hdfs"

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        return super()._strip_protocol(os.fspath(path).removeprefix("hdfs://"))

    def unstrip_protocol(self, name: str) -> str:
        return f"hdfs://{self._strip_protocol(name)}"

    def mv(self, path1: str, path2: str, **_: Any) -> None:
        try:
            NameNode.rename(path1, path2)
        except OSError:
            if not (os.path.isfile(path1) and os.path.isfile(path2)):
                raise
            os.unlink(path2)
            time.sleep(BLOCK_S)
            NameNode.rename(path1, path2)

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_: Any) -> None:
        if mode == "create" and self.exists(path):
            raise FileExistsError(path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            for part in (value[: len(value) // 2], value[len(value) // 2 :]):
                file.write(part)
                file.flush()
                time.sleep(BLOCK_S)

    def rm(self, path: str, recursive: bool = False, maxdepth: int | None = None) -> None:
        if not isinstance(path, str):
            raise TypeError("unhashable type: 'list'")
        super().rm(path, recursive=recursive)

    def put_file(self, lpath: str, rpath: str, **_: Any) -> None:
        with open(lpath, "rb") as file:
            self.pipe_file(rpath, file.read())


def install() -> None:
    """From now on hdfs:// is this, in this process."""
    fsspec.register_implementation("hdfs", HdfsClient, clobber=True)
