"""A long list of dataclasses that takes no memory: their JSON in a table on this machine's disk; what is asked for is decoded
again each time.

A marker is 2.3 kB as objects, a stage has up to 250,000 of them, and a build holds the manifests of all its stages. The table is
a temporary one of SQLite's: a small one stays in memory, a large one has no name, so that nothing is left of it after a kill.
"""

from __future__ import annotations

import contextlib
import errno
import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar, overload

from wit.typed import load

T = TypeVar("T")
NO_NAME = ""  # SQLite's name of a database that is removed when it is closed
SETTINGS = ("journal_mode = off", "synchronous = off")  # nobody reads it after a crash


class Packed(Sequence[T], Generic[T]):
    """Dataclasses of one kind, in their order. Equal to any list or tuple of equal items."""

    __hash__ = None  # type: ignore[assignment]  # as lists have none

    def __init__(self, kind: Any, items: Iterable[bytes]) -> None:
        """Packs the JSON of each item. Whether one is of that kind is found out when it is asked for; `checked` asks at once.
        Raises OSError where the disk is full."""
        self._kind = kind
        self._table = sqlite3.connect(NO_NAME, check_same_thread=False, isolation_level=None)
        for setting in SETTINGS:
            self._table.execute(f"pragma {setting}")
        with _full_disk():
            self._table.execute("create table item (data blob)")
            self._table.executemany("insert into item values (?)", ((data,) for data in items))
        self.is_ordered = False
        """Whether it is `in_order`."""
        self._length: int = self._table.execute("select count(*) from item").fetchone()[0]

    @classmethod
    def checked(cls, kind: type[T], items: Iterable[bytes]) -> Packed[T]:
        """Raises ValueError where an item is no dataclass of that kind."""
        return cls(kind, (data for data in items if _decoded(kind, data) is not None))

    @classmethod
    def in_order(cls, kind: Any, named: Iterable[tuple[str, bytes]]) -> Packed[T]:
        """Items in the order of their names, one of each name."""
        packed = cls(kind, ())
        with _full_disk():
            packed._table.execute("create table named (name text, data blob)")
            packed._table.executemany("insert into named values (?, ?)", named)
            packed._table.execute("insert into item select data from named group by name order by name")
            packed._table.execute("drop table named")
        packed._length, packed.is_ordered = packed._table.execute("select count(*) from item").fetchone()[0], True
        return packed

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[T]:
        return (_decoded(self._kind, data) for data in self.json())

    def json(self) -> Iterator[bytes]:
        """The JSON of each item, as it was given."""
        return (data for (data,) in self._table.execute("select data from item order by rowid"))

    @overload
    def __getitem__(self, number: int) -> T: ...
    @overload
    def __getitem__(self, number: slice) -> list[T]: ...
    def __getitem__(self, number: int | slice) -> T | list[T]:
        if isinstance(number, slice):
            return [self[one] for one in range(self._length)[number]]
        row = range(self._length)[number] + 1
        (data,) = self._table.execute("select data from item where rowid = ?", (row,)).fetchone()
        item: T = _decoded(self._kind, data)
        return item

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Packed | tuple | list):
            return NotImplemented
        return len(self) == len(other) and all(mine == its for mine, its in zip(self, other, strict=True))

    def __reduce__(self) -> Any:
        return Packed, (self._kind, list(self.json()))

    def __repr__(self) -> str:
        return f"Packed({list(self)!r})"


def _decoded(kind: Any, data: bytes) -> Any:
    return load(kind, json.loads(data))


@contextlib.contextmanager
def _full_disk() -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        raise OSError(errno.ENOSPC, f"SQLite's temporary directory (SQLITE_TMPDIR): {error}") from error
