"""Hot names: a URL, a caption, a domain or a perceptual hash that 1 % of all rows have, at 10 billion candidates.

Each kind of unit is run as a build runs it, at 1/PART of its full size: once with the rows of a set without the hot name (the
median unit), and once with the hot rows that its largest unit gets besides. How many these are is computed, by the rule that
bounds them. Printed are seconds of processor and, PART times what was measured, memory; what one key of an engine's GroupByKey
holds; and whether the bounds of design section 11 hold. Downloads are left out.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.compute as pc
from bench_plan import candidates
from scale_shuffle import bound
from scale_store import measured

from wit.arithmetic import ceil_div
from wit.arrays import as_schema, list_of, one_array
from wit.download.published import FetchedShard
from wit.fetch.config import FetchConfig
from wit.plan import pairs as maths
from wit.plan.config import PlanConfig
from wit.plan.counts import CAPTIONS, COUNT
from wit.plan.facts import Shape
from wit.plan.owners import OF_DOMAIN, OWNED, Routing, add_owners, rates_of
from wit.plan.passes import COUNT_BYTES, ROW_BYTES
from wit.plan.passes import Passes as PlanPasses
from wit.plan.threshold import Threshold
from wit.querylist import hashes_of
from wit.records import CAPTION, PLAN, RAW
from wit.select.config import SelectConfig
from wit.select.cut import Balance, Cut, join_shard
from wit.select.dedup import PICTURE, VERDICT
from wit.select.keep import pictures
from wit.select.passes import PICTURE_BYTES, Numbered, read_raw
from wit.select.passes import Passes as SelectPasses
from wit.select.spread import Spread
from wit.store import shuffle
from wit.store.manifests import Unit
from wit.store.parquet import write_parquet
from wit.store.parts import StageDir
from wit.store.shuffle import Dealt, Shuffle, Slice, Task, buckets_for

CANDIDATES, PLANNED, PICTURES = 10_000_000_000, 800_000_000, 400_000_000
RAW_SHARDS, TASKS = 80_000, 2_000
HOT = 100  # one row in so many has the hot name
PART = 4  # units are run at this part of their size
QUERIES = 10_000
MOST = 10.0  # times the median unit's time
BUCKETS = buckets_for(CANDIDATES, bytes_a_row=ROW_BYTES)
RANGES = buckets_for(2 * CANDIDATES, bytes_a_row=COUNT_BYTES, rows_a_key=8 * shuffle.KEY_ROWS)
OF_HASHES = buckets_for(PICTURES, bytes_a_row=PICTURE_BYTES)
CONFIG, SEED, CHOSEN = PlanConfig(), 1, SelectConfig()
AS = {"join": "cluster"}  # of a unit that the median set has none of: the one whose work it takes over
CHUNKS = ceil_div(CANDIDATES // TASKS, shuffle.CHUNK_ROWS)  # of a task


@dataclass(frozen=True)
class Cost:
    """What one unit takes at full size, and what the key of a GroupByKey that brings its rows holds."""

    rows: int
    seconds: float
    megabytes: float
    key_mb: float = 0.0


def cost(rows: int, work: Callable[[], Any], pieces: tuple[Slice, ...] = ()) -> tuple[Cost, Any]:
    """(what a unit of so many rows takes, times PART; what it returns)."""
    found: list[Any] = []

    def timed() -> None:
        started = time.process_time()
        found.append(work())
        found.append(time.process_time() - started)

    line = measured("", "", timed)
    taken = sum(piece.length for piece in pieces)
    return Cost(rows * PART, found[1] * PART, line.megabytes * PART, taken * PART / 1e6), found[0]


def received(one: Shuffle, tasks: list[Task]) -> dict[int, tuple[Slice, ...]]:
    """What each bucket of a shuffle gets of these tasks, in files."""
    extents = [extent for task in tasks for _, extent in one.extents(one.deal(task)[0])]
    return dict(one.of_buckets((0, extents)))


def bucket(one: Shuffle, tables: list[pa.Table]) -> tuple[Slice, ...]:
    """What the only bucket of a shuffle gets of tasks that have these rows."""
    dealt = [Dealt(rows, np.zeros(len(rows), np.int64)) for rows in tables]
    return received(one, [Task(n, partial(list, [rows])) for n, rows in enumerate(dealt)]).get(0, ())


# plan


def plan_of(folder: str, rows: int, partitions: int = 1) -> PlanPasses:
    """A plan of one bucket and one range."""
    stage, shape = StageDir(folder, "plan", "f" * 32), Shape(1, 1, partitions)
    rates = rates_of(CONFIG, FetchConfig())
    return PlanPasses(stage, CONFIG, query_list(folder), QUERIES, SEED, rates, shape, rows, 1)


def query_list(folder: str) -> str:
    path = Path(folder, "queries.txt")
    path.write_text("\n".join(f"thing {n}" for n in range(QUERIES)), encoding="utf-8")
    return str(path)


def some(rows: int, hot: str = "", every: int = HOT, seed: int = 0) -> pa.Table:
    """Candidates, of which one in `every` has the hot name."""
    table = candidates(seed, rows, CANDIDATES // 1_000)
    ids = one_array(table["query_ids"])
    table = with_columns(table, query_ids=list_of(pa.array(ids.values.to_numpy() % QUERIES), ids.offsets.to_numpy()))
    names = {"": (), "caption": ("caption",)}.get(hot, ("url", "canonical_url"))
    places = pa.array(np.arange(rows) % every == 0)
    named = {"url": "https://assets.hot.com/spacer.gif", "caption": "image"}.get(hot)
    given = pa.array([named or f"https://cdn.hot.com/{seed}/{n}.jpg" for n in range(rows)])
    return with_columns(table, **{name: pc.if_else(places, given, table[name]) for name in names})


def with_columns(table: pa.Table, **columns: Any) -> pa.Table:
    return as_schema(table.schema, table, **columns)


def random_hashes(count: int, name: int | None = None) -> pa.Array:
    """That many hashes, each another one, or all of them one name's."""
    every = np.random.default_rng(count).integers(0, 1 << 63, count).astype(np.uint64)
    return pa.array(every if name is None else np.full(count, name, np.uint64))


def counts_of(rows: int, name: int | None = None) -> pa.Table:
    """What buckets counted of captions: each another one, or all of them one name in each bucket."""
    kinds, ones = np.full(rows, CAPTIONS, np.int8), np.full(rows, CANDIDATES // HOT // BUCKETS if name else 1)
    places = pa.array(np.arange(rows) % BUCKETS, pa.int32())
    return pa.table([pa.array(kinds), random_hashes(rows, name), pa.array(ones), places], schema=COUNT)


def owned_of(rows: int, name: int | None = None, *, hosts: bool = False) -> pa.Table:
    """What buckets counted of hosts: each another one of another domain, or all of one domain, one host or each another one."""
    ones = pa.array(np.full(rows, PLANNED // HOT // BUCKETS if name and not hosts else 1))
    allowed = [pa.array(np.full(rows, CONFIG.max_domain_hours * 3600 * rate)) for rate in (20.0, 10.0)]
    host = random_hashes(rows) if hosts or name is None else random_hashes(rows, name)
    return pa.table([random_hashes(rows, name), host, ones, *allowed], schema=OWNED)


def domains_of(rows: int, name: int | None = None) -> pa.Table:
    """What ranges of hosts counted of domains: each another one, or all of them one."""
    ones = pa.array(np.full(rows, max(1, PLANNED // HOT // rows // PART) if name else 1))
    allowed = pa.array(np.full(rows, CONFIG.max_domain_hours * 3600 * 20.0))
    return pa.table([random_hashes(rows, name), ones, allowed], schema=OF_DOMAIN)


def of_plan(hot: str, more: int, counted: int, owned: int, domains: int, *, hosts: bool = False) -> dict[str, Cost]:
    """Every kind of unit of plan, where so many hot rows come to its largest besides those of the median: rows of candidates to
    a bucket, counts to a range, counts to a range of hosts, counts to a range of domains."""
    found: dict[str, Cost] = {}
    in_bucket, in_range, owners = CANDIDATES // BUCKETS // PART, CANDIDATES // RANGES // PART, PLANNED // RANGES // PART
    with tempfile.TemporaryDirectory(prefix="wit-bench-") as folder:
        plan = plan_of(folder, in_bucket + more)
        chunk = some(shuffle.CHUNK_ROWS // PART, hot)
        wide = Shuffle.of(plan.stage, "task", maths.SCATTERED, BUCKETS, rows=CANDIDATES, tasks=TASKS)
        scattered = Task(
            0, lambda: maths.scatter([chunk], seed=SEED, buckets=wide.buckets, captions=CONFIG.max_captions_per_url)
        )
        found["chunk of a task"], _ = cost(len(chunk), lambda: wide.deal(scattered))
        tables = [some(in_bucket, "" if hot == "url" else hot, seed=1)]
        tables += [
            some(rows, hot, 1, seed) for seed, rows in enumerate(np.diff([*range(0, more, 20_000), more]).tolist(), 2)
        ]
        pieces = bucket(plan.by_url, [table.select(maths.SCATTERED.names) for table in tables])
        found["merge"], merged = cost(in_bucket + more, lambda: plan.merge((0, pieces)), pieces)
        found["count"], _ = cost(in_bucket, lambda: plan.by_name.deal(plan.count(merged)))
        rows = [counts_of(in_range), *([counts_of(counted, 7)] if counted else [])]
        pieces = bucket(plan.by_name, rows)
        full = replace(plan, shape=Shape(BUCKETS, RANGES, partitions=1), rows=CANDIDATES)
        back = replace(full.frequent, name="back")
        found["find_frequent"], _ = cost(in_range + counted, lambda: back.deal(full.find_frequent((0, pieces))), pieces)
        found["the same, engine"], _ = cost(
            in_range + counted, lambda: sum(1 for _ in back.batches(full.find_frequent((0, pieces))))
        )
        heavy = counts_of(1, int(maths.column_hashes(pa.chunked_array([["image"]]))[0]))
        told = bucket(plan.frequent, [heavy if hot == "caption" else COUNT.empty_table()])
        found["thin"], thinned = cost(in_bucket, lambda: plan.thin(merged, told))
        found["weigh"], weighed = cost(in_bucket, lambda: plan.weigh(thinned, np.full(QUERIES, 1e6)))
        threshold = Threshold(20_000, 1e9, PLANNED)
        found["own"], _ = cost(in_bucket, lambda: plan.by_host.deal(plan.own(weighed, threshold)))
        pieces = bucket(plan.by_host, [owned_of(owners), *([owned_of(owned, 7, hosts=hosts)] if owned else [])])
        found["find_hosts"], of_hosts = cost(owners + owned, lambda: plan.find_hosts((0, pieces)), pieces)
        wide = Shuffle.of(plan.stage, "sites", OF_DOMAIN, RANGES, rows=CANDIDATES, tasks=RANGES)
        added = replace(plan, shape=Shape(1, RANGES, partitions=1))
        found["add_hosts"], _ = cost(owners + owned, lambda: wide.deal(added.add_hosts((0, pieces))), pieces)
        pieces = bucket(plan.by_domain, [domains_of(owners), *([domains_of(domains, 7)] if domains else [])])
        found["find_domains"], of_domains = cost(owners + domains, lambda: plan.find_domains((0, pieces)), pieces)
        routing = plan.routing(add_owners([of_hosts, of_domains]), threshold)
        apart = replace(plan.by_partition, buckets=routing.partitions + 100)
        found["admit"], _ = cost(in_bucket, lambda: apart.deal(plan.admit(weighed, threshold, routing)))
        found["arrange"] = arranged(plan, hot, routing)
    return found


def arranged(plan: PlanPasses, hot: str, routing: Routing) -> Cost:
    """A partition: of many domains, or a piece of the hot one's, which is a giant."""
    rows = some(CONFIG.rows_per_partition // PART, hot, 1 if hot == "domain" else HOT, seed=99)
    pairs = maths.merge(rows.select(maths.SCATTERED.names), seed=SEED, captions=1)[0]
    pieces = bucket(replace(plan.by_partition, buckets=1, name="rows"), [maths.nest(pairs).cast(PLAN)])
    return cost(len(pairs), lambda: plan.arrange((0, pieces), routing), pieces)[0]


# select


def captions_of(table: pa.Table, each: int) -> pa.Array:
    """Lists of so many captions each; pages have the names of pictures, to be as long as real ones."""
    said = {name: one_array(table[name]) for name in table.schema.names}
    said |= {"text": said["caption"], "page_url": said["url"], "critical_t": pa.array(np.ones(len(table)))}
    values = pa.StructArray.from_arrays([said[field.name] for field in CAPTION], fields=list(CAPTION))
    return list_of(values, np.arange(0, len(table) + 1, each))


def raw_table(number: int, rows: int, hot: int) -> pa.Table:
    """A raw shard all of whose pictures arrived, of which `hot` are the same one."""
    table = some(3 * rows, seed=1_000 + number)
    first = table.take(pa.array(3 * np.arange(rows)))
    sides = {
        f"{kind}{side}": pa.array(np.full(rows, 640, np.int32))
        for kind in ("", "original_")
        for side in ("width", "height")
    }
    hashes = np.random.default_rng(number).integers(0, 1 << 63, rows).astype(np.uint64)
    hashes[:hot] = 7
    digests = pa.array([f"{n:064x}" for n in hashes.tolist()])
    same = {"captions": captions_of(table, 3), "phash": pa.array(hashes), "original_sha256": digests, "sha256": digests}
    return as_schema(RAW, first, **same, **sides)


def select_of(folder: str, balance: Balance, rows: int) -> SelectPasses:
    """A select of one bucket and one raw shard."""
    facts = f"{folder}/facts.parquet"
    write_parquet(pa.table({"weight": np.full(QUERIES, 1e6)}), facts)
    stage = StageDir(folder, "select", "f" * 32)
    return SelectPasses(stage, CHOSEN, facts, balance, query_list(folder), QUERIES, SEED, 1, rows, 1)


def published(folder: str, table: pa.Table, number: int) -> Numbered:
    name = f"raw-{number}.parquet"
    write_parquet(table, f"{folder}/{name}")
    return Numbered(0, FetchedShard(Unit.numbered("raw", number), f"raw-{number}.tar", name))


def joined(select: SelectPasses, raw: Numbered, weights: Any) -> pa.Table:
    """What a raw shard sends."""
    table, hashes = read_raw(select.stage.out, raw.shard, CHOSEN), hashes_of(select.queries)
    survivors = pictures(table, raw.number, weights, hashes, seed=SEED, config=CHOSEN)
    return join_shard(survivors, select.balance, hashes, seed=SEED, max_captions=CHOSEN.max_captions_per_sample)


def replicas(row: pa.Table, count: int) -> pa.Table:
    """One row of each of so many raw shards like the one given: other keys, other texts."""
    captions = len(row["captions"][0])
    said = captions_of(some(count * captions, seed=5_000), captions)
    rows = row.take(pa.array(np.zeros(count, np.int64)))
    numbers, keys = np.arange(1, count + 1), said.flatten().field("key").take(pa.array(captions * np.arange(count)))
    anywhere = numbers * PART + numbers % PART
    return as_schema(PICTURE, rows, raw=pa.array(anywhere, pa.int32()), key=keys, captions=said)


def spread_of(captions: int, hot: int) -> Spread:
    """How the one bucket here is cut, if of all buckets at full size one has so many hot captions besides the usual ones."""
    every = np.full(OF_HASHES, captions)
    every[0] += hot
    pieces = np.diff(Spread.of(every).first)
    return Spread(1, np.arange(len(pieces)), 1 + np.concatenate([[0], np.cumsum(pieces)]).astype(np.int64))


def largest(buckets: dict[int, tuple[Slice, ...]]) -> tuple[int, tuple[Slice, ...]]:
    """The number of the bucket with most bytes, and its pieces."""
    return max(buckets.items(), key=lambda one: sum(piece.length for piece in one[1]))


def of_select(hot: str, balance: Balance) -> dict[str, Cost]:
    """Every kind of unit of select: without a hot hash; with one that is in every raw shard, or alone in some of them."""
    found: dict[str, Cost] = {}
    in_shard, in_bucket = PICTURES // RAW_SHARDS // PART, PICTURES // OF_HASHES // PART
    hot_rows = {"": 0, "everywhere": PICTURES // HOT // RAW_SHARDS // PART, "alone": in_shard}[hot]
    with tempfile.TemporaryDirectory(prefix="wit-bench-") as folder:
        select, weights = select_of(folder, balance, PICTURES), np.full(QUERIES, 1e6)
        capped = np.arange(QUERIES // 10, dtype=np.int32) if balance.hard else np.zeros(0, np.int32)
        raw = published(folder, raw_table(1, in_shard, hot_rows), 1)
        found["count"], _ = cost(in_shard, lambda: select.count(raw))
        wide = Shuffle.of(select.stage, "wide", PICTURE, OF_HASHES, rows=PICTURES, tasks=RAW_SHARDS)
        scattered, even = replace(select, buckets=OF_HASHES), Spread.of(np.ones(OF_HASHES, np.int64))
        found["scatter"], _ = cost(in_shard, lambda: wide.deal(scattered.scatter(raw, weights, even)))
        own = joined(select, raw, weights)
        clustered = select.cluster((0, bucket(replace(select.by_picture, name="own"), [own])), capped)
        told = bucket(select.by_shard, [select.stage.at_work.read(clustered.work, "verdicts")])
        found["keep"], _ = cost(in_shard, lambda: select.keep(raw.shard, told, Cut(1e12)), told)
        tables = [joined(select, published(folder, raw_table(2, in_bucket, 0), 2), weights)]
        anywhere = np.random.default_rng(0).integers(0, RAW_SHARDS, len(tables[0]))
        tables = [as_schema(PICTURE, tables[0], raw=pa.array(anywhere, pa.int32()))]
        if hot:  # as many captions as it may have, whatever the part
            full = joined(select, published(folder, raw_table(3, PART * hot_rows, PART * hot_rows), 3), weights)
            sends = RAW_SHARDS // PART if hot == "everywhere" else RAW_SHARDS // HOT // PART
            tables += [replicas(full.filter(pc.equal(full["phash"], 7)), sends)]
        other = replace(select, stage=replace(select.stage, fingerprint="e" * 32))
        lists = [int(pc.sum(pc.list_value_length(table["captions"])).as_py()) for table in tables]
        spread = spread_of(PART * lists[0], PART * sum(lists[1:]))
        dealt = [Dealt.ordered(table, spread.by_raw(table)) for table in tables]
        sent = received(
            replace(other.by_picture, buckets=1_000), [Task(n, partial(list, [one])) for n, one in enumerate(dealt)]
        )
        number, pieces = largest(sent)
        if len(spread.cut):
            by_hash = replace(other.by_hash, buckets=1_000)
            rows = sum(len(piece.read(PICTURE)) for piece in pieces)
            found["join"], _ = cost(rows, lambda: by_hash.deal(other.join((number, pieces), spread)), pieces)
            number, pieces = largest(received(by_hash, [other.join(piece, spread) for piece in sent.items()]))
        rows = sum(len(piece.read(PICTURE)) for piece in pieces)
        found["cluster"], clustered = cost(rows, lambda: other.cluster((number, pieces), capped), pieces)
        back = Shuffle.of(select.stage, "back", VERDICT, RAW_SHARDS, rows=PICTURES, tasks=OF_HASHES)
        found["verdicts"], _ = cost(rows, lambda: back.deal(other.verdicts(clustered)))
        found["verdicts, engine"], _ = cost(rows, lambda: sum(1 for _ in back.batches(other.verdicts(clustered))))
    return found


def of_a_task() -> int:
    """How many rows of the hot URL a task sends, each with another caption: those that no chunk before them has left out."""
    hot = (some(shuffle.CHUNK_ROWS // HOT, "url", 1, seed) for seed in range(CHUNKS))
    dealt = maths.scatter(hot, seed=SEED, buckets=BUCKETS, captions=CONFIG.max_captions_per_url)
    return sum(len(chunk.rows) for chunk in dealt)


CASES: dict[str, Callable[[], dict[str, Cost]]] = {
    "URL": partial(of_plan, "url", TASKS * of_a_task() // PART, 0, 0, 0),
    "caption": partial(of_plan, "caption", 0, BUCKETS // PART, 0, 0),
    "domain, one host": partial(of_plan, "domain", 0, 0, BUCKETS // PART, 1),
    "domain, a host a row": partial(
        of_plan, "domain", 0, 0, PLANNED // HOT // RANGES // PART, RANGES // PART, hosts=True
    ),
    "hash, in every raw shard": partial(of_select, "everywhere", Balance(1e12)),
    "hash, alone in raw shards": partial(of_select, "alone", Balance(1e12)),
    "hash, --cap hard": partial(of_select, "everywhere", Balance(20_000, hard=True)),
}


def median(name: str) -> dict[str, Cost]:
    """The same units of a set without that name."""
    if not name.startswith("hash"):
        return of_plan("", 0, 0, 0, 0)
    return of_select("", Balance(20_000, hard=True) if "--cap" in name else Balance(1e12))


def skew() -> None:
    """A line for each hot name and kind of unit, and one for each bound."""
    pa.set_memory_pool(pa.system_memory_pool())  # what it frees goes back, and is not taken for what is needed
    medians: dict[str, dict[str, Cost]] = {}
    bounds, idle = [], psutil.Process().memory_info().rss / 1e6
    of_plan("", 0, 0, 0, 0)  # what is loaded once is no unit's
    print(f"rows: computed. Seconds of processor, memory, MB a key: measured at 1/{PART} of the rows, times {PART}.")
    print(
        f"{'hot':<27}{'unit':<18}{'rows':>13}{'of largest':>12}{'s':>9}{'largest':>9}{'times':>7}{'MB':>8}{'a key':>8}"
    )
    for name, largest in CASES.items():
        kind = "hard" if "--cap" in name else name[:4] if name.startswith("hash") else "plan"
        usual, found = medians.setdefault(kind, {}) or median(name), largest()
        medians[kind] = usual
        for unit, one in found.items():
            was = usual[AS.get(unit, unit)]
            print(f"{name:<27}{unit:<18}{was.rows:>13,}{one.rows:>12,}{was.seconds:>9.2f}{one.seconds:>9.2f}"
                  f"{one.seconds / was.seconds:>7.2f}{one.megabytes:>8.0f}{one.key_mb:>8.1f}", flush=True)  # fmt: skip
        times = max(one.seconds / usual[AS.get(unit, unit)].seconds for unit, one in found.items())
        memory, key = (max(getattr(one, what) for one in found.values()) for what in ("megabytes", "key_mb"))
        bounds += [
            bound(f"hot {name}: a unit's time beside the median's", times, MOST),
            bound(f"hot {name}: memory of a worker, {idle:,.0f} MB of it idle", idle + memory, 2_000, " MB"),
            bound(f"hot {name}: one key of an engine", key, shuffle.KEY_BYTES / 1e6, " MB"),
        ]
    print(*bounds, sep="\n")
