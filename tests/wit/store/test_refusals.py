import errno
import os

import pytest

from wit.store.refusals import REFUSALS, refusal


@pytest.mark.parametrize("number", sorted(REFUSALS))
def test_what_a_person_can_mend_is_a_sentence_with_the_place_and_the_fix(number: int) -> None:
    error = OSError(number, os.strerror(number), "/data/x")
    assert refusal(error, "/data") == f"{os.strerror(number)}: '/data/x': {REFUSALS[number]}"


def test_the_place_is_named_where_the_words_name_none() -> None:
    error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert refusal(error, "/out") == "No space left on device in /out: make room there"
    assert refusal(error) == "No space left on device: make room there"


def test_of_what_an_engine_or_a_library_wrapped_the_words_are_enough() -> None:
    words = "Traceback ...\nOSError: [Errno 28] No space left on device: '/out/x' [while running 'Extract']\n"
    assert refusal(RuntimeError(words), "/out") == "No space left on device: '/out/x': make room there"
    arrow = "[Errno 28] Error writing bytes to file. Detail: [errno 28] No space left on device"
    assert refusal(OSError(arrow), "/out") == "No space left on device in /out: make room there"


def test_of_several_the_last_that_can_be_mended_counts() -> None:
    words = "[Errno 2] No such file or directory: 'a'\n[Errno 28] No space left on device: 'b'\n[Errno 11] try again"
    assert refusal(RuntimeError(words)) == "No space left on device: 'b': make room there"


@pytest.mark.parametrize("error", [ValueError("no number"), OSError(errno.EBADF, "bad"), RuntimeError("[Errno x]")])
def test_anything_else_is_a_bug_and_no_refusal(error: Exception) -> None:
    assert refusal(error, "/out") is None
