"""Some published samples with their pictures, for the page."""

from __future__ import annotations

import base64
import hashlib
import heapq
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wit.damage import damaged
from wit.images.formats import FORMATS
from wit.images.headers import sniff
from wit.layout import shards_path
from wit.shards import removed_hashes
from wit.store import fs, parquet

GALLERY = 48
HASHES = ["key", "sha256", "original_sha256"]  # any of which a tombstone may name


@dataclass(frozen=True, slots=True)
class Figure:
    """A picture as a data URL, and its caption."""

    caption: str
    src: str


@dataclass(frozen=True, slots=True, order=True)
class Sample:
    """A published sample: its key, the name of its table in shards/ relative to OUT, and its row there."""

    key: str
    table: str
    row: int


def gallery(out: str, samples: Iterable[Sample]) -> list[Figure]:
    """The samples, in the order of their keys. Raises DamagedFile where a picture is not the one that its row names."""
    by_table: dict[str, list[int]] = defaultdict(list)
    for sample in samples:
        by_table[sample.table].append(sample.row)
    figures = [figure for name, rows in by_table.items() for figure in read_figures(fs.join(out, name), rows)]
    return [figure for _, figure in sorted(figures, key=itemgetter(0))]


def smallest(samples: Iterable[Sample]) -> tuple[Sample, ...]:
    """Those with the GALLERY smallest keys. Keys are hashes, so the same set shows the same ones."""
    return tuple(heapq.nsmallest(GALLERY, samples))


def smallest_in(out: str, names: Iterable[str]) -> tuple[Sample, ...]:
    """The samples with the smallest keys in some tables of shards/, without those that were removed; only the columns of keys and
    hashes are read."""
    gone = pa.array(sorted(removed_hashes(shards_path(out))), pa.string())
    return smallest(sample for name in names for sample in _first_of(out, name, gone))


def _first_of(out: str, name: str, gone: pa.Array) -> Iterator[Sample]:
    table = parquet.read_table(fs.join(out, name), HASHES if len(gone) else ["key"])
    hidden = [pc.is_in(column, value_set=gone).to_numpy() for column in table.columns if len(gone)]
    places = np.flatnonzero(~np.logical_or.reduce([np.zeros(len(table), bool), *hidden]))
    keys = table["key"].take(pa.array(places))
    first = pc.sort_indices(keys)[:GALLERY]
    for key, row in zip(keys.take(first).to_pylist(), places[first.to_numpy()].tolist(), strict=True):
        yield Sample(key, name, row)


def read_figures(path: str, rows: Sequence[int]) -> Iterator[tuple[str, Figure]]:
    """(key, figure) of these rows of a shard's table."""
    table = parquet.read_table(path, ["key", "caption", "image_offset", "image_size", "sha256"]).take(pa.array(rows))
    tar = path.removesuffix("parquet") + "tar"
    for key, caption, start, size, digest in zip(*(column.to_pylist() for column in table.columns), strict=True):
        yield key, Figure(caption, inline(tar, start, size, digest))


def inline(tar: str, start: int, size: int, digest: str) -> str:
    """The picture at byte `start` of a tar, as a data URL. Raises DamagedFile where its SHA-256 is not `digest`."""
    picture = fs.read_range(tar, start, size)
    if hashlib.sha256(picture).hexdigest() != digest:
        raise damaged(tar, f"the picture at byte {start} is not that of its sha256")
    kind = FORMATS[str(sniff(picture))].media_type
    return f"data:{kind};base64,{base64.b64encode(picture).decode()}"
