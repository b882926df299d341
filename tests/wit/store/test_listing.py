"""What stands in directories, and what stands there besides."""

import sys
import tracemalloc
from pathlib import Path
from typing import Any

import fsspec
import pytest

from wit.store import fs, listing, pages
from wit.store.listing import HALVES, Listing, listed

sys.path.append(str(Path(__file__).parents[2]))

import stores

NAMES = ("00000-0001.json", "r0001-0000.json", "plan-merge-00000.parquet", "plan-thin-00000.parquet", "_MANIFEST.json")


@pytest.mark.parametrize("by_pages", [False, True])
@pytest.mark.parametrize("scheme", ["", "other://"])
def test_what_stands_in_a_directory_is_listed_whatever_the_store_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str, by_pages: bool
) -> None:
    fsspec.register_implementation("other", stores.OtherStore, clobber=True)
    asked: list[str] = []

    def page(store: Any, folder: str, beginning: str, after: str) -> pages.Page:
        asked.append(beginning)
        below = sorted(name.removeprefix(f"{folder}/") for name in [*store.find(folder), f"{folder}/"])
        ours = [name for name in below if name.startswith(beginning) and (name > after or not after)]
        sizes = [(name, Path(folder, name).stat().st_size if name else 0) for name in ours]
        return pages.Page(sizes[:2], len(sizes) > 2)

    if by_pages:
        monkeypatch.setitem(pages.PAGES, "other", page)
    for number, name in enumerate((*NAMES, "deeper/a", "deeper/b", "plan-deeper/a")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x" * (number + 1))
    path = f"{scheme}{tmp_path}"
    everything, ours, none = (
        dict(listed([place])) for place in ((path, "", ""), (path, "", "plan-"), (fs.join(path, "gone"), "", ""))
    )
    sizes = {name: number + 1 for number, name in enumerate(NAMES)}
    assert everything == {**sizes, "deeper": None, "plan-deeper": None}
    assert ours == {name: size for name, size in everything.items() if name.startswith("plan-")}
    assert none == {}
    assert bool(asked) is (by_pages and bool(scheme)), "a store that can is asked for pages, any other for all"
    both = dict(listed([(path, "raw/", ""), (path, "dropped/", "plan-")]))
    assert both == {f"raw/{name}": size for name, size in everything.items()} | {f"dropped/{n}": ours[n] for n in ours}


@pytest.mark.parametrize("count", [0, 1, 999, 1_000, 2_500])
def test_a_listing_is_the_sizes_by_name_and_tells_what_is_there_besides(count: int) -> None:
    sizes: dict[str, int | None] = {f"raw/{n:05d}-0000.\udcff.json": n << 33 for n in range(count)}
    sizes |= {"raw/directory": None} if count else {}
    found = Listing.of(sizes)
    assert found == sizes and len(found) == len(sizes) and list(found) == list(sizes)
    assert found.get("raw/nobody") is None and "raw/nobody" not in found
    some = [name for n, name in enumerate(sizes) if n % 3 == 0]
    assert found.besides(["raw/nobody", *some]) == {name: sizes[name] for name in sizes.keys() - set(some)}
    assert found.besides(sizes) == {} and found.besides(()) == sizes
    asked = ["raw/nobody", *sizes, "raw/directory"]
    assert found.sizes_of(asked) == [sizes.get(name) for name in asked] and found.sizes_of([]) == []


def test_names_whose_hashes_begin_alike_are_kept_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "_digest", lambda name: HALVES.pack(int(name), 7))
    sizes = {str(number): number for number in (5, 3, 9)}
    assert Listing.of(sizes) == sizes and Listing.of(sizes).besides(["3", "4"]) == {"5": 5, "9": 9}
    assert Listing.of(sizes).besides(["9", "5"]) == {"3": 3} and "4" not in Listing.of(sizes)


def test_a_listing_takes_little_memory() -> None:
    sizes = {f"plan/merge-{n:05d}.{n * 7919:012x}.dropped.parquet": n for n in range(20_000)}
    tracemalloc.start()
    try:
        found = Listing.of(sizes)
        assert tracemalloc.get_traced_memory()[0] < 60 * len(found)
    finally:
        tracemalloc.stop()


def test_what_a_store_has_below_the_name_of_a_file_costs_neither_the_file_nor_its_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsspec.register_implementation("other", stores.OtherStore, clobber=True)
    names = ["", "/x", "kept.json", "kept.json/x", "other.json"]
    monkeypatch.setitem(pages.PAGES, "other", lambda *_: pages.Page([(name, len(name)) for name in names], False))
    found = listed([(f"other://{tmp_path}", "plan/", "")])
    assert "plan/" not in found and found["plan/kept.json"] == len("kept.json")
    assert found.besides(["plan/kept.json"]) == {"plan/other.json": len("other.json")}
    assert found.besides([]) == dict.fromkeys(["plan/kept.json"], len("kept.json")) | {
        "plan/other.json": len("other.json")
    }
