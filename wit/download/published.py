"""The raw shards of a finished download, as the stages behind it read them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from wit.download.rounds import is_accounting
from wit.store.manifests import Manifest, Marker, Outline, Unit, decoded, outlined


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
    scores = {Unit.parse(one.unit).place: one.files["rows"].name for one, _ in outlined(score.parts if score else ())}
    found = ((Unit.parse(one.unit), one) for one, _ in decoded(download.parts, _fetched))
    return sorted(
        FetchedShard(
            unit,
            one.files["tar"].name,
            one.files["parquet"].name,
            scores[unit.place] if score else None,
            one.files["fetch"].name if one.addresses else None,
        )
        for unit, one in found
        if not is_accounting(unit)
    )


class _Fetched(Outline, frozen=True, gc=False):
    """The outline of a raw shard's marker, with its own fact."""

    addresses: object = False


_fetched = msgspec.json.Decoder(_Fetched).decode


def with_pictures(markers: Iterable[Marker]) -> list[Marker]:
    """The markers of raw shards, without those of accounting units."""
    return [marker for marker in markers if not is_accounting(marker.unit)]
