"""Watch: asks now and then, first at once; what fails is asked again."""

from __future__ import annotations

import time

import pytest

from wit.download import watch
from wit.download.watch import Watch


def test_it_is_over_at_once_where_it_was_over_before() -> None:
    with Watch(lambda: False, lambda: True) as over:
        assert over()


def test_it_learns_later_though_the_store_fails_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "ASKED_EVERY_S", 0.01)
    answers: list[object] = [False, ConnectionResetError(), False, OSError(), True]

    def ask() -> bool:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return bool(answer)

    with Watch(ask) as over:
        assert not over()
        deadline = time.monotonic() + 30
        while not over():
            assert time.monotonic() < deadline
            time.sleep(0.005)
    assert answers == []


def test_nobody_asks_after_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "ASKED_EVERY_S", 0.01)
    asked = []
    with Watch(lambda: bool(asked.append(1))):
        pass
    count = len(asked)
    time.sleep(0.1)
    assert len(asked) == count
