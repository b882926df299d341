"""The server addresses that a worker of an engine met: workers on several machines do not see each other, so the report adds up
what each of them kept to. A raw shard's own are in the footer of its fetch table, since like times they vary from run to run."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from wit.damage import damaged
from wit.fetch.outcome import Outcome
from wit.store import parquet
from wit.typed import dump, load

MOST = 100  # addresses of a raw shard, those with most requests: 10 kB
FOOTER = b"wit.addresses"


@dataclass(frozen=True, slots=True)
class TellsAddresses:
    """What the marker of a raw shard records whose fetch table has them."""

    addresses: bool = True


@dataclass(frozen=True, slots=True)
class Met:
    """What went to one address, as far as the last hop of each URL tells. Times are seconds since the epoch."""

    address: str
    requests: int
    at_once: int
    first_s: float
    last_s: float

    def __post_init__(self) -> None:
        if not (
            0 <= self.requests < 1 << 63 and 0 <= self.at_once < 1 << 63 and self.first_s <= self.last_s < math.inf
        ):
            raise ValueError(
                f"no requests to {self.address!r} can be so: {self.requests}, {self.first_s} to {self.last_s}"
            )


def met_by(outcomes: Iterable[Outcome]) -> list[Met]:
    """The addresses of these outcomes, those with most requests first; at most MOST."""
    spans: dict[str, list[tuple[float, float]]] = {}
    requests: dict[str, int] = {}
    for one in outcomes:
        if one.address:
            spans.setdefault(one.address, []).append((one.started, one.started + one.duration_s))
            requests[one.address] = requests.get(one.address, 0) + one.attempts
    chosen = sorted(requests, key=lambda address: (-requests[address], address))[:MOST]
    return [
        Met(
            address,
            requests[address],
            int(highest((begin, end, 1.0) for begin, end in spans[address])),
            round(min(begin for begin, _ in spans[address]), 3),
            round(max(end for _, end in spans[address]), 3),
        )
        for address in chosen
    ]


def highest(spans: Iterable[tuple[float, float, float]]) -> float:
    """The largest sum of the values of spans (begin, end, value) that overlap; a span lasts for a millisecond at least."""
    lasting = ((begin, max(end, begin + 0.001), value) for begin, end, value in spans)
    edges = sorted(edge for begin, end, value in lasting for edge in ((begin, 1, value), (end, 0, -value)))
    most = level = 0.0
    for _, _, value in edges:  # at the same time ends come first
        level += value
        most = max(most, level)
    return most


def footer(met: Sequence[Met]) -> dict[bytes, bytes]:
    """The metadata of a fetch table."""
    return {FOOTER: json.dumps([dump(one) for one in met]).encode()}


def read_footer(path: str) -> list[Met]:
    """The addresses in a fetch table; none where it has none. Raises DamagedFile where they are not as written."""
    with parquet.open_file(path) as file:
        kept: dict[bytes, Any] = file.schema_arrow.metadata or {}
    try:
        return load(list[Met], json.loads(kept.get(FOOTER, b"[]")))
    except (ValueError, RecursionError) as error:
        raise damaged(path, error) from error
