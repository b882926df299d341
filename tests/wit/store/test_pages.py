"""Directories are read a page at a time, from any name on, several pages at once."""

import bisect
import random
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import fsspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wit.errors import Stopped
from wit.store import pages
from wit.store.pages import Page, Stretch

sys.path.append(str(Path(__file__).parents[2]))

import stores

WORDS = st.text(alphabet="019_-.azé", min_size=1, max_size=6)


class Store:
    """Names that are listed as S3 does; counts requests."""

    def __init__(self, names: Iterable[str], page: int) -> None:
        self.names, self.page = sorted(names, key=lambda name: name.encode()), page
        self.asked, self.lock = 0, threading.Lock()

    def __call__(self, _: object, folder: str, beginning: str, after: str) -> Page:
        with self.lock:
            self.asked += 1
        ours = [name for name in self.names if name.startswith(beginning)] if beginning else self.names
        begin = bisect.bisect_right(ours, after.encode(), key=str.encode)
        return Page([(name, len(name)) for name in ours[begin : begin + self.page]], len(ours) > begin + self.page)


def read(monkeypatch: pytest.MonkeyPatch, store: Store, *beginnings: str) -> list[tuple[str, str, int]]:
    """(beginning, name, size), in order."""
    fsspec.register_implementation("other", stores.OtherStore, clobber=True)
    with monkeypatch.context() as patched:
        patched.setitem(pages.PAGES, "other", store)
        read = pages.read([Stretch("other:///x", beginning) for beginning in beginnings])
        return sorted((stretch.beginning, name, size) for stretch, sizes in read for name, size in sizes)


@settings(deadline=None)
@given(names=st.sets(WORDS, max_size=60), beginning=st.text(alphabet="019_a", max_size=2), page=st.integers(1, 7))
def test_every_name_is_listed_once(names: set[str], beginning: str, page: int) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        found = read(monkeypatch, Store(names, page), beginning)
    assert found == sorted((beginning, name, len(name)) for name in names if name.startswith(beginning))


@pytest.mark.parametrize(
    ("names", "most"),
    [
        (["_MANIFEST.json", *(f"part-{n:05d}.json" for n in range(8))], 1),
        ([f"{kind}-{n:05d}.json" for kind in ("merge", "thin", "admit") for n in range(80_000)], 240 + 36 + 3 * 27),
        ([f"{n:05d}-{s:04d}.{e}" for n in range(4_000) for s in range(10) for e in ("json", "tar")], 80 + 45),
        ([f"word{'abcdefghij'[n % 10]}{n}" for n in range(30_000)], 30 + 40),
    ],
)
def test_a_directory_takes_few_more_requests_than_it_has_pages(
    monkeypatch: pytest.MonkeyPatch, names: list[str], most: int
) -> None:
    store = Store(names, 1_000)
    assert [name for _, name, _ in read(monkeypatch, store, "")] == sorted(names)
    assert store.asked <= most


def test_several_pages_of_one_directory_are_under_way_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store([f"merge-{n:05d}.json" for n in range(80_000)], 1_000)
    met = threading.Barrier(8)  # broken by its time-out where fewer come

    def page(given: object, folder: str, beginning: str, after: str) -> Page:
        if after in [f"merge-{n}" for n in range(1, 9)]:
            met.wait(timeout=20)
        return store(given, folder, beginning, after)

    fsspec.register_implementation("other", stores.OtherStore, clobber=True)
    monkeypatch.setitem(pages.PAGES, "other", page)
    found = [name for _, sizes in pages.read([Stretch("other:///x", "")]) for name, _ in sizes]
    assert len(found) == 80_000


def test_what_does_not_exist_has_no_names_and_what_fails_now_and_then_is_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fsspec.register_implementation("other", stores.OtherStore, clobber=True)
    fails = random.Random(7)
    store = Store([f"{n:05d}" for n in range(30_000)], 1_000)

    def page(*asked: str) -> Page:
        if asked[1].endswith("gone"):
            raise FileNotFoundError(asked[1])
        if fails.random() < 0.2:
            raise ConnectionResetError(104, "Connection reset by peer")
        return store(*asked)

    monkeypatch.setitem(pages.PAGES, "other", page)
    monkeypatch.setattr("wit.store.patience.FIRST_PAUSE_S", 0.001)
    assert [sizes for _, sizes in pages.read([Stretch("other:///gone", "")])] == [[]]
    assert sum(len(sizes) for _, sizes in pages.read([Stretch("other:///x", "")])) == 30_000


@pytest.mark.parametrize("names", [["b", "a"], ["a", "a"], ["a", "c", "b"]])
def test_a_store_that_lists_in_no_order_is_refused(monkeypatch: pytest.MonkeyPatch, names: list[str]) -> None:
    fsspec.register_implementation("other", stores.OtherStore, clobber=True)
    monkeypatch.setitem(pages.PAGES, "other", lambda *_: Page([(name, 1) for name in names], False))
    with pytest.raises(Stopped, match="does not list names in their order"):
        list(pages.read([Stretch("other:///x", "")]))


def test_a_store_that_goes_on_from_the_beginning_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec.register_implementation("other", stores.OtherStore, clobber=True)
    monkeypatch.setitem(pages.PAGES, "other", lambda *_: Page([(f"{n:04d}", 1) for n in range(1_000)], True))
    with pytest.raises(Stopped, match="does not list names in their order"):
        list(pages.read([Stretch("other:///x", "")]))


def test_buckets_that_have_no_order_are_listed_at_once() -> None:
    assert pages.has_pages("s3://bucket/set") and pages.has_pages("gs://bucket")
    assert not any(map(pages.has_pages, ("s3://bucket--use1-az4--x-s3/set", "/set", "file:///set", "hdfs://host/set")))


class Google:
    """Of gcsfs what is asked: names from an offset on, which is one of them, and pages that come short."""

    def __init__(self, names: list[str], page: int) -> None:
        self.names, self.page = sorted(names), page

    def call(self, method: str, path: str, bucket: str, *, prefix: str, pageToken: str = "", **asked: Any) -> Any:
        assert (method, path, bucket) == ("GET", "b/{}/o", "bucket")
        ours = [name for name in self.names if name.startswith(prefix) and name >= asked.get("startOffset", "")]
        begin = int(pageToken or 0)
        items = [{"name": name, "size": "7"} for name in ours[begin : begin + self.page]]
        more = {"nextPageToken": f"{begin + self.page}"} if begin + self.page < len(ours) else {}
        return ({"items": items} if items else {}) | more


class Amazon:
    """Of s3fs what is asked: every other page is empty."""

    def __init__(self, names: list[str], page: int) -> None:
        self.names, self.page = sorted(names), page

    def call_s3(self, method: str, *, Bucket: str, Prefix: str, MaxKeys: int, **asked: str) -> Any:
        assert (method, Bucket, MaxKeys) == ("list_objects_v2", "bucket", pages.NAMES)
        token = asked.get("ContinuationToken")
        after = token if token is not None else asked.get("StartAfter", "")
        ours = [name for name in self.names if name.startswith(Prefix) and name > after]
        if token is None and ours:
            return {"IsTruncated": True, "NextContinuationToken": after}
        keys = [{"Key": name, "Size": 7} for name in ours[: self.page]]
        return {"Contents": keys, "IsTruncated": len(ours) > self.page}


@pytest.mark.parametrize("page", [1, 2, 3, 1_000])
@pytest.mark.parametrize(("scheme", "kind"), [("gs", Google), ("s3", Amazon)])
def test_pages_that_come_short_or_empty_are_gone_on_from(
    monkeypatch: pytest.MonkeyPatch, scheme: str, kind: type[Google] | type[Amazon], page: int
) -> None:
    names = [f"set/plan/part-{number:05d}.json" for number in range(30)]
    store = kind([*names, "set/planet/x", "set/plan"], page)
    monkeypatch.setattr(pages.fs, "file_system", lambda path: (store, path.partition("://")[2]))
    read = pages.read([Stretch(f"{scheme}://bucket/set/plan", "")])
    assert sorted(name for _, sizes in read for name, _ in sizes) == [name.removeprefix("set/plan/") for name in names]
