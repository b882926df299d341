"""One builder per OUT: a lock of this machine, or a lease on an object store (`wit.store.lease`)."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator

from wit.errors import Busy, InputError
from wit.layout import LOCK_FILE
from wit.store import fs, lease


@contextlib.contextmanager
def only_builder(out: str) -> Iterator[None]:
    """One builder per OUT: a kernel lock locally, which ends with its process; an expiring lease on object stores. Raises Busy
    where another one is at work, InputError where there can be no directory."""
    with _local_lock(out.removeprefix("file://")) if fs.is_local(out) else lease.held(out):
        yield


@contextlib.contextmanager
def _local_lock(out: str) -> Iterator[None]:
    try:
        os.makedirs(out, exist_ok=True)
    except (FileNotFoundError, FileExistsError) as error:  # /proc/x; a link to nowhere
        raise InputError(f"no directory can be made at --output {out}: choose another place") from error
    busy = f"another build is at work in {out}: wait for its end, or choose another --output"
    with kernel_lock(os.path.join(out, LOCK_FILE), busy):
        yield


@contextlib.contextmanager
def kernel_lock(path: str, busy: str) -> Iterator[None]:
    """Holds the kernel's lock of a file, which ends with its process, for the block; makes file and directory if need be. Raises
    Busy, with that text, where another holds it."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "a", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy(busy) from None
        yield
