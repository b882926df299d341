"""A packed list is the list, in a fraction of its memory."""

from __future__ import annotations

import hashlib
import pickle
import sqlite3
import subprocess
import sys
from collections.abc import Iterator

import pytest

from wit.store.manifests import File, Marker, Unit
from wit.store.packed import Packed
from wit.typed import json_text, to_json


def marker(number: int) -> Marker:
    digest = hashlib.sha256(b"%d" % number).hexdigest()
    endings = ("tar", "parquet", "fetch.parquet")
    files = {e: File(f"raw/{number:05d}-0000.{digest[:12]}.{e}", number << 10, digest) for e in endings}
    return Marker(
        into=10, out=9, dropped={"timeout": 1}, unit=Unit.raw(f"{number:05d}", 0), fingerprint="f" * 32, files=files
    )


@pytest.mark.parametrize("count", [0, 1, 500, 1_501])
def test_it_is_what_was_packed_in_the_same_order(count: int) -> None:
    items = [marker(number) for number in range(count)]
    packed = Packed(Marker, map(to_json, items))
    assert len(packed) == count and list(packed) == items and packed == tuple(items) and packed == items
    assert packed == Packed(Marker, map(to_json, items)) and packed != [*items, marker(0)] and packed != "items"
    assert [packed[number] for number in range(0, count, 99)] == items[::99]
    assert packed[-3:] == items[-3:] and pickle.loads(pickle.dumps(packed)) == items
    assert json_text(packed) == json_text(items), "it is written as any list"
    with pytest.raises(IndexError):
        packed[count]


def test_what_is_none_of_its_kind_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="it lacks in"):
        Packed.checked(Marker, [to_json(marker(0)), b'{"out": 1}'])


def test_it_is_put_in_the_order_of_names_once_each() -> None:
    items = [marker(number) for number in (3, 1, 2, 1)]
    packed = Packed.in_order(Marker, ((str(one.unit), to_json(one)) for one in items))
    assert packed == [items[1], items[2], items[0]] and list(packed.json()) == [to_json(one) for one in packed]
    assert Packed.in_order(Marker, ()) == []


def test_it_takes_no_memory_however_long_it_is() -> None:
    """In a process of its own: what SQLite holds no counter of Python's sees."""
    program = (
        "import resource\n"
        "from wit.store.packed import Packed\n"
        "def grown(count):\n"
        "    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "    packed = Packed.in_order(dict, ((f'{n * 7919 % count:06d}', b'%01000d' % n) for n in range(count)))\n"
        "    assert sum(map(len, packed.json())) == 1_000 * count\n"
        "    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10\n"
        "grown(5_000)\n"
        "print(grown(60_000))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 15, "of 60 MB"


def test_a_full_disk_is_said_with_where_it_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> Iterator[bytes]:
        yield b"{}"
        raise sqlite3.OperationalError("database or disk is full")

    with pytest.raises(OSError, match="SQLITE_TMPDIR.*disk is full"):
        Packed(Marker, full())
