"""From candidates to shard lists: one row per canonical URL, capped, counted, balanced and routed to host partitions.

Every function here works on the *pairs of one bucket*: a flat table, one row per (canonical URL, caption), the captions of
a URL adjacent. Buckets are ranges of a hash of the canonical URL, so all pairs of a URL meet in one bucket. Global facts (query
counts, the cap) add up over buckets; captions and domains are counted by ranges of their hashes (`wit.plan.counts`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wit.arrays import (
    Floats,
    Hashes,
    Ids,
    Ints,
    Mask,
    as_schema,
    changes,
    list_of,
    offsets_of,
    one_array,
    rank_in_run,
    run_lengths,
    run_starts,
)
from wit.hashing import bucket_of, column_hashes, keyed_column, wide_hashes
from wit.plan import balance
from wit.reasons import Reason
from wit.records import CANDIDATES, CAPTION, DROPPED, PLAN
from wit.store.shuffle import Dealt
from wit.urls import host_of, registrable_domain

PAIRS = pa.schema(
    [
        *[field for field in CANDIDATES if field.name not in ("copies", "language_score")],
        ("row", pa.int32()),  # number of the URL within the bucket
        ("host", pa.string()),
        ("domain", pa.string()),
        ("critical_t", pa.float64()),
    ]
)
SCATTERED = pa.schema([field for field in PAIRS if field.name not in ("row", "host", "domain", "critical_t")])
# What decides about a pair, under half of its bytes on the disk; the passes between merge and admit read no more.
NARROW = pa.schema(
    [
        *[PAIRS.field(name) for name in ("key", "query_ids", "row")],
        *[(name, pa.uint64()) for name in ("caption_hash", "host_hash", "domain_hash")],
    ]
)
WIDE = pa.schema([field for field in PAIRS if field.name not in ("key", "query_ids", "row", "critical_t")])
WEIGHED = pa.schema([("place", pa.int32()), *[PAIRS.field(name) for name in ("row", "critical_t")]])


REMEMBERED = 4  # rows of a URL in one chunk. Of one with fewer, all of 40,000 chunks send a bucket no more than 120,000


@dataclass(frozen=True, slots=True)
class Sent:
    """Of the URLs that a task has met often: the pairs that it sent and that a bucket may still keep. 24 bytes each, so at most
    120 MB for a task of 5 million rows."""

    urls: Hashes  # [n, 2]
    pairs: Hashes  # [n]


NOTHING_SENT = Sent(np.zeros((0, 2), np.uint64), np.zeros(0, np.uint64))


def _by_url(
    table: pa.Table, seed: int, buckets: int, captions: int, sent: Sent = NOTHING_SENT
) -> tuple[pa.Table, Ints, pa.Table, Sent]:
    """(rows, bucket of each row, dropped, what is sent then). Rows are ordered by URL hash, then by keyed pair hash; repeated
    pairs and captions beyond the limit are dropped. Dropping is associative: chunks do it first, with what their task has `sent`
    before, and buckets again. So a URL on a million pages never fills a bucket."""
    before = len(sent.pairs)
    urls = np.concatenate([sent.urls, wide_hashes(seed, table["canonical_url"])])
    pairs = np.concatenate([sent.pairs, keyed_column(seed, "captions", table["key"])])
    order = np.lexsort((pairs, urls[:, 1], urls[:, 0]))  # stable: of equal pairs what was sent comes first
    urls, pairs = urls[order], pairs[order]
    new_url = changes(urls)
    repeated = ~(new_url | changes(pairs))
    urls, pairs, place = urls[~repeated], pairs[~repeated], order[~repeated] - before
    surplus = rank_in_run(np.flatnonzero(new_url[~repeated]), len(place)) >= captions
    dropped = pa.concat_tables(
        [
            drop_rows(table.take(order[repeated] - before), Reason.DUPLICATE_PAIR),
            drop_rows(table.take(place[surplus & (place >= 0)]), Reason.TOO_MANY_CAPTIONS),
        ]
    )
    rows = ~surplus & (place >= 0)
    return (
        table.take(place[rows]),
        bucket_of(urls[rows][:, 0], buckets),
        dropped,
        _often(Sent(urls[~surplus], pairs[~surplus])),
    )


def _often(sent: Sent) -> Sent:
    """Those of the URLs that have REMEMBERED pairs there."""
    starts = run_starts(sent.urls)
    lengths = run_lengths(starts, len(sent.urls))
    often = np.repeat(lengths >= REMEMBERED, lengths)
    return Sent(sent.urls[often], sent.pairs[often])


def drop_rows(rows: pa.Table, reason: Reason, detail: str = "") -> pa.Table:
    """The rows as records.DROPPED, all for one reason."""
    return as_schema(DROPPED, rows, stage=reason.stage, reason=reason.value, detail=detail)


def scatter(
    chunks: Iterable[pa.Table], *, seed: int, buckets: int, captions: int, by_task: bool = True
) -> Iterator[Dealt]:
    """The candidate rows of a task, a chunk at a time, dealt to buckets by URL. A pair that a chunk before has sent, or captions
    that are too many with those that it has, go here; not so `by_task=False`."""
    sent = NOTHING_SENT
    for table in chunks:
        before = sent if by_task else NOTHING_SENT
        rows, bucket, dropped, sent = _by_url(table.select(SCATTERED.names), seed, buckets, captions, before)
        yield Dealt(rows, bucket, dropped, into=len(table))


def merge(rows: pa.Table, *, seed: int, captions: int) -> tuple[pa.Table, pa.Table]:
    """SCATTERED of one bucket -> (its pairs as PAIRS without critical t, dropped)."""
    rows, _, dropped, _ = _by_url(rows, seed, 1, captions)
    urls = one_array(rows["canonical_url"])
    new = np.ones(len(rows), bool)
    new[1:] = pc.not_equal(urls[1:], urls[:-1]).to_numpy(zero_copy_only=False)
    row = pa.array(np.cumsum(new) - 1, pa.int32())
    names = [host_of(url) for url in urls.filter(pa.array(new)).to_pylist()]
    hosts, domains = pa.array(names, pa.string()), pa.array(map(registrable_domain, names), pa.string())
    return as_schema(PAIRS, rows, row=row, host=hosts.take(row), domain=domains.take(row)), dropped


SITES = ("host", "domain")


def split(pairs: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Pairs as (NARROW, WIDE), without their critical t."""
    first = row_starts(pairs)
    captions = run_lengths(first, len(pairs))
    hashes = {
        "caption_hash": column_hashes(pairs["caption"]),
        **{f"{name}_hash": np.repeat(column_hashes(pairs[name].take(pa.array(first))), captions) for name in SITES},
    }
    narrow = as_schema(NARROW, pairs, **{name: pa.array(values) for name, values in hashes.items()})
    return narrow, pairs.select(WIDE.names)


def joined(narrow: pa.Table, wide: pa.Table, weighed: pa.Table | None = None) -> pa.Table:
    """The pairs of NARROW and WIDE; if `weighed` is given, those pairs alone, in its order and with its critical t."""
    columns = {name: (narrow if name in narrow.schema.names else wide)[name] for name in PAIRS.names[:-1]}
    if weighed is None:
        return as_schema(PAIRS, narrow, **columns)
    place = weighed["place"]
    return as_schema(PAIRS, weighed, **{name: column.take(place) for name, column in columns.items()})


def keys_of(pairs: pa.Table) -> list[str]:
    """The key of each pair."""
    keys: list[str] = pairs["key"].to_pylist()
    return keys


def drop_over_caps(pairs: pa.Table, lost: Ints) -> pa.Table:
    """The pairs that `wit.plan.counts.over_caps` found, as records.DROPPED."""
    reasons = {1: Reason.CAPTION_TOO_FREQUENT, 2: Reason.DOMAIN_CAP}
    return pa.concat_tables([drop_rows(pairs.filter(pa.array(lost == n)), reason) for n, reason in reasons.items()])


def memberships(pairs: pa.Table) -> tuple[Ints, Ids]:
    """(offsets [n + 1], query ids) of the pairs."""
    offsets, ids = offsets_of(pairs["query_ids"])
    return offsets, ids.to_numpy()


def weigh(pairs: pa.Table, kept: Mask | None, weights: Floats | Ints, hashes: Hashes, *, seed: int) -> pa.Table:
    """WEIGHED: the kept pairs (NARROW, or PAIRS; all for None) by URL, then critical t, then key; and where each stood."""
    pairs = pairs.select(["key", "query_ids", "row"]).append_column("place", pa.array(range(len(pairs)), pa.int32()))
    pairs = pairs if kept is None else pairs.filter(pa.array(kept))
    offsets, ids = memberships(pairs)
    keys = keys_of(pairs)
    critical = balance.critical_t(balance.pair_draws(seed, keys, offsets, ids, hashes), weights, offsets, ids)
    order = np.lexsort((np.array(keys, dtype="S32"), critical, pairs["row"].to_numpy()))
    return as_schema(WEIGHED, pairs, critical_t=pa.array(critical)).take(pa.array(order))


def row_starts(pairs: pa.Table) -> Ints:
    """Where the pairs of each URL begin."""
    return run_starts(pairs["row"].to_numpy())


def critical_of_rows(pairs: pa.Table) -> Floats:
    """Critical t of each URL: that of its first, best caption."""
    critical: Floats = pairs["critical_t"].to_numpy()
    return critical[row_starts(pairs)]


def smallest_draws(
    pairs: pa.Table, counts: Ints, hashes: Hashes, *, seed: int, cap: int
) -> Iterator[tuple[int, Floats]]:
    """For `--cap hard`: (query, this bucket's draws that may be among its cap + 1 smallest) of each query above the cap."""
    offsets, ids = memberships(pairs)
    draws = balance.pair_draws(seed, keys_of(pairs), offsets, ids, hashes)
    over = counts[ids] > cap
    ids, draws = ids[over], draws[over]
    order = np.argsort(ids, kind="stable")
    ids, draws = ids[order], draws[order]
    for start, end in itertools.pairwise([*run_starts(ids).tolist(), len(ids)]):
        # The cap-th smallest of `count` uniform draws lies near cap / count; 8 standard deviations above it is certain.
        bound = (cap + 8 * np.sqrt(cap) + 8) / float(counts[ids[start]])
        mine = draws[start:end]
        yield int(ids[start]), mine[mine <= bound]


def nest(pairs: pa.Table) -> pa.Table:
    """Pairs in row order as records.PLAN: the first pair of each URL gives key, caption and source."""
    starts = row_starts(pairs)
    values = {name: one_array(pairs[name]) for name in pairs.schema.names} | {"text": one_array(pairs["caption"])}
    captions = pa.StructArray.from_arrays([values[field.name] for field in CAPTION], fields=list(CAPTION))
    first = pairs.take(pa.array(starts))
    return as_schema(PLAN, first, captions=list_of(captions, np.append(starts, len(pairs))))


def admit(pairs: pa.Table, threshold: float) -> tuple[pa.Table, pa.Table]:
    """(planned rows as PLAN, dropped). A URL is planned if its critical t is below the threshold; its further captions live on in
    its row, and are counted as dropped (SAME_URL)."""
    starts = row_starts(pairs)
    admitted = np.repeat(critical_of_rows(pairs) < threshold, run_lengths(starts, len(pairs)))
    first = np.zeros(len(pairs), bool)
    first[starts] = True
    dropped = [
        drop_rows(pairs.filter(pa.array(~admitted)), Reason.BALANCED_OUT),
        drop_rows(pairs.filter(pa.array(admitted & ~first)), Reason.SAME_URL),
    ]
    return nest(pairs.filter(pa.array(admitted))), pa.concat_tables(dropped)


def arrange(rows: pa.Table, seed: int) -> pa.Table:
    """A partition's rows by (rank within host, hash of host): neighbours are on different hosts, and a host's pictures
    come at regular distances."""
    order_in_host = keyed_column(seed, "order in host", rows["key"])
    host = keyed_column(seed, "host", rows["host"])
    by_host = np.lexsort((order_in_host, host))
    rank = np.empty(len(rows), np.int64)
    rank[by_host] = rank_in_run(run_starts(host[by_host]), len(rows))
    return rows.take(pa.array(np.lexsort((order_in_host, host, rank))))
