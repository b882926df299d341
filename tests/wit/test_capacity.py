"""What a larger build takes is told from a pilot by formulas; here each has a twin in plain Python, or a set to compare with."""

import math
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from wit import capacity as maths
from wit.capacity import Wish, size_of
from wit.errors import InputError
from wit.fetch.config import FetchConfig
from wit.pilot import HOSTS, Draws, Fetched, Pilot, Settings, Source, Stored
from wit.plan.config import PlanConfig
from wit.store.parts import StageDir
from wit.store.shuffle import Shuffle
from wit.tally import Tally

SETTINGS = Settings(
    plan=PlanConfig(),
    fetch=FetchConfig(),
    rows_per_key=125_000,
    samples_per_shard=10_000,
    raw_shards_per_group=64,
    files_per_part=0,
    source_requests_per_s=2.0,
    by_files=False,
)


def tally(into: int, out: int, **dropped: int) -> Tally:
    return Tally(into=into, out=out, dropped=dropped)


def pilot_of(
    samples: int = 5_000,
    lost: int = 0,
    *,
    pairs: int = 1,
    queries: int = 1,
    hosts: dict[str, int] | None = None,
    **changed: Any,
) -> Pilot:
    """A pilot of ten files, 1 GB: 10,000 pictures are planned unless `hosts` says otherwise, of which `samples` are kept and
    `lost` never arrive. Each sample has one caption with `queries` queries of `pairs` pairs."""
    rows = hosts or {f"h{n}.example": 100 for n in range((samples + lost) // 100)}
    planned = sum(rows.values())
    stages = {
        "candidates": tally(2 * planned, planned, no_query=planned),
        "plan": tally(planned, planned),
        "download": tally(planned, planned - lost, timeout=lost),
        "select": tally(planned - lost, samples, duplicate_picture=planned - lost - samples),
        "publish": tally(samples, samples),
    }
    sample = np.repeat(np.arange(samples), queries)
    table = [{"domain": host, "host": host, "rows": count} for host, count in rows.items()]
    made = Pilot(
        source=Source("wat", 10, 30_000, 10**9, "CC-MAIN-2026-43", None, remote=True),
        stages=stages,
        seconds={**dict.fromkeys(stages, 36.0), "report": 3.6},
        cores=2,
        rejected_one_in=1,
        fetched=Fetched(attempts=planned * 3 // 2, wire_bytes=planned * 200_000, seconds=planned / 2),
        stored={name: Stored(10**6, 0, 0) for name in stages},
        hosts=pa.Table.from_pylist(table, schema=HOSTS),
        draws=Draws(samples, sample, np.full(len(sample), pairs), np.ones(samples)),
        settings=SETTINGS,
    )
    return replace(made, **changed)


def test_without_losses_or_balance_everything_grows_with_the_samples() -> None:
    size = size_of(pilot_of(), Wish(target=5_000_000, max_per_query=0))
    assert (size.times, size.cap, size.files) == (1_000, None, 10_000)
    assert size.candidates == size.planned == size.downloaded == size.survivors == size.samples == 5_000_000
    assert (size.raw_shards, size.shards, size.partitions, size.parts) == (500, 500, 50, math.ceil(10_000 / 32))


def test_what_is_lost_on_the_way_is_fetched_too() -> None:
    size = size_of(pilot_of(5_000, lost=5_000), Wish(target=1_000_000, max_per_query=0))
    assert (size.planned, size.downloaded, size.survivors, size.candidates) == (
        2_000_000,
        1_000_000,
        1_000_000,
        2_000_000,
    )


def test_a_cap_that_cuts_nothing_changes_nothing() -> None:
    many = pilot_of(5_000, lost=5_000, pairs=1)
    free, capped = (size_of(many, Wish(target=50_000, max_per_query=cap)) for cap in (0, 10**6))
    assert capped.cap == 10**6 and replace(capped, cap=None, most=math.inf, times=free.times) == free
    assert capped.times == pytest.approx(free.times)


def test_a_cap_takes_more_sources_and_plans_the_oversample() -> None:
    """Two queries a sample, of 50 pairs each; half of what is planned survives. At 100 samples a query, 200 of 50 x times pairs
    stay, a share of 4 / times: of 5,000 x times samples 5,000 x (8 - 16 / times)."""
    half = pilot_of(5_000, lost=5_000, pairs=50, queries=2)
    size = size_of(half, Wish(target=25_000, max_per_query=100))
    assert (size.cap, size.most, size.files) == (100, pytest.approx(40_000), 54)
    assert size.times == pytest.approx(16 / 3) and size.candidates == math.ceil(10_000 * size.times)
    assert size.planned == pytest.approx(50_000, abs=1)  # an oversample of 2 is just 1 / survival
    more = replace(half, settings=replace(SETTINGS, plan=PlanConfig(oversample=3.0)))
    assert size_of(more, Wish(target=25_000, max_per_query=100)).planned > 50_001


def test_a_target_beyond_the_pilots_queries_is_told_without_balance_and_with_a_bound() -> None:
    size = size_of(pilot_of(5_000, lost=5_000, pairs=50), Wish(target=1_000_000, max_per_query=100))
    assert (size.cap, size.most, size.times) == (None, 20_000, 200)


def kept_twin(draws: list[list[int]], times: float, cap: float) -> float:
    """Expected samples: each of `times` as many is kept unless every draw of it fails."""
    total = 0.0
    for pairs in draws:
        fails = 1.0
        for count in pairs:
            fails *= 1 - min(1, cap / (times * count))
        total += times * (1 - fails if pairs else 1)
    return total


def draws_of(rows: list[list[int]]) -> Draws:
    sample = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    return Draws(len(rows), sample, np.array([n for row in rows for n in row], np.int64), np.ones(len(rows)))


@pytest.mark.parametrize("times, cap", [(1, 5), (10, 5), (10, 100), (1_000, 20)])
def test_the_share_that_a_cap_leaves_is_that_of_the_obvious_loop(times: float, cap: float) -> None:
    numbers = np.random.default_rng(1)
    rows = [numbers.integers(1, 200, numbers.integers(0, 5)).tolist() for _ in range(300)]
    assert maths.kept(draws_of(rows), times, cap) == pytest.approx(kept_twin(rows, times, cap))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_the_solution_gives_the_target_as_long_as_there_are_so_many(share: float) -> None:
    numbers = np.random.default_rng(2)
    rows = [numbers.integers(1, 200, numbers.integers(1, 5)).tolist() for _ in range(300)]
    most = sum(50 / n for row in rows for n in row)
    times, found = maths.solve(draws_of(rows), share * most, 50)
    assert found == pytest.approx(most) and kept_twin(rows, times, 50) == pytest.approx(share * most)
    assert maths.solve(draws_of(rows), most, 50)[0] == math.inf
    assert maths.solve(draws_of([*rows, []]), most, 50)[0] < math.inf  # a sample without a query is never cut


def test_a_tenth_of_a_set_tells_what_a_cap_leaves_of_all_of_it() -> None:
    """The rule of design 7, carried out on 100,000 pairs with one to three of 500 queries, some of them very common."""
    numbers, cap = np.random.default_rng(3), 300
    weights = 1 / np.arange(1, 501)
    rows = [
        np.unique(numbers.choice(500, numbers.integers(1, 4), p=weights / weights.sum())).tolist()
        for _ in range(100_000)
    ]
    count = Counter(query for row in rows for query in row)
    kept = sum(min(numbers.random() * count[query] for query in row) < cap for row in rows)
    tenth = rows[::10]
    of_tenth = Counter(query for row in tenth for query in row)
    told = maths.kept(draws_of([[of_tenth[query] for query in row] for row in tenth]), 10, cap)
    assert kept < 60_000 and told == pytest.approx(kept, rel=0.03)


def test_hosts_grow_as_fast_as_the_pilot_still_meets_new_ones() -> None:
    assert maths.hosts_at(np.ones(1_000, np.int64), 100) == pytest.approx(100_000)  # every row at a host of its own
    assert maths.hosts_at(np.full(20, 1_000), 100) == pytest.approx(20)  # all were met long ago
    assert maths.hosts_at(np.zeros(0, np.int64), 100) == 0
    drawn = np.random.default_rng(4).zipf(1.5, 400_000)  # hosts of rows, by Heaps' law themselves
    few, many = (np.unique(drawn[:rows], return_counts=True)[1] for rows in (20_000, 400_000))
    assert maths.hosts_at(few, 20) == pytest.approx(len(many), rel=0.1)


def test_core_hours_are_the_pilots_times_its_cores_and_the_work() -> None:
    some = pilot_of(5_000, lost=5_000)
    size = size_of(some, Wish(target=5_000_000, max_per_query=0))
    work = maths.core_hours(some, size, 2)
    assert work["candidates"] == pytest.approx(36 * 2 * 1_000 / 3600) and work["report"] == pytest.approx(2.0)
    assert maths.cores_of(some, Wish(target=1)) == 2 and maths.cores_of(some, Wish(target=1, pilot_cores=64)) == 64


def test_hours_are_shared_out_but_for_the_slowest_domain_and_the_budget_of_the_source() -> None:
    some = pilot_of(hosts={"big.example": 4_000, "small.example": 1_000})
    size = size_of(some, Wish(target=500_000, max_per_query=0))
    slowest = maths.slowest_domain(some, size)
    # 400,000 rows at the 10 a second of one host: its domain would allow 20
    assert (slowest.name, slowest.rows, slowest.lost) == ("big.example", 400_000, 0)
    assert slowest.hours == pytest.approx(400_000 / 10 / 3600)
    hours = maths.hours_at(some, size, maths.core_hours(some, size, 2), 1_000, slowest)
    assert hours["download"] == slowest.hours and hours["candidates"] == pytest.approx(1_000 / 2 / 3600)
    assert hours["plan"] == pytest.approx(36 * 2 * 100 / 3600 / 1_000)


def test_no_domain_takes_longer_than_it_may_and_what_that_costs_is_told() -> None:
    some = pilot_of(hosts={"big.example": 4_000, "small.example": 1_000})
    slowest = maths.slowest_domain(some, size_of(some, Wish(target=50_000_000, max_per_query=0)))
    assert (slowest.hours, slowest.rows) == (72, 72 * 3600 * 10)
    assert slowest.lost == 40_000_000 + 10_000_000 - 2 * slowest.rows


def test_at_rest_are_the_pilots_bytes_and_what_more_is_rejected() -> None:
    half = pilot_of(5_000, lost=5_000)
    size = size_of(half, Wish(target=500_000, max_per_query=0))
    rest = maths.bytes_at_rest(half, size)
    row = 10**6 / 10_000  # of a candidate, as the pilot wrote no rejects down
    assert rest["candidates"] == pytest.approx(100 * 10**6 + 1_000_000 * row / 1_000)  # of 100 GB, one reject in 1,000
    assert rest["plan"] == rest["download"] == rest["select"] == rest["publish"] == pytest.approx(100 * 10**6)
    assert maths.bytes_moved(half, size, rest) > 10**9 * 100 + sum(rest.values())


def test_what_the_balance_rejects_lies_there_too() -> None:
    half = pilot_of(5_000, lost=5_000, pairs=50, queries=2)
    size = size_of(half, Wish(target=25_000, max_per_query=100))
    more = size.candidates - size.planned
    plain = 10**6 * size.planned / half.planned
    assert more > 0 and maths.bytes_at_rest(half, size)["plan"] == pytest.approx(plain + more * 100)


def test_requests_to_the_store_grow_with_the_units() -> None:
    some = pilot_of()
    few, many = (size_of(some, Wish(target=n, max_per_query=0)) for n in (400_000_000, 800_000_000))
    assert maths.store_requests(some, many) / maths.store_requests(some, few) == pytest.approx(2, rel=0.01)
    by_files = replace(some, settings=replace(SETTINGS, by_files=True))
    assert maths.store_requests(by_files, few) > maths.store_requests(some, few)


def test_a_shuffle_of_one_level_reads_a_piece_of_each_task_for_each_bucket_and_one_of_two_levels_fewer() -> None:
    def shuffle(rows: int, tasks: int, buckets: int) -> tuple[Shuffle, int]:
        found = Shuffle.of(StageDir("", "plan", ""), "url", HOSTS, buckets, rows=rows, tasks=tasks)
        return found, maths.file_requests(found, tasks, rows)

    small, requests = shuffle(1_000_000, 4, 8)
    assert not small.two_levels and requests == 4 * 4 + 4 * 8
    large, requests = shuffle(1_000_000_000, 10_000, 10_000)
    assert large.two_levels and requests < 10_000 * 10_000 / 10


def test_a_name_is_asked_for_anew_only_while_its_partition_lasts() -> None:
    some = pilot_of(hosts={f"h{n}.example": 50 for n in range(100)})
    size = size_of(some, Wish(target=5_000_000, max_per_query=0))
    a_minute = size.planned / 100_000 / 60  # core-hours at which a partition takes a minute
    assert maths.dns_questions(some, size, a_minute) == 2 * size.hosts
    assert maths.dns_questions(some, size, 3 * a_minute) == 2 * 3 * size.hosts
    assert maths.dns_questions(some, size, 10**6 * a_minute) == pytest.approx(2 * size.planned)


def test_training_as_clips() -> None:
    assert maths.accelerator_years(256, 12, 400_000_000) == pytest.approx(256 * 12 / 365.25)
    assert maths.accelerator_years(592, 18, 40_000_000) == pytest.approx(592 * 18 / 365.25 / 10)


def test_too_few_samples_tell_nothing() -> None:
    with pytest.raises(InputError, match="kept 9 samples, too few to tell anything"):
        size_of(pilot_of(9, hosts={"a.example": 9}), Wish(target=1_000))


@pytest.mark.parametrize(
    "wrong, said",
    [
        ({"target": 0}, "--target is 0: give a number from 1 to"),
        ({"workers": 0}, "--workers is 0"),
        ({"price_core_hour": -1.0}, "--price-core-hour is -1"),
        ({"months": math.nan}, "--months is nan"),
        ({"price_gb_egress": math.inf}, "--price-gb-egress is inf"),
    ],
)
def test_a_number_that_cannot_be_meant_is_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Wish(**{"target": 1_000} | wrong)
