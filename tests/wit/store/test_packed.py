"""A packed list is the list, in a fraction of its memory."""

from __future__ import annotations

import hashlib
import json
import pickle
import tracemalloc

import pytest

from wit.store.manifests import File, Marker, Unit
from wit.store.packed import PIECE, Packed
from wit.typed import json_text, load, to_json


def marker(number: int) -> Marker:
    digest = hashlib.sha256(b"%d" % number).hexdigest()
    endings = ("tar", "parquet", "fetch.parquet")
    files = {e: File(f"raw/{number:05d}-0000.{digest[:12]}.{e}", number << 10, digest) for e in endings}
    return Marker(
        into=10, out=9, dropped={"timeout": 1}, unit=Unit.raw(f"{number:05d}", 0), fingerprint="f" * 32, files=files
    )


@pytest.mark.parametrize("count", [0, 1, PIECE, PIECE + 1, 3 * PIECE])
def test_it_is_what_was_packed_in_the_same_order(count: int) -> None:
    items = [marker(number) for number in range(count)]
    packed = Packed(Marker, map(to_json, items))
    assert len(packed) == count and list(packed) == items and packed == tuple(items) and packed == items
    assert packed == Packed(Marker, map(to_json, items)) and packed != [*items, marker(0)] and packed != "items"
    assert [packed[number] for number in range(0, count, 99)] == items[::99]
    assert packed[-3:] == items[-3:] and pickle.loads(pickle.dumps(packed)) == items
    assert json_text(packed) == json_text(items), "it is written as any list"
    with pytest.raises(IndexError):
        packed[count]


def test_what_is_none_of_its_kind_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="it lacks in"):
        Packed(Marker, [to_json(marker(0)), b'{"out": 1}'])


def test_it_takes_a_small_part_of_the_memory() -> None:
    """Of 1,500 markers with digests that nothing can compress."""
    data = [to_json(marker(number)) for number in range(1_500)]
    tracemalloc.start()
    try:
        packed = Packed(Marker, data)
        small = tracemalloc.get_traced_memory()[0]
        loaded = [load(Marker, one) for one in map(json.loads, data)]
        large = tracemalloc.get_traced_memory()[0] - small
    finally:
        tracemalloc.stop()
    assert len(packed) == len(loaded) and small * 5 < large, (small, large)
