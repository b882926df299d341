"""A long list of dataclasses in little memory: their JSON, compressed, in pieces; what is asked for is decoded again each time.

A marker is 2.3 kB as objects and about a tenth of that so; a build holds the manifests of all its stages.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Generic, TypeVar, overload

from wit.arithmetic import batches
from wit.typed import load

T = TypeVar("T")
PIECE = 500  # items that are compressed together, and decoded to get one of them
LEVEL = 1  # of zlib: half of what is compressed are hexadecimal digits of digests, in which nothing is to be found


class Packed(Sequence[T], Generic[T]):
    """Dataclasses of one kind, in their order. Equal to any list or tuple of equal items."""

    __hash__ = None  # type: ignore[assignment]  # as lists have none

    def __init__(self, kind: type[T], items: Iterable[bytes]) -> None:
        """Packs the JSON of each item; raises ValueError where one is no dataclass of that kind."""
        self._kind, self._pieces, self._length = kind, list[bytes](), 0
        for some in batches(items, PIECE):
            text = b"[" + b",".join(some) + b"]"
            self._length += len(self._decoded(text))
            self._pieces.append(zlib.compress(text, LEVEL))

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[T]:
        for piece in self._pieces:
            yield from self._decoded(zlib.decompress(piece))

    @overload
    def __getitem__(self, number: int) -> T: ...
    @overload
    def __getitem__(self, number: slice) -> list[T]: ...
    def __getitem__(self, number: int | slice) -> T | list[T]:
        if isinstance(number, slice):
            return list(self)[number]
        piece, place = divmod(range(self._length)[number], PIECE)
        return self._decoded(zlib.decompress(self._pieces[piece]))[place]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Packed | tuple | list):
            return NotImplemented
        return len(self) == len(other) and all(mine == its for mine, its in zip(self, other, strict=True))

    def __repr__(self) -> str:
        return f"Packed({list(self)!r})"

    def _decoded(self, text: bytes) -> list[T]:
        return [load(self._kind, item) for item in json.loads(text)]
