"""First come, first served: a file that only one of many callers makes; one builder per OUT, by a local lock or a lease."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import threading
import time
from collections.abc import Iterator
from typing import Any

from wit.damage import damaged
from wit.errors import Busy, InputError, StoreAway
from wit.layout import LEASE_FILE, LOCK_FILE
from wit.store import fs, patience

LEASE_S = 120  # an object store's lease: renewed every third of that, free to take once it has expired


def claim(path: str, data: bytes) -> bool:
    """Creates `path` with `data` unless it exists; False if somebody was first. Exactly one of many racing callers wins:
    link(2) locally, `If-None-Match: *` on S3, generation 0 on GCS."""
    store, inner = fs.file_system(path)
    if not fs.is_local(path):
        return _claim_there(store, inner, data)
    with fs.temporary(inner) as temporary:
        fs.write_through(temporary, data)
        try:
            os.link(temporary, inner)
        except FileExistsError:
            return False
    return True


def _claim_there(store: Any, inner: str, data: bytes) -> bool:
    """`claim` in a store. Where an answer was lost, what stands there says whose it is."""
    tries = 0

    def create() -> bool:
        nonlocal tries
        tries += 1
        try:
            store.pipe_file(inner, data, mode="create")
        except Exception as error:
            if patience.may_pass(error) or not store.exists(inner):
                raise
            return tries > 1 and bytes(store.cat_file(inner)) == data
        return True

    return patience.patient(create, inner)()


@contextlib.contextmanager
def only_builder(out: str) -> Iterator[None]:
    """One builder per OUT: a kernel lock locally, which ends with its process; an expiring lease on object stores.
    Raises Busy where another builder is at work, InputError where no directory can be made."""
    if fs.is_local(out):
        with _local_lock(out.removeprefix("file://")):
            yield
        return
    with _lease(fs.join(out, LEASE_FILE)):
        yield


@contextlib.contextmanager
def _local_lock(out: str) -> Iterator[None]:
    try:
        os.makedirs(out, exist_ok=True)
    except (FileNotFoundError, FileExistsError) as error:  # /proc/x; a link to nowhere
        raise InputError(f"no directory can be made at --output {out}: choose another place") from error
    with open(os.path.join(out, LOCK_FILE), "a", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy(f"another build is at work in {out}: wait for its end, or choose another --output") from None
        yield


@contextlib.contextmanager
def _lease(path: str) -> Iterator[None]:
    mine = os.urandom(8).hex()

    def body() -> bytes:
        return json.dumps({"owner": mine, "expires": time.time() + LEASE_S}).encode()

    if not claim(path, body()):
        if _expires(path) > time.time():
            raise Busy(f"another build holds {path}: wait for its end, or {LEASE_S} s after its last sign of life")
        fs.remove(path)
        if not claim(path, body()):
            raise Busy(f"another build has just taken {path}")
    stop = threading.Event()

    def renew() -> None:
        while not stop.wait(LEASE_S / 3):
            with contextlib.suppress(OSError, StoreAway):  # two more tries before the lease expires
                fs.write_bytes(path, body())

    thread = threading.Thread(target=renew, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        fs.remove(path)


def _expires(path: str) -> float:
    try:
        return float(json.loads(fs.read_bytes(path))["expires"])
    except (ValueError, TypeError, KeyError) as error:
        raise damaged(path, "it is no lease", "delete it if no other build is at work there") from error
