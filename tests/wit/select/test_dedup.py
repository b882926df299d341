from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from wit.select.dedup import PICTURE, bucket_of, cluster_bucket, in_clusters

Picture = dict[str, Any]


def caption(text: str, critical_t: float, key: str, ids: list[int]) -> dict[str, Any]:
    return {"key": key, "text": text, "critical_t": critical_t, "query_ids": ids}


@st.composite
def picture_tables(draw: st.DrawFn) -> pa.Table:
    """Pictures whose equal bytes have equal hashes, some without hash."""
    phash_of = {digest: draw(st.sampled_from([0, 1, 2, None])) for digest in "abcdef"}
    rows: list[Picture] = []
    for place in range(draw(st.integers(0, 14))):
        digest = draw(st.sampled_from("abcdef"))
        said = [
            caption(draw(st.sampled_from(["fox", "red fox", "dog", "cat"])), draw(st.sampled_from([1.0, 2.0, 5.0])),
                    f"{place:030x}{i:02x}", draw(st.lists(st.integers(0, 5), max_size=3)))
            for i in range(draw(st.integers(1, 3)))
        ]  # fmt: skip
        said.sort(key=lambda c: (c["critical_t"], c["key"]))
        first = {"key": said[0]["key"], "critical_t": said[0]["critical_t"], "captions": said}
        rows.append(
            {
                "raw": place % 3,
                "row": place,
                "original_sha256": digest,
                "phash": phash_of[digest],
                "pictures": 1,
                **first,
            }
        )
    return pa.Table.from_pylist(draw(st.permutations(rows)), schema=PICTURE)


def obvious(table: pa.Table, max_captions: int) -> tuple[dict[str, Any], dict[str, str]]:
    """The twin: ({key of representative: (cluster size, captions)}, {key of dropped: (reason, representative)})."""
    clusters: dict[Any, list[Picture]] = {}
    for row in table.to_pylist():
        name = row["original_sha256"] if row["phash"] is None else row["phash"]
        clusters.setdefault(name, []).append(row)
    kept, dropped = {}, {}
    for members in clusters.values():
        best, *others = sorted(members, key=lambda r: (r["critical_t"], r["key"]))
        said = sorted((c for m in members for c in m["captions"]), key=lambda c: (c["critical_t"], c["key"]))
        texts = {c["text"]: c["key"] for c in reversed(said)}
        union = [c["key"] for c in said if texts[c["text"]] == c["key"]][:max_captions]
        kept[best["key"]] = (len(members), union)
        for other in others:
            same = other["original_sha256"] == best["original_sha256"]
            dropped[other["key"]] = ("duplicate_bytes" if same else "duplicate_picture", best["key"])
    return kept, dropped


@settings(max_examples=150, deadline=None)
@given(picture_tables(), st.integers(1, 3), st.integers(1, 4))
def test_clusters_and_their_unions_are_those_of_the_obvious_twin(table: pa.Table, buckets: int, captions: int) -> None:
    bucket = bucket_of(table, buckets)
    kept: dict[str, Any] = {}
    dropped: dict[str, Any] = {}
    for number in range(buckets):
        best, gone = cluster_bucket(*in_clusters(table.filter(pa.array(bucket == number))), max_captions=captions)
        assert best["key"].to_pylist() == [said[0]["key"] for said in best["captions"].to_pylist()]
        union = [[c["key"] for c in said] for said in best["captions"].to_pylist()]
        kept |= dict(
            zip(best["key"].to_pylist(), zip(best["cluster_size"].to_pylist(), union, strict=True), strict=True)
        )
        why = zip(gone["reason"].to_pylist(), gone["detail"].to_pylist(), strict=True)
        dropped |= dict(zip(gone["key"].to_pylist(), why, strict=True))
    assert (kept, dropped) == obvious(table, captions)
    assert len(kept) + len(dropped) == len(table)


@settings(max_examples=50, deadline=None)
@given(picture_tables(), st.randoms(use_true_random=False))
def test_verdicts_do_not_depend_on_the_order_of_the_bucket(table: pa.Table, random: Any) -> None:
    order = list(range(len(table)))
    random.shuffle(order)
    shuffled = table.take(pa.array(order, pa.int64()))
    both = (cluster_bucket(*in_clusters(pictures), max_captions=3) for pictures in (table, shuffled))
    for one, other in zip(*both, strict=True):
        assert one.equals(other)


def test_equal_pictures_share_a_bucket_and_buckets_are_even() -> None:
    n = 4000
    rows = {"phash": pa.array(np.arange(n) // 2, pa.uint64()), "original_sha256": [f"{i:064x}" for i in range(n)]}
    bucket = bucket_of(pa.table(rows), 8)
    assert (bucket[::2] == bucket[1::2]).all()
    assert np.bincount(bucket, minlength=8).min() > n / 8 * 0.8


def test_a_leader_of_many_duplicates_is_not_copied_once_for_each() -> None:
    text, duplicates = "fox" * 10_000, 10_000
    said = [[caption(text, 1.0, "0" * 32, [0])], *([] for _ in range(duplicates))]
    rows = {
        "raw": range(duplicates + 1),
        "row": [0] * (duplicates + 1),
        "key": [f"{n:032x}" for n in range(duplicates + 1)],
        "critical_t": [1.0] * (duplicates + 1),
        "original_sha256": ["a"] * (duplicates + 1),
        "phash": [7] * (duplicates + 1),
        "captions": said,
        "pictures": [duplicates + 1, *[0] * duplicates],
    }
    pictures, cluster = in_clusters(pa.Table.from_pydict(rows | {"draws": [[]] * (duplicates + 1)}, schema=PICTURE))
    before = pa.default_memory_pool().max_memory() or 0
    cluster_bucket(pictures, cluster, max_captions=16)
    assert (pa.default_memory_pool().max_memory() or 0) - before < 1_000 * len(text) < duplicates * len(text)
