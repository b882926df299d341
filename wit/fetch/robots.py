"""robots.txt by RFC 9309: what an origin lets us fetch, remembered for a day.

Of a file only the group that speaks to us is kept, within bounds: a stranger's file may be half a megabyte, and a wildcard DNS
makes a million hosts of it.
"""

from __future__ import annotations

import codecs
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from protego import Protego

from wit.bounded import Bounded
from wit.reasons import Reason

MAX_BYTES = 512_000  # RFC 9309 section 2.5 asks for at least 500 KiB to be parsed
MAX_RULES = 5_000  # of our group: 24 ms to parse; more close the site, since what is not read may be a Disallow
MAX_GROUP_CHARS = 100_000  # likewise: 2,048 hosts may be in work at a time
MAX_RULE_CHARS = 4_096  # twice the longest URL
MAX_CRAWL_DELAY_S = 30.0  # an unofficial rule; a longer one would hold a lane for nothing
UNREACHABLE_RETRY_S = 60.0
KEPT_BYTES = 32_000_000  # of the rules of all origins of one process: some 30,000 usual ones
PARSED_BYTES = 32_000_000  # of those that were asked last, ready to answer
PARSED_COST = 30  # bytes that a character takes once it is parsed (measured: 2.9 MB for 104 kB)

TOO_MANY_RULES = "User-agent: *\nDisallow: /\n# more rules than are read\n"
PRODUCT_TOKEN = re.compile(r"[\w-]+|\*", re.ASCII)  # section 2.2.1, and digits, which crawlers have in their names


@dataclass(slots=True)
class Robots:
    """One origin's robots.txt. `text` is None where it could not be reached: nothing may be fetched (section 2.3.1.4);
    an empty text allows all (2.3.1.3)."""

    fetched: float  # seconds since the epoch
    text: str | None
    why: Reason = Reason.ROBOTS_UNREACHABLE  # where text is None

    def allows(self, url: str, agent: str) -> bool:
        if self.text is None:
            return False
        return not self.text or bool(_parsed(self.text).can_fetch(url, agent))

    def crawl_delay_s(self, agent: str) -> float:
        if not self.text:
            return 0.0
        return min(max(float(_parsed(self.text).crawl_delay(agent) or 0), 0.0), MAX_CRAWL_DELAY_S)

    @property
    def note(self) -> str:
        """Why all is closed, where that is not the site's own word."""
        return "more rules than are read" if self.text == TOO_MANY_RULES else ""

    @property
    def cost(self) -> int:
        """Bytes of memory, about."""
        return 500 + len(self.text or "")

    def is_fresh(self, max_age_s: float, now: float | None = None) -> bool:
        age = (time.time() if now is None else now) - self.fetched
        return age < (max_age_s if self.text is not None else UNREACHABLE_RETRY_S)


_PARSED: Bounded[str, tuple[Protego, int]] = Bounded(PARSED_BYTES, lambda entry: entry[1])


def _parsed(text: str) -> Protego:
    parsed = _PARSED.get(text)
    if parsed is None:
        parsed = Protego.parse(text), 2_000 + PARSED_COST * len(text)
        _PARSED.put(text, parsed)
    return parsed[0]


def from_response(status: int, body: bytes, agent: str, now: float | None = None) -> Robots:
    """What a final response to /robots.txt means; `status` 0 is none at all. 429 asks us to go away, as a 5xx does."""
    fetched = time.time() if now is None else now
    if 200 <= status < 300:
        return Robots(fetched, our_group(text_of(body[:MAX_BYTES]), agent))
    unreachable = status in (0, 407, 429) or status >= 500
    return Robots(fetched, None if unreachable else "")


def text_of(body: bytes) -> str:
    """The file's text: UTF-8 (section 2.2), or what its byte order mark says, which is no part of the first line."""
    utf_16 = body.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return body.decode("utf-16" if utf_16 else "utf-8-sig", "replace")


def our_group(text: str, agent: str) -> str:
    """The rules of a robots.txt that concern `agent` as one group for all, empty where there are none: those of the groups that
    bear its name, else those for `*` (section 2.2.1). A site with more of them than are read is closed."""
    named: list[str] = []
    general: list[str] = []
    is_named = False  # a group of our name without rules allows all
    speaks: set[str] = set()
    in_rules = True
    for key, value in _lines(text):
        if key == "user-agent":
            if in_rules:
                speaks, in_rules = set(), False
            token = PRODUCT_TOKEN.match(value)
            speaks.add(token[0].lower() if token else "")
            is_named = is_named or agent.lower() in speaks
            continue
        in_rules = True
        if agent.lower() in speaks:
            named.append(f"{key}: {value}")
        elif "*" in speaks:
            general.append(f"{key}: {value}")
    rules = _one_delay(named if is_named else general)
    if len(rules) > MAX_RULES or sum(map(len, rules)) > MAX_GROUP_CHARS:
        return TOO_MANY_RULES
    return "\n".join(["User-agent: *", *rules, ""]) if rules else ""


def _one_delay(rules: list[str]) -> list[str]:
    """The rules with the longest of their crawl delays alone: the parser would take the last."""
    delays = [float(rule.partition(":")[2]) for rule in rules if rule.startswith("crawl-delay:")]
    if len(delays) < 2:
        return rules
    return [*(rule for rule in rules if not rule.startswith("crawl-delay:")), f"crawl-delay: {max(delays)}"]


def _lines(text: str) -> Iterator[tuple[str, str]]:
    """(key in lower case, value) of the lines that belong to groups, without comments. Of a Disallow longer than MAX_RULE_CHARS
    the beginning, which closes more; other lines as long say nothing that a URL could meet."""
    for line in LINE_END.split(text):
        key, colon, value = line.partition("#")[0].partition(":")
        key, value = key.strip().lower(), value.strip()
        if not colon or key == "sitemap":
            continue
        if len(value) > MAX_RULE_CHARS:
            if key != "disallow":
                continue
            value = value[:MAX_RULE_CHARS].removesuffix("$")
        if cut := SPLITS.search(value):
            if key != "disallow":
                continue
            value = value[: cut.start()]
        if key == "crawl-delay":
            seconds = SECONDS.match(value)
            value = seconds[0].replace(",", ".") if seconds else ""
        if value or key != "crawl-delay":
            yield key, value


LINE_END = re.compile(r"\r\n|\r|\n")  # section 2.2
SPLITS = re.compile("[\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")  # where Protego would begin another line
SECONDS = re.compile(r"\d{1,9}(?:[.,]\d{1,9})?")


def kept() -> Bounded[str, Robots]:
    """Room for the rules of many origins: those that were not asked for longest go first, and are fetched again."""
    return Bounded(KEPT_BYTES, lambda robots: robots.cost)


def to_json(robots: Robots, agent: str) -> dict[str, Any] | None:
    """For a later process; None for what could not be reached, which is asked again."""
    return None if robots.text is None else {"fetched": robots.fetched, "text": robots.text, "agent": agent}


def from_json(entries: dict[str, dict[str, Any]], agent: str) -> dict[str, Robots]:
    """By origin. What another User-Agent was told is left out; entries without one are whole files, of version 0.1."""
    return {
        origin: Robots(entry["fetched"], our_group(entry["text"], agent))
        for origin, entry in entries.items()
        if entry.get("agent", agent) == agent
    }
