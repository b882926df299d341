"""Shared by all tests: rows of candidates, made from (URL, caption, query ids); raw shards, made from rows with pictures."""

import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from wit import storage
from wit.parts import Marker, StageDir, write_parquet
from wit.records import CANDIDATES, RAW, keyed_hash, pair_key
from wit.shards import ShardWriter

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
    record |= {"domain_split": 1, "captions": captions, "critical_t": 0.0, "source": "test", "source_offset": 0}
    record |= {"source_index": 0, "reason": None if row.look is not None else "http_not_found", "detail": ""}
    if row.look is not None:
        data = picture(row.look, row.size, row.variant)
        digest = hashlib.sha256(data).hexdigest()
        width, height = row.size
        record |= {"width": width, "height": height, "original_width": width, "original_height": height, "data": data}
        record |= {"sha256": digest, "original_sha256": digest, "format": "jpg", "original_format": "jpg"}
        record |= {"phash": row.phash if row.phash is not None else row.look, "tar_size": len(data)}
    return record


def publish_raw(out: str, shards: Mapping[str, Sequence[Row]], *, seed: int = 1) -> Marker:
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
        with storage.scratch_dir(out) as scratch:
            files = {"tar": f"{scratch}/x.tar", "parquet": f"{scratch}/x.parquet"}
            storage.write_bytes(files["tar"], stream.getvalue())
            write_parquet(pa.Table.from_pylist(records, schema=RAW), files["parquet"])
            fetched = sum(r["reason"] is None for r in records)
            lost = {"http_not_found": len(records) - fetched} if fetched < len(records) else {}
            stage.publish(unit, files, {"in": len(records), "out": fetched, "dropped": lost})
    return stage.finish(stage.markers())


@pytest.fixture
def raw_row() -> type[Row]:
    return Row


@pytest.fixture
def raw() -> Callable[..., Marker]:
    """(OUT, {unit: rows}) -> published raw shards and the manifest of the download stage."""
    return publish_raw
