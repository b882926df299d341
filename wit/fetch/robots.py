"""robots.txt by RFC 9309: what an origin lets us fetch, remembered for a day."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from protego import Protego

from wit.reasons import Reason

MAX_BYTES = 512_000  # RFC 9309 section 2.5 asks for at least 500 KiB to be parsed
MAX_REDIRECTS = 5  # section 2.3.1.2
MAX_CRAWL_DELAY_S = 30.0  # an unofficial rule; a longer one would hold a lane for nothing
UNREACHABLE_RETRY_S = 60.0


@dataclass(slots=True)
class Robots:
    """One origin's robots.txt. `text` is None where it could not be reached: nothing may be fetched (section 2.3.1.4);
    an empty text allows all (2.3.1.3)."""

    fetched: float  # seconds since the epoch
    text: str | None
    why: Reason = Reason.ROBOTS_UNREACHABLE  # where text is None
    _parsed: Protego | None = field(default=None, repr=False)

    def allows(self, url: str, agent: str) -> bool:
        if self.text is None:
            return False
        return not self.text or bool(self._parse().can_fetch(url, agent))

    def crawl_delay_s(self, agent: str) -> float:
        if not self.text:
            return 0.0
        return min(float(self._parse().crawl_delay(agent) or 0), MAX_CRAWL_DELAY_S)

    def is_fresh(self, max_age_s: float, now: float | None = None) -> bool:
        age = (time.time() if now is None else now) - self.fetched
        return age < (max_age_s if self.text is not None else UNREACHABLE_RETRY_S)

    def _parse(self) -> Protego:
        if self._parsed is None:
            self._parsed = Protego.parse(self.text or "")
        return self._parsed


def from_response(status: int, body: bytes, now: float | None = None) -> Robots:
    """What a final response to /robots.txt means; `status` 0 is none at all. 429 asks us to go away, as a 5xx does."""
    fetched = time.time() if now is None else now
    if 200 <= status < 300:
        return Robots(fetched, body[:MAX_BYTES].decode("utf-8", "replace"))
    unreachable = status == 0 or status == 429 or status >= 500
    return Robots(fetched, None if unreachable else "")


def to_json(found: dict[str, Robots]) -> dict[str, Any]:
    """By origin; what could not be reached is asked again next time."""
    return {origin: {"fetched": r.fetched, "text": r.text} for origin, r in sorted(found.items()) if r.text is not None}


def from_json(kept: dict[str, Any]) -> dict[str, Robots]:
    return {origin: Robots(entry["fetched"], entry["text"]) for origin, entry in kept.items()}
