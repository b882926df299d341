"""What response headers say: opt-outs, TDM reservations, when to come back."""

from __future__ import annotations

import email.utils
import time
from collections.abc import Iterable

from wit.reasons import Reason

OPT_OUTS = frozenset(("noai", "noimageai", "noindex", "noimageindex", "none", "noml"))
WITH_VALUE = frozenset(("unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"))

Headers = list[tuple[str, str]]  # names in lower case, in order


def opt_out(headers: Headers, agent: str) -> Reason | None:
    """Why the owner's headers forbid this use, if they do."""
    for name, value in headers:
        if name == "x-robots-tag" and directives(value, agent) & OPT_OUTS:
            return Reason.OPT_OUT_HEADER
        if name == "tdm-reservation" and value.strip() == "1":
            return Reason.TDM_RESERVED
    return None


def directives(value: str, agent: str) -> set[str]:
    """The directives of one X-Robots-Tag header that concern `agent`: those for all, and those after its own name.
    `otherbot: noindex, nofollow` speaks to otherbot until the header ends or names another."""
    concerned, found = True, set()
    for part in value.lower().split(","):
        name, colon, rest = part.strip().partition(":")
        if colon and name.strip() not in WITH_VALUE:
            concerned = name.strip() in ("*", agent.lower())
            part = rest
        if concerned:
            found.add(part.strip())
    return found


def retry_after_s(headers: Headers, now: float | None = None) -> float | None:
    """Seconds to wait, from either form of Retry-After (RFC 9110 section 10.2.3); None where there is none."""
    value = last(headers, "retry-after")
    if value is None:
        return None
    if value.isdecimal():
        return float(value)
    try:
        when = email.utils.parsedate_to_datetime(value)
    except (ValueError, TypeError):
        return None
    return max(0.0, when.timestamp() - (time.time() if now is None else now))


def last(headers: Iterable[tuple[str, str]], name: str) -> str | None:
    values = [value for found, value in headers if found == name]
    return values[-1].strip() if values else None
