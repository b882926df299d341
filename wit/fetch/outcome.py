"""The fate of one URL, as it travels from the fetch process to the supervisor and on to the tables."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from wit.reasons import Reason

if TYPE_CHECKING:  # the fetch process needs neither
    from wit.fetch.spool import Spool
    from wit.images.results import Processed


@dataclass(slots=True)
class Outcome:
    """The end of one URL. Without a `reason` there is a body in the ring until it is decoded, and then a `picture` in a spool."""

    id: int
    reason: Reason | None = None
    detail: str = ""  # a function of the web's answer: no times, addresses or ports
    http_status: int = 0  # of the last response; 0 = none
    final_url: str = ""
    attempts: int = 0
    started: float = 0.0  # seconds since the epoch
    duration_s: float = 0.0
    bytes: int = 0  # of the body, decoded
    wire_bytes: int = 0  # received for it, all attempts and hops together
    error: str = ""  # the network library's own words
    address: str = ""  # that the last request went to; empty by a proxy
    region: int = -1  # offset of the body in the ring
    picture: Processed | None = None  # without its bytes: those are in the spool
    spool: Spool | None = None
    spool_offset: int = 0
    spool_size: int = 0

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles as a plain call, in a quarter of a dataclass's time; without the fields that decoding sets."""
        return Outcome, tuple(getattr(self, name) for name in OUTCOME_FIELDS)


OUTCOME_FIELDS = tuple(field.name for field in fields(Outcome))[
    : -len(("picture", "spool", "spool_offset", "spool_size"))
]


@dataclass(frozen=True, slots=True)
class Request:
    """One URL to fetch; `domain` is the registrable domain of its host, where that is known."""

    id: int
    url: str
    domain: str = ""
    expected: str = ""  # hash of the picture (`wit.images.expected`)
