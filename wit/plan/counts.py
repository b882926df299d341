"""Which captions and domains are too frequent: exact counts, by ranges of their hashes.

Each bucket counts its own; the counts of one hash meet in one range; those above their cap go back to the buckets that have them.
So no worker needs more than what its bucket or range holds, whatever the size of the set. A range whose name is in all of 80,000
buckets would write as many batches of one row. So it tells blocks of a few buckets, each of which takes what is its own.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from wit.arrays import Hashes, Ints, Mask, changes, run_lengths, run_starts
from wit.hashing import bucket_of, fraction, keyed_column, keyed_hashes
from wit.plan.config import PlanConfig
from wit.plan.pairs import keys_of
from wit.store.shuffle import Dealt

CAPTIONS, DOMAINS = 0, 1  # kinds of names
COUNT = pa.schema([("kind", pa.int8()), ("hash", pa.uint64()), ("rows", pa.int64()), ("bucket", pa.int32())])


def count_names(narrow: pa.Table, bucket: int, ranges: int, config: PlanConfig) -> Dealt:
    """The counts of one bucket, dealt to ranges: pairs by caption, URLs by domain; of a kind without a cap there are none."""
    tables = [COUNT.empty_table()]
    if config.max_urls_per_caption:
        tables.append(_counts(CAPTIONS, narrow["caption_hash"].to_numpy(), bucket))
    if config.max_urls_per_domain:
        first = changes(narrow["row"].to_numpy())
        tables.append(_counts(DOMAINS, narrow["domain_hash"].to_numpy()[first], bucket))
    rows = pa.concat_tables(tables)
    return Dealt.ordered(rows, bucket_of(rows["hash"].to_numpy(), ranges))


def _counts(kind: int, hashes: Hashes, bucket: int) -> pa.Table:
    names, rows = np.unique(hashes, return_counts=True)
    columns = [np.full(len(names), kind, np.int8), names, rows, np.full(len(names), bucket, np.int32)]
    return pa.table([pa.array(column) for column in columns], schema=COUNT)


def too_frequent(counts: pa.Table, config: PlanConfig, *, block: int = 1) -> Dealt:
    """The counts of one range -> the sums that are above their cap, for each bucket that has the name, dealt to blocks of so many
    buckets."""
    kinds, hashes = counts["kind"].to_numpy(), counts["hash"].to_numpy()
    order = np.lexsort((hashes, kinds))
    kinds, hashes, rows = kinds[order], hashes[order], counts["rows"].to_numpy()[order]
    first = run_starts(np.stack([kinds.astype(np.uint64), hashes], axis=1)) if len(order) else np.zeros(0, np.int64)
    sums = np.repeat(np.add.reduceat(rows, first) if len(first) else rows, run_lengths(first, len(order)))
    caps = np.array([config.max_urls_per_caption, config.max_urls_per_domain])
    over = np.flatnonzero(sums > caps[kinds])
    bucket = counts["bucket"].to_numpy()[order][over]
    columns = [kinds[over], hashes[over], sums[over], bucket]
    return Dealt.ordered(pa.table([pa.array(column) for column in columns], schema=COUNT), bucket // np.int64(block))


def of_bucket(heavy: pa.Table, bucket: int) -> pa.Table:
    """What a bucket takes of that which its block was told."""
    return heavy.filter(pa.array(heavy["bucket"].to_numpy() == bucket))


def over_caps(
    narrow: pa.Table, heavy: pa.Table, urls: pa.ChunkedArray | None, *, seed: int, config: PlanConfig
) -> Ints:
    """[pairs] 0 for one that stays, 1 for a caption that is too frequent, 2 for a domain above its cap, by `heavy`, what
    `too_frequent` gave for this bucket. Of a name above its cap a share of cap / count stays, chosen by keyed hash. `urls` are
    the pairs' canonical URLs, which only domains need."""
    lost = np.zeros(len(narrow), np.int64)
    count = _count_of(narrow["caption_hash"].to_numpy(), heavy, CAPTIONS)
    over = np.flatnonzero(count)
    draws = fraction(keyed_hashes(seed, "caption cap", keys_of(narrow.take(pa.array(over)))))
    lost[over[draws >= config.max_urls_per_caption / count[over]]] = 1
    count = _count_of(narrow["domain_hash"].to_numpy(), heavy, DOMAINS)
    over = np.flatnonzero((count > 0) & (lost == 0))
    if len(over) and urls is not None:
        draws = fraction(keyed_column(seed, "domain cap", urls.take(pa.array(over))))
        lost[over[draws >= config.max_urls_per_domain / count[over]]] = 2
    return lost


def has_domains(heavy: pa.Table) -> bool:
    """Whether any domain is above its cap."""
    return bool((heavy["kind"].to_numpy() == DOMAINS).any())


def _count_of(hashes: Hashes, heavy: pa.Table, kind: int) -> Ints:
    """The count of each hash, 0 where it is not above its cap."""
    mine: Mask = heavy["kind"].to_numpy() == kind
    known, counts = heavy["hash"].to_numpy()[mine], heavy["rows"].to_numpy()[mine]
    if not len(known):
        return np.zeros(len(hashes), np.int64)
    order = np.argsort(known)
    known, counts = known[order], counts[order]
    at = np.minimum(np.searchsorted(known, hashes), len(known) - 1)
    return np.where(known[at] == hashes, counts[at], 0)
