"""One builder per OUT on an object store: a lease that needs no clock but the store's, and no compare-and-swap.

Leases are numbered files, `_lease/NNNNNNNN.json`. Who takes one creates the file of the next number exclusively, so of many
takers one wins. A holder writes to its own file alone, every quarter of LEASE_S, and holds the lease as long as no higher number
is there. The times that the store gave its file and a probe tell how long it has been silent: no clock of a machine is read. A
builder that froze and comes back finds a higher number, and stops before it removes or finishes anything: `held` has every
removal under OUT ask, and manifests and run.json are put by `write`, which asks before each attempt. What remains is the one
request that was asked for before the process froze, and is answered after. Numbers never come again: the file of the last
holder stays, released.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import secrets
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from wit.errors import Busy, Stopped, StoreAway
from wit.layout import LEASES, OLD_LEASE, under
from wit.store import fs
from wit.store.claims import claim
from wit.store.scratch import scratch_dir
from wit.typed import load, to_json

BOOT_ID = "/proc/sys/kernel/random/boot_id"  # Linux's
LEASE_S = 120.0  # after which a holder that has not written is taken for gone
WITHDRAWS_S = 1.0  # in which a taker that finds the holder alive after all has removed its file again


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lease: `token` tells attempts apart, the rest whether it still runs on this machine."""

    token: str
    host: str
    boot: str
    pid: int
    released: bool = False

    @property
    def is_gone(self) -> bool:
        """Whether it ran on this machine, since the machine was started last, and runs no longer."""
        import psutil  # here, since workers need none of it

        here = me()
        return (self.host, self.boot) == (here.host, here.boot) and not psutil.pid_exists(self.pid)


def me() -> Holder:
    """This process as a holder, with a token of its own."""
    if fs.exists(BOOT_ID):
        boot = fs.read_bytes(BOOT_ID).decode().strip()
    else:
        import psutil

        boot = f"{psutil.boot_time():.0f}"
    return Holder(secrets.token_hex(8), platform.node(), boot, os.getpid())


@dataclass
class Lease:
    """A lease that this process has taken."""

    out: str
    number: int
    holder: Holder
    ended: threading.Event = field(default_factory=threading.Event)

    @property
    def path(self) -> str:
        return path_of(self.out, self.number)

    def check(self) -> None:
        """Raises Stopped where another builder has taken over."""
        if is_taken(self.out, self.number):
            raise Stopped(
                f"another build has taken over {self.out}, since this one was silent for long: wait for its end"
            )

    def guard(self, path: str) -> None:
        """`check` before this path is removed, if it is OUT's; leases themselves are removed by who takes one."""
        if path.startswith(under(self.out, "")) and not path.startswith(under(self.out, LEASES, "")):
            self.check()

    def renew(self) -> None:
        """Writes every quarter of LEASE_S until the lease ends; a store that fails meanwhile is written to the next time."""
        while not self.ended.wait(LEASE_S / 4):
            # Clients share no class of errors, and this thread must not end by one.
            with contextlib.suppress(Exception):
                fs.rewrite_bytes(self.path, to_json(self.holder))


_held: dict[str, Lease] = {}


def check(out: str) -> None:
    """Raises Stopped where this process held the lease of OUT and another builder has taken it."""
    if (lease := _held.get(out)) is not None:
        lease.check()


def number_held(out: str) -> int:
    """The number of the lease of OUT that this process holds, for its workers elsewhere; 0 where it holds none."""
    return mine.number if (mine := _held.get(out)) is not None else 0


def is_taken(out: str, number: int) -> bool:
    """Whether somebody has taken the lease from the holder of that number; nobody has from 0, who holds none. A taker that
    withdraws has not: its file is waited for to go."""
    until = time.monotonic() + WITHDRAWS_S
    while number and max(numbers(out), default=0) > number:
        if time.monotonic() >= until:
            return True
        time.sleep(WITHDRAWS_S / 20)
    return False


def began(out: str) -> float | None:
    """A time by the store's clock since which this process holds the lease of OUT; None where it holds none."""
    return fs.modified(mine.path) if (mine := _held.get(out)) is not None else None


def write(out: str, path: str, data: bytes) -> None:
    """Puts a whole file that only the holder of the lease may write. Raises Stopped, before any of the attempts, where another
    builder has taken it."""
    fs.write_bytes(path, data, before=lambda: check(out))


def write_pieces(out: str, path: str, pieces: Iterable[bytes]) -> None:
    """As `write` of all these pieces behind one another, of which it holds one at a time."""
    if fs.is_local(path):
        fs.write_pieces(path, pieces, before=lambda: check(out))
        return
    with scratch_dir(out) as scratch:
        whole = fs.join(scratch, "whole")
        fs.write_through(whole, pieces)
        fs.publish(whole, path, before=lambda: check(out))


@contextlib.contextmanager
def held(out: str) -> Iterator[Lease]:
    """Takes the lease of OUT for the block. Raises Busy, with how long to wait, while another builder holds it."""
    lease = _take(out)
    _held[out] = lease
    thread = threading.Thread(target=lease.renew, daemon=True)
    thread.start()
    try:
        with fs.asking_before_removal(lease.guard):
            yield lease
    finally:
        _held.pop(out, None)
        lease.ended.set()
        thread.join()
        with contextlib.suppress(OSError, StoreAway):  # then it runs out by itself
            if max(numbers(out), default=0) == lease.number:
                fs.rewrite_bytes(lease.path, to_json(replace(lease.holder, released=True)))


def _take(out: str) -> Lease:
    _wait_for_older(out)
    there, mine = numbers(out), me()
    last = max(there, default=0)
    if last and (left := _left_s(out, last)) > 0:
        raise Busy(
            f"another build holds {out}: wait for its end; should it have died, start again in {left:.0f} s, when its lease has "
            "run out"
        )
    lease = Lease(out, last + 1, mine)
    lost = Busy(f"another build has just taken {out}: wait for its end, or choose another --output")
    if not claim(lease.path, to_json(mine)):
        raise lost
    # The first listing missed what came while it was made; or this process froze, and the last holder has written meanwhile.
    if max(numbers(out), default=0) > lease.number or (last and _left_s(out, last) > 0):
        fs.remove(lease.path)
        raise lost
    for number in there:
        if number < last:  # the last one stays: whoever lists now would find neither it nor its successor
            fs.remove(path_of(out, number))
    return lease


def _left_s(out: str, number: int) -> float:
    """How long the holder of that number may still be silent, in seconds of the store's clock; 0 or less where it is gone."""
    path = path_of(out, number)
    now = _now(out)  # first, so that who freezes before the next line thinks a holder younger, never older
    try:
        data, written = fs.read_bytes(path), fs.modified(path)
    except FileNotFoundError:  # it was just removed by who took the next number
        return LEASE_S
    with contextlib.suppress(ValueError, RecursionError):  # no holder's words: then its age alone counts
        holder = load(Holder, json.loads(data))
        if holder.released or holder.is_gone:
            return 0.0
    return LEASE_S - (now - written)


def _now(out: str) -> float:
    """What the store's clock says."""
    probe = under(out, LEASES, f"{secrets.token_hex(8)}.probe")
    fs.write_bytes(probe, b"")
    try:
        return fs.modified(probe)
    finally:
        fs.remove(probe)


def _wait_for_older(out: str) -> None:
    """Raises Busy where a builder of version 0.4 or before is at work, whose lease is one file; removes what such a one left."""
    path = under(out, OLD_LEASE)
    if fs.exists(path):
        now = _now(out)
        if (left := LEASE_S - (now - fs.modified(path))) > 0:
            raise Busy(
                f"a build of an earlier version holds {out}: wait for its end, or {left:.0f} s should it have died"
            )
        fs.remove(path)


def numbers(out: str) -> list[int]:
    """The numbers of the leases that are there."""
    names = [name.removesuffix(".json") for name in fs.list_dir(under(out, LEASES)) if name.endswith(".json")]
    return sorted(int(name) for name in names if name.isdecimal())


def path_of(out: str, number: int) -> str:
    """The file of a lease."""
    return under(out, LEASES, f"{number:08d}.json")
