"""Shared by all tests: rows of candidates, made from (URL, caption, query ids); raw shards, made from rows with pictures."""

import hashlib
import importlib.util
import io
import os
import sys
import tarfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from wit import ledger
from wit.download.published import raw_shards
from wit.layout import WORK
from wit.plan.ranks import ROUNDS, Cells, add_cells, joined, narrow
from wit.publish import order, whole
from wit.publish.config import PublishConfig
from wit.publish.shard import write_shard
from wit.records import CANDIDATES, RAW, keyed_hash, pair_key
from wit.runfile import Record, RunFile, recorded, sealed
from wit.select.config import SelectConfig
from wit.select.cut import Balance, Cut
from wit.select.passes import Clustered, Numbered, Passes, keep_parts
from wit.shards import ShardWriter
from wit.stages import STAGES
from wit.store import fs, patience
from wit.store.manifests import Manifest, Marker, Published, Unit, described, read_manifest
from wit.store.parquet import write_parquet
from wit.store.parts import StageDir
from wit.store.scratch import scratch_dir
from wit.store.shuffle import Batch, Extent, Shuffle, Slice, Task
from wit.tally import Tally
from wit.typed import to_json

sys.path.append(str(Path(__file__).parent))

import stores


def load_upgrade() -> Any:
    """tests/fixtures/upgrade/make.py: a small web of pictures, a build of it, and what earlier versions made of it."""
    path = Path(__file__).parent / "fixtures/upgrade/make.py"
    spec = importlib.util.spec_from_file_location("upgrade_make", path)
    assert spec and spec.loader
    module = sys.modules.setdefault("upgrade_make", importlib.util.module_from_spec(spec))
    if not hasattr(module, "web"):
        spec.loader.exec_module(module)
    return module


@pytest.fixture
def upgrade() -> Any:
    return load_upgrade()


UPGRADE = Path(__file__).parent / "fixtures/upgrade"


@pytest.fixture
def earlier(tmp_path: Path) -> Callable[..., Path]:
    """(version, the newest by default; state: finished, retried, interrupted) -> the OUT that it left, unpacked. A finished one
    has 26 samples."""

    def unpack(version: str = "", state: str = "finished") -> Path:
        newest = max(path.name.removesuffix(".tar.xz") for path in UPGRADE.glob("*.tar.xz"))
        with tarfile.open(UPGRADE / f"{version or newest}.tar.xz") as archive:
            members = [member for member in archive.getmembers() if member.name.split("/")[0] == state]
            archive.extractall(tmp_path, members, filter="data")
        return tmp_path / state

    return unpack


@pytest.hookimpl(tryfirst=True)  # before pytest leaves out what is slow
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of a test with `variants(keep)`, all parameters but the first few are slow."""
    seen: Counter[str] = Counter()
    for item in items:
        if (marker := item.get_closest_marker("variants")) is not None:
            name = item.nodeid.partition("[")[0]
            seen[name] += 1
            if seen[name] > marker.args[0]:
                item.add_marker(pytest.mark.slow)


Rows = list[tuple[str, str, list[int]]]


def candidate_table(rows: Rows) -> pa.Table:
    records = [
        {
            "key": pair_key(url, caption),
            "url": url,
            "canonical_url": url,
            "caption": caption,
            "page_url": "http://page.example/",
            "source": "test",
            "source_offset": i,
            "source_index": 0,
            "query_ids": ids,
            "copies": 1,
        }
        for i, (url, caption, ids) in enumerate(rows)
    ]
    return pa.Table.from_pylist(records, schema=CANDIDATES)


@pytest.fixture
def candidates() -> Callable[[Rows], pa.Table]:
    """(URL, caption, query ids) -> records.CANDIDATES."""
    return candidate_table


@dataclass(frozen=True)
class Row:
    """One row of a raw shard: `captions` are (text, query ids); `look` decides the picture, None a lost one."""

    name: str
    captions: Sequence[tuple[str, Sequence[int]]]
    look: int | None = 0
    phash: int | None = None  # the look's number
    size: tuple[int, int] = (40, 40)
    variant: int = 0  # the same picture in other bytes


@cache
def picture(look: int, size: tuple[int, int], variant: int = 0) -> bytes:
    """A JPEG: stripes that differ by look."""
    out = io.BytesIO()
    pixels = (np.arange(size[0] * size[1] * 3) * (look + 3) % 251).astype(np.uint8).reshape(size[1], size[0], 3)
    Image.fromarray(pixels).save(out, "JPEG", quality=90 - variant)
    return out.getvalue()


def raw_record(row: Row, seed: int) -> dict[str, Any]:
    url = f"http://a.example/{row.name}"
    captions = [
        {"key": pair_key(url, text), "text": text, "query_ids": list(ids), "page_url": url + "/page", "critical_t": 0.0}
        for text, ids in row.captions
    ]
    record = {"key": captions[0]["key"], "url": url, "canonical_url": url, "host": "a.example", "domain": "a.example"}
    record |= {"captions": captions, "critical_t": 0.0, "source": "test", "source_offset": 0}
    record |= {"source_index": 0, "reason": None if row.look is not None else "http_not_found", "detail": ""}
    if row.look is not None:
        data = picture(row.look, row.size, row.variant)
        digest = hashlib.sha256(data).hexdigest()
        width, height = row.size
        record |= {"width": width, "height": height, "original_width": width, "original_height": height, "data": data}
        record |= {"sha256": digest, "original_sha256": digest, "format": "jpg", "original_format": "jpg"}
        record |= {"phash": row.phash if row.phash is not None else row.look, "tar_size": len(data)}
    return record


def publish_raw(out: str, shards: Mapping[str, Sequence[Row]], *, seed: int = 1) -> Manifest:
    """Raw shards as download publishes them (unit -> rows), and the stage's manifest."""
    stage = StageDir(out, "download", "d" * 32)
    for unit, rows in shards.items():
        records = sorted((raw_record(r, seed) for r in rows), key=lambda r: keyed_hash(seed, "order", r["key"]))
        stream = io.BytesIO()
        tar = ShardWriter(stream)
        for record in records:
            if (data := record.pop("data", None)) is not None:
                record["tar_offset"] = tar.add_member(f"{record['key']}.jpg", data)
        tar.close()
        with scratch_dir(out) as scratch:
            files = {"tar": f"{scratch}/x.tar", "parquet": f"{scratch}/x.parquet"}
            fs.write_bytes(files["tar"], stream.getvalue())
            write_parquet(pa.Table.from_pylist(records, schema=RAW), files["parquet"])
            fetched = sum(r["reason"] is None for r in records)
            lost = {"http_not_found": len(records) - fetched} if fetched < len(records) else {}
            stage.publish(Unit.parse(unit), files, Tally(into=len(records), out=fetched, dropped=lost))
    return stage.finish(stage.markers(), [])


@pytest.fixture
def raw_row() -> type[Row]:
    return Row


@pytest.fixture
def raw() -> Callable[..., Manifest]:
    """(OUT, {unit: rows}) -> published raw shards and the manifest of the download stage."""
    return publish_raw


def select_all(
    out: str,
    download: Manifest,
    counts: Any,
    balance: float | Balance,
    queries: str,
    *,
    config: SelectConfig,
    seed: int,
    buckets: int = 2,
    scores: Manifest | None = None,
    by_files: bool = False,
) -> Manifest:
    """The passes of select in order, as any engine runs them, or as this machine does by files; `counts` [queries], and the cap
    or more that is asked of it."""
    stage, shards, n = StageDir(out, "select", "e" * 32), tuple(raw_shards(download, scores)), len(counts)
    facts = f"{out}-facts.parquet"
    write_parquet(pa.table({"weight": np.asarray(counts, np.float64)}), facts)
    asked = balance if isinstance(balance, Balance) else Balance(balance)
    passes = Passes(stage, config, facts, asked, queries, n, seed, buckets)
    raw = [Numbered(number, shard) for number, shard in enumerate(shards)]
    shuffled = through_files if by_files else through_engine
    sums = sum(map(passes.count, raw), np.zeros(passes.sums, np.int64))
    memberships, spread = passes.memberships(sums), passes.spread(sums)
    weights, capped = passes.weights(memberships), passes.capped(memberships)
    dealt = shuffled(passes.by_picture, [passes.scatter(one, weights, spread) for one in raw])
    joins = [passes.join(piece, spread) for piece in dealt.items() if passes.is_piece(piece)]
    whole = filter(passes.is_whole, dealt.items())
    clustered = [passes.cluster(bucket, capped) for bucket in [*whole, *shuffled(passes.by_hash, joins).items()]]
    cut = solved(passes, clustered, memberships, capped) if asked.is_solved else Cut(asked.cap)
    verdicts = shuffled(passes.by_shard, [passes.verdicts(bucket) for bucket in clustered])
    for one in raw:
        passes.keep(one.shard, verdicts.get(one.number, ()), cut)
    finished = stage.finish(keep_parts(stage.markers()), [])
    fs.remove(fs.join(out, WORK))
    return finished


def through_files(shuffle: Shuffle, tasks: Sequence[Task]) -> dict[int, tuple[Slice, ...]]:
    """What each bucket gets, from files of one level."""
    blocks: dict[int, list[Extent]] = {}
    for block, extent in (found for task in tasks for found in shuffle.extents(shuffle.deal(task)[0])):
        blocks.setdefault(block, []).append(extent)
    return dict(bucket for block in blocks.items() for bucket in shuffle.of_buckets(block))


def through_engine(shuffle: Shuffle, tasks: Sequence[Task]) -> dict[int, list[Batch]]:
    """What each bucket gets, as an engine brings it."""
    groups: dict[int, list[Batch]] = {}
    for task in tasks:
        for dealt in shuffle.batches(task):
            assert not isinstance(dealt, Marker)
            groups.setdefault(dealt[0], []).append(dealt[1])
    return groups


def solved(passes: Passes, clustered: Sequence[Clustered], memberships: Any, capped: Any) -> Cut:
    """The rounds of the search for a cut, in order."""
    search = passes.begin(capped)
    for _ in range(ROUNDS):
        of_slab: dict[int, list[Cells]] = {}
        for slab, cells in (found for marker in clustered for found in passes.cells(marker, search)):
            of_slab.setdefault(slab, []).append(cells)
        search = joined(narrow(add_cells(cells), search) for cells in of_slab.values())
    return passes.cut(search, memberships)


def publish_all(out: str, chosen: Manifest, *, config: PublishConfig, seed: int) -> Published:
    """publish, one shard after the other."""
    stage, parts = StageDir(out, "publish", "f" * 32), order.keep_list_parts(chosen)
    directory = whole.begin(stage)
    plan = list(order.plan_shards(parts, seed=seed, config=config))
    shards = [write_shard(stage, s, directory, seed=seed, config=config) for s in plan]
    return whole.finish(stage, shards, [shard.name for shard in plan], directory)


def small_build(out: str) -> str:
    """A finished build under OUT: 40 pairs on three raw shards, of which 22 reach shards of seven samples."""
    queries = f"{out}-queries.txt"
    fs.write_bytes(queries, b"dog\ncat\nphoto\nfox\n")
    rows = [
        Row(f"{i}", [(f"é {i}", [i % 4])], look=None if i % 5 == 0 else i % 27, size=(40 + i % 27, 50))
        for i in range(40)
    ]
    for stage in ("candidates", "plan"):
        publish_keys(StageDir(out, stage, stage[0] * 32), [row.name for row in rows])
    download = publish_raw(out, {f"0000{i}-0000": rows[i::3] for i in range(3)})
    chosen = select_all(out, download, np.full(4, 10), 6.0, queries, config=SelectConfig(), seed=1)
    publish_all(out, chosen, config=PublishConfig(samples_per_shard=7, raw_shards_per_group=2), seed=1)
    manifests = {stage: m for stage in STAGES if (m := read_manifest(out, stage))}
    totals = ledger.LedgerFile(ledger.stage_totals(manifests), manifests["publish"].out)
    fs.write_bytes(f"{out}/ledger.json", to_json(totals))
    fs.write_bytes(f"{out}/report/index.html", b"<!doctype html>")
    files = tuple(described(out, name) for name in ("ledger.json", "report/index.html"))
    records = {stage: recorded(out, manifest) for stage, manifest in manifests.items()}
    run = RunFile(
        config={"fetch": {}},
        seed=1,
        queries_sha256="q",
        sources=(),
        fingerprints={stage: manifest.fingerprint for stage, manifest in manifests.items()},
        stages=records | {"report": Record(fingerprint="r" * 32, files=files)},
        at_work=[],
    )
    fs.write_bytes(f"{out}/run.json", sealed(run))
    return out


def publish_keys(stage: StageDir, keys: list[str]) -> None:
    """A stage that hands on all its rows, of which only the keys matter here."""
    with scratch_dir(stage.out) as scratch:
        write_parquet(pa.table({"key": keys}), f"{scratch}/rows.parquet")
        tally = Tally(into=len(keys), out=len(keys), dropped={})
        stage.publish(Unit.numbered("part", 0), {"rows": f"{scratch}/rows.parquet"}, tally)
    stage.finish(stage.markers(), [])


class OtherStore:
    """A store on a directory here, whose scheme is other:// (tests/stores.py says what may go wrong with it)."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.monkeypatch, self.log = folder, monkeypatch, folder / "store.log"

    def at(self, name: str) -> str:
        """A path in the store; what it holds lies at `folder` / name."""
        return f"other://{self.folder}/{name}"

    def goes_wrong(self, **settings: object) -> None:
        """From now on it fails so: fails=0.02, delay=0.1, faults="raw:3:full", ... as the environment names them."""
        for name, value in settings.items():
            self.monkeypatch.setenv(f"STORE_{name.upper()}", f"{value}")

    def counts_together(self, name: str) -> None:
        """From now on all processes count their calls below a name together, each first-level name apart."""
        (self.folder / "counts").mkdir(exist_ok=True)
        self.goes_wrong(root=self.folder / name, counts=self.folder / "counts", log=self.log)

    def counted(self) -> Counter[str]:
        """How often each call was made, and how many failed, since `counts_together`."""
        return stores.counted(self.log)

    @property
    def site(self) -> Path:
        """The directory that brings the scheme to other processes."""
        site = self.folder / "site"
        return site if site.exists() else stores.install(site)

    @property
    def environment(self) -> dict[str, str]:
        """Of processes that use the store, with what goes wrong by now."""
        return {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), str(self.site)])}


@pytest.fixture
def other_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OtherStore:
    """A store that every stage can run through, in this process and in others; pauses before it is asked again are short here."""
    fsspec.register_implementation("other", stores.OtherStore, clobber=True)
    monkeypatch.setattr(patience, "FIRST_PAUSE_S", 1e-4)
    return OtherStore(tmp_path, monkeypatch)


@pytest.fixture
def run_select() -> Callable[..., Manifest]:
    return select_all


@pytest.fixture
def run_publish() -> Callable[..., Manifest]:
    return publish_all


@pytest.fixture
def build() -> Callable[[str], str]:
    """OUT -> OUT, with a small finished build in it."""
    return small_build


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Bytes that are no text by their length: some are made by compressors that write the time, and workers compare names."""
    return f"{argname}: {len(val)} bytes" if isinstance(val, bytes) and not val.isascii() else None
