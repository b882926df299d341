"""Work in progress, always on this machine: below OUT where OUT is local, in the system's temporary directory where it is not."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator

import xxhash

from wit.layout import SCRATCH
from wit.store import fs


def local_scratch(out: str) -> str:
    """A local directory that the workers of one build on this machine share: OUT/_tmp where OUT is local, otherwise a temporary
    one, named after OUT, the user and the last boot."""
    path = os.path.join(out.removeprefix("file://"), SCRATCH) if fs.is_local(out) else _temporary_of_this_boot(out)
    os.makedirs(path, exist_ok=True)
    return path


def _temporary_of_this_boot(what: str) -> str:
    """A path in the system's temporary directory, of this user, boot and set of process numbers."""
    import psutil

    numbers = os.readlink(PROCESS_NUMBERS) if os.path.exists(PROCESS_NUMBERS) else ""
    name = xxhash.xxh3_64_hexdigest(f"{os.getuid()} {psutil.boot_time() // 60} {numbers} {what}".encode())
    return os.path.join(tempfile.gettempdir(), f"wit-{name}")


PROCESS_NUMBERS = "/proc/self/ns/pid"  # Linux's; containers that share a temporary directory may count apart


@contextlib.contextmanager
def scratch_dir(near: str) -> Iterator[str]:
    """A local directory for work in progress, on the same file system as `near` when that is local, removed at the end. What a
    killed process leaves goes with the scratch of its OUT, or by `sweep_scratch`."""
    root = local_scratch(near) if fs.is_local(near) else _temporary_of_this_boot(UNPLACED)
    os.makedirs(root, exist_ok=True)
    path = tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=root)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


UNPLACED = "work in progress for what lies elsewhere"


def sweep_scratch() -> None:
    """Removes the work in progress, for what lies in stores, of processes of this machine and user that are gone."""
    import psutil

    root = _temporary_of_this_boot(UNPLACED)
    for name in os.listdir(root) if os.path.isdir(root) else ():
        number = name.partition("-")[0]
        if number.isdecimal() and not psutil.pid_exists(int(number)):
            shutil.rmtree(os.path.join(root, name), ignore_errors=True)
