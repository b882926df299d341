"""Races of real processes for the same names: who wins each."""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Callable, Sequence
from typing import Any

from wit.errors import Busy
from wit.store import lease
from wit.store.claims import claim

RACERS = 8


def nothing() -> None:
    """What most stores need before they can be used."""


def winners(
    places: Sequence[str], turn: Callable[[str, str], bool], prepare: Callable[[], None] = nothing
) -> list[list[str]]:
    """Who of RACERS processes won, by place. All start on a place at once, and go on to the next when all are done."""
    context = multiprocessing.get_context("spawn")
    ready, won = context.Barrier(RACERS), context.Queue()
    given = (list(places), turn, prepare, ready, won)
    racers = [context.Process(target=_run, args=(f"racer {number}", *given)) for number in range(RACERS)]
    for racer in racers:
        racer.start()
    results = [won.get(timeout=240) for _ in racers]
    for racer in racers:
        racer.join()
    return [[name for name, places_won in results if place in places_won] for place in places]


def _run(name: str, places: list[str], turn: Any, prepare: Any, ready: Any, won: Any) -> None:
    prepare()
    mine = []
    try:
        for place in places:
            ready.wait(60)
            if turn(place, name):
                mine.append(place)
    except BaseException:
        ready.abort()
        mine = [*places, *places]  # a result that no test takes for right
        raise
    finally:
        won.put((name, mine))


def claims(place: str, name: str) -> bool:
    """A turn: whether this racer claims the place."""
    return claim(place, name.encode())


def leases(place: str, name: str) -> bool:
    """A turn: whether this racer gets the lease of the place. Who gets it holds it while the others try, and longer."""
    lease.LEASE_S = 600.0
    with contextlib.suppress(Busy):
        _kept.enter_context(lease.held(place))
        return True
    return False


_kept = contextlib.ExitStack()
