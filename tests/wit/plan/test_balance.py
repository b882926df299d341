import numpy as np

from wit.hashing import name_hashes
from wit.plan import balance
from wit.records import pair_key

QUERIES = ["dog", "cat", "photo", "red fox"]


def make_pairs(n: int) -> tuple[list[str], np.ndarray, np.ndarray]:
    keys = [pair_key(f"http://a.example/{i}", "photo") for i in range(n)]
    ids = [[2] if i % 10 else [1, 2] for i in range(n)]
    offsets = np.cumsum([0, *map(len, ids)])
    return keys, offsets, np.array([i for row in ids for i in row], np.int32)


def test_a_frequent_query_contributes_about_t_and_a_rare_one_everything() -> None:
    keys, offsets, ids = make_pairs(20_000)
    counts = balance.count_queries(ids, 4)
    draws = balance.pair_draws(7, keys, offsets, ids, name_hashes(QUERIES))
    kept = balance.critical_t(draws, counts, offsets, ids) < 2_000
    has_cat = np.diff(offsets) == 2
    assert kept[has_cat].all()  # 2,000 of "cat" are not above the cap
    assert abs(int(kept[~has_cat].sum()) - 1_800) < 5 * 45  # binomial: 18,000 x 0.1, sd 40


def test_a_draw_depends_on_seed_pair_and_query_text_alone() -> None:
    keys, offsets, ids = make_pairs(100)
    hashes = name_hashes(QUERIES)
    draws = balance.pair_draws(7, keys, offsets, ids, hashes)
    other_order = name_hashes(["new", *QUERIES])
    assert (balance.pair_draws(7, keys, offsets, ids + 1, other_order) == draws).all()
    assert (balance.pair_draws(8, keys, offsets, ids, hashes) != draws).all()
    assert draws.min() >= 0 and draws.max() < 1


def test_draws_are_uniform_and_independent_of_each_other() -> None:
    keys, offsets, _ = make_pairs(20_000)
    offsets = np.arange(0, 40_001, 2)
    ids = np.tile(np.array([0, 1], np.int32), 20_000)
    draws = balance.pair_draws(1, keys, offsets, ids, name_hashes(QUERIES)).reshape(-1, 2)
    assert abs(float(draws.mean()) - 0.5) < 0.01
    assert abs(float(np.corrcoef(draws.T)[0, 1])) < 0.03


def test_a_pair_without_queries_is_never_kept() -> None:
    offsets = np.array([0, 0, 1, 1])
    result = balance.critical_t(np.array([0.5]), np.array([10]), offsets, np.array([0], np.int32))
    assert result.tolist() == [np.inf, 5.0, np.inf]
