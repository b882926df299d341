"""A raw shard in the making: whatever order pictures come in, and however often some are asked for again, the tar is the same."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import os
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import wit.download.rawshard
from wit.download.rawshard import RawShard, in_order
from wit.fetch.outcome import Outcome
from wit.fetch.spool import Spools
from wit.images.results import Processed
from wit.reasons import Reason
from wit.records import PLAN, keyed_hash, pair_key

ROWS = 12
LOST = {3, 7}


def planned(count: int) -> pa.Table:
    rows = []
    for number in range(count):
        url = f"http://a.example/{number}.jpg"
        row = dict.fromkeys(PLAN.names) | {"key": pair_key(url, ""), "url": url, "canonical_url": url, "captions": []}
        rows.append(row | {"host": "a.example", "domain": "a.example"})
    return in_order(pa.Table.from_pylist(rows, schema=PLAN), seed=5)


def body(number: int) -> bytes:
    return bytes([65 + number]) * (700 * number + 1)


def stored(number: int, spools: Spools) -> Outcome:
    """As the engine hands out a picture: in a spool, where others stand before it."""
    spool, data = spools.hold(), body(number)
    offset = spool.end
    assert os.pwrite(spool.fd, data, offset) == len(data)
    spool.end += len(data)
    sha256 = hashlib.sha256(data).hexdigest()
    picture = Processed(b"", "jpg", 1, 1, "jpg", 1, 1, sha256, sha256)
    return Outcome(number, http_status=200, picture=picture, spool=spool, spool_offset=offset, spool_size=len(data))


def finish(shard: RawShard, folder: Path) -> bytes:
    digest = shard.write(*(str(folder / name) for name in ("raw.parquet", "fetch.parquet", "restricted.parquet")))
    data = Path(shard.tar_path).read_bytes()
    assert digest == ("xxh3_128", xxhash.xxh3_128(data).hexdigest())
    return data


def settle(shard: RawShard, spools: Spools) -> None:
    """What the fetching and the writing thread do after each outcome."""
    ready = shard.take_ready()
    shard.append(ready)
    for outcome in ready:
        if outcome.spool is not None:
            spools.release(outcome.spool)
            outcome.spool = None


def test_rows_stand_in_the_order_of_their_keyed_hashes() -> None:
    keys = planned(40)["key"].to_pylist()
    assert keys == sorted(keys, key=lambda key: keyed_hash(5, "order", key))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(arrivals=st.permutations(range(ROWS)), again=st.sets(st.integers(0, ROWS - 1)))
def test_the_tar_is_the_same_in_any_order_and_after_any_second_try(
    tmp_path_factory: pytest.TempPathFactory, arrivals: list[int], again: set[int]
) -> None:
    folder = tmp_path_factory.mktemp("shard")
    spools = Spools(str(folder))
    shard = RawShard("u", 0, planned(ROWS), str(folder))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wit.download.rawshard, "APPEND_BYTES", 1_000)
        for number in arrivals:
            first_try = Outcome(number, Reason.TIMEOUT) if number in again else None
            lost = Outcome(number, Reason.HTTP_GONE) if number in LOST else None
            shard.record(number, first_try or lost or stored(number, spools))
            settle(shard, spools)
        if again:
            shard.ask_again(sorted(again), spools)
            for number in sorted(again, reverse=True):
                shard.record(number, Outcome(number, Reason.HTTP_GONE) if number in LOST else stored(number, spools))
                settle(shard, spools)
        shard.append(shard.take_ready())
    data = finish(shard, folder)
    spools.close()
    kept = [number for number in range(ROWS) if number not in LOST]
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        found = [(member.name, tar.extractfile(member).read()) for member in tar]  # type: ignore[union-attr]
    assert found == [(f"{shard.keys[number]}.jpg", body(number)) for number in kept]
    for row in pq.read_table(folder / "raw.parquet").to_pylist():
        number = shard.keys.index(row["key"])
        if number in LOST:
            assert (row["reason"], row["tar_offset"]) == ("http_gone", None)
        else:
            assert data[row["tar_offset"] : row["tar_offset"] + row["tar_size"]] == body(number)
    assert not (folder / "restricted.parquet").exists()


def one(tmp_path: Path, outcomes: list[Outcome], spools: Spools) -> dict[str, list[dict[str, object]]]:
    """The tables of a shard of these outcomes, by name."""
    shard = RawShard("u", 0, planned(len(outcomes)), str(tmp_path))
    for row, outcome in enumerate(outcomes):
        shard.record(row, outcome)
    shard.append(shard.take_ready())
    finish(shard, tmp_path)
    spools.close()
    found = (tmp_path / f"{name}.parquet" for name in ("raw", "fetch", "restricted"))
    return {path.stem: pq.read_table(path).to_pylist() for path in found if path.exists()}


def test_the_tables_say_what_became_of_each_row(tmp_path: Path) -> None:
    spools = Spools(str(tmp_path))
    fine = stored(2, spools)
    fine.final_url, fine.attempts, fine.bytes, fine.wire_bytes, fine.duration_s = "http://b.example/", 2, 5, 7, 0.5
    fine.started = 1_700_000_000.25
    assert fine.picture is not None
    columns = {"width": 3, "height": 4, "original_width": 6, "original_height": 8, "original_format": "png"}
    fine.picture = dataclasses.replace(
        fine.picture, **columns, phash=9, pdq=b"p" * 32, pdq_quality=10, exif="{}", original_sha256="o"
    )
    gone = Outcome(0, Reason.HTTP_GONE, "gone", 410, "http://c.example/")
    silent = Outcome(1, Reason.TIMEOUT, "", 0, "http://d.example/", error="no answer")
    tables = one(tmp_path, [gone, silent, fine], spools)
    lost, late, row = tables["raw"]
    said = {"reason": "http_gone", "detail": "gone", "http_status": 410, "final_url": "http://c.example/"}
    assert {name: lost[name] for name in said} == said
    assert (late["reason"], late["detail"], late["http_status"], late["final_url"]) == ("timeout", None, None, None)
    nothing = ("tar_offset", "tar_size", "format", "width", "sha256", "phash", "pdq", "pdq_quality", "exif")
    assert {lost[name] for name in nothing} == {late[name] for name in nothing} == {None}
    expected = columns | {"phash": 9, "pdq": b"p" * 32, "pdq_quality": 10, "exif": "{}", "original_sha256": "o"}
    expected |= {"reason": None, "detail": None, "http_status": 200, "final_url": "http://b.example/", "format": "jpg"}
    assert {name: row[name] for name in expected} == expected and row["tar_size"] == len(body(2))
    assert [r["key"] for r in tables["fetch"]] == [r["key"] for r in tables["raw"]] == planned(3)["key"].to_pylist()
    fetched, took = tables["fetch"][2], {"attempts": 2, "bytes": 5, "wire_bytes": 7, "duration_s": 0.5, "error": None}
    assert {name: fetched[name] for name in took} == took
    assert fetched["started"].timestamp() == 1_700_000_000.25  # type: ignore[attr-defined]
    assert tables["fetch"][1]["error"] == "no answer" and "restricted" not in tables


def test_what_is_listed_is_told_to_the_owner_alone(tmp_path: Path) -> None:
    spools = Spools(str(tmp_path))
    hit = Outcome(1, Reason.BLOCKED_HASH, "pdq:ab a list of two words", 200, "http://b.example/")
    tables = one(tmp_path, [Outcome(0, Reason.HTTP_GONE, "", 410), hit, stored(2, spools)], spools)
    url = planned(3)["url"].to_pylist()[1]
    assert tables["restricted"] == [{"hash": "pdq:ab", "list": "a list of two words", "url": url}]
    assert (tables["raw"][1]["reason"], tables["raw"][1]["detail"]) == ("blocked_hash", None)
    assert (tmp_path / "restricted.parquet").stat().st_mode & 0o777 == 0o600


def test_pictures_are_handed_on_in_order_once_they_are_worth_a_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wit.download.rawshard, "APPEND_BYTES", 100)
    shard = RawShard("u", 0, planned(6), str(tmp_path))

    def come(row: int, size: int) -> list[int]:
        shard.record(row, Outcome(row, spool_size=size))
        return [outcome.id for outcome in shard.take_ready()]

    assert come(1, 500) == [], "the first is missing"
    assert come(0, 0) == [0, 1] and shard.left == 4
    assert come(2, 99) == []
    assert come(4, 500) == [], "of those that are ready there are 99 bytes"
    assert [outcome.id for outcome in shard.done()] == [0, 1, 2, 4]
    assert come(3, 1) == [2, 3, 4]
    assert come(5, 0) == [5] and shard.left == 0 and shard.take_ready() == []


@pytest.mark.parametrize("size, handed_on", [(99, []), (100, [0])])
def test_so_many_bytes_are_worth_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, handed_on: list[int]
) -> None:
    monkeypatch.setattr(wit.download.rawshard, "APPEND_BYTES", 100)
    shard = RawShard("u", 0, planned(2), str(tmp_path))
    shard.record(0, Outcome(0, spool_size=size))
    assert [outcome.id for outcome in shard.take_ready()] == handed_on


def test_two_rows_of_one_shard_may_have_keys_in_any_order_but_hashes(tmp_path: Path) -> None:
    rows = planned(9)
    assert in_order(rows.take([8, 0, 7, 1, 6, 2, 5, 3, 4]), seed=5).equals(rows)
    assert in_order(rows, seed=6)["key"].to_pylist() != rows["key"].to_pylist()
    assert len(in_order(rows.slice(0, 0), seed=5)) == 0


def test_a_shard_that_nobody_wants_may_be_left_at_any_step_and_holds_no_file(tmp_path: Path) -> None:
    def is_open(path: str) -> bool:
        return any(os.path.realpath(f"/proc/self/fd/{fd}") == path for fd in os.listdir("/proc/self/fd"))

    spools = Spools(str(tmp_path))
    shard = RawShard("u", 0, planned(2), str(tmp_path))
    shard.abandon()
    shard.record(0, stored(0, spools))
    shard.record(1, Outcome(1, Reason.HTTP_GONE))
    shard.append(shard.take_ready())
    assert is_open(os.path.realpath(shard.tar_path))
    shard.abandon()
    assert not is_open(os.path.realpath(shard.tar_path))
    shard.abandon()
    spools.close()


def test_the_pictures_of_a_tar_that_is_begun_anew_are_released_with_the_last_of_them(tmp_path: Path) -> None:
    spools = Spools(str(tmp_path))
    shard = RawShard("u", 0, planned(3), str(tmp_path))
    for number in range(3):
        shard.record(number, stored(number, spools) if number else Outcome(0, Reason.TIMEOUT))
    settle(shard, spools)
    first = shard.tar_path
    shard.ask_again([0], spools)
    assert shard.left == 1 and shard.outcomes[0] is None and shard.tar_path != first
    (held,) = {id(spool): spool for outcome in shard.done() if (spool := outcome.spool)}.values()
    assert (held.path, held.waiting) == (first, 2)
    shard.record(0, stored(0, spools))
    settle(shard, spools)
    assert held.waiting == 0
    assert finish(shard, tmp_path).count(body(2)) == 1
    spools.close()
