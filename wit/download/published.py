"""The raw shards of a finished download, as the stages behind it read them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from wit.store import fs, parquet
from wit.store.manifests import Manifest, Marker, Unit


@dataclass(frozen=True, slots=True, order=True)
class FetchedShard:
    """A published raw shard; paths are relative to OUT."""

    unit: Unit
    tar: str
    parquet: str
    scores: str | None = None


def raw_shards(download: Manifest, score: Manifest | None = None) -> list[FetchedShard]:
    """The raw shards of the download stage's manifest, in order, with their scores if that stage ran."""
    scores = {part.unit.place: part.files["rows"].name for part in (score.parts if score else ())}
    return sorted(
        FetchedShard(
            part.unit,
            part.files["tar"].name,
            part.files["parquet"].name,
            scores[part.unit.place] if score else None,
        )
        for part in with_pictures(download.parts)
    )


def is_accounting(unit: Unit) -> bool:
    """Whether the unit has no files, and only takes the rows that a round retries out of earlier losses."""
    return unit.kind == "retried"


def with_pictures(markers: Iterable[Marker]) -> list[Marker]:
    """The markers of raw shards, without those of accounting units."""
    return [marker for marker in markers if not is_accounting(marker.unit)]


def last_attempts(out: str, markers: Sequence[Marker], columns: Sequence[str]) -> Iterator[pa.Table]:
    """The rows of all raw shards, these columns only: each planned URL once, as its last attempt left it."""
    later: set[str] = set()
    for marker in sorted(with_pictures(markers), key=lambda m: (m.unit.is_retry, m.unit), reverse=True):
        path = fs.join(out, marker.files["parquet"].name)
        table = parquet.read_table(path, list(dict.fromkeys([*columns, "key"])))
        keys = table["key"].to_pylist()
        if later:
            table = table.filter(pa.array([key not in later for key in keys]))
        if marker.unit.is_retry:
            later.update(keys)
        yield table.select(list(columns))
