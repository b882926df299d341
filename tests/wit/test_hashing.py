from __future__ import annotations

import hashlib

import numpy as np
import pyarrow as pa
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from wit import hashing

TEXTS = st.lists(st.text(), max_size=8)


@given(st.integers(0, 2**63), TEXTS)
def test_arrays_of_hashes_are_the_hashes_one_by_one(seed: int, items: list[str]) -> None:
    column = pa.chunked_array([items], pa.string())
    keyed = [hashing.keyed_hash(seed, "p", item) for item in items]
    assert hashing.keyed_hashes(seed, "p", items).tolist() == keyed == hashing.keyed_column(seed, "p", column).tolist()
    names = [xxhash.xxh3_64_intdigest(item.encode()) for item in items]
    assert hashing.name_hashes(items).tolist() == names == hashing.column_hashes(column).tolist()
    wide = [xxhash.xxh3_128_intdigest(item.encode(), seed) for item in items]
    assert [int(high) << 64 | int(low) for high, low in hashing.wide_hashes(seed, column)] == wide


def test_a_draw_is_a_function_of_seed_purpose_and_item_alone_and_stays_what_it_was() -> None:
    secret = hashlib.blake2b(b"1:balance", digest_size=16).digest()
    expected = hashlib.blake2b(b"key", digest_size=8, key=secret).digest()
    assert hashing.keyed_hash(1, "balance", "key") == int.from_bytes(expected, "big")
    draws = {hashing.keyed_hash(s, p, i) for s in (1, 2) for p in ("a", "b") for i in ("x", "y")}
    assert len(draws) == 8


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=50), st.integers(1, 1_000))
def test_buckets_are_ranges_of_the_hash(values: list[int], buckets: int) -> None:
    found = hashing.bucket_of(np.array(sorted(values), np.uint64), buckets)
    assert (np.diff(found) >= 0).all() and found.min() >= 0 and found.max() < buckets


@given(st.lists(st.integers(0, 2**64 - 1), max_size=20))
def test_draws_lie_below_one_and_mixing_loses_nothing(values: list[int]) -> None:
    hashes = np.array(values, np.uint64)
    draws = hashing.fraction(hashes)
    assert ((draws >= 0) & (draws < 1)).all()
    assert len(np.unique(hashing.mixed(hashes))) == len(np.unique(hashes))
