"""score: raw shards -> a number for each fetched picture, by any model that is handed in: how well its caption fits."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Protocol

import pyarrow as pa

from wit.arithmetic import batches
from wit.arrays import offsets_of
from wit.damage import damaged
from wit.download.published import FetchedShard
from wit.records import SCORES
from wit.shards import iter_members, split_name
from wit.store import fs, parquet
from wit.store.manifests import Marker
from wit.store.parquet import write_parquet
from wit.store.parts import StageDir
from wit.store.scratch import scratch_dir
from wit.tally import Tally

BATCH = 64  # pictures at a time; fixed, since a model's last bits depend on it


class Scorer(Protocol):
    """A model that scores (picture's bytes, caption) pairs, None where a picture does not decode; `sha256` is of its weights."""

    @property
    def model(self) -> str: ...

    @property
    def sha256(self) -> str: ...

    def __call__(self, pairs: Sequence[tuple[bytes, str]]) -> list[float | None]: ...


def score_shard(stage: StageDir, shard: FetchedShard, scorer: Scorer) -> Marker:
    """Publishes the scores of one raw shard, one row a fetched picture in the order of its tar; reads the tar once."""
    unit = shard.unit.as_("part")

    def work() -> Marker:
        rows = scores(stage.out, shard, scorer)
        with scratch_dir(stage.out) as scratch:
            path = f"{scratch}/x.scores-{scorer.model.replace('/', '-')}.parquet"
            write_parquet(rows, path)
            return stage.publish(unit, {"rows": path}, Tally(into=len(rows), out=len(rows), dropped={}))

    return stage.once(unit, work)


def scores(out: str, shard: FetchedShard, scorer: Scorer) -> pa.Table:
    """records.SCORES of one raw shard, for the captions that plan chose."""
    keys, places, captions, digests = fetched(fs.join(out, shard.parquet))
    pairs = zip(pictures(fs.join(out, shard.tar), keys, digests), captions, strict=True)
    values: list[float | None] = []
    for batch in batches(pairs, BATCH):
        values += scorer(batch)
    columns = [pa.array(keys, pa.string()), pa.array(places, pa.int32()), pa.array(values, pa.float32())]
    return pa.table(columns, schema=SCORES)


def fetched(path: str) -> tuple[list[str], list[int], list[str], list[str]]:
    """(keys, row numbers, first captions, digests) of the rows of a RAW table that have a picture."""
    raw = parquet.read_table(path, ["key", "captions", "reason", "sha256"])
    places = [row for row, reason in enumerate(raw["reason"].to_pylist()) if reason is None]
    rows = raw.take(pa.array(places, pa.int64()))
    offsets, captions = offsets_of(rows["captions"])
    first = captions.field("text").take(pa.array(offsets[:-1]))
    return rows["key"].to_pylist(), places, first.to_pylist(), rows["sha256"].to_pylist()


def pictures(tar: str, keys: Sequence[str], digests: Sequence[str]) -> Iterator[bytes]:
    """The bytes of the tar's pictures, in order; raises DamagedFile if a key, a digest or the number of pictures is wrong."""
    members = iter_members(tar)
    for key, digest in zip(keys, digests, strict=True):
        member = next(members, None)
        if member is None or split_name(member.name)[0] != key or hashlib.sha256(member.data).hexdigest() != digest:
            raise damaged(tar, f"the picture of {key} is not that of its sha256")
        yield member.data
    if next(members, None) is not None:
        raise damaged(tar, "it has more pictures than its table")
