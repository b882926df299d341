"""Listings of directories with hundreds of thousands of names: a store gives 1,000 a request, one after the other. Where it lists
names by their beginning, several such listings are under way at a time."""

from __future__ import annotations

import string
from collections.abc import Iterable, Iterator

from wit.store import fs
from wit.store.flight import side_by_side
from wit.store.manifests import Sizes

BY_BEGINNING = {"s3", "gs"}  # s3fs and gcsfs: `find` takes a prefix
FIRST = string.digits + string.ascii_lowercase + "_"  # of the names that a build writes; others are nobody's to remove


def sizes_side_by_side(places: Iterable[tuple[str, str]]) -> list[Sizes]:
    """For each (directory, beginning): {name: size in bytes} of its files whose names begin so, and go on as a build's do."""
    every = list(places)
    parts = [(n, part) for n, (path, beginning) in enumerate(every) for part in _parts(path, beginning)]
    found: list[dict[str, int | None]] = [{} for _ in every]
    listed = side_by_side(lambda one: _list(every[one[0]][0], one[1]), parts)
    for (number, _), sizes in zip(parts, listed, strict=True):
        found[number] |= sizes
    return found  # type: ignore[return-value]


def _parts(path: str, beginning: str) -> Iterator[str]:
    if _by_beginning(path):
        yield from (beginning + first for first in FIRST)
    else:
        yield beginning


def _list(path: str, beginning: str) -> Sizes:
    if _by_beginning(path):
        return fs.find_beginning(path, beginning)
    return {name: size for name, size in fs.list_sizes(path).items() if name.startswith(beginning)}


def _by_beginning(path: str) -> bool:
    return path.partition("://")[0] in BY_BEGINNING
