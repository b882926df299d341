"""A directory of a store, a page at a time: stores list names in their order, 1,000 a request, from any name on. So several pages
of one directory are under way at a time, and nothing but a page is held."""

from __future__ import annotations

import itertools
import os
import string
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from typing import Any, NamedTuple

from wit.errors import Stopped
from wit.store import fs
from wit.store.flight import IN_FLIGHT
from wit.store.patience import patient

NAMES = 1_000  # of a page, at most: S3 gives no more
DIGITS = string.digits
FIRST = DIGITS + "_" + string.ascii_lowercase  # what names mostly begin with, in the order of stores
MANY = 3  # pages that are worth a stretch of their own: its last page tells only that there is no more


class Page(NamedTuple):
    """Names with the sizes of their files in bytes, in the order of names, and whether there are more; none only where there are
    no more."""

    sizes: list[tuple[str, int]]
    is_more: bool


class Stretch(NamedTuple):
    """The names below a directory that begin so: those behind `after`, up to `upto` (to the last where it is empty), which is
    one of them."""

    path: str
    beginning: str
    after: str = ""
    upto: str = ""


def _of_s3(store: Any, folder: str, beginning: str, after: str) -> Page:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html"""
    bucket, key = fs.bucket_and_key(folder)
    behind = {"StartAfter": key + after} if after else {}
    asked = {"Bucket": bucket, "Prefix": key + beginning, "MaxKeys": NAMES}
    answer = store.call_s3("list_objects_v2", **asked, **behind)
    while not answer.get("Contents") and answer.get("IsTruncated"):  # a page may be empty, and not the last
        answer = store.call_s3("list_objects_v2", **asked, ContinuationToken=answer["NextContinuationToken"])
    sizes = [(one["Key"].removeprefix(key), int(one["Size"])) for one in answer.get("Contents", ())]
    return Page(sizes, bool(answer.get("IsTruncated")))


def _of_gcs(store: Any, folder: str, beginning: str, after: str) -> Page:
    """https://cloud.google.com/storage/docs/json_api/v1/objects/list; `startOffset` is one of the names that are given."""
    bucket, key = fs.bucket_and_key(folder)
    behind = {"startOffset": key + after} if after else {}
    asked = {"prefix": key + beginning, "maxResults": NAMES, "fields": "nextPageToken,items(name,size)"}
    while True:
        answer = store.call("GET", "b/{}/o", bucket, **asked, **behind, json_out=True)
        sizes = [(one["name"].removeprefix(key), int(one["size"])) for one in answer.get("items", ())]
        found = [one for one in sizes if one[0] > after or not after]
        if found or "nextPageToken" not in answer:
            return Page(found, "nextPageToken" in answer)
        behind["pageToken"] = answer["nextPageToken"]  # a page may be empty, and not the last


PAGES: dict[str, Callable[[Any, str, str, str], Page]] = dict.fromkeys(("s3", "s3a"), _of_s3) | dict.fromkeys(
    ("gs", "gcs"), _of_gcs
)


DIRECTORY_BUCKET = "--x-s3"  # the end of the name of one of S3 Express, which lists in no order


def has_pages(path: str) -> bool:
    """Whether the store lists from any name on."""
    scheme, _, inner = path.partition("://")
    return scheme in PAGES and not inner.partition("/")[0].endswith(DIRECTORY_BUCKET)


def read(stretches: Iterable[Stretch]) -> Iterator[tuple[Stretch, list[tuple[str, int]]]]:
    """(a piece of one of the stretches, its names with their sizes in bytes), in no order; names of what lies deeper have
    slashes in them. Up to IN_FLIGHT pages are under way at a time."""
    with ThreadPoolExecutor(IN_FLIGHT) as pool:
        under_way = {pool.submit(_read, one) for one in stretches}
        try:
            while under_way:
                done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
                for stretch, sizes, left in (one.result() for one in done):
                    under_way |= {pool.submit(_read, one) for one in left}
                    yield stretch, sizes
        finally:
            for one in under_way:
                one.cancel()


def _read(stretch: Stretch) -> tuple[Stretch, list[tuple[str, int]], list[Stretch]]:
    """(the stretch, the names of its first page, what is left of it)."""
    path, beginning, after, upto = stretch
    store, inner = fs.file_system(path)
    ask = patient(PAGES[path.partition("://")[0]], path)
    try:
        sizes, is_more = ask(store, inner, beginning, after)
    except FileNotFoundError:
        return stretch, [], []
    names = [*([after] if after else []), *(name for name, _ in sizes)]
    if any(one >= other for one, other in itertools.pairwise(names)):
        raise Stopped(f"{path}: the store does not list names in their order, from any name on: give OUT another store")
    ours = [one for one in sizes if not upto or one[0] <= upto]
    if not is_more or len(ours) < len(sizes) or sizes[-1][0] == upto:
        return stretch, ours, []
    return stretch, ours, _behind(stretch, sizes[0][0], sizes[-1][0])


def _behind(stretch: Stretch, first: str, last: str) -> list[Stretch]:
    """What is left behind a page with these names at its ends, in as many stretches as it seems worth."""
    cuts = [cut for cut in _cuts(first, last, len(stretch.beginning)) if not stretch.upto or cut < stretch.upto]
    ends = [last, *cuts, stretch.upto]
    return [stretch._replace(after=after, upto=upto) for after, upto in zip(ends, ends[1:], strict=False)]


def _cuts(first: str, last: str, begins: int) -> Iterator[str]:
    """Where to cut what is behind a page: names that a build writes differ in their first letter and in their numbers. `merge-00`
    is followed by numbers up to `merge-09`, `merge-1` to `merge-9`, and by what begins with other letters."""
    alike = len(os.path.commonprefix([first, last]))
    tenths = (
        ord(last[alike]) - ord(first[alike]) + 1 if alike < len(first) else 1
    )  # of a cut's names, that the page has
    for place in range(alike - 1, begins - 1, -1):
        if place == begins:
            following = FIRST
        else:
            is_worth_it = place < alike - 1 or tenths * MANY <= len(DIGITS)
            following = DIGITS if last[place] in DIGITS and is_worth_it else ""
        yield from (last[:place] + one for one in following if one > last[place])
