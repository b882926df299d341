"""What goes wrong in the starts of one build: drawn from a seed."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field

LEASE_S = 0.8  # in place of two minutes
LEASE_CALLS = 20  # of those that a build makes for its lease; the longer it takes, the more there are
# Names under OUT, in the order in which a build comes to them, with what they weigh.
PLACES = {
    "_lease": 1,
    "run.json": 1,
    "candidates": 3,
    "plan": 4,
    "web": 4,
    "raw": 4,
    "dropped": 1,
    "select": 3,
    "shards": 4,
    "ledger": 1,
    "report": 1,
    "README.md": 1,
    "_tmp": 2,
}
# What ends a start, and what does not, with weights, by kind of store. `silent` loses renewals while a call is held.
ENDS = {
    "disk": {"kill": 6, "driver": 2, "torn": 4, "term": 2, "full": 3},
    "store": {"kill": 4, "after": 4, "driver": 2, "torn": 3, "term": 2, "full": 2, "away": 2},
}
HURTS = {
    "disk": {"child": 3, "freeze": 1},
    "store": {"child": 3, "freeze": 2, "silent": 2, "clock=3600": 1, "clock=-3600": 1},
}
OF_THE_WEB = ("driver", "child", "term", "freeze")  # what can happen while a request is in flight
SECOND = ("freeze", "silent", "clock=3600", "clock=-3600")  # what only matters where somebody else wants to build
MOST = 4  # starts with a fault


@dataclass(frozen=True)
class Start:
    """One start of the build: what happens in it at which calls, and what is wrong all the time."""

    faults: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    second: str = ""  # "place:number", at which somebody else starts the same build; or the fault after which

    @property
    def kinds(self) -> set[str]:
        """The faults, without their places."""
        return {fault.split(":")[2].partition("=")[0] for fault in self.faults}


@dataclass(frozen=True)
class Schedule:
    """The starts of one build that go wrong; those after them do not."""

    seed: int
    store: str  # "disk" or "store"
    starts: tuple[Start, ...]

    def __str__(self) -> str:
        told = (
            f"  start {n}: {' '.join(one.faults)} {dict(one.environment)} {one.second}"
            for n, one in enumerate(self.starts)
        )
        return f"seed {self.seed} on a {self.store}\n" + "\n".join(told)


def draw(seed: int, calls: Mapping[str, Mapping[str, int]]) -> Schedule:
    """The schedule of a seed; `calls` has how many calls a calm build makes in each place, by kind of store."""
    rng = random.Random(seed)
    store = rng.choice(("disk", "store"))
    known = {**calls[store], "_lease": LEASE_CALLS}
    places = [place for place in PLACES if place in calls[store]]
    chosen = rng.choices(range(len(places)), [PLACES[place] for place in places], k=rng.randint(1, MOST))
    return Schedule(seed, store, tuple(_start(rng, store, known, places[at]) for at in sorted(chosen)))


def _start(rng: random.Random, store: str, known: Mapping[str, int], place: str) -> Start:
    """A start that ends in that place, if nothing else ends it before; in some of them something else goes wrong, too."""
    at = f"{place}:{rng.randint(1, known[place])}"
    ends, hurts = _of(rng, ENDS[store], place), ""
    faults = [f"{at}:{ends}"]
    if rng.random() < 0.4:
        other = rng.choice([one for one in PLACES if one in known and (one != "_lease" or store == "store")])
        hurts = _of(rng, HURTS[store], other)
        hurt_at = f"{other}:{rng.randint(1, known[other])}"
        alone = hurts in SECOND and rng.random() < 0.6  # or few would live to see what the other builder makes of it
        faults = [] if alone else faults
        faults += [f"{hurt_at}:hold", "_lease:1:silent"] if hurts == "silent" else [f"{hurt_at}:{hurts}"]
    second = hurts if hurts in SECOND else at if rng.random() < 0.2 else ""
    return Start(tuple(faults), _always(rng) if store == "store" else {}, second)


def _of(rng: random.Random, kinds: Mapping[str, int], place: str) -> str:
    """One of these faults, that can be in that place."""
    possible = [kind for kind in kinds if place != "web" or kind in OF_THE_WEB]
    return rng.choices(possible, [kinds[kind] for kind in possible])[0]


def _always(rng: random.Random) -> dict[str, str]:
    """What is wrong with a store all the time."""
    shares = {"FAILS": 0.04, "SHORT": 0.05, "TORN": 0.02, "REORDER": 0.004, "LATE": 0.3}
    wrong = {name: f"{most * rng.random():.4f}" for name, most in shares.items() if rng.random() < 0.5}
    if rng.random() < 0.15:
        wrong["RATE"] = f"{rng.randint(60, 400)}"
    return {f"STORE_{name}": value for name, value in wrong.items()}
