"""HDFS, whose client neither creates exclusively nor puts files whole: temporary names, and renames that overwrite nothing.

fsspec's client looks whether a file is there and then writes it, so of racing creators several win; and what it writes is seen
while it grows. The name node renames in one step and refuses a name that is taken, but pyarrow's `move` onto a file that is there
removes that file and tries again. It does not where the target is a directory: the name node moves the file into it under its own
name, or refuses. So a file is written as NAME.TOKEN.tmp/NAME and then moved into its parent.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator, Sequence

from wit.errors import StoreAway
from wit.layout import UNFINISHED
from wit.store.patience import PatientStore, patient


class HdfsStore(PatientStore):
    """fsspec's client of HDFS; files appear whole, and where a file is to be created exactly one of many racers does it."""

    def pipe_file(
        self, path: str, data: bytes, mode: str = "overwrite", *, before: Callable[[], object] = bool
    ) -> None:
        """Puts the whole file, and calls `before` before each attempt to. Raises FileExistsError where it is to be created and
        the name is taken."""
        self._put(path, lambda aside: self._store.pipe_file(aside, data), mode == "overwrite", before)

    def put_file(self, local: str, path: str, *, before: Callable[[], object] = bool) -> None:
        """Puts a copy of a local file, whole, and calls `before` before each attempt to."""
        self._put(path, lambda aside: self._store.put_file(local, aside), True, before)

    def copy(self, path: str, to: str, *, before: Callable[[], object] = bool) -> None:
        """Copies a file, which its client reads and writes, and calls `before` before each attempt to put it in its place."""
        self._put(to, lambda aside: self._store.copy(path, aside), True, before)

    def put_new(self, local: str, path: str) -> None:
        """As `put_file`, but raises FileExistsError where the name is taken."""
        self._put(path, lambda aside: self._store.put_file(local, aside), False)

    def rm_files(self, paths: Sequence[str], *, before: Callable[[], object] = bool) -> None:
        """Removes files, each alone: the client takes one name a call."""
        for path in paths:
            self.rm(path, recursive=False, before=before)

    def rewrite(self, path: str, data: bytes) -> None:
        """Writes a small file in place: readers may see a part of it, but at no instant is the name gone."""
        patient(self._store.pipe_file)(path, data)

    def _put(
        self, path: str, write: Callable[[str], None], overwrite: bool, before: Callable[[], object] = bool
    ) -> None:
        def move(aside: str) -> None:
            before()
            self._move(aside, path, overwrite=overwrite)

        with self._aside(path) as aside:
            patient(write)(aside)
            patient(move)(aside)

    @contextlib.contextmanager
    def _aside(self, path: str) -> Iterator[str]:
        """A name in a directory of its own beside the file, removed at the end with whatever stands there."""
        folder = f"{path}.{secrets.token_hex(8)}{UNFINISHED}"
        self.makedirs(folder, exist_ok=True)
        try:
            yield f"{folder}/{path.rpartition('/')[2]}"
        finally:
            with contextlib.suppress(OSError, StoreAway):  # the next start removes it
                self.rm(folder, recursive=True)

    def _move(self, aside: str, path: str, *, overwrite: bool) -> None:
        """Moves the file into its place. Where it replaces another the name is gone for an instant: pyarrow's client knows no
        rename that replaces."""
        try:
            self._store.mv(aside, path if overwrite else path.rpartition("/")[0])
        except OSError:
            if self._is_moved(aside):  # only the answer was lost
                return
            if not overwrite and self.exists(path):
                raise FileExistsError(path) from None
            raise

    def _is_moved(self, aside: str) -> bool:
        """Asked of a listing, since pyarrow takes every error for a no where it is asked for one file."""
        return not self.ls(aside.rpartition("/")[0], detail=False)
