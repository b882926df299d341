"""A partition of the plan becomes raw shards: exact, published whole, and picked up again after any kind of end."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash
from PIL import Image

import wit.download.partition
from wit.download.partition import (
    Owner,
    PartShards,
    PlanPart,
    Progress,
    download_partition,
    has_split_domains,
    hosts_of,
    owners_of,
)
from wit.errors import DamagedFile, OutageError, Stopped
from wit.fetch.config import FetchConfig, for_local_web
from wit.images.config import ImageConfig
from wit.images.process import process
from wit.layout import KNOWN_ENDING
from wit.records import FETCH, PLAN, RAW, Reason, keyed_hash, pair_key
from wit.store import fs
from wit.store.lease import held, path_of
from wit.store.manifests import Unit
from wit.typed import to_json

spec = importlib.util.spec_from_file_location("hostile", Path(__file__).parents[1] / "fetch" / "hostile.py")
assert spec and spec.loader
hostile = sys.modules.setdefault("hostile", importlib.util.module_from_spec(spec))
if not hasattr(hostile, "hostile_web"):
    spec.loader.exec_module(hostile)

HOSTS = [f"a{n}.example" for n in range(4)]


def plan_row(url: str, host: str) -> dict[str, Any]:
    key = pair_key(url, "a caption")
    caption = {"key": key, "text": "a caption", "query_ids": [1], "language": "en", "page_url": "p", "critical_t": 1.0}
    row = dict.fromkeys(PLAN.names)
    return row | {"key": key, "url": url, "canonical_url": url, "host": host, "domain": host, "captions": [caption]}


def plan_part(path: str, shards: int, rows: int, giant: int | None) -> PlanPart:
    return PlanPart(PartShards(name_of(path), path, tuple(range(shards))), rows, giant)


def write_plan(out: Path, urls: Sequence[str], rows_per_shard: int) -> str:
    rows = [plan_row(url, url.split("/")[2]) for url in urls]
    (out / "plan").mkdir(parents=True)
    path = str(out / "plan" / "part-00003.0123456789ab.parquet")
    pq.write_table(pa.Table.from_pylist(rows, schema=PLAN), path, row_group_size=rows_per_shard)
    return path


def serve(web: Any, pictures: int) -> list[str]:
    web.routes |= {f"/{n}.jpg": hostile.ok(hostile.picture(seed=n)) for n in range(pictures)}
    return [f"http://{HOSTS[n % len(HOSTS)]}/{n}.jpg" for n in range(pictures)]


@pytest.fixture
def web() -> Iterator[Any]:
    with hostile.hostile_web() as one:
        yield one


def name_of(part: str) -> str:
    """The number of a plan part, by its file."""
    return Path(part).name[5:10]


def download(part: str, shards: Sequence[int], out: Path | str, web: Any, **changes: Any) -> list[Any]:
    progress = changes.pop("on_progress", None)
    image = changes.pop("image", ImageConfig())
    fetch = replace(for_local_web(web.endpoints(*HOSTS)), **({"backoff_s": 0.05} | changes))
    return download_partition(
        PartShards(name_of(part), part, tuple(shards)),
        out=str(out),
        fingerprint="f1",
        seed=7,
        fetch=fetch,
        image=image,
        on_progress=progress,
    )


def raw_rows(out: Path, markers: list[Any]) -> list[dict[str, Any]]:
    tables = [pq.read_table(out / marker.files["parquet"].name) for marker in markers]
    return list(pa.concat_tables(tables).to_pylist())


def test_every_planned_row_is_there_once_with_its_picture_or_its_reason(tmp_path: Path, web: Any) -> None:
    urls = serve(web, 50)
    web.routes["/7.jpg"] = hostile.ok(b"<html>")
    web.routes["/8.jpg"] = hostile.ok(b"", status="410 Gone")
    part = write_plan(tmp_path, urls, 20)
    seen: list[Progress] = []
    markers = download(part, [0, 1, 2], tmp_path, web, on_progress=seen.append)
    assert [str(m.unit) for m in markers] == ["00003-0000", "00003-0001", "00003-0002"]
    assert [(m.into, m.out) for m in markers] == [(20, 18), (20, 20), (10, 10)]
    assert markers[0].dropped == {"http_gone": 1, "not_an_image": 1}
    assert (sum(p.shards for p in seen), sum(p.rows for p in seen)) == (3, 50)
    rows = raw_rows(tmp_path, markers)
    assert sorted(row["url"] for row in rows) == sorted(urls)
    reasons = {row["url"]: row["reason"] for row in rows if row["reason"]}
    assert reasons == {urls[7]: "not_an_image", urls[8]: "http_gone"}


def test_the_files_keep_their_contract(tmp_path: Path, web: Any) -> None:
    part = write_plan(tmp_path, serve(web, 25), 25)
    (marker,) = download(part, [0], tmp_path, web)
    for label, entry in marker.files.items():
        data = (tmp_path / entry.name).read_bytes()
        assert len(data) == entry.bytes
        if label == "tar":
            assert xxhash.xxh3_128(data).hexdigest() == entry.xxh3_128
        else:
            assert hashlib.sha256(data).hexdigest() == entry.sha256
    raw = pq.read_table(tmp_path / marker.files["parquet"].name)
    fetch = pq.read_table(tmp_path / marker.files["fetch"].name)
    assert raw.schema.equals(RAW) and fetch.schema.equals(FETCH)
    keys = raw["key"].to_pylist()
    assert keys == fetch["key"].to_pylist()
    assert keys == sorted(keys, key=lambda key: keyed_hash(7, "order", key))
    data = (tmp_path / marker.files["tar"].name).read_bytes()
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        members = tar.getmembers()
    assert [m.name for m in members] == [f"{key}.jpg" for key in keys]
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in members} == {(0, 0, 0, "", "", 0o644)}
    for row in raw.to_pylist():
        stored = data[row["tar_offset"] : row["tar_offset"] + row["tar_size"]]
        assert hashlib.sha256(stored).hexdigest() == row["sha256"]
        with Image.open(io.BytesIO(stored)) as picture:
            assert picture.size == (row["width"], row["height"])


def test_two_downloads_of_one_web_are_byte_identical(tmp_path: Path, web: Any) -> None:
    urls = serve(web, 30)
    digests = []
    for name in ("first", "second"):
        part = write_plan(tmp_path / name, urls, 15)
        markers = download(part, [0, 1], tmp_path / name, web)
        digests.append([marker.files[label].name for marker in markers for label in ("tar", "parquet")])
    assert digests[0] == digests[1]


def test_published_shards_are_not_fetched_again(tmp_path: Path, web: Any) -> None:
    part = write_plan(tmp_path, serve(web, 20), 10)
    first = download(part, [0], tmp_path, web)
    before = web.counts.total()
    both = download(part, [0, 1], tmp_path, web)
    assert both[0] == first[0]
    assert web.counts.total() == before + 10  # and robots.txt was remembered


@pytest.mark.parametrize("robots_of, requests", [(HOSTS, 8), (HOSTS[:1], 8 + 3)])
def test_an_owner_hears_what_earlier_owners_were_told_of_its_hosts(
    robots_of: list[str], requests: int, tmp_path: Path, web: Any
) -> None:
    """robots.txt of its own hosts is not asked for again; of others it is not kept; what hosts wish is kept of all."""
    part = write_plan(tmp_path, serve(web, 8), 8)
    said = {"fetched": time.time(), "text": "", "agent": FetchConfig().user_agent}
    wish = {"delays_s": {}, "closed_until": 0.0, "status": 0}
    for name, hosts in (("00001", robots_of), ("r0001", ["other.example"])):
        robots = {f"http://{host}:80": said for host in hosts}
        fs.write_bytes(str(tmp_path / f"raw/{name}.robots.json"), to_json({"robots": robots, "hosts": {name: wish}}))
    hears = tuple(f"raw/{name}.robots.json" for name in ("00001", "00002", "r0001"))
    owner = Owner("r0002", ((PartShards("r0002", part, (0,)),),), hears)
    fetch = for_local_web(web.endpoints(*HOSTS))
    how = {"out": str(tmp_path), "fingerprint": "f1", "seed": 7, "image": ImageConfig()}
    (marker,) = wit.download.partition.download(owner, fetch=fetch, **how)
    assert marker.out == 8 and web.counts.total() == requests
    kept = json.loads((tmp_path / "raw/r0002.robots.json").read_bytes())
    assert set(kept["robots"]) == {f"http://{host}:80" for host in HOSTS} and set(kept["hosts"]) >= {"00001", "r0001"}


@pytest.mark.parametrize(
    "kept",
    [
        {"http://a.example": {"fetched": "x", "text": 5}},
        {"robots": {}, "hosts": {"a.example": {"delays_s": [], "closed_until": 0.0, "status": 0}}},
        {"robots": [], "hosts": {}},
        {"hosts": {}},
    ],
)
def test_what_servers_said_is_one_sentence_where_it_is_not_what_was_written(
    kept: dict[str, Any], tmp_path: Path, web: Any
) -> None:
    part, path = write_plan(tmp_path, serve(web, 20), 10), tmp_path / "raw/00003.robots.json"
    path.parent.mkdir()
    path.write_bytes(to_json(kept))
    with pytest.raises(DamagedFile, match=r"00003.robots.json is damaged .*: delete it, and the next"):
        download(part, [0], tmp_path, web)
    assert web.counts.total() == 0


def test_what_a_killed_download_published_stays(tmp_path: Path, web: Any) -> None:
    urls = serve(web, 120)
    part = write_plan(tmp_path, urls, 10)
    code = (
        "import sys, json; from wit.download.partition import *; from wit.fetch.config import *\n"
        "from wit.images.config import *\n"
        "part, out, ends = sys.argv[1:]\n"
        "fetch = for_local_web(tuple(map(tuple, json.loads(ends))))\n"
        "part = PartShards('00003', part, tuple(range(12)))\n"
        "download_partition(part, out=out, fingerprint='f1', seed=7, fetch=fetch, image=ImageConfig())"
    )
    ends = json.dumps(web.endpoints(*HOSTS))
    process = subprocess.Popen([sys.executable, "-c", code, part, str(tmp_path), ends])
    raw = tmp_path / "raw"
    while not (raw.exists() and len(list(raw.glob("00003-*.json"))) >= 2):
        time.sleep(0.01)
        assert process.poll() is None
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    published = {path.name for path in raw.glob("00003-*.json")}
    asked = {path: count for (_, path), count in web.counts.items()}
    markers = download(part, range(12), tmp_path, web)
    assert sorted(row["url"] for row in raw_rows(tmp_path, markers)) == sorted(urls)
    again = {path for (_, path), count in web.counts.items() if count > asked.get(path, 0) and path in asked}
    done = {f"/{n}.jpg" for name in published for n in range(int(name[6:10]) * 10, int(name[6:10]) * 10 + 10)}
    assert not again & done, "published pictures were fetched again"


def test_a_builder_that_lost_its_lease_leaves_what_servers_said_to_the_next(
    tmp_path: Path, web: Any, other_store: Any
) -> None:
    part, out = write_plan(tmp_path, serve(web, 20), 10), other_store.at("set")
    with held(out) as mine:
        fs.write_bytes(path_of(out, mine.number + 1), b"another builder's")
        with pytest.raises(Stopped, match="another build has taken over"):
            download(part, range(2), out, web)
    assert not any(name.endswith(KNOWN_ENDING) for name in fs.find(out))


def test_an_outage_of_ours_publishes_nothing_and_says_so(tmp_path: Path, web: Any) -> None:
    part = write_plan(tmp_path, [f"http://gone{n}.example/x.jpg" for n in range(60)], 20)
    knobs: dict[str, Any] = {"outage_floor_rows": 5, "outage_pause_s": 0.1, "outage_shards": 2, "retries": 0}
    dead = tuple((f"gone{n}.example", "127.0.0.1", 1) for n in range(60))
    with pytest.raises(OutageError, match="Start the build again"):
        download(part, [0, 1, 2], tmp_path, web, endpoints=dead, **knobs)
    assert [path.name for path in tmp_path.glob("raw/*")] in ([], ["00003.robots.json"])


def test_after_a_short_outage_the_build_ends_as_if_there_had_been_none(tmp_path: Path) -> None:
    """The name server is away at first and comes back: nothing is lost, nothing is counted as lost."""
    names: dict[str, object] = dict.fromkeys(HOSTS, "servfail")
    with hostile.hostile_web() as web, hostile.dns(names) as server:
        urls = [url.replace("/", f":{web.port()}/", 3).replace(f":{web.port()}/", "/", 2) for url in serve(web, 40)]
        part = write_plan(tmp_path, urls, 20)
        fetch = replace(
            FetchConfig(contact="https://example.org/"),
            allow_addresses=("127.0.0.1",),
            nameservers=(server.place,),
            host_rate_per_s=0,
            domain_rate_per_s=0,
            address_rate_per_s=0,
            outage_floor_rows=5,
            outage_pause_s=1.5,
            backoff_s=0.05,
        )

        def come_back(progress: Progress) -> None:
            if progress.rows:
                names.update(dict.fromkeys(HOSTS, [["127.0.0.1"]]))

        markers = download_partition(
            PartShards(name_of(part), part, (0, 1)),
            out=str(tmp_path),
            fingerprint="f1",
            seed=7,
            fetch=fetch,
            image=ImageConfig(),
            on_progress=come_back,
        )
    assert [(m.into, m.out) for m in markers] == [(20, 20), (20, 20)]


def test_one_dead_host_is_no_outage(tmp_path: Path, web: Any) -> None:
    urls = serve(web, 40) + [f"http://dead.example/{n}.jpg" for n in range(60)]
    part = write_plan(tmp_path, urls, 100)
    ends = (*web.endpoints(*HOSTS), ("dead.example", "127.0.0.1", 1))
    (marker,) = download(part, [0], tmp_path, web, endpoints=ends, outage_floor_rows=5, retries=0)
    assert marker.out == 40


def write_part(out: Path, number: int, urls: Sequence[str]) -> str:
    rows = [plan_row(url, url.split("/")[2]) for url in urls]
    (out / "plan").mkdir(parents=True, exist_ok=True)
    path = str(out / "plan" / f"part-{number:05d}.0123456789ab.parquet")
    pq.write_table(pa.Table.from_pylist(rows, schema=PLAN), path, row_group_size=5)
    return path


def test_giants_are_fetched_side_by_side_and_the_partitions_of_each_in_turn(tmp_path: Path, web: Any) -> None:
    web.routes |= {f"/{n}.jpg": hostile.ok(hostile.picture(seed=n)) for n in range(20)}
    giants = [
        [
            write_part(tmp_path, 10 * g + p, [f"http://a{g}.example/{10 * p + n}.jpg" for n in range(10)])
            for p in range(2)
        ]
        for g in range(2)
    ]
    parts = [plan_part(path, 2, 10, g) for g, pieces in enumerate(giants) for path in pieces]
    (owner,) = owners_of(parts)
    fetch = replace(for_local_web(web.endpoints(*HOSTS)), host_rate_per_s=40, respect_robots=False)
    began = time.monotonic()
    markers = wit.download.partition.download(
        owner, out=str(tmp_path), fingerprint="f1", seed=7, fetch=fetch, image=ImageConfig()
    )
    took = time.monotonic() - began
    assert sorted(m.unit for m in markers) == sorted(owner.units)
    assert sum(m.out for m in markers) == 40
    for g in range(2):
        order = [int(path[1:].partition(".")[0]) // 5 for _, host, path in web.asked if host == f"a{g}.example"]
        assert order == sorted(order)  # shard after shard, part after part
        assert web.times[f"a{g}.example"][-1] - web.times[f"a{g}.example"][0] >= 19 / 40 * 0.9
    assert took < 20 and {host for _, host, _ in web.asked[:4]} == {"a0.example", "a1.example"}


def test_giants_start_first_and_share_few_workers() -> None:
    parts = [plan_part(f"part-{n:05d}.x.parquet", 1, 50, None) for n in range(3)]
    parts += [plan_part(f"part-{100 + n:05d}.x.parquet", 1, 1_000 + n, n // 2) for n in range(20)]
    owners = owners_of(parts)
    assert [len(owner.chains) for owner in owners] == [5, 5, 1, 1, 1]
    assert owners[0].name == "00118" and owners[1].name == "00116"  # the largest first, spread over both
    assert sorted(unit for owner in owners for unit in owner.units) == sorted(Unit.raw(p.part.name, 0) for p in parts)


def test_what_is_there_already_is_no_more_to_be_asked_for(tmp_path: Path) -> None:
    paths = [write_part(tmp_path, n, [f"http://a{n}.example/{m}.jpg" for m in range(12)]) for n in range(2)]
    (owner,) = owners_of([plan_part(path, 3, 12, 0) for path in paths])
    left = owner.without({Unit.parse(name) for name in ("00000-0000", "00000-0001", "00001-0000")})
    assert {str(unit) for unit in left.units} == {"00000-0002", "00001-0001", "00001-0002"}
    assert not owner.without(owner.units).chains
    assert hosts_of(left).sort_by("host").to_pylist() == [
        {"domain": "a0.example", "host": "a0.example", "rows": 2},
        {"domain": "a1.example", "host": "a1.example", "rows": 7},
    ]


def test_a_domain_that_version_0_1_had_split_is_one_giant(tmp_path: Path) -> None:
    paths = []
    for number, split in enumerate([1, 3]):
        paths.append(str(tmp_path / f"part-{number:05d}.x.parquet"))
        pq.write_table(pa.table({"key": ["a", "b"], "domain_split": pa.array([1, split], pa.int32())}), paths[-1])
    assert [has_split_domains(path) for path in paths] == [False, True]


def test_caps_publish_the_rest_as_budget_spent(tmp_path: Path, web: Any) -> None:
    part = write_plan(tmp_path, serve(web, 60), 20)
    markers = download(part, [0, 1, 2], tmp_path, web, max_requests=30)
    assert sum(m.into for m in markers) == 60
    spent = sum(m.dropped.get(str(Reason.BUDGET_SPENT), 0) for m in markers)
    assert spent == 60 - sum(m.out for m in markers) > 0


def test_originals_are_kept_byte_for_byte(tmp_path: Path, web: Any) -> None:
    part = write_plan(tmp_path, serve(web, 5), 5)
    image = ImageConfig(keep_original=True, perceptual_hashes=False)
    (marker,) = download(part, [0], tmp_path, web, image=image)
    tar = (tmp_path / marker.files["tar"].name).read_bytes()
    for row in raw_rows(tmp_path, [marker]):
        n = int(row["url"].rpartition("/")[2].removesuffix(".jpg"))
        assert tar[row["tar_offset"] : row["tar_offset"] + row["tar_size"]] == hostile.picture(seed=n)


def test_draining_leaves_the_rest_for_the_next_start(tmp_path: Path, web: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wit.download.partition, "WINDOW", 40)
    part = write_plan(tmp_path, serve(web, 400), 10)

    def drain(progress: Progress) -> None:
        if progress.shards:
            wit.download.partition.drain()

    try:
        markers = download(part, range(40), tmp_path, web, on_progress=drain)
    finally:
        wit.download.partition.resume()
    assert 1 <= len(markers) < 40
    assert [path.name for path in (tmp_path / "_tmp").iterdir()] == ["places"]
    assert len(download(part, range(40), tmp_path, web)) == 40


def test_draining_asks_slow_hosts_for_nothing_more(tmp_path: Path, web: Any) -> None:
    """All 300 rows are in the engine's window when the drain comes, and one host would take a minute for them."""
    part = write_plan(tmp_path, [f"http://{HOSTS[0]}/{url.rpartition('/')[2]}" for url in serve(web, 300)], 10)

    def drain(progress: Progress) -> None:
        if progress.shards:
            wit.download.partition.drain()

    try:
        markers = download(part, range(30), tmp_path, web, on_progress=drain, host_rate_per_s=20, per_host=4)
    finally:
        wit.download.partition.resume()
    pictures = [path for _, _, path in web.asked if path.endswith(".jpg")]
    assert 1 <= len(markers) <= 4 and 10 <= len(pictures) <= 60
    assert all(marker.into == 10 == marker.out for marker in markers)


def test_of_a_blocked_picture_only_hash_list_and_url_stay_apart(tmp_path: Path, web: Any) -> None:
    urls = serve(web, 6)
    (tmp_path / "bad.txt").write_text(hashlib.sha256(hostile.picture(seed=3)).hexdigest() + "\n")
    part = write_plan(tmp_path, urls, 6)
    (marker,) = download(part, [0], tmp_path, web, image=ImageConfig(blocked_hashes=(str(tmp_path / "bad.txt"),)))
    assert (marker.out, marker.dropped) == (5, {"blocked_hash": 1})
    table = tmp_path / marker.files["restricted"].name
    assert table.parent == tmp_path / "restricted" and table.stat().st_mode & 0o077 == 0
    blocked = hashlib.sha256(hostile.picture(seed=3)).hexdigest()
    assert pq.read_table(table).to_pylist() == [{"hash": blocked, "list": "bad.txt", "url": urls[3]}]
    for path in tmp_path.rglob("*"):
        if path.is_file() and path.name != "bad.txt" and path != table:
            assert blocked.encode() not in path.read_bytes() and hostile.picture(seed=3) not in path.read_bytes()
    assert not [r for r in raw_rows(tmp_path, [marker]) if r["reason"] and (r["detail"] or r["original_sha256"])]


def test_what_is_not_what_the_list_says_is_dropped(tmp_path: Path, web: Any) -> None:
    """The list's own hashes, beside a picture that was changed since: by every kind, with cells that are empty or no hash."""
    urls = serve(web, 8)
    kept, other = (hostile.picture(seed=n) for n in (0, 99))
    near, far = (process(hostile.picture(seed=n), ImageConfig()).pdq.hex() for n in (5, 99))  # type: ignore[union-attr]
    cells = [hashlib.sha256(kept).hexdigest().upper(), hashlib.sha256(other).hexdigest(), None, "not a hash"]
    part = write_plan(tmp_path, urls, 8)
    rows = pq.read_table(part).to_pylist()
    for row, cell in zip(rows, [*cells, hashlib.md5(hostile.picture(seed=4)).hexdigest()], strict=False):
        row["extra"] = json.dumps({"hash": cell, "width": 3})
    pq.write_table(pa.Table.from_pylist(rows, schema=PLAN), part, row_group_size=8)
    markers = download(part, [0], tmp_path / "bytes", web, image=ImageConfig(verify_hash="hash"))
    found = {row["url"]: (row["reason"], row["detail"]) for row in raw_rows(tmp_path / "bytes", markers)}
    wrong = {urls[1]: ("hash_mismatch", None), urls[3]: ("hash_mismatch", "no hash")}
    assert found == dict.fromkeys(urls, (None, None)) | wrong

    for row, cell in zip(rows[5:], (near, far), strict=False):
        row["extra"] = json.dumps({"pdq": cell})
    pq.write_table(pa.Table.from_pylist(rows, schema=PLAN), part, row_group_size=8)
    markers = download(part, [0], tmp_path / "pdq", web, image=ImageConfig(verify_hash="pdq"))
    found = {row["url"]: (row["reason"], row["detail"]) for row in raw_rows(tmp_path / "pdq", markers)}
    assert found == dict.fromkeys(urls, (None, None)) | {urls[6]: ("hash_mismatch", None)}
