"""Reads response headers: opt-outs, TDM reservations, when to come back. No header can make these functions raise."""

from __future__ import annotations

import datetime
import email.utils
import re
import time
from collections.abc import Iterable, Iterator

from wit.reasons import Reason

OPT_OUTS = frozenset(("noai", "noimageai", "noindex", "noimageindex", "none", "noml"))
WITH_VALUE = frozenset(("max-snippet", "max-image-preview", "max-video-preview"))
UNTIL = "unavailable_after"
MAX_RETRY_AFTER_S = 30 * 86_400.0  # a longer one is no appointment any more
NOT_A_DATE = (ValueError, TypeError, OverflowError, IndexError, AttributeError)  # what email.utils raises on nonsense

Headers = list[tuple[str, str]]  # names in lower case, in order


def opt_out(headers: Headers, agent: str, now: float | None = None) -> Reason | None:
    """Why the owner's headers forbid this use, if they do."""
    for name, value in headers:
        if name == "x-robots-tag" and closes(directives(value, agent), now):
            return Reason.OPT_OUT_HEADER
        if name == "tdm-reservation" and value.strip() == "1":
            return Reason.TDM_RESERVED
    return None


def closes(named: dict[str, str], now: float | None = None) -> bool:
    """Whether directives close a picture: one of OPT_OUTS, or an `unavailable_after` that has passed."""
    if named.keys() & OPT_OUTS:
        return True
    until = when(named.get(UNTIL, ""))
    return until is not None and until <= (time.time() if now is None else now)


def directives(value: str, agent: str) -> dict[str, str]:
    """{directive: value} of one X-Robots-Tag header, those that concern `agent`: directives for all, and those after its own
    name. `otherbot: noindex, nofollow` speaks to otherbot until the header ends or names another. By the rules directives are
    separated by commas; in the wild, by semicolons and spaces too."""
    concerned, name = True, ""
    heeded: dict[str, str] = {}
    for part in _parts(value.lower()):
        words = iter(part.replace(":", ": ").split())
        for word in words:
            name = word.removesuffix(":") or name  # "otherbot : noindex"
            if not word.endswith(":"):
                given = {name: ""}
            elif name == UNTIL:
                date = list(words)
                given = {name: " ".join(w for w in date if w not in OPT_OUTS).replace(": ", ":")}
                given |= {w: "" for w in date if w in OPT_OUTS}
            elif name in WITH_VALUE:
                given = {name: next(words, "")}
            else:
                concerned, given = name in ("*", agent.lower()), {}
            heeded |= given if concerned else {}
    return heeded


def _parts(value: str) -> Iterator[str]:
    """The header cut at commas and semicolons, except at one within the date of an `unavailable_after`: a digit follows that,
    as in "Friday, 25 Jun 2010 15:00:00 PST"."""
    held = ""
    for part in re.split(r"[,;]", value):
        if UNTIL in held and "," not in held and part.strip()[:1].isdigit():
            held = f"{held},{part}"
            continue
        if held.strip():
            yield held.strip()
        held = part
    if held.strip():
        yield held.strip()


def when(text: str) -> float | None:
    """A date, by RFC 9110 section 5.6.7 or ISO 8601, as seconds since the epoch; None for anything else."""
    for parse in (email.utils.parsedate_to_datetime, datetime.datetime.fromisoformat):
        try:
            moment = parse(text.strip().upper())
            return (moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)).timestamp()
        except NOT_A_DATE:
            continue
    return None


def retry_after_s(headers: Headers, now: float | None = None) -> float | None:
    """Seconds to wait, from either form of Retry-After (RFC 9110 section 10.2.3), at most MAX_RETRY_AFTER_S; None without a
    readable one."""
    value = last(headers, "retry-after")
    if value is None:
        return None
    if value.isascii() and value.isdecimal():
        return min(float(value[:20]), MAX_RETRY_AFTER_S)
    until = when(value)
    if until is None:
        return None
    return min(max(0.0, until - (time.time() if now is None else now)), MAX_RETRY_AFTER_S)


def content_length(headers: Headers) -> int | None:
    """The announced length in bytes; None where there is none. For more than 18 digits it is 10**18, above any limit."""
    value = last(headers, "content-length")
    if value is None or not (value.isascii() and value.isdecimal()):
        return None
    return int(value) if len(value) <= 18 else 10**18


def last(headers: Iterable[tuple[str, str]], name: str) -> str | None:
    values = [value for header, value in headers if header == name]
    return values[-1].strip() if values else None
