"""The WAT files of a Common Crawl snapshot, by its id."""

from __future__ import annotations

import gzip
import re
import zlib

from wit.errors import InputError
from wit.sources.reading import RequestBudget, with_retries
from wit.store import fs, web

CC_BASE = "https://data.commoncrawl.org"
_SPEC = re.compile(r"(CC-MAIN-[0-9A-Za-z-]+|[A-Za-z0-9][\w.-]*)(?::files=(\d+))?")


def list_crawl(spec: str, *, base: str = CC_BASE, budget: RequestBudget | None = None) -> list[str]:
    """The paths of a crawl's WAT files for `CRAWL[:files=N]`: all of them, or N evenly spaced ones, always the same."""
    match = _SPEC.fullmatch(spec)
    if match is None or match[2] == "0":
        raise InputError(
            f"not a crawl: {spec!r}; write commoncrawl:CC-MAIN-2026-43 or commoncrawl:CC-MAIN-2026-43:files=100"
        )
    listing = fs.join(base, "crawl-data", match[1], "wat.paths.gz")
    lines = _read_listing(listing, match[1], budget or RequestBudget())
    return [fs.join(base, line) for line in evenly_spaced(lines, int(match[2]) if match[2] else None)]


def evenly_spaced(items: list[str], count: int | None) -> list[str]:
    """`count` of the items at equal distances, in their order; all of them if there are no more."""
    if count is None or count >= len(items):
        return items
    return [items[place * len(items) // count] for place in range(count)]


def _read_listing(path: str, crawl: str, budget: RequestBudget) -> list[str]:
    try:
        data = with_retries(lambda: web.read(path) if web.is_web(path) else fs.read_bytes(path), budget)
    except FileNotFoundError as error:
        raise InputError(f"no such crawl: {crawl} ({path} does not exist); index.commoncrawl.org lists them") from error
    except OSError as error:
        raise InputError(f"cannot read {path}: {error}; check the network, or name a mirror with --cc-base") from error
    try:
        lines = gzip.decompress(data).decode("ascii").split()
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no list of files: {error}; check --cc-base") from error
    if not lines:
        raise InputError(f"{path} lists no files: choose another crawl")
    return lines
