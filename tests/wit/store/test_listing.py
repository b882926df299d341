"""Large directories are listed by the beginnings of names, several at a time, where a store can do that."""

import sys
from pathlib import Path

import fsspec
import pytest

from wit.store import fs, listing
from wit.store.listing import sizes_side_by_side

sys.path.append(str(Path(__file__).parents[2]))

import stores

NAMES = ("00000-0001.json", "r0001-0000.json", "plan-merge-00000.parquet", "plan-thin-00000.parquet", "_MANIFEST.json")


@pytest.mark.parametrize("by_beginning", [False, True])
@pytest.mark.parametrize("scheme", ["", "other://"])
def test_what_a_build_writes_is_listed_whatever_the_store_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str, by_beginning: bool
) -> None:
    fsspec.register_implementation("other", stores.OtherStore, clobber=True)
    asked: list[str] = []
    found = stores.OtherStore.find
    monkeypatch.setattr(
        stores.OtherStore,
        "find",
        lambda self, path, **named: asked.append(named["prefix"]) or found(self, path, **named),
    )
    if by_beginning:
        monkeypatch.setattr(listing, "BY_BEGINNING", {"other"})
    for number, name in enumerate(NAMES):
        (tmp_path / name).write_bytes(b"x" * (number + 1))
    path = f"{scheme}{tmp_path}"
    everything, ours, none = sizes_side_by_side([(path, ""), (path, "plan-"), (fs.join(path, "gone"), "")])
    assert everything == {name: number + 1 for number, name in enumerate(NAMES)}
    assert ours == {name: everything[name] for name in NAMES if name.startswith("plan-")}
    assert none == {}
    assert bool(asked) is (by_beginning and bool(scheme)), "a store that can is asked for beginnings, any other for all"
    assert all(asked)
