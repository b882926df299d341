"""Some published samples with their pictures, for the page."""

from __future__ import annotations

import base64
import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
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


def gallery(out: str) -> list[Figure]:
    """The published samples with the smallest keys, in their order, without those that were removed. Keys are hashes, so the same
    set shows the same ones. Raises DamagedFile where a picture is not the one that its row names."""
    figures = [figure for path, rows in smallest_keys(out).items() for figure in read_figures(path, rows)]
    return [figure for _, figure in sorted(figures, key=itemgetter(0))]


def smallest_keys(out: str) -> dict[str, list[int]]:
    """{path of a table in shards/: its rows} of the GALLERY smallest keys; only the column of keys is read."""
    smallest: list[tuple[str, str, int]] = []
    gone = pa.array(sorted(removed_hashes(shards_path(out))), pa.string())
    for name in fs.list_dir(shards_path(out)):
        if name.endswith(".parquet"):
            path = fs.join(shards_path(out), name)
            table = parquet.read_table(path, HASHES if len(gone) else ["key"])
            hidden = [pc.is_in(column, value_set=gone).to_numpy() for column in table.columns if len(gone)]
            places = np.flatnonzero(~np.logical_or.reduce([np.zeros(len(table), bool), *hidden]))
            keys = table["key"].take(pa.array(places))
            first = pc.sort_indices(keys)[:GALLERY]
            here = zip(keys.take(first).to_pylist(), places[first.to_numpy()].tolist(), strict=True)
            smallest = sorted([*smallest, *((key, path, row) for key, row in here)])[:GALLERY]
    by_path: dict[str, list[int]] = defaultdict(list)
    for _, path, row in smallest:
        by_path[path].append(row)
    return by_path


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
