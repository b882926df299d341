"""One execution at a time of one piece of work. An engine may run a piece twice at once: by speculation, or where a worker that
it took for dead lives on. Who comes second waits until the first is done or gone."""

from __future__ import annotations

import contextlib
import itertools
import secrets
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from wit.errors import Busy
from wit.layout import TURNS, under
from wit.store import fs, lease
from wit.store.builder import kernel_lock

WAIT_S = 2.0  # between two tries
AT_ONCE = 8  # names that are tried without a wait: in a store each costs some requests


def never() -> bool:
    return False


class Turn(NamedTuple):
    """A turn that is held: with the one of the names that it was given. Called, it says whether another has taken it since."""

    name: str
    is_lost: Callable[[], bool]

    def __call__(self) -> bool:
        return self.is_lost()


@contextlib.contextmanager
def turn(out: str, *names: str, give_up: Callable[[], bool] = never) -> Iterator[Turn]:
    """Waits for the turn of a piece with one of these names, and holds it for the block: a kernel lock where OUT is local, which
    ends with its process, and a lease elsewhere, which is taken over when its holder has been silent for `lease.LEASE_S`. Raises
    Busy where `give_up` says so while it waits."""
    hold = _locked if fs.is_local(out) else _leased
    begin = secrets.randbelow(len(names))  # who begins elsewhere meets fewer that are taken
    with contextlib.ExitStack() as stack:
        for tried, name in enumerate(itertools.cycle([*names[begin:], *names[:begin]]), 1):
            try:
                lost = stack.enter_context(hold(under(out, TURNS, name)))
                break
            except Busy:
                if give_up():
                    raise
            if tried % min(AT_ONCE, len(names)) == 0:
                time.sleep(WAIT_S)
        yield Turn(name, lost)


@contextlib.contextmanager
def _locked(place: str) -> Iterator[Callable[[], bool]]:
    with kernel_lock(place.removeprefix("file://"), f"another execution holds {place}"):
        yield never


@contextlib.contextmanager
def _leased(place: str) -> Iterator[Callable[[], bool]]:
    with lease.held(place) as mine:
        yield lambda: lease.is_taken(place, mine.number)


def forget_turns(out: str) -> None:
    """Removes what turns leave under OUT. For the end of a stage, when nobody is at work."""
    fs.remove(under(out, TURNS))
