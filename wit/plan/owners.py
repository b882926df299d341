"""Who owns which domain: one worker at a time. A domain gives no more rows than its rate lets anybody fetch in reasonable time.

Planned rows are routed by registrable domain to partitions; one worker at a time takes a partition. A giant is a domain too large
for one partition. It gets partitions of its own, which one worker takes in turn (`wit.download`); how many is known once all
rows are counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import xxhash

from wit.arrays import Floats, Hashes, Ints, run_lengths
from wit.fetch.config import FetchConfig
from wit.fetch.limits import HostLimit, HostLimits, read
from wit.hashing import column_hashes, fraction, keyed_hashes, name_hash, name_hashes
from wit.plan.config import PlanConfig
from wit.plan.pairs import bucket_count, critical_of_rows, drop_rows, row_starts
from wit.reasons import Reason
from wit.urls import host_of, registrable_domain


@dataclass(frozen=True, slots=True)
class Rates:
    """How many rows of a domain or host can be fetched in `hours`, at the rates in force when the plan began. Zero hours, or a
    rate of zero, mean no bound."""

    hours: float = 0.0
    domain_per_s: float = 0.0
    host_per_s: float = 0.0
    limits: HostLimits = field(default_factory=HostLimits)

    def of_domain(self, domain: str) -> float:
        """Rows of the domain that can be fetched in time; infinite without a bound."""
        return self._rows(self.limits.of(domain).rate or self.domain_per_s)

    def of_host(self, host: str) -> float:
        """Rows of the host that can be fetched in time; infinite without a bound."""
        return self._rows(self.limits.of(host).rate or self.host_per_s)

    def _rows(self, per_s: float) -> float:
        return self.hours * 3600 * per_s or np.inf

    def kept(self) -> KeptRates:
        """The rates in the form that the plan writes down."""
        named = {name: limit.rate for name, limit in self.limits.entries.items() if limit.rate}
        return KeptRates(self.hours, self.domain_per_s, self.host_per_s, named)


@dataclass(frozen=True, slots=True)
class KeptRates:
    """The rates as the marker of a plan keeps them; `named` are those of --host-limits, in requests a second."""

    hours: float
    domain_per_s: float
    host_per_s: float
    named: Mapping[str, float]

    def rates(self) -> Rates:
        """The rates that were written down."""
        limits = HostLimits({name: HostLimit(rate) for name, rate in self.named.items()})
        return Rates(self.hours, self.domain_per_s, self.host_per_s, limits)


def rates_of(plan: PlanConfig, fetch: FetchConfig) -> Rates:
    """The rates under these settings; raises what `limits.read` does for a bad --host-limits file."""
    return Rates(plan.max_domain_hours, fetch.domain_rate_per_s, fetch.host_rate_per_s, read(fetch.host_limits))


def suspicious_from(config: PlanConfig, rates: Rates) -> int:
    """A domain with more rows than this must be counted exactly: it may be capped or thinned, or be a giant."""
    bounds = (config.max_urls_per_domain or np.inf, config.max_urls_per_domain_partition, rates.of_domain(""))
    return max(1, int(min(*bounds, rates.of_host(""))))


def named_domains(rates: Rates) -> Hashes:
    """The hashes of domains named in --host-limits; they are counted exactly, however small they are."""
    names = {registrable_domain(name) for name in rates.limits.entries}
    return np.array(sorted(name_hash(name) for name in names), np.uint64)


@dataclass(frozen=True, slots=True)
class Counts:
    """For each name, by its hash, ascending: how many rows it has, and how many its rate allows."""

    hashes: Hashes
    rows: Ints
    allowed: Floats

    def shares(self, hashes: Hashes) -> Floats:
        """[n] the share of each name's rows that may stay; 1 for a name that is not counted."""
        known = np.minimum(np.searchsorted(self.hashes, hashes), max(len(self.hashes) - 1, 0))
        if not len(self.hashes):
            return np.ones(len(hashes))
        share = np.minimum(self.allowed / np.maximum(self.rows, 1), 1.0)
        return np.where(self.hashes[known] == hashes, share[known], 1.0)


@dataclass(frozen=True, slots=True)
class Owners:
    """Exact counts of planned rows, by suspicious domain and by host of those; they add up over buckets."""

    domains: Counts
    hosts: Counts


def count_owners(pairs: pa.Table, threshold: float, suspects: Hashes, rates: Rates) -> Owners:
    """Counts the URLs of one bucket whose critical t is below the threshold, at the domains in `suspects` (hashes)."""
    first = pairs.take(pa.array(row_starts(pairs)[critical_of_rows(pairs) < threshold]))
    domains = column_hashes(first["domain"])
    mine = first.filter(pa.array(np.isin(domains, suspects)))
    hosts = [host_of(url) for url in mine["canonical_url"].to_pylist()]
    return Owners(_count(mine["domain"].to_pylist(), rates.of_domain), _count(hosts, rates.of_host))


def _count(names: list[str], allowed: Callable[[str], float]) -> Counts:
    distinct, counts = np.unique(np.array(names, object).astype(str), return_counts=True)
    hashes = name_hashes(str(name) for name in distinct)
    order = np.argsort(hashes)
    bounds = np.array([allowed(str(name)) for name in distinct], np.float64)
    return Counts(hashes[order], counts.astype(np.int64)[order], bounds[order])


def add_owners(parts: Iterable[Owners]) -> Owners:
    """The counts of all buckets together; empty counts where there are no buckets."""
    parts = list(parts)
    return Owners(_add([p.domains for p in parts]), _add([p.hosts for p in parts]))


def _add(parts: list[Counts]) -> Counts:
    empty = Counts(np.zeros(0, np.uint64), np.zeros(0, np.int64), np.zeros(0))
    parts = parts or [empty]
    hashes, first, inverse = np.unique(
        np.concatenate([p.hashes for p in parts]), return_index=True, return_inverse=True
    )
    rows = np.bincount(inverse, np.concatenate([p.rows for p in parts]), len(hashes)).astype(np.int64)
    return Counts(hashes, rows, np.concatenate([p.allowed for p in parts])[first])


@dataclass(frozen=True, slots=True)
class Routing:
    """Partitions [0, `partitions`) hold whole domains. Behind them, [first[n], first[n + 1]) are those of the n-th giant."""

    owners: Owners
    partitions: int
    giants: Hashes  # of domains, ascending
    first: Ints  # [giants + 1]

    def giant_of(self, partition: int) -> int | None:
        """The number of the giant that the partition is a piece of; None for a partition of whole domains."""
        return int(np.searchsorted(self.first, partition, side="right")) - 1 if partition >= self.partitions else None


def plan_routing(owners: Owners, rows: int, config: PlanConfig) -> Routing:
    """Lays out the partitions for `rows` planned rows: those of whole domains, then those of each giant."""
    planned = np.minimum(owners.domains.rows, owners.domains.allowed)
    giant = planned > config.max_urls_per_domain_partition
    pieces = np.ceil(planned[giant] / config.rows_per_partition).astype(np.int64)
    partitions = bucket_count(rows - int(planned[giant].sum()), config.rows_per_partition)
    first = partitions + np.concatenate([[0], np.cumsum(pieces)]).astype(np.int64)
    return Routing(owners, partitions, owners.domains.hashes[giant], first)


def thin(pairs: pa.Table, threshold: float, routing: Routing, *, seed: int) -> tuple[pa.Table, pa.Table]:
    """(pairs, dropped). A domain or host with more planned rows than its rate allows keeps a share of them, by keyed hash."""
    starts = row_starts(pairs)
    first = pairs.take(pa.array(starts))
    hosts = pa.chunked_array([[host_of(url) for url in first["canonical_url"].to_pylist()]], pa.string())
    shares = np.minimum(
        routing.owners.domains.shares(column_hashes(first["domain"])), routing.owners.hosts.shares(column_hashes(hosts))
    )
    over = np.flatnonzero((shares < 1) & (critical_of_rows(pairs) < threshold))
    draws = fraction(keyed_hashes(seed, "domain hours", first["canonical_url"].take(pa.array(over)).to_pylist()))
    keep = np.ones(len(starts), bool)
    keep[over] = draws < shares[over]
    kept = pa.array(np.repeat(keep, run_lengths(starts, len(pairs))))
    return pairs.filter(kept), drop_rows(pairs.filter(pa.compute.invert(kept)), Reason.DOMAIN_CAP, "max_domain_hours")


def route(rows: pa.Table, routing: Routing, *, seed: int) -> tuple[pa.Table, Ints]:
    """(planned rows ordered by partition, partition of each). All rows of a domain go to one partition; those of a giant are
    spread over its own, by keyed hash of the pair."""
    secret = seed & 0xFFFFFFFFFFFFFFFF
    domains = rows["domain"].to_pylist()
    partition_of = {d: xxhash.xxh3_64_intdigest(d.encode(), secret) % routing.partitions for d in set(domains)}
    partition = np.fromiter((partition_of[d] for d in domains), np.int64, len(domains))
    hashes = column_hashes(rows["domain"])
    giant = np.searchsorted(routing.giants, hashes)
    for number in np.unique(giant[np.isin(hashes, routing.giants)]).tolist():
        mine = np.flatnonzero((giant == number) & (hashes == routing.giants[number]))
        first, pieces = int(routing.first[number]), int(routing.first[number + 1] - routing.first[number])
        draws = keyed_hashes(seed, "piece of a giant", rows["key"].take(pa.array(mine)).to_pylist())
        partition[mine] = first + (draws % np.uint64(pieces)).astype(np.int64)
    order = np.argsort(partition, kind="stable")
    return rows.take(pa.array(order)), partition[order]
