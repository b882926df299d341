"""The raw shards of a finished download, as the stages behind it read them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from wit.download.rounds import is_accounting
from wit.store.manifests import Manifest, Marker, Unit


@dataclass(frozen=True, slots=True, order=True)
class FetchedShard:
    """A published raw shard; paths are relative to OUT."""

    unit: Unit
    tar: str
    parquet: str
    scores: str | None = None
    fetch: str | None = None
    """The fetch table, where it tells the addresses that were met (`wit.download.met`)."""


def raw_shards(download: Manifest, score: Manifest | None = None) -> list[FetchedShard]:
    """The raw shards of the download stage's manifest, in order, with their scores if that stage ran."""
    scores = {part.unit.place: part.files["rows"].name for part in (score.parts if score else ())}
    return sorted(
        FetchedShard(
            part.unit,
            part.files["tar"].name,
            part.files["parquet"].name,
            scores[part.unit.place] if score else None,
            part.files["fetch"].name if part.facts.get("addresses") else None,
        )
        for part in with_pictures(download.parts)
    )


def with_pictures(markers: Iterable[Marker]) -> list[Marker]:
    """The markers of raw shards, without those of accounting units."""
    return [marker for marker in markers if not is_accounting(marker.unit)]
