from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wit.arrays import Hashes
from wit.errors import InputError
from wit.hashing import name_hashes
from wit.plan import balance
from wit.records import DROPPED, KEEP, RAW, pair_key
from wit.select.config import SelectConfig
from wit.select.cut import Balance, Cut, cluster, judge
from wit.select.keep import pictures, weigh
from wit.select.survival import membership_counts, surviving_counts
from wit.store import fs
from wit.store.manifests import Manifest

SEED, QUERIES = 5, ["dog", "cat", "photo", "fox"]
CONFIG = SelectConfig()
CAPTION = {"language": None, "page_url": "http://a.example/page", "critical_t": 0.0}


@pytest.fixture
def query_file(tmp_path: Path) -> str:
    (tmp_path / "queries.txt").write_text("\n".join(QUERIES))
    return str(tmp_path / "queries.txt")


@pytest.mark.parametrize(
    "knob, value", [("min_image_side_px", -1), ("max_aspect_ratio", 0.5), ("max_captions_per_sample", 0)]
)
def test_a_knob_without_sense_is_bad_input(knob: str, value: float) -> None:
    with pytest.raises(InputError, match=knob.replace("_", "-")):
        SelectConfig(**{knob: value})  # type: ignore[arg-type]


def table(out: str, manifest: Manifest, label: str) -> pa.Table:
    schema = {"rows": KEEP, "dropped": DROPPED}[label]
    found = [m.files[label].name for m in manifest.parts if label in m.files]
    return pa.concat_tables([schema.empty_table(), *(pq.read_table(fs.join(out, name)) for name in found)])


def test_every_fetched_row_is_kept_or_dropped_for_one_reason(
    tmp_path: Path, raw: Callable[..., Manifest], raw_row: Any, query_file: str, run_select: Callable[..., Manifest]
) -> None:
    out = str(tmp_path / "out")
    rows = [
        raw_row("kept", [("a dog", [0])], look=1),
        raw_row("lost", [("a dog", [0])], look=None),
        raw_row("small", [("a cat", [1])], look=2, size=(20, 40)),
        raw_row("banner", [("a cat", [1])], look=3, size=(400, 40)),
        raw_row("copy-1", [("fox one", [3])], look=4),
    ]
    more = [
        raw_row("copy-2", [("fox two", [3])], look=4),
        raw_row("copy-3", [("fox three", [2, 3])], look=4, variant=5),
    ]
    download = raw(out, {"00000-0000": rows, "00001-0000": more})
    manifest = run_select(out, download, np.array([1, 2, 1, 3]), float("inf"), query_file, config=CONFIG, seed=SEED)
    assert (manifest.into, manifest.out) == (6, 2)
    reasons = manifest.dropped
    assert reasons["image_too_small"] == reasons["aspect_ratio"] == 1
    assert reasons.get("duplicate_bytes", 0) + reasons["duplicate_picture"] == 2
    kept = {r["url"].rpartition("/")[2].partition("-")[0]: r for r in table(out, manifest, "rows").to_pylist()}
    assert set(kept) == {"kept", "copy"}
    assert kept["copy"]["cluster_size"] == 3
    assert {c["text"] for c in kept["copy"]["captions"]} == {"fox one", "fox two", "fox three"}
    assert kept["copy"]["caption"] == kept["copy"]["captions"][0]["text"]
    assert kept["copy"]["critical_t"] == kept["copy"]["captions"][0]["critical_t"]
    for row in kept.values():
        assert row["key"] == pair_key(row["canonical_url"], row["caption"])
        data = fs.read_range(fs.join(out, row["raw_shard"]), row["tar_offset"], row["tar_size"])
        assert data[:2] == b"\xff\xd8"
    dropped = table(out, manifest, "dropped")
    assert sorted(dropped["reason"].to_pylist()) == sorted(r for r, n in reasons.items() for _ in range(n))
    details = dict(zip(dropped["reason"].to_pylist(), dropped["detail"].to_pylist(), strict=True))
    assert details["duplicate_picture"] == kept["copy"]["key"] and details["image_too_small"] == ""


def test_select_gives_the_same_bytes_for_any_number_of_buckets(
    tmp_path: Path, raw: Callable[..., Manifest], raw_row: Any, query_file: str, run_select: Callable[..., Manifest]
) -> None:
    digests = []
    for buckets in (1, 7):
        out = str(tmp_path / f"out{buckets}")
        shards = {
            f"0000{s}-0000": [raw_row(f"{s}-{i}", [("x", [i % 4])], look=i % 9) for i in range(12)] for s in (0, 1)
        }
        manifest = run_select(
            out, raw(out, shards), np.full(4, 6), 3.0, query_file, config=CONFIG, seed=SEED, buckets=buckets
        )
        digests.append([e.sha256 for m in manifest.parts for e in m.files.values()])
        assert [n for n in fs.list_dir(f"{out}/select") if n.endswith(".arrow")] == []
    assert digests[0] == digests[1]


def test_a_shard_of_failures_gives_an_empty_part(
    tmp_path: Path, raw: Callable[..., Manifest], raw_row: Any, query_file: str, run_select: Callable[..., Manifest]
) -> None:
    out = str(tmp_path / "out")
    download = raw(out, {"00000-0000": [raw_row("a", [("dog", [0])], look=None)], "00001-0000": []})
    manifest = run_select(out, download, np.ones(4), 1.0, query_file, config=CONFIG, seed=SEED)
    assert (manifest.into, manifest.out, manifest.dropped) == (0, 0, {})


# The rebalance, against what section 7 of CLIP's paper and the design say, pair by pair.

Pairs = Sequence[tuple[list[int], bool]]  # query ids of a row's one caption; whether it was fetched


def raw_table(pairs: Pairs) -> pa.Table:
    rows = []
    for i, (ids, fetched) in enumerate(pairs):
        url = f"http://a.example/{i}"
        said = [{"key": pair_key(url, "x"), "text": "x", "query_ids": ids, **CAPTION}]
        image = {"original_width": 99, "original_height": 99, "phash": i, "original_sha256": f"{i:064x}"}
        rows.append(
            {
                "key": said[0]["key"],
                "canonical_url": url,
                "captions": said,
                "reason": None if fetched else "timeout",
                **image,
            }
        )
    return pa.Table.from_pylist(rows, schema=RAW)


def judged(found: pa.Table, t: float, hashes: Hashes) -> pa.Table:
    """The verdicts on the pictures of one bucket, cut at a cap."""
    return judge(cluster(found, Balance(t), np.zeros(0, np.int32), hashes, seed=SEED, max_captions=16)[0], Cut(t))


def obvious_survivors(pairs: Pairs, counts: list[int], t: float) -> set[str]:
    """The twin: keys with some query whose draw times (count x survival) is below t."""
    hashes, kept = name_hashes(QUERIES), set()
    for i, (ids, fetched) in enumerate(pairs):
        key = pair_key(f"http://a.example/{i}", "x")
        for q in ids if fetched else []:
            planned = [f for other, f in pairs if q in other]
            one = np.array([q], np.int32)
            u = float(balance.pair_draws(SEED, [key], np.array([0, 1]), one, hashes)[0])
            if u * (counts[q] * (sum(planned) / len(planned))) < t:
                kept.add(key)
    return kept


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.lists(st.integers(0, 3), min_size=1, max_size=3, unique=True), st.booleans()), max_size=25),
    st.lists(st.integers(1, 100), min_size=4, max_size=4),
    st.sampled_from([0.5, 3.0, 20.0, float("inf")]),
)
def test_the_rebalance_is_that_of_the_obvious_twin(pairs: Pairs, counts: list[int], t: float) -> None:
    raw = raw_table(pairs)
    memberships = membership_counts(raw, queries=4, config=CONFIG)
    weights = surviving_counts(np.array(counts), memberships)
    hashes = name_hashes(QUERIES)
    found = pictures(raw, 0, weights, hashes, seed=SEED, config=CONFIG)
    verdicts = judged(found, t, hashes)
    kept = verdicts.filter(pa.compute.is_null(verdicts["reason"]))
    assert set(kept["key"].to_pylist()) == obvious_survivors(pairs, counts, t)


def test_after_losses_a_frequent_query_still_contributes_about_t() -> None:
    n, t = 8_000, 1_000
    hashes = name_hashes(QUERIES)
    keys = [pair_key(f"http://a.example/{i}", "x") for i in range(n)]
    draws = balance.pair_draws(SEED, keys, np.arange(n + 1), np.full(n, 2, np.int32), hashes)
    planned = [i for i in range(n) if draws[i] * n < 2 * t]  # what plan samples at an oversample of 2
    raw = raw_table([([2] if i in set(planned) else [0], i % 10 < 6) for i in range(n)])  # the web loses 40%
    raw = raw.take(pa.array(planned))
    memberships = membership_counts(raw, queries=4, config=CONFIG)
    weights = surviving_counts(np.full(4, n), memberships)
    found = pictures(raw, 0, weights, hashes, seed=SEED, config=CONFIG)
    kept = (judged(found, t, hashes)["reason"].to_pylist()).count(None)
    assert abs(kept - t) < 5 * np.sqrt(t)


def test_captions_of_a_row_are_ordered_by_their_new_critical_t() -> None:
    url, hashes = "http://a.example/0", name_hashes(QUERIES)
    said = [{"key": pair_key(url, text), "text": text, "query_ids": [i], **CAPTION} for i, text in enumerate("ab")]
    raw = raw_table([([0], True)])
    rows = raw.set_column(
        raw.schema.get_field_index("captions"),
        raw.schema.field("captions"),
        pa.array([said], raw.schema.field("captions").type),
    )
    for weights, first in (([1.0, 1e9], "a"), ([1e9, 1.0], "b")):
        weighed = weigh(rows, np.array(weights + [0.0, 0.0]), hashes, seed=SEED).to_pylist()[0]
        assert [c["text"] for c in weighed["captions"]] == [first, "ab".replace(first, "")]
        assert weighed["key"] == pair_key(url, first) and weighed["critical_t"] == weighed["captions"][0]["critical_t"]
