"""Hashes that decide. Keyed ones depend on the build's seed, so that nobody can craft URLs that always pass.

Draws for one purpose are independent of draws for another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import xxhash

from wit.arrays import Floats, Hashes, Ints, texts

GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio, odd: multiplying by it loses nothing and spreads upwards


def _secret(seed: int, purpose: str) -> bytes:
    return hashlib.blake2b(f"{seed}:{purpose}".encode(), digest_size=16).digest()


def keyed_hash(seed: int, purpose: str, item: str) -> int:
    """A 64-bit hash of `item` that nobody can predict without the build's seed; each `purpose` is an independent draw."""
    return int.from_bytes(hashlib.blake2b(item.encode(), digest_size=8, key=_secret(seed, purpose)).digest(), "big")


def keyed_hashes(seed: int, purpose: str, items: Iterable[str]) -> Hashes:
    """`keyed_hash` of every item."""
    secret, blake2b = _secret(seed, purpose), hashlib.blake2b
    raw = b"".join([blake2b(item.encode(), digest_size=8, key=secret).digest() for item in items])
    return np.frombuffer(raw, ">u8").astype(np.uint64)


def keyed_column(seed: int, purpose: str, column: pa.ChunkedArray) -> Hashes:
    """`keyed_hash` of every text of a column."""
    return np.concatenate([np.zeros(0, np.uint64), *(keyed_hashes(seed, purpose, piece) for piece in texts(column))])


def name_hash(name: str | bytes) -> int:
    """64 bits, no secret: for finding equal names and nothing else."""
    return xxhash.xxh3_64_intdigest(name.encode() if isinstance(name, str) else name)


def name_hashes(names: Iterable[str | bytes]) -> Hashes:
    """`name_hash` of every name."""
    return np.fromiter(map(name_hash, names), np.uint64)


def column_hashes(column: pa.ChunkedArray) -> Hashes:
    """`name_hash` of every text of a column."""
    return np.concatenate([np.zeros(0, np.uint64), *(name_hashes(piece) for piece in texts(column))])


def wide_hashes(seed: int, column: pa.ChunkedArray) -> Hashes:
    """[n, 2] halves of a keyed 128-bit hash of every text: no two of 10 billion URLs share it."""
    secret, digest = seed & 0xFFFFFFFFFFFFFFFF, xxhash.xxh3_128_digest
    joined = b"".join([digest(text.encode(), secret) for piece in texts(column) for text in piece])
    return np.frombuffer(joined, ">u8").astype(np.uint64).reshape(-1, 2)


def bucket_of(high: Hashes, buckets: int) -> Ints:
    """The bucket of each hash, in [0, buckets): its leading 32 bits, scaled. A bucket is a range of hashes."""
    return ((high >> np.uint64(32)) * np.uint64(buckets) >> np.uint64(32)).astype(np.int64)


def mixed(hashes: Hashes) -> Hashes:
    """The finaliser of SplitMix64: every input bit moves every output bit."""
    hashes = (hashes ^ (hashes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    hashes = (hashes ^ (hashes >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return hashes ^ (hashes >> np.uint64(31))


def fraction(hashes: Hashes) -> Floats:
    """Hashes as draws in [0, 1)."""
    return (hashes >> np.uint64(11)).astype(np.float64) * 2.0**-53
