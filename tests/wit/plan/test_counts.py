"""Captions and domains above their caps, counted by ranges of hashes, against one dictionary over all."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import candidate_table as candidates
from wit.plan import counts
from wit.plan import pairs as maths
from wit.plan.config import PlanConfig
from wit.plan.owners import Rates
from wit.plan.passes import Passes, shape_of
from wit.store.parts import StageDir
from wit.store.shuffle import Dealt, Task

SEED = 11


def buckets_of(rows: list[tuple[str, str, list[int]]], buckets: int) -> dict[int, pa.Table]:
    dealt = next(maths.scatter([candidates(rows)], seed=SEED, buckets=buckets, captions=16))
    of = {b: dealt.rows.filter(pa.array(dealt.bucket == b)) for b in np.unique(dealt.bucket).tolist()}
    return {b: maths.merge(table, seed=SEED, captions=16)[0] for b, table in of.items()}


def dealt_to(parts: list[Dealt]) -> dict[int, pa.Table]:
    """What each bucket or range gets."""
    numbers = sorted({number for part in parts for number in part.bucket.tolist()})
    assert all((np.diff(part.bucket) >= 0).all() and len(part.bucket) == len(part.rows) for part in parts)
    return {n: pa.concat_tables(part.rows.filter(pa.array(part.bucket == n)) for part in parts) for n in numbers}


def thinned(
    rows: list[tuple[str, str, list[int]]], config: PlanConfig, *, buckets: int = 3, ranges: int = 4, block: int = 1
) -> Counter[str]:
    """How each pair fares: as the pipeline does it. Keys are `CAPTION DOMAIN`, or a reason."""
    pairs = buckets_of(rows, buckets)
    of_ranges = dealt_to([counts.count_names(maths.split(p)[0], b, ranges, config) for b, p in pairs.items()])
    heavy = dealt_to([counts.too_frequent(table, config, block=block) for table in reversed(of_ranges.values())])
    fates = Counter[str]()
    for number, table in pairs.items():
        mine = counts.of_bucket(heavy.get(number // block, counts.COUNT.empty_table()), number)
        assert set(mine["bucket"].to_pylist()) <= {number}
        urls = table["canonical_url"] if counts.has_domains(mine) else None
        lost = counts.over_caps(maths.split(table)[0], mine, urls, seed=SEED, config=config)
        left = table.filter(pa.array(lost == 0))
        fates.update(f"{c} {d}" for c, d in zip(left["caption"].to_pylist(), left["domain"].to_pylist(), strict=True))
        fates.update(maths.drop_over_caps(table, lost)["reason"].to_pylist())
    return fates


def test_a_caption_on_too_many_urls_is_thinned_to_about_the_cap_and_others_stay() -> None:
    rows = [(f"http://h.example/{i}", "buy now" if i % 2 else f"a dog {i}", [0]) for i in range(4_000)]
    fates = thinned(rows, PlanConfig(max_urls_per_caption=200))
    lost = fates.pop("caption_too_frequent")
    assert fates.pop("buy now h.example") == 2_000 - lost and abs(lost - 1_800) < 5 * 14
    assert fates == {f"a dog {i} h.example": 1 for i in range(0, 4_000, 2)}


def test_a_domain_above_its_cap_is_thinned_by_url() -> None:
    rows = [(f"http://{'a' if i % 4 else 'b'}.example/{i // 2}", f"dog {i % 2}", [0]) for i in range(4_000)]
    fates = thinned(rows, PlanConfig(max_urls_per_caption=0, max_urls_per_domain=1_500))
    of = {name: [fates[f"dog {n} {name}.example"] for n in range(2)] for name in "ab"}
    assert sum(of["b"]) == 1_000, "1,000 URLs of one caption each: below it"
    assert fates["domain_cap"] == 3_000 - sum(of["a"]) and abs(sum(of["a"]) - 2_250) < 150  # 3 captions of 2 URLs


@settings(max_examples=50, deadline=None)
@given(
    names=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=60),
    caps=st.tuples(st.integers(0, 8), st.integers(0, 8)),
    buckets=st.integers(1, 4),
    ranges=st.integers(1, 4),
    block=st.integers(1, 3),
)
def test_exactly_those_above_their_cap_are_thinned_however_the_rows_are_cut(
    names, caps, buckets, ranges, block
) -> None:
    rows = [(f"http://d{d}.example/{n}", f"caption {c}", [0]) for n, (c, d) in enumerate(names)]
    config = PlanConfig(max_urls_per_caption=caps[0], max_urls_per_domain=caps[1])
    whole = thinned(rows, config, buckets=1, ranges=1)
    assert thinned(rows, config, buckets=buckets, ranges=ranges, block=block) == whole
    captions, domains = Counter(c for c, _ in names), Counter(d for _, d in names)
    calm = Counter(
        f"caption {c} d{d}.example"
        for c, d in names
        if not (caps[0] and captions[c] > caps[0]) and not (caps[1] and domains[d] > caps[1])
    )
    assert all(whole[name] == count for name, count in calm.items())
    assert whole["caption_too_frequent"] <= sum(n for n in captions.values() if caps[0] and n > caps[0])
    assert sum(whole.values()) == len(rows)


@pytest.mark.parametrize("caps", [(0, 0), (1, 1)])
def test_an_empty_bucket_counts_nothing(caps: tuple[int, int]) -> None:
    config = PlanConfig(max_urls_per_caption=caps[0], max_urls_per_domain=caps[1])
    dealt = counts.count_names(maths.NARROW.empty_table(), 0, 4, config)
    assert len(dealt.rows) == len(dealt.bucket) == 0
    assert len(counts.too_frequent(counts.COUNT.empty_table(), config).rows) == 0


def test_a_caption_that_all_buckets_have_is_told_to_a_few_blocks() -> None:
    config, buckets = PlanConfig(), 80_000
    ones = [
        np.full(buckets, value, kind) for value, kind in ((counts.CAPTIONS, np.int8), (7, np.uint64), (1, np.int64))
    ]
    table = pa.table([*ones, np.arange(buckets, dtype=np.int32)], schema=counts.COUNT)
    plan = Passes(StageDir("", "plan", ""), config, "", 0, 0, Rates(), shape_of(10**10, config), 10**10, 2_000)
    dealt = counts.too_frequent(table, config, block=plan.told)
    assert len(dealt.rows) == plan.shape.buckets == buckets
    assert len(np.unique(dealt.bucket)) == plan.frequent.buckets == 5_000
    assert sum(1 for _ in plan.frequent.batches(Task(0, lambda: [dealt]))) == 5_000
