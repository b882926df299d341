"""Who owns which domain: one worker at a time. A domain gives no more rows than its rate lets anybody fetch in reasonable time.

Planned rows are routed by registrable domain to partitions; one worker at a time takes a partition. A giant is a domain too large
for one partition. It gets partitions of its own, which one worker takes in turn (`wit.download`); how many is known once all
rows are counted.

Rows are counted in two levels. A domain may have a host for each row (8 million at full size), so no range of domains gets its
hosts: buckets deal their counts to ranges of hosts, each of which adds up what it has of a domain, and deals that to ranges of
domains. So of a host there come as many counts as there are buckets, and of a domain as many as there are ranges.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import xxhash

from wit.arithmetic import ceil_div
from wit.arrays import Floats, Hashes, Ints, Mask, run_lengths
from wit.fetch.config import FetchConfig
from wit.fetch.limits import HostLimit, HostLimits, read
from wit.hashing import bucket_of, column_hashes, fraction, keyed_hashes
from wit.plan.config import PlanConfig
from wit.plan.pairs import critical_of_rows, drop_rows, row_starts
from wit.reasons import Reason
from wit.store.shuffle import Dealt


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


@dataclass(frozen=True, slots=True)
class Counts:
    """For each name, by its hash, ascending: how many rows it has, and how many its rate allows."""

    hashes: Hashes
    rows: Ints
    allowed: Floats

    def where(self, kept: Mask) -> Counts:
        """Those of the names."""
        return Counts(self.hashes[kept], self.rows[kept], self.allowed[kept])

    def shares(self, hashes: Hashes) -> Floats:
        """[n] the share of each name's rows that may stay; 1 for a name that is not counted."""
        known = np.minimum(np.searchsorted(self.hashes, hashes), max(len(self.hashes) - 1, 0))
        if not len(self.hashes):
            return np.ones(len(hashes))
        share = np.minimum(self.allowed / np.maximum(self.rows, 1), 1.0)
        return np.where(self.hashes[known] == hashes, share[known], 1.0)


@dataclass(frozen=True, slots=True)
class Owners:
    """Exact counts of planned rows: of the domains that have too many for one partition or for their rate, and of the hosts that
    have too many for theirs."""

    domains: Counts
    hosts: Counts


# Planned rows of a bucket by host, and how many rows the rates allow its domain and itself; of a range of hosts, by domain.
OWNED = pa.schema(
    [
        ("domain", pa.uint64()),
        ("host", pa.uint64()),
        ("rows", pa.int64()),
        ("domain_allowed", pa.float64()),
        ("host_allowed", pa.float64()),
    ]
)
OF_DOMAIN = pa.schema([OWNED.field(name) for name in ("domain", "rows", "domain_allowed")])


def planned_places(weighed: pa.Table, threshold: float) -> pa.Array:
    """Where the first pair of each URL stands whose critical t is below the threshold."""
    first = row_starts(weighed)
    return weighed["place"].take(pa.array(first[critical_of_rows(weighed) < threshold]))


def count_owned(first: pa.Table, rates: Rates, ranges: int, names: pa.Table | None = None) -> Dealt:
    """The planned URLs of a bucket (NARROW, one pair of each) by host, as OWNED, dealt to ranges of hosts. `names` has their
    `domain` and `host`, which is needed where --host-limits names any."""
    both = np.stack([first[name].to_numpy() for name in ("domain_hash", "host_hash")], axis=1).reshape(-1, 2)
    owned, at, rows = np.unique(both, axis=0, return_index=True, return_counts=True)
    allowed = [_allowed(names, name, at, rule) for name, rule in (("domain", rates.of_domain), ("host", rates.of_host))]
    columns = [owned[:, 0], owned[:, 1], rows, *allowed]
    return Dealt.ordered(
        pa.table([pa.array(column) for column in columns], schema=OWNED), bucket_of(owned[:, 1], ranges)
    )


def _allowed(names: pa.Table | None, column: str, at: Ints, rule: Callable[[str], float]) -> Floats:
    if names is None:
        return np.full(len(at), rule(""))
    return np.array([rule(name) for name in names[column].take(pa.array(at)).to_pylist()], np.float64)


def hosts_above(owned: pa.Table) -> Owners:
    """The OWNED of one range of hosts -> those that have too many rows."""
    hosts = _summed(owned, "host", "host_allowed")
    return Owners(_together([]), hosts.where(hosts.rows > hosts.allowed))


def count_domains(owned: pa.Table, ranges: int) -> Dealt:
    """The OWNED of one range of hosts -> the rows of each domain in it, as OF_DOMAIN, dealt to ranges of domains."""
    domains = _summed(owned, "domain", "domain_allowed")
    columns = [domains.hashes, domains.rows, domains.allowed]
    place = bucket_of(domains.hashes, ranges)  # the rows are in the order of their hashes, and so of the ranges
    return Dealt(pa.table([pa.array(column) for column in columns], schema=OF_DOMAIN), place)


def domains_above(counted: pa.Table, config: PlanConfig) -> Owners:
    """The OF_DOMAIN of one range of domains -> those that have too many rows."""
    domains = _summed(counted, "domain", "domain_allowed")
    bound = np.minimum(domains.allowed, config.max_urls_per_domain_partition)
    return Owners(domains.where(domains.rows > bound), _together([]))


def _summed(owned: pa.Table, name: str, allowed: str) -> Counts:
    hashes, first, inverse = np.unique(owned[name].to_numpy(), return_index=True, return_inverse=True)
    rows = np.zeros(len(hashes), np.int64)
    np.add.at(rows, inverse, owned["rows"].to_numpy())
    return Counts(hashes, rows, owned[allowed].to_numpy()[first])


def add_owners(parts: Iterable[Owners]) -> Owners:
    """What all ranges found together; nothing where there are no ranges."""
    parts = list(parts)
    return Owners(_together([p.domains for p in parts]), _together([p.hosts for p in parts]))


def _together(parts: list[Counts]) -> Counts:
    hashes = np.concatenate([np.zeros(0, np.uint64), *(p.hashes for p in parts)])
    rows = np.concatenate([np.zeros(0, np.int64), *(p.rows for p in parts)])
    allowed = np.concatenate([np.zeros(0), *(p.allowed for p in parts)])
    order = np.argsort(hashes)
    return Counts(hashes[order], rows[order], allowed[order])


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
    partitions = max(1, ceil_div(rows - int(planned[giant].sum()), config.rows_per_partition))
    first = partitions + np.concatenate([[0], np.cumsum(pieces)]).astype(np.int64)
    return Routing(owners, partitions, owners.domains.hashes[giant], first)


def thin(pairs: pa.Table, threshold: float, routing: Routing, *, seed: int) -> tuple[pa.Table, pa.Table]:
    """(pairs, dropped). A domain or host with more planned rows than its rate allows keeps a share of them, by keyed hash."""
    starts = row_starts(pairs)
    first = pairs.take(pa.array(starts))
    shares = np.minimum(
        routing.owners.domains.shares(column_hashes(first["domain"])),
        routing.owners.hosts.shares(column_hashes(first["host"])),
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
