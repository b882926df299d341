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
from wit.plan import owners
from wit.plan import pairs as maths
from wit.plan.config import PlanConfig
from wit.plan.owners import Owners, Rates, Routing
from wit.store.shuffle import write_slices
from wit.typed import load, to_json

SEED = 11
UNBOUND = Rates()


def weighed(urls: list[str], tmp_path: Path) -> pa.Table:
    """The URLs as one bucket of pairs, all with a critical t of 1."""
    table = candidates([(url, f"text {n}", [0]) for n, url in enumerate(urls)])
    rows, bucket, _ = maths.scatter(table, seed=SEED, buckets=1, captions=16)
    refs = [ref for _, ref in write_slices([(rows, bucket)], str(tmp_path / "rows.arrow"))]
    pairs, _ = maths.merge(refs, seed=SEED, captions=16)
    at = pairs.schema.get_field_index("critical_t")
    return pairs.set_column(at, "critical_t", pa.repeat(1.0, len(pairs)))


def routing_of(pairs: pa.Table, config: PlanConfig, rates: Rates) -> Routing:
    """As the pipeline finds it, over buckets of a third each."""
    cells = 1024
    thirds = [pairs.filter(pa.array(pairs["row"].to_numpy() % 3 == third)) for third in range(3)]
    counts = np.sum([maths.sketch(third, cells) for third in thirds], axis=0)
    bound, named = owners.suspicious_from(config, rates), owners.named_domains(rates)
    heavy = maths.add_heavy(maths.count_heavy(t, counts, caption_cap=0, domain_cap=bound, named=named) for t in thirds)
    parts = [owners.count_owners(third, 5.0, heavy.domains[0], rates) for third in thirds]
    return owners.plan_routing(owners.add_owners(parts), len(pairs), config)


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
