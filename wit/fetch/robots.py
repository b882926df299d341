"""robots.txt by RFC 9309: what an origin lets us fetch, remembered for a day.

Only the group of rules that speaks to us is kept, within bounds: a stranger's file may be half a megabyte, and wildcard DNS can
serve it from a million hosts.
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
MAX_RULES = 5_000  # of our group: 24 ms to parse. More close the site, since an unread one may be a Disallow
MAX_GROUP_CHARS = 100_000  # likewise: 2,048 hosts may be in work at a time
MAX_RULE_CHARS = 4_096  # twice the longest URL
MAX_CRAWL_DELAY_S = 30.0  # an unofficial rule; a longer one would hold a lane for nothing
UNREACHABLE_RETRY_S = 60.0
KEPT_BYTES = 32_000_000  # of the rules of all origins of one process: some 30,000 usual ones
PARSED_BYTES = 32_000_000  # of parsed rules, those used last
PARSED_COST = 30  # bytes of memory a character of rules, once parsed (measured: 2.9 MB for 104 kB)

TOO_MANY_RULES = "User-agent: *\nDisallow: /\n# more rules than are read\n"
PRODUCT_TOKEN = re.compile(r"[\w-]+|\*", re.ASCII)  # section 2.2.1; digits too, since crawlers have them in their names


@dataclass(slots=True)
class Robots:
    """One origin's robots.txt. `text` is None if it could not be reached: then nothing may be fetched (section 2.3.1.4). An empty
    text allows everything (2.3.1.3)."""

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
        """Why everything is forbidden, if the site itself did not say so."""
        return "more rules than are read" if self.text == TOO_MANY_RULES else ""

    @property
    def cost(self) -> int:
        """About how many bytes of memory this takes."""
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
    """The rules in a final response to /robots.txt; `status` 0 means no response. 429 asks us to go away, as a 5xx does."""
    fetched = time.time() if now is None else now
    if 200 <= status < 300:
        return Robots(fetched, our_group(text_of(body[:MAX_BYTES]), agent))
    unreachable = status in (0, 407, 429) or status >= 500
    return Robots(fetched, None if unreachable else "")


def text_of(body: bytes) -> str:
    """The file's text: UTF-8 (section 2.2), or UTF-16 by its byte order mark; the mark is taken off."""
    utf_16 = body.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return body.decode("utf-16" if utf_16 else "utf-8-sig", "replace")


def our_group(text: str, agent: str) -> str:
    """The rules of a robots.txt that concern `agent`, rewritten as one group for `*`; empty where there are none. They are the
    rules of the groups that bear its name, else of those for `*` (section 2.2.1). A site with too many of them is closed."""
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
    """The rules with only the longest of their crawl delays: the parser would take the last."""
    delays = [float(rule.partition(":")[2]) for rule in rules if rule.startswith("crawl-delay:")]
    if len(delays) < 2:
        return rules
    return [*(rule for rule in rules if not rule.startswith("crawl-delay:")), f"crawl-delay: {max(delays)}"]


def _lines(text: str) -> Iterator[tuple[str, str]]:
    """(key in lower case, value) of the lines that belong to groups, without comments. A Disallow longer than MAX_RULE_CHARS is
    cut to its beginning, which forbids more. Other lines that long are left out: no URL could match them."""
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
    """A cache for the rules of many origins. The least recently used go first, and are fetched again if needed."""
    return Bounded(KEPT_BYTES, lambda robots: robots.cost)


def to_json(robots: Robots, agent: str) -> dict[str, Any] | None:
    """The entry for a later process; None if robots.txt could not be reached, which is tried again."""
    return None if robots.text is None else {"fetched": robots.fetched, "text": robots.text, "agent": agent}


def from_json(entries: dict[str, dict[str, Any]], agent: str) -> dict[str, Robots]:
    """{origin: rules} of entries that `to_json` made. Rules for another User-Agent are left out. An entry without one holds a
    whole file, as of version 0.1."""
    return {
        origin: Robots(entry["fetched"], our_group(entry["text"], agent))
        for origin, entry in entries.items()
        if entry.get("agent", agent) == agent
    }
