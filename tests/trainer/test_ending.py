from __future__ import annotations

import errno
import os
import signal
import sys

import pytest

from trainer.ending import Elsewhere, code_of
from wit.errors import InputError, Stopped


def rung(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)
    signal.pause()


@pytest.mark.parametrize(
    "work, code, told",
    [
        (lambda: None, 0, ""),
        (lambda: raised(InputError("give another")), 2, "error: give another\n"),
        (lambda: raised(Stopped("no more")), 3, "stopped: no more\n"),
        (lambda: raised(Elsewhere(3)), 3, ""),
        (
            lambda: raised(OSError(errno.ENOSPC, "full", "/x")),
            3,
            "stopped: full: '/x': make room there, then start it again: go\n",
        ),
        (lambda: rung(signal.SIGINT), 3, "stopped: by Ctrl-C; to go on: go\n"),
        (lambda: rung(signal.SIGTERM), 3, "stopped: by SIGTERM; to go on: go\n"),
    ],
)
def test_a_command_ends_with_its_code_and_one_sentence(work, code: int, told: str, capsys) -> None:
    before = signal.getsignal(signal.SIGTERM)
    assert code_of(work, again="go") == code
    assert capsys.readouterr().err == told
    assert signal.getsignal(signal.SIGTERM) is before


def raised(error: Exception) -> None:
    raise error


def test_a_bug_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        code_of(lambda: print(1 / 0, file=sys.stderr), again="go")
