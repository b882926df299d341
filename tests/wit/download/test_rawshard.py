"""A raw shard in the making: whatever order pictures come in, and however often some are asked for again, the tar is the same."""

from __future__ import annotations

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
