"""From candidates to shard lists: one row per canonical URL, capped, counted, balanced and routed to host partitions.

Every function here works on the *pairs of one bucket*: a flat table, one row per (canonical URL, caption), the captions of
a URL adjacent. Buckets are ranges of a hash of the canonical URL, so all pairs of a URL meet in one bucket. Global facts (caption
and domain counts, query counts, the cap) are small arrays that add up over buckets.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wit.arithmetic import ceil_div
from wit.arrays import (
    Floats,
    Hashes,
    Ids,
    Ints,
    as_schema,
    changes,
    list_of,
    offsets_of,
    one_array,
    rank_in_run,
    run_lengths,
    run_starts,
)
from wit.hashing import bucket_of, column_hashes, fraction, keyed_column, keyed_hashes, wide_hashes
from wit.plan import balance
from wit.reasons import Reason
from wit.records import CANDIDATES, CAPTION, DROPPED, PLAN
from wit.store.shuffle import SliceRef, read_slices
from wit.urls import host_of, registrable_domain

PAIRS = pa.schema(
    [
        *[field for field in CANDIDATES if field.name not in ("copies", "language_score")],
        ("row", pa.int32()),  # number of the URL within the bucket
        ("domain", pa.string()),
        ("critical_t", pa.float64()),
    ]
)
SCATTERED = pa.schema([field for field in PAIRS if field.name not in ("row", "domain", "critical_t")])


def bucket_count(rows: int, rows_per_bucket: int) -> int:
    """How many buckets the rows need; at least one."""
    return max(1, ceil_div(rows, rows_per_bucket))


def _by_url(table: pa.Table, seed: int, buckets: int, captions: int) -> tuple[pa.Table, Ints, pa.Table]:
    """(rows, bucket of each row, dropped). Rows are ordered by URL hash, then by keyed pair hash; repeated pairs and captions
    beyond the limit are dropped. Dropping is associative: tasks do it first and buckets again, so that a URL on a million pages
    never fills a bucket."""
    urls = wide_hashes(seed, table["canonical_url"])
    pairs = keyed_column(seed, "captions", table["key"])
    order = np.lexsort((pairs, urls[:, 1], urls[:, 0]))
    urls, pairs = urls[order], pairs[order]
    new_url = changes(urls)
    repeated = ~(new_url | changes(pairs))
    distinct = order[~repeated]
    surplus = rank_in_run(np.flatnonzero(new_url[~repeated]), len(distinct)) >= captions
    dropped = pa.concat_tables(
        [
            drop_rows(table.take(order[repeated]), Reason.DUPLICATE_PAIR),
            drop_rows(table.take(distinct[surplus]), Reason.TOO_MANY_CAPTIONS),
        ]
    )
    return table.take(distinct[~surplus]), bucket_of(urls[~repeated][~surplus][:, 0], buckets), dropped


def drop_rows(rows: pa.Table, reason: Reason, detail: str = "") -> pa.Table:
    """The rows as records.DROPPED, all for one reason."""
    return as_schema(DROPPED, rows, stage=reason.stage, reason=reason.value, detail=detail)


def scatter(table: pa.Table, *, seed: int, buckets: int, captions: int) -> tuple[pa.Table, Ints, pa.Table]:
    """Candidate rows ordered by bucket: (rows, bucket of each, dropped)."""
    return _by_url(table.select(SCATTERED.names), seed, buckets, captions)


def merge(refs: Iterable[SliceRef], *, seed: int, captions: int) -> tuple[pa.Table, pa.Table]:
    """(pairs of a bucket as PAIRS without critical t, dropped)."""
    rows, _, dropped = _by_url(read_slices(refs, SCATTERED), seed, 1, captions)
    urls = one_array(rows["canonical_url"])
    new = np.ones(len(rows), bool)
    new[1:] = pc.not_equal(urls[1:], urls[:-1]).to_numpy(zero_copy_only=False)
    row = pa.array(np.cumsum(new) - 1, pa.int32())
    domains = pa.array([registrable_domain(host_of(u)) for u in urls.filter(pa.array(new)).to_pylist()], pa.string())
    return as_schema(PAIRS, rows, row=row, domain=domains.take(row)), dropped


# Heavy hitters: captions and domains above a cap, found exactly and without grouping by them. First comes a dense array of counts
# by hash cell, which adds up over buckets; then exact counts of the few hashes in cells whose count exceeds the cap.


def sketch_cells(rows: int) -> int:
    """How many cells a sketch has: a power of two, so that a cell holds 64 rows on average; at most 64 MB of counts."""
    return 1 << int(np.clip(np.ceil(np.log2(max(rows, 1) / 64 + 1)), 10, 23))


def _caption_hashes(pairs: pa.Table) -> Hashes:
    return column_hashes(pairs["caption"])


def _domain_hashes(pairs: pa.Table) -> Hashes:
    """One hash per URL row (its first pair)."""
    return column_hashes(pairs["domain"].filter(pa.array(changes(pairs["row"].to_numpy()))))


def sketch(pairs: pa.Table, cells: int) -> Ints:
    """[2, cells] counts of captions and of domains by hash cell."""
    mask = np.uint64(cells - 1)
    hashes = (_caption_hashes(pairs), _domain_hashes(pairs))
    return np.stack([np.bincount((h & mask).astype(np.int64), minlength=cells) for h in hashes])


@dataclass(frozen=True, slots=True)
class Heavy:
    """Exact counts of the captions and domains that may be above their caps, by 64-bit hash, ascending."""

    captions: tuple[Hashes, Ints]
    domains: tuple[Hashes, Ints]


NOBODY: Hashes = np.zeros(0, np.uint64)


def _suspects(hashes: Hashes, counts: Ints, cap: int, named: Hashes = NOBODY) -> tuple[Hashes, Ints]:
    if not cap:
        return np.zeros(0, np.uint64), np.zeros(0, np.int64)
    suspect = counts[(hashes & np.uint64(len(counts) - 1)).astype(np.int64)] > cap
    return np.unique(hashes[suspect | np.isin(hashes, named)], return_counts=True)


def count_heavy(pairs: pa.Table, counts: Ints, *, caption_cap: int, domain_cap: int, named: Hashes = NOBODY) -> Heavy:
    """This bucket's exact counts: of every hash in a cell of the summed sketch above its cap, and of the `named` domains."""
    captions = _suspects(_caption_hashes(pairs), counts[0], caption_cap)
    return Heavy(captions, _suspects(_domain_hashes(pairs), counts[1], domain_cap, named))


def _add(parts: Iterable[tuple[Hashes, Ints]]) -> tuple[Hashes, Ints]:
    parts = list(parts)
    hashes, inverse = np.unique(np.concatenate([p[0] for p in parts]), return_inverse=True)
    return hashes, np.bincount(inverse, np.concatenate([p[1] for p in parts]), len(hashes)).astype(np.int64)


def add_heavy(parts: Iterable[Heavy]) -> Heavy:
    """The counts of all buckets together; empty counts where there are no buckets."""
    parts = list(parts) or [Heavy(*[(np.zeros(0, np.uint64), np.zeros(0, np.int64))] * 2)]
    return Heavy(_add(p.captions for p in parts), _add(p.domains for p in parts))


def _count_of(hashes: Hashes, heavy: tuple[Hashes, Ints]) -> Ints:
    """The exact count of each hash, 0 where it is not heavy."""
    known, counts = heavy
    if not len(known):
        return np.zeros(len(hashes), np.int64)
    at = np.minimum(np.searchsorted(known, hashes), len(known) - 1)
    return np.where(known[at] == hashes, counts[at], 0)


def thin(pairs: pa.Table, heavy: Heavy, *, seed: int, caption_cap: int, domain_cap: int) -> tuple[pa.Table, pa.Table]:
    """(pairs, dropped). A caption or domain above its cap keeps a share of cap / count, chosen by keyed hash."""
    keep = np.ones(len(pairs), bool)
    count = _count_of(_caption_hashes(pairs), heavy.captions) if caption_cap else np.zeros(len(pairs))
    over = np.flatnonzero(count > caption_cap) if caption_cap else np.zeros(0, np.int64)
    draws = fraction(keyed_hashes(seed, "caption cap", pairs["key"].take(over).to_pylist()))
    keep[over] = draws < caption_cap / np.maximum(count[over], 1)
    frequent = drop_rows(pairs.filter(pa.array(~keep)), Reason.CAPTION_TOO_FREQUENT)
    pairs = pairs.filter(pa.array(keep))
    if not domain_cap:
        return pairs, frequent
    count = _count_of(column_hashes(pairs["domain"]), heavy.domains)
    draws = fraction(keyed_column(seed, "domain cap", pairs["canonical_url"]))
    keep = (count <= domain_cap) | (draws < domain_cap / np.maximum(count, 1))
    return pairs.filter(pa.array(keep)), pa.concat_tables(
        [frequent, drop_rows(pairs.filter(pa.array(~keep)), Reason.DOMAIN_CAP)]
    )


def memberships(pairs: pa.Table) -> tuple[Ints, Ids]:
    """(offsets [n + 1], query ids) of the pairs."""
    offsets, ids = offsets_of(pairs["query_ids"])
    return offsets, ids.to_numpy()


def weigh(pairs: pa.Table, counts: Floats | Ints, hashes: Hashes, *, seed: int) -> pa.Table:
    """The pairs with their critical t, the captions of each URL ordered by it (then by key)."""
    offsets, ids = memberships(pairs)
    keys = pairs["key"].to_pylist()
    draws = balance.pair_draws(seed, keys, offsets, ids, hashes)
    critical = balance.critical_t(draws, counts, offsets, ids)
    order = np.lexsort((np.array(keys, dtype="S32"), critical, pairs["row"].to_numpy()))
    weighed = pairs.set_column(pairs.schema.get_field_index("critical_t"), "critical_t", pa.array(critical))
    return weighed.take(pa.array(order))


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
    draws = balance.pair_draws(seed, pairs["key"].to_pylist(), offsets, ids, hashes)
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
    hosts = pa.array([host_of(u) for u in first["canonical_url"].to_pylist()], pa.string())
    return as_schema(PLAN, first, captions=list_of(captions, np.append(starts, len(pairs))), host=hosts)


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
