"""The fate that every img tag of the demonstration web must meet, and the comparison with the fates it met."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pyarrow as pa

from wit.demo.tables import KEPT, load
from wit.reasons import Reason

Tag = tuple[str, int]  # page URL, index of the img tag in the page
Row = dict[str, Any]

COPIES = {Reason.DUPLICATE_IN_GROUP, Reason.DUPLICATE_PAIR}
CAPTIONS = {Reason.SAME_URL, Reason.TOO_MANY_CAPTIONS}


def truth() -> pa.Table:
    """One row per img tag: `page_url, index, src, alt, url, fates, cluster`. `fates` are the allowed fates: `kept` or values of
    Reason. If there are several, `mismatches` knows which combinations are allowed."""
    return load("tags")


def mismatches(fates: Mapping[Tag, str]) -> list[str]:
    """One line for each tag, or group of tags, whose fates are not those that the truth table asks for; empty where all is well.

    `fates` holds the fate of every tag. Besides each tag's own list, three rules hold: exactly one of the tags with the same
    URL and caption is no duplicate pair; exactly one of the captions of a URL is neither that nor `same_url`; and exactly one
    of the URLs of a cluster is kept.
    """
    rows = load("tags").to_pylist()
    return [*unexpected(rows, fates), *miscounted(rows, fates)]


def unexpected(rows: Iterable[Row], fates: Mapping[Tag, str]) -> Iterator[str]:
    known = set()
    for row in rows:
        tag = (row["page_url"], row["index"])
        known.add(tag)
        fate = fates.get(tag, "no fate at all")
        if fate not in row["fates"]:
            yield f"{tag[0]} img {tag[1]} ({row['url'] or row['src'][:80]}, {row['alt']!r:.80}): {fate}, not {row['fates']}"
    for page_url, index in sorted(set(fates) - known):
        yield f"{page_url} img {index}: there is no such tag"


def miscounted(rows: Iterable[Row], fates: Mapping[Tag, str]) -> Iterator[str]:
    pairs, urls, clusters = defaultdict(list), defaultdict(list), defaultdict(list)
    for row in rows:
        fate = fates.get((row["page_url"], row["index"]), "")
        if row["url"] and not settled_early(row):
            pairs["pair", row["url"], row["alt"]].append(fate not in COPIES)
            urls["URL", row["url"]].append(fate not in COPIES | CAPTIONS)
            if row["cluster"]:
                clusters["cluster", row["cluster"]].append(fate == KEPT)
    for group, singled_out in [*pairs.items(), *urls.items(), *clusters.items()]:
        if sum(singled_out) != 1:
            yield f"{group}: {sum(singled_out)} of {len(singled_out)} tags survive as the one that stands for all"


def settled_early(row: Row) -> bool:
    """Whether the tag leaves in candidates, whatever its neighbours."""
    first = row["fates"][0]
    return first != KEPT and Reason[first.upper()].stage == "candidates"
