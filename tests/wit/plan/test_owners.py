"""A domain has one owner, and no more of it is planned than its rate allows."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.conftest import candidate_table as candidates
from wit.fetch.config import FetchConfig
from wit.fetch.limits import HostLimit, HostLimits
from wit.hashing import name_hash
from wit.plan import owners
from wit.plan import pairs as maths
from wit.plan.config import PlanConfig
from wit.plan.owners import Owners, Rates, Routing
from wit.store.shuffle import Dealt
from wit.typed import load, to_json

SEED = 11
UNBOUND = Rates()


def weighed(urls: list[str], tmp_path: Path) -> pa.Table:
    """The URLs as one bucket of pairs, all with a critical t of 1."""
    table = candidates([(url, f"text {n}", [0]) for n, url in enumerate(urls)])
    rows = next(maths.scatter([table], seed=SEED, buckets=1, captions=16)).rows
    pairs, _ = maths.merge(rows, seed=SEED, captions=16)
    at = pairs.schema.get_field_index("critical_t")
    return pairs.set_column(at, "critical_t", pa.repeat(1.0, len(pairs)))


def counted(pairs: pa.Table, rates: Rates, *, threshold: float = 5.0, ranges: int = 4) -> list[Dealt]:
    """What three buckets of a third each count."""
    parts = []
    for third in range(3):
        narrow, wide = maths.split(pairs.filter(pa.array(pairs["row"].to_numpy() % 3 == third)))
        weighed = pa.table({"place": range(len(narrow)), "row": narrow["row"], "critical_t": [1.0] * len(narrow)})
        places = owners.planned_places(weighed.cast(maths.WEIGHED), threshold)
        names = wide.take(places) if rates.limits.entries else None
        parts.append(owners.count_owned(narrow.take(places), rates, ranges, names))
    return parts


def received(parts: list[Dealt]) -> list[pa.Table]:
    """What each range gets."""
    ranges = sorted({number for part in parts for number in part.bucket.tolist()})
    return [pa.concat_tables(p.rows.filter(pa.array(p.bucket == number)) for p in parts) for number in ranges]


def found_in(parts: list[Dealt], config: PlanConfig, ranges: int = 4) -> Owners:
    """What the ranges find in it."""
    of_hosts = received(parts)
    of_domains = received([owners.count_domains(table, ranges) for table in of_hosts])
    found = [*map(owners.hosts_above, of_hosts), *(owners.domains_above(table, config) for table in of_domains)]
    return owners.add_owners(reversed(found))


def test_a_domain_with_a_host_for_each_row_fills_no_range(tmp_path: Path) -> None:
    pairs = weighed([f"http://h{n}.big.example/" for n in range(2_000)] + ["http://one.small.example/"], tmp_path)
    of_hosts = received(counted(pairs, UNBOUND, ranges=16))
    of_domains = received([owners.count_domains(table, 16) for table in of_hosts])
    assert max(map(len, of_hosts)) < 2 * 2_000 / 16 and max(map(len, of_domains)) <= 16 + 1
    found = found_in(counted(pairs, UNBOUND, ranges=16), PlanConfig(max_urls_per_domain_partition=1_999), 16)
    assert found.domains.hashes.tolist() == [name_hash("big.example")] and found.domains.rows.tolist() == [2_000]
    assert not len(found.hosts.hashes)


@pytest.mark.parametrize("ranges", [1, 4, 64])
def test_counts_are_those_of_a_twin_that_sees_all_rows(tmp_path: Path, ranges: int) -> None:
    names = [f"h{n % 7}.d{n * n % 11}.example" for n in range(1_500)]
    pairs = weighed([f"http://{name}/{n}" for n, name in enumerate(names)], tmp_path)
    found = found_in(counted(pairs, Rates(1, 0.05, 0.01), ranges=ranges), PlanConfig(), ranges)
    for mine, cut, allowed in ((found.domains, 1, 180), (found.hosts, 0, 36)):
        twin = Counter(name.partition(".")[2] if cut else name for name in names)
        above = sorted((name_hash(name), rows, allowed) for name, rows in twin.items() if rows > allowed)
        assert list(zip(mine.hashes.tolist(), mine.rows.tolist(), mine.allowed.tolist(), strict=True)) == above
        assert above


def routing_of(pairs: pa.Table, config: PlanConfig, rates: Rates) -> Routing:
    """As the pipeline finds it."""
    return owners.plan_routing(found_in(counted(pairs, rates), config), len(pairs), config)


def test_a_partition_owns_whole_domains_and_a_giant_has_its_own(tmp_path: Path) -> None:
    names = ["big.example" if n % 2 else f"d{n}.example" for n in range(2_000)]
    pairs = weighed([f"http://h{n % 3}.{name}/{n}" for n, name in enumerate(names)], tmp_path)
    config = PlanConfig(max_urls_per_domain_partition=300, rows_per_partition=300)
    routing = routing_of(pairs, config, UNBOUND)
    rows, partition = owners.route(maths.admit(pairs, 5.0)[0], routing, seed=SEED)
    assert (np.diff(partition) >= 0).all()
    of: dict[str, set[int]] = defaultdict(set)
    for domain, number in zip(rows["domain"].to_pylist(), partition.tolist(), strict=True):
        of[domain].add(number)
    giant = of.pop("big.example")
    assert len(giant) == 4 and {routing.giant_of(number) for number in giant} == {0}
    assert all(len(numbers) == 1 for numbers in of.values())
    assert not giant & set.union(*of.values())
    assert {routing.giant_of(number) for numbers in of.values() for number in numbers} == {None}
    assert routing.partitions == 4  # of the thousand rows that are left


RATES = Rates(hours=1, domain_per_s=0.5, host_per_s=0.25)  # 1,800 URLs of a domain, 900 of a host


def test_what_no_rate_allows_is_thinned_by_hash(tmp_path: Path) -> None:
    counts = {"one.example": 3_000, "a.two.example": 2_000, "b.two.example": 400, "fine.example": 800}
    pairs = weighed([f"http://{host}/{n}" for host, count in counts.items() for n in range(count)], tmp_path)
    routing = routing_of(pairs, PlanConfig(), RATES)
    kept, dropped = owners.thin(pairs, 5.0, routing, seed=SEED)
    left = Counter(url.split("/")[2] for url in kept["url"].to_pylist())
    assert abs(left["one.example"] - 900) < 100
    assert abs(left["a.two.example"] - 900) < 100
    assert left["b.two.example"] > 290  # of the domain 1,800 are allowed in all, of 2,400
    assert left["fine.example"] == 800
    assert set(dropped["reason"].to_pylist()) == {"domain_cap"}
    assert len(kept) + len(dropped) == len(pairs)


def test_what_is_not_planned_is_not_thinned(tmp_path: Path) -> None:
    pairs = weighed([f"http://one.example/{n}" for n in range(3_000)], tmp_path)
    routing = routing_of(pairs, PlanConfig(), RATES)
    kept, dropped = owners.thin(pairs, 1.0, routing, seed=SEED)  # no critical t is below that
    assert len(kept) == 3_000 and not len(dropped)


def test_host_limits_count_for_the_domains_they_name(tmp_path: Path) -> None:
    limits = HostLimits({"slow.example": HostLimit(0.01), "quick.example": HostLimit(50)})
    rates = Rates(1, 0.5, 0.25, limits)
    pairs = weighed([f"http://{name}.example/{n}" for name in ("slow", "quick") for n in range(1_500)], tmp_path)
    kept, _ = owners.thin(pairs, 5.0, routing_of(pairs, PlanConfig(), rates), seed=SEED)
    left = Counter(url.split("/")[2] for url in kept["url"].to_pylist())
    assert 10 < left["slow.example"] < 70  # 36 in an hour
    assert left["quick.example"] == 1_500
    again = load(owners.KeptRates, json.loads(to_json(rates.kept()))).rates()
    assert again.of_domain("www.slow.example") == 36 and again.of_host("other.example") == 900


@pytest.mark.parametrize("rows, pieces", [(50_000, 0), (50_001, 1), (250_001, 3)])
def test_how_many_partitions_a_giant_has(rows: int, pieces: int) -> None:
    found = owners.Counts(np.array([7], np.uint64), np.array([rows]), np.array([np.inf]))
    routing = owners.plan_routing(Owners(found, found), rows + 150_000, PlanConfig())
    assert routing.first[-1] - routing.partitions == pieces
    assert routing.partitions == (2 if pieces else -(-(rows + 150_000) // 100_000))


def test_the_defaults_bound_a_domain_by_three_days() -> None:
    rates = owners.rates_of(PlanConfig(), FetchConfig())
    assert rates.of_domain("any.example") == 72 * 3600 * 20
    assert rates.of_host("any.example") == 72 * 3600 * 10


@pytest.mark.parametrize(
    "hours, domain_per_s, host_per_s, rows",
    [
        (1, 0.5, 0.25, (1_800, 900)),
        (0, 0.5, 0.25, (np.inf, np.inf)),
        (2, 0, 1, (np.inf, 7_200)),
        (0.5, 1, 0, (1_800, np.inf)),
    ],
)
def test_no_hours_and_no_rate_are_no_bound(
    hours: float, domain_per_s: float, host_per_s: float, rows: tuple[float, float]
) -> None:
    rates = Rates(hours, domain_per_s, host_per_s)
    assert (rates.of_domain("a.example"), rates.of_host("a.example")) == rows


def test_what_is_said_of_a_name_goes_before_what_is_said_of_all() -> None:
    limits = HostLimits(
        {"slow.example": HostLimit(0.1), "few.example": HostLimit(concurrency=1), "no.example": HostLimit(deny=True)}
    )
    rates = Rates(1, 0.5, 0.25, limits)
    assert rates.of_domain("slow.example") == rates.of_host("www.slow.example") == 360
    assert (rates.of_domain("few.example"), rates.of_host("few.example")) == (1_800, 900)
    kept = rates.kept()
    assert kept == owners.KeptRates(1, 0.5, 0.25, {"slow.example": 0.1})
    assert kept.rates() == Rates(1, 0.5, 0.25, HostLimits({"slow.example": HostLimit(0.1)}))


def counts(rows: dict[int, tuple[int, float]]) -> owners.Counts:
    hashes = sorted(rows)
    return owners.Counts(
        np.array(hashes, np.uint64),
        np.array([rows[h][0] for h in hashes], np.int64),
        np.array([rows[h][1] for h in hashes]),
    )


def test_the_share_that_may_stay_is_what_is_allowed_of_what_there_is() -> None:
    found = counts({3: (10, 5), 7: (10, 10), 9: (10, 20), 11: (10, np.inf), 13: (0, 5)})
    asked = np.array([3, 7, 9, 11, 13, 1, 8, 99], np.uint64)
    assert found.shares(asked).tolist() == [0.5, 1, 1, 1, 1, 1, 1, 1]
    assert counts({}).shares(asked[:2]).tolist() == [1, 1] and len(found.shares(asked[:0])) == 0


def test_what_ranges_find_comes_together() -> None:
    one = Owners(counts({3: (10, 5), 7: (1, 6)}), counts({1: (2, 9)}))
    other = Owners(counts({5: (2, 8)}), counts({}))
    both = owners.add_owners(iter([other, one]))
    assert both.domains.hashes.tolist() == [3, 5, 7]
    assert both.domains.rows.tolist() == [10, 2, 1] and both.domains.allowed.tolist() == [5, 8, 6]
    assert (both.hosts.hashes.tolist(), both.hosts.rows.tolist(), both.hosts.allowed.tolist()) == ([1], [2], [9])
    none = owners.add_owners([])
    assert len(none.domains.hashes) == len(none.hosts.rows) == 0


def test_urls_are_counted_below_the_threshold_and_once(tmp_path: Path) -> None:
    urls = [f"http://{host}.example/{n}" for host in ("a.one", "b.one", "two") for n in range(3)]
    pairs = weighed([*urls, urls[0]], tmp_path)  # one URL with two captions
    parts = counted(pairs, RATES, ranges=1)
    rows = pa.concat_tables(part.rows for part in parts)
    of = Counter[tuple[int, int]]()
    for row in rows.to_pylist():
        of[row["domain"], row["host"]] += row["rows"]
        assert (row["domain_allowed"], row["host_allowed"]) == (1_800, 900)
    named = {(name_hash(host.split(".", 1)[1]), name_hash(host)): 3 for host in ("a.one.example", "b.one.example")}
    assert of == named | {(name_hash("two.example"), name_hash("two.example")): 3}
    assert sum(len(part.rows) for part in counted(pairs, RATES, threshold=1.0)) == 0, "none is below its own critical t"
    assert len(counted(pairs.slice(0, 0), RATES)[0].rows) == 0


@pytest.mark.parametrize("ranges", [1, 3, 50])
def test_only_what_has_too_many_rows_is_found_whatever_the_ranges(tmp_path: Path, ranges: int) -> None:
    limits = HostLimits({"example": HostLimit(0.01)})  # of all names below it: 36 an hour
    sizes = {"a.big.org": 70, "b.big.org": 50, "fine.org": 100, "slow.example": 37, "quick.example": 36}
    pairs = weighed([f"http://{host}/{n}" for host, size in sizes.items() for n in range(size)], tmp_path)
    config = PlanConfig(max_urls_per_domain_partition=100)
    found = found_in(counted(pairs, Rates(1, 0, 60 / 3600, limits), ranges=ranges), config)
    domains = dict(zip(found.domains.hashes.tolist(), found.domains.rows.tolist(), strict=True))
    assert domains == {name_hash("big.org"): 120, name_hash("slow.example"): 37}
    hosts = dict(zip(found.hosts.hashes.tolist(), found.hosts.allowed.tolist(), strict=True))
    assert hosts == {name_hash("a.big.org"): 60, name_hash("fine.org"): 60, name_hash("slow.example"): 36}


@pytest.mark.parametrize(
    "rows, allowed, is_giant", [(100, np.inf, False), (101, np.inf, True), (500, 100, False), (500, 101, True)]
)
def test_a_giant_is_one_by_the_rows_that_it_may_have(rows: int, allowed: float, is_giant: bool) -> None:
    found = counts({7: (rows, allowed), 9: (5, np.inf)})
    config = PlanConfig(max_urls_per_domain_partition=100, rows_per_partition=50)
    routing = owners.plan_routing(Owners(found, found), 1_000, config)
    assert routing.giants.tolist() == ([7] if is_giant else [])
    planned = int(min(rows, allowed))
    assert routing.partitions == (-(-(1_000 - planned) // 50) if is_giant else 20)
    assert np.diff(routing.first).tolist() == ([3] if is_giant else [])


def test_partitions_of_giants_are_numbered_behind_the_others() -> None:
    found = counts({3: (130, np.inf), 7: (110, np.inf)})
    config = PlanConfig(max_urls_per_domain_partition=100, rows_per_partition=60)
    routing = owners.plan_routing(Owners(found, found), 300, config)
    assert (routing.partitions, routing.first.tolist()) == (1, [1, 4, 6])
    assert [routing.giant_of(n) for n in range(6)] == [None, 0, 0, 0, 1, 1]


def test_a_giants_rows_are_spread_by_pair_and_the_seed_decides(tmp_path: Path) -> None:
    pairs = weighed(
        [f"http://big.example/{n}" for n in range(600)] + [f"http://d{n}.example/" for n in range(60)], tmp_path
    )
    rows = maths.admit(pairs, 5.0)[0]
    found = counts({name_hash("big.example"): (600, np.inf)})
    config = PlanConfig(max_urls_per_domain_partition=100, rows_per_partition=20)
    routing = owners.plan_routing(Owners(found, found), len(rows), config)
    assert (routing.partitions, np.diff(routing.first).tolist()) == (3, [30])
    placed, small = {}, {}
    for seed in (1, 2, -1, 2**64 + 1):
        ordered, partition = owners.route(rows, routing, seed=seed)
        placed[seed] = dict(zip(ordered["key"].to_pylist(), partition.tolist(), strict=True))
        small[seed] = {d: n for d, n in zip(ordered["domain"].to_pylist(), partition.tolist(), strict=True) if n < 3}
        big = partition[np.array(ordered["domain"].to_pylist()) == "big.example"]
        assert set(big.tolist()) == set(range(3, 33)) and np.bincount(big)[3:].max() < 45
        assert set(partition.tolist()) - set(big.tolist()) == {0, 1, 2}
    assert placed[1] != placed[2] and placed[-1] != placed[1]
    assert small[1] != small[2] and small[-1] != small[1], "whole domains move too"


def test_a_host_is_thinned_by_its_own_share_with_all_captions_of_a_url(tmp_path: Path) -> None:
    """Both captions of a URL stay or both go."""
    urls = [f"http://a.one.example/{n}" for n in range(1_200)]
    pairs = weighed([*urls, *urls], tmp_path)
    routing = routing_of(pairs, PlanConfig(), Rates(hours=1, host_per_s=0.1))
    kept, dropped = owners.thin(pairs, 5.0, routing, seed=SEED)
    assert set(Counter(kept["url"].to_pylist()).values()) == set(Counter(dropped["url"].to_pylist()).values()) == {2}
    assert abs(len(kept) / 2 - 360) < 90 and set(dropped["detail"].to_pylist()) == {"max_domain_hours"}
    other, _ = owners.thin(pairs, 5.0, routing, seed=SEED + 1)
    assert set(other["url"].to_pylist()) != set(kept["url"].to_pylist())


def test_rows_go_where_earlier_versions_put_them() -> None:
    """The first eight of a giant, the others of domains of their own."""
    names = ["big.example"] * 8 + [f"d{n}.example" for n in range(8)]
    rows = pa.table({"domain": names, "key": [f"{n:032x}" for n in range(16)]})
    found = counts({name_hash("big.example"): (8, np.inf)})
    config = PlanConfig(max_urls_per_domain_partition=4, rows_per_partition=4)
    ordered, partition = owners.route(rows, owners.plan_routing(Owners(found, found), 16, config), seed=1)
    assert [int(key, 16) for key in ordered["key"].to_pylist()] == [
        9,
        10,
        11,
        12,
        8,
        13,
        14,
        15,
        1,
        2,
        6,
        0,
        3,
        4,
        5,
        7,
    ]
    assert partition.tolist() == [0] * 4 + [1] * 4 + [2] * 3 + [3] * 5
