"""Stand-in for wit.shards until it is there."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from wit import storage
from wit.records import InputError


@dataclass(frozen=True, slots=True)
class Sample:
    key: str
    image_bytes: bytes
    caption: str
    metadata: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ShardInfo:
    path: str
    samples: int


def list_shards(directory: str) -> list[ShardInfo]:
    path = storage.join(directory, "sizes.json")
    if not storage.exists(path):
        raise InputError(f"no shards in {directory}: no sizes.json there")
    sizes = json.loads(storage.read_bytes(path))
    return [ShardInfo(storage.join(directory, name), count) for name, count in sorted(sizes.items())]


def iter_samples(path: str) -> Iterator[Sample]:
    found: dict[str, dict[str, bytes]] = {}
    with storage.open_read(path) as stream, tarfile.open(fileobj=stream) as tar:
        for member in tar:
            key, ext = member.name.rsplit(".", 1)
            found.setdefault(key, {})[ext] = tar.extractfile(member).read()  # type: ignore[union-attr]
    for key, parts in found.items():
        image = next(parts[ext] for ext in ("jpg", "png", "webp") if ext in parts)
        yield Sample(key, image, parts["txt"].decode(), json.loads(parts.get("json", b"{}")))
