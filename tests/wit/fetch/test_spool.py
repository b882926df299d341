"""Spools are as many as pictures out of order need, and never written over while one is still wanted."""

from __future__ import annotations

from pathlib import Path

import pytest

import wit.fetch.spool
from wit.fetch.spool import Spools


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wit.fetch.spool, "SPOOL_BYTES", 100)


def test_pictures_in_order_need_two_spools(tmp_path: Path) -> None:
    spools, paths = Spools(str(tmp_path)), set()
    for _ in range(50):
        spool = spools.hold()
        spool.end += 30
        paths.add(spool.path)
        spools.release(spool)
    spools.close()
    assert len(paths) == 2


def test_a_spool_is_not_lent_again_while_a_picture_waits_in_it(tmp_path: Path) -> None:
    spools = Spools(str(tmp_path))
    slow = spools.hold()
    slow.end = 200
    loan = slow.loan
    for _ in range(20):
        other = spools.hold()
        assert other is not slow
        other.end += 60
        spools.release(other)
    spools.release(slow)
    assert slow.loan == loan + 1 and slow.end == 0, "from here on it may be written over"
    spools.close()
