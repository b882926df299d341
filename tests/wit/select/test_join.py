"""Duplicates joined inside a raw shard first: the same bytes as if all pictures of a set met at once."""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from wit import ledger
from wit.download.published import FetchedShard, raw_shards
from wit.hashing import name_hashes
from wit.plan.balance import pair_draws
from wit.records import DROPPED, KEEP, RAW, pair_key
from wit.select.config import SelectConfig
from wit.select.cut import Balance, Target, join_shard, sampled_to
from wit.select.dedup import PICTURE, VERDICT, expand
from wit.select.keep import pictures, select_reasons
from wit.select.passes import KEEP_ROW_GROUP, count, read_raw
from wit.select.survival import Memberships, surviving_counts
from wit.store import fs
from wit.store.manifests import Manifest, Unit
from wit.store.parquet import write_parquet
from wit.store.parts import StageDir, write_tables
from wit.store.scratch import scratch_dir
from wit.tally import Tally

SEED = 5
QUERIES = ["dog", "cat", "photo", "fox", "okapi"]
COUNTS = np.array([40.0, 30.0, 90.0, 6.0, 0.0])  # of the last all critical t are 0: ties
SIDE = {"width": 40, "height": 40, "original_width": 40, "original_height": 40}
Row = dict[str, Any]


def raw_row(rng: random.Random, shard: str, number: int) -> Row:
    """A row of a raw shard: few pictures, several bytes of each, some without a hash; few texts, some without queries."""
    url = f"http://a.example/{shard}/{number}"
    texts = rng.sample(["a fox", "fox", "a dog", "cat", "photo"], rng.choice([1, 1, 2, 3]))
    captions = [
        {
            "key": pair_key(url, text),
            "text": text,
            "query_ids": sorted(rng.sample(range(5), rng.choice([0, 1, 1, 2, 3]))),
            "page_url": f"{url}/{text}",
        }
        for text in texts
    ]
    row = {"key": captions[0]["key"], "url": url, "canonical_url": url, "captions": captions, "source_offset": number}
    if rng.random() < 0.2:
        return row | {"reason": "timeout"}
    look = min(rng.randrange(90) for _ in range(3))
    phash, digest = (None if look % 5 == 4 else look // 4), f"{look:064x}"
    small = {"original_width": 8} if rng.random() < 0.1 else {}
    at = {"tar_offset": 512 * number, "tar_size": 100}
    return row | SIDE | small | at | {"phash": phash, "original_sha256": digest, "sha256": digest}


def raw_set(rng: random.Random, out: str) -> Manifest:
    """Some raw shards, one of them of a round of retries, and one perhaps without any row."""
    stage = StageDir(out, "download", "d" * 32)
    for name in ["r00001-0000", *(f"{n:05d}-0000" for n in range(rng.choice([1, 3, 6])))]:
        rows = [raw_row(rng, name, number) for number in range(rng.choice([0, 3, 12, 40]))]
        paths = {"tar": f"{out}-{name}.tar", "parquet": f"{out}-{name}.parquet"}
        fs.write_bytes(paths["tar"], b"")
        write_parquet(pa.Table.from_pylist(rows, schema=RAW), paths["parquet"])
        fetched = sum(row.get("reason") is None for row in rows)
        lost = {"timeout": len(rows) - fetched} if fetched < len(rows) else {}
        stage.publish(Unit.parse(name), paths, Tally(into=len(rows), out=fetched, dropped=lost))
    return stage.finish(stage.markers(), [])


# The twin: all pictures at once.


def in_order(row: Row) -> tuple[float, str]:
    return row["critical_t"], row["key"]


@dataclass
class Cluster:
    """Pictures that are the same, best first."""

    members: list[Row]

    @property
    def draws(self) -> dict[int, float]:
        """The smallest draw for each query."""
        found: dict[int, float] = {}
        for caption in (caption for row in self.members for caption in row["captions"]):
            ids = np.array(caption["query_ids"], np.int32)
            draws = pair_draws(SEED, [caption["key"]], np.array([0, len(ids)]), ids, name_hashes(QUERIES))
            for query, draw in zip(ids.tolist(), draws.tolist(), strict=True):
                found[query] = min(draw, found.get(query, 2.0))
        return found

    def union(self, most: int) -> list[Row]:
        """The first captions of all its pictures, each text once."""
        said = sorted((caption for row in self.members for caption in row["captions"]), key=in_order)
        first = {caption["text"]: caption for caption in reversed(said)}
        return sorted(first.values(), key=in_order)[:most]


def cut_of(clusters: list[Cluster], balance: Balance, memberships: Memberships) -> tuple[set[int], Target | None]:
    """(numbers of the clusters that stay, the facts of a target)."""
    critical = [cluster.members[0]["critical_t"] for cluster in clusters]
    if balance.hard:
        draws = [cluster.draws for cluster in clusters]
        most = {}
        for query in np.flatnonzero(memberships.surviving > balance.cap).tolist():
            mine = sorted(found[query] for found in draws if query in found)
            most[query] = [*mine, math.inf][int(balance.cap)] if len(mine) > balance.cap else math.inf
        stay = {
            n for n, found in enumerate(draws) if any(draw < most.get(query, math.inf) for query, draw in found.items())
        }
        return {n for n in stay if critical[n] < math.inf}, None
    if balance.target is None:
        return {n for n, t in enumerate(critical) if t < balance.cap}, None
    end = sampled_to(COUNTS, memberships, balance.sampled)
    reached = sorted(critical)[balance.target] if balance.target < len(critical) else math.inf
    facts = Target(balance.target, *(t if t < math.inf else None for t in (reached, end)))
    return {n for n, t in enumerate(critical) if t < facts.t}, facts


def twin(out: str, download: Manifest, balance: Balance, config: SelectConfig) -> Manifest:
    """What select publishes, out of clusters of all rows of all raw shards at once."""
    stage, hashes = StageDir(out, "select", "e" * 32), name_hashes(QUERIES)
    shards = list(raw_shards(download))
    tables = [read_raw(out, shard, config) for shard in shards]
    counted = [count(raw, shard, queries=5, config=config) for raw, shard in zip(tables, shards, strict=True)]
    memberships = Memberships(sum(one.planned for one in counted), sum(one.surviving for one in counted))
    weights = surviving_counts(COUNTS, memberships)
    together: dict[Any, list[Row]] = defaultdict(list)
    for number, raw in enumerate(tables):
        for row in pictures(raw, number, weights, hashes, seed=SEED, config=config).to_pylist():
            together[row["original_sha256"] if row["phash"] is None else row["phash"]].append(row)
    clusters = [Cluster(sorted(members, key=in_order)) for members in together.values()]
    stay, facts = cut_of(clusters, balance, memberships)
    verdicts = {
        (row["raw"], row["row"]): (cluster, row is cluster.members[0], n in stay)
        for n, cluster in enumerate(clusters)
        for row in cluster.members
    }
    for number, (raw, shard) in enumerate(zip(tables, shards, strict=True)):
        kept, dropped = [], []
        for place, (row, reason) in enumerate(zip(raw.to_pylist(), select_reasons(raw, config), strict=True)):
            detail = ""
            if (number, place) in verdicts:
                cluster, stands, stays = verdicts[number, place]
                best = cluster.members[0]
                if stands and stays:
                    kept.append(keep_row(row, shard, cluster, config.max_captions_per_sample))
                    continue
                reason = "rebalanced_out"
                if not stands:
                    same = row["original_sha256"] == best["original_sha256"]
                    reason, detail = "duplicate_bytes" if same else "duplicate_picture", best["key"]
            if row["reason"] is None:
                first = {"caption": row["captions"][0]["text"], "page_url": row["captions"][0]["page_url"]}
                dropped.append(row | first | {"stage": "select", "reason": str(reason), "detail": detail})
        rows, lost = pa.Table.from_pylist(kept, schema=KEEP), pa.Table.from_pylist(dropped, schema=DROPPED)
        tally = Tally(into=len(rows) + len(lost), out=len(rows), dropped=ledger.reason_counts(lost))
        with scratch_dir(out) as scratch:
            files = write_tables(scratch, {"rows": rows}, row_group_size=KEEP_ROW_GROUP)
            files |= write_tables(scratch, {"dropped": lost})
            stage.publish(shard.unit.as_("part"), files, tally, facts=facts)
    return stage.finish(stage.markers(), [])


def keep_row(row: Row, shard: FetchedShard, cluster: Cluster, most: int) -> Row:
    """A row of the keep list."""
    best, captions = cluster.members[0], cluster.union(most)
    row = row | {"captions": captions, "caption": captions[0]["text"], "cluster_size": len(cluster.members)}
    score = row["clip_score"] if row["key"] == best["key"] else None
    return row | {"key": best["key"], "critical_t": best["critical_t"], "raw_shard": shard.tar, "clip_score": score}


BALANCES = {
    "plain": lambda rng: Balance(rng.choice([0.5, 3.0, 9.0, math.inf])),
    "target": lambda rng: Balance(20.0, rng.choice([1, 8, 20, 500]), sampled=rng.choice([math.inf, 35.0])),
    "hard": lambda rng: Balance(rng.choice([1.0, 2.0, 5.0, 9.0]), hard=True),
}


@pytest.mark.parametrize("by_files", [False, True], ids=["engine", "files"])
@pytest.mark.parametrize("captions", [1, 2, 3])
@pytest.mark.parametrize("asked", BALANCES)
def test_what_is_published_has_the_bytes_of_a_twin_that_sees_all_pictures_at_once(
    tmp_path: Path, run_select: Callable[..., Manifest], asked: str, captions: int, by_files: bool
) -> None:
    (tmp_path / "queries.txt").write_text("\n".join(QUERIES))
    config = SelectConfig(max_captions_per_sample=captions)
    kept = 0
    for seed in range(6):
        rng = random.Random(f"{seed} {asked}")
        one, other = str(tmp_path / f"one{seed}"), str(tmp_path / f"other{seed}")
        download = raw_set(rng, one)
        Path(other).mkdir()
        Path(other, "raw").symlink_to(f"{one}/raw")
        balance, buckets = BALANCES[asked](rng), rng.choice([1, 3])
        manifest = run_select(
            one, download, COUNTS, balance, str(tmp_path / "queries.txt"),
            config=config, seed=SEED, buckets=buckets, by_files=by_files,
        )  # fmt: skip
        assert manifest == twin(other, download, balance, config)
        kept += manifest.out
    assert kept > 20


def picture(row: int, key: str, phash: int, texts: list[str], critical_t: float = 1.0) -> Row:
    said = [{"key": f"{key}{n}", "text": text, "query_ids": [n], "critical_t": 1.0} for n, text in enumerate(texts)]
    first = {"raw": 4, "row": row, "key": f"{key}0", "critical_t": critical_t, "captions": said, "pictures": 1}
    return first | {"phash": phash, "original_sha256": f"{key}{phash}"}


@pytest.mark.parametrize("hard", [False, True])
def test_a_raw_shard_sends_one_row_a_picture_and_draws_only_where_captions_stay_behind(hard: bool) -> None:
    rows = [picture(n, f"{9 - n}", n % 2, ["a fox", "fox"]) for n in range(6)] + [picture(6, "x", 5, ["cat", "dog"])]
    found = join_shard(
        pa.Table.from_pylist(rows, schema=PICTURE),
        Balance(1.0, hard=hard),
        name_hashes(QUERIES),
        seed=SEED,
        max_captions=2,
    )
    sent = {row["phash"]: row for row in found.to_pylist()}
    assert {phash: row["pictures"] for phash, row in sent.items()} == {0: 3, 1: 3, 5: 1}
    assert [sent[0]["row"], sent[1]["row"]] == [4, 5] and len(sent[0]["captions"]) == 2
    carried = {phash: [draw["query"] for draw in row["draws"] or []] for phash, row in sent.items()}
    assert carried == ({0: [0, 1], 1: [0, 1], 5: []} if hard else {0: [], 1: [], 5: []})


@pytest.mark.parametrize("rows", [[0], [0, 1, 2], [0, 3], [1, 0], []])
def test_verdicts_that_are_not_one_a_picture_are_refused(rows: list[int]) -> None:
    survivors = pa.table({"phash": pa.array([1, 2, 2], pa.uint64()), "original_sha256": ["a", "b", "b"]})
    verdicts = pa.Table.from_pylist([{"row": row} for row in rows], schema=VERDICT)
    with pytest.raises(ValueError, match="raw/x.parquet: verdicts do not match its survivors"):
        expand(verdicts, survivors, np.arange(3), "raw/x.parquet")
