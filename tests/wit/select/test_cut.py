"""What the second balance keeps after losses, against a twin of dictionaries and sorting."""

from __future__ import annotations

import hashlib
import math
import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash

from wit.plan import ranks
from wit.plan.config import PlanConfig
from wit.plan.facts import PlanFacts
from wit.records import pair_key
from wit.select.config import SelectConfig
from wit.select.cut import Balance, Cut, Target, balance_under, judge, sampled_to
from wit.select.dedup import VERDICT
from wit.select.survival import Memberships
from wit.store import fs
from wit.store.manifests import Manifest
from wit.store.parts import StageDir

SEED = 5
QUERIES = ["dog", "cat", "photo", "fox", "okapi", "yak"]
SURVIVAL = [0.5, 0.65, 0.8, 0.9, 0.0, 1.0]  # of a row, by its first query: of okapis nothing arrives
COUNTS = [400, 300, 900, 60, 50, 7]


def draw(key: str, query: str) -> float:
    """u(key, query), out of libraries alone."""
    mask = 2**64 - 1

    def mixed(n: int) -> int:
        n = (n ^ n >> 30) * 0xBF58476D1CE4E5B9 & mask
        n = (n ^ n >> 27) * 0x94D049BB133111EB & mask
        return n ^ n >> 31

    secret = hashlib.blake2b(f"{SEED}:balance".encode(), digest_size=16).digest()
    of_key = int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8, key=secret).digest(), "big")
    return (mixed(of_key ^ mixed(xxhash.xxh3_64_intdigest(query.encode()))) >> 11) * 2.0**-53


@dataclass(frozen=True)
class Planned:
    """A row of the plan: its captions, whether its picture arrives (at a second attempt, perhaps), and which picture it is."""

    name: str
    captions: list[tuple[str, list[int]]]
    arrives: bool
    again: bool
    picture: int

    def draws(self) -> list[tuple[int, float]]:
        """(query, draw) of each membership."""
        keys = [(pair_key(f"http://a.example/{self.name}", text), ids) for text, ids in self.captions]
        return [(q, draw(key, QUERIES[q])) for key, ids in keys for q in ids]


def world(seed: int, *, sampled: float = math.inf) -> list[Planned]:
    """The rows that a plan took of a web: those with a critical t below `sampled`."""
    rng, rows = random.Random(seed), []
    for i in range(400):
        captions = [
            (f"text {rng.randrange(300)} {n}", sorted(set(rng.choices(range(6), [8, 6, 18, 2, 1, 0.3], k=rng.choice([1, 1, 2])))))
            for n in range(rng.choice([1, 1, 2]))
        ]  # fmt: skip
        alive = rng.random() < SURVIVAL[captions[0][1][0]] and not any(4 in ids for _, ids in captions)
        again = not alive and rng.random() < 0.1 and not any(4 in ids for _, ids in captions)
        row = Planned(f"{seed}-{i}", captions, alive, again, rng.choice([i + 1_000, i + 1_000, rng.randrange(40)]))
        if min(u * COUNTS[q] for q, u in row.draws()) < sampled:
            rows.append(row)
    return rows


@dataclass
class Twin:
    """What is to be kept: pictures by number."""

    kept: set[int] = field(default_factory=set)
    clusters: dict[int, dict[int, float]] = field(default_factory=dict)  # picture -> query -> smallest draw
    bound: float = math.inf

    def contributions(self, query: int, most: int) -> int:
        """How many samples are among the `most` smallest draws of a query, and kept."""
        smallest = sorted((draws[query], picture) for picture, draws in self.clusters.items() if query in draws)
        return sum(picture in self.kept for _, picture in smallest[:most])


def twin(rows: list[Planned], balance: Balance) -> Twin:
    planned, surviving, found = [0] * 6, [0] * 6, Twin()
    for row in rows:
        for q, u in row.draws():
            planned[q] += 1
            if row.arrives or row.again:
                surviving[q] += 1
                draws = found.clusters.setdefault(row.picture, {})
                draws[q] = min(u, draws.get(q, 2.0))
    survival = [s / max(p, 1) for s, p in zip(surviving, planned, strict=True)]
    critical = {
        picture: min(u * (COUNTS[q] * survival[q]) for q, u in draws.items())
        for picture, draws in found.clusters.items()
    }
    if balance.hard:
        for query in range(6):
            mine = sorted((draws[query], picture) for picture, draws in found.clusters.items() if query in draws)
            found.kept |= {picture for _, picture in mine[: int(balance.cap)]}
        return found
    t = balance.cap
    if balance.target is not None:
        cut = [q for q in range(6) if COUNTS[q] > balance.sampled]
        if any(surviving[q] for q in cut):
            found.bound = balance.sampled * (sum(surviving[q] for q in cut) / sum(planned[q] for q in cut))
        t = min(
            [*sorted(critical.values()), math.inf][balance.target] if balance.target < len(critical) else math.inf,
            found.bound,
        )
    found.kept = {picture for picture, value in critical.items() if value < t}
    return found


@dataclass
class Selected:
    """What select kept, as pictures by number, and its manifest."""

    kept: set[int]
    manifest: Manifest
    out: str


@pytest.fixture
def selected(tmp_path: Path, raw: Any, raw_row: Any, run_select: Any) -> Callable[..., Selected]:
    """(rows, balance) -> what the passes of select keep of them, on three raw shards and one of a round of retries."""
    (tmp_path / "queries.txt").write_text("\n".join(QUERIES))

    def run(rows: list[Planned], balance: Balance, *, buckets: int = 3, name: str = "out") -> Selected:
        out, shards = str(tmp_path / name), defaultdict(list)
        for i, row in enumerate(rows):
            arrives = raw_row(row.name, row.captions, look=row.picture % 7, phash=row.picture)
            lost = raw_row(row.name, row.captions, look=None)
            shards[f"0000{i % 3}-0000"].append(arrives if row.arrives else lost)
            if row.again:
                shards["r00001-0000"].append(arrives)
        manifest = run_select(out, raw(out, shards), COUNTS, balance, str(tmp_path / "queries.txt"),
                              config=SelectConfig(), seed=SEED, buckets=buckets)  # fmt: skip
        tables = [
            pq.read_table(pa.BufferReader(fs.read_bytes(fs.join(out, m.files["rows"].name)))) for m in manifest.parts
        ]
        phashes = [phash for table in tables for phash in table["phash"].to_pylist()]
        assert len(phashes) == len(set(phashes))
        return Selected(set(phashes), manifest, out)

    return run


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("target", [1, 40, 100, 150, 10_000])
def test_a_target_is_met_to_the_sample_and_by_the_smallest_new_critical_t(
    selected: Callable[..., Selected], seed: int, target: int
) -> None:
    rows, balance = world(seed), Balance(20.0, target)
    found, expected = selected(rows, balance), twin(rows, balance)
    assert found.kept == expected.kept
    assert len(found.kept) == min(target, len(expected.clusters)) and len(expected.clusters) < 10_000


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("target", [30, 60, 100, 10_000])
def test_a_target_stops_where_the_plan_cut_a_query_and_says_so(
    selected: Callable[..., Selected], seed: int, target: int
) -> None:
    balance = Balance(40.0, target, sampled=80.0)
    rows = world(seed, sampled=80.0)
    found, expected = selected(rows, balance), twin(rows, balance)
    assert found.kept == expected.kept and expected.bound < 80
    (facts,) = {StageDir(found.out, "select", "e" * 32).facts(part, Target) for part in found.manifest.parts}
    said = facts.describe(len(found.kept), oversample=2.0)
    assert bool(said) == (len(found.kept) < target)
    assert not said or f"{target - len(found.kept):,} samples are lacking" in said and "--oversample" in said


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("cap", [1, 5, 25, 60, 1_000])
def test_a_hard_cap_keeps_the_smallest_draws_of_each_query_and_not_one_more(
    selected: Callable[..., Selected], seed: int, cap: int
) -> None:
    rows, balance = world(seed), Balance(float(cap), hard=True)
    found, expected = selected(rows, balance), twin(rows, balance)
    assert found.kept == expected.kept
    for query in range(6):
        survivors = sum(query in draws for draws in expected.clusters.values())
        assert expected.contributions(query, cap) == min(cap, survivors)
    assert len(found.kept) < len(expected.clusters) or cap == 1_000


@pytest.mark.parametrize("balance", [Balance(20.0, 90), Balance(9.0, hard=True), Balance(11.0)])
def test_any_number_of_buckets_and_a_start_anew_give_the_same_bytes(
    selected: Callable[..., Selected], balance: Balance
) -> None:
    rows = world(9)
    runs = [selected(rows, balance, buckets=buckets, name=f"out{buckets}") for buckets in (1, 5)]
    digests = [[file.digests for part in run.manifest.parts for file in part.files.values()] for run in runs]
    assert digests[0] == digests[1]
    again = selected(rows, balance, buckets=5, name="out5")
    assert again.manifest == runs[1].manifest
    names = {name.partition("-")[0] for name in fs.list_dir(f"{again.out}/select")}
    assert names == {"part", "_MANIFEST.json"}


# Ties: draws are never equal by chance, so tables are made by hand.


def ranked_cut(verdicts: pa.Table, cap: int) -> Cut:
    draws = [d for row in verdicts["draws"].to_pylist() for d in row or []]
    numbers = np.array([d["query"] for d in draws], np.int32)
    search = ranks.begin(np.unique(numbers), cap)
    for _ in range(ranks.ROUNDS):
        parts = [cells for _, cells in ranks.count(search, numbers, np.array([d["draw"] for d in draws]))]
        search = ranks.narrow(ranks.add_cells(parts), search)
    return Cut(math.inf, search.groups, search.values)


def verdicts(
    *draws: list[tuple[int, float]] | None, critical: list[float] | None = None, reason: str | None = None
) -> pa.Table:
    rows = [
        {
            "raw": 0,
            "row": i,
            "critical_t": critical[i] if critical else 1.0,
            "reason": reason,
            "draws": None if some is None else [{"query": q, "draw": u} for q, u in some],
        }
        for i, some in enumerate(draws)
    ]
    return pa.Table.from_pylist(rows, schema=VERDICT)


@pytest.mark.parametrize(
    "draws, kept",
    [
        ([0.1, 0.2, 0.3, 0.4], 2),
        ([0.1, 0.2, 0.2, 0.4], 1),  # never one more than the cap: the tie at the border stays out
        ([0.2, 0.2, 0.2, 0.4], 0),
        ([0.1, 0.1, 0.2, 0.2], 2),
        ([0.1, 0.2], 2),
    ],
)
def test_all_of_a_tie_at_the_border_stay_out(draws: list[float], kept: int) -> None:
    table = verdicts(*([(3, u)] for u in draws))
    reasons = judge(table, ranked_cut(table, 2))["reason"].to_pylist()
    assert reasons == [None] * kept + ["rebalanced_out"] * (len(draws) - kept)


def test_a_cluster_stays_for_any_of_its_queries_or_for_one_that_is_not_capped() -> None:
    cut = Cut(math.inf, np.array([1, 4], np.int32), np.array([0.5, 0.1]))
    table = verdicts([(1, 0.5), (4, 0.09)], [(1, 0.5), (4, 0.1)], None, [], [(2, 0.9)], [(1, 0.6), (2, 0.9)])
    assert judge(table, cut)["reason"].to_pylist() == [None, "rebalanced_out", None, None, None, None]


def test_duplicates_keep_their_reason_and_what_no_query_asks_for_goes() -> None:
    assert judge(verdicts(None, reason="duplicate_bytes"), Cut(0.5))["reason"].to_pylist() == ["duplicate_bytes"]
    table = verdicts(None, None, None, critical=[0.4, 0.5, math.inf])
    assert judge(table, Cut(0.5))["reason"].to_pylist() == [None, "rebalanced_out", "rebalanced_out"]
    assert judge(table, Cut(math.inf))["reason"].to_pylist() == [None, None, "rebalanced_out"]


@pytest.mark.parametrize(
    "weights, planned, surviving, end",
    [
        ([100, 100, 5], [20, 20, 5], [10, 13, 1], 11.5),
        ([100, 100, 5], [20, 20, 5], [0, 13, 1], 6.5),
        ([20, 5, 5], [20, 5, 5], [1, 1, 1], math.inf),  # all of them were planned
        ([100, 0, 0], [0, 0, 0], [0, 0, 0], math.inf),
    ],
)
def test_a_target_ends_where_the_queries_that_plan_cut_have_no_more(
    weights: list[float], planned: list[int], surviving: list[int], end: float
) -> None:
    memberships = Memberships(np.array(planned), np.array(surviving))
    assert sampled_to(np.array(weights, np.float64), memberships, 20.0) == end


@pytest.mark.parametrize(
    "reached_at, end, samples, said",
    [
        (30.0, 40.0, 3_000, ""),
        (30.0, None, 3_000, ""),
        (30.0, 20.0, 2_313, "687 samples are lacking. Beyond those that are kept plan has not sampled frequent queries: "
         "--oversample 3.00 would have been enough, it was 2."),
        (None, 20.0, 2_000, "1,000 samples are lacking. Beyond those that are kept plan has not sampled frequent queries: "
         "it takes an --oversample of 3.00 at least, it was 2."),
        (None, None, 2_000, "1,000 samples are lacking. All that arrived are kept: no --oversample would bring more, only other "
         "sources."),
        (30.0, 40.0, 2_999, "1 samples are lacking. Samples that tie at the border stay out together."),
    ],
)  # fmt: skip
def test_what_a_target_lacks_is_said_in_words(
    reached_at: float | None, end: float | None, samples: int, said: str
) -> None:
    sentence = Target(3_000, reached_at, end).describe(samples, oversample=2.0)
    assert sentence == (said and f"--target 3,000 was not reached: {said}")


@pytest.mark.parametrize(
    "schema, plan, asked",
    [
        (3, PlanConfig(), Balance(7.0, sampled=14.0)),
        (3, PlanConfig(target=9), Balance(7.0, 9, sampled=14.0)),
        (3, PlanConfig(cap="hard", max_per_query=25), Balance(25.0, hard=True)),
        (2, PlanConfig(target=9), Balance(7.0)),
        (2, PlanConfig(cap="hard", max_per_query=25), Balance(7.0)),
    ],
)
def test_a_set_of_an_earlier_schema_is_cut_at_the_cap_of_its_plan(
    schema: int, plan: PlanConfig, asked: Balance
) -> None:
    assert balance_under(schema, plan, PlanFacts("", np.zeros(0, np.int64), np.zeros(0), 7.0, 14.0)) == asked
