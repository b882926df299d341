from __future__ import annotations

import hashlib

import pytest

from wit.images.expected import compared, expected_hash
from wit.images.results import Processed, Refused
from wit.reasons import Reason

DATA = b"a picture"
PDQ = bytes(range(32))
DONE = Processed(DATA, "jpg", 1, 1, "jpg", 1, 1, "s", "s", pdq=PDQ)
MISMATCH = Refused(Reason.HASH_MISMATCH)


@pytest.mark.parametrize(
    "column, cell, expected",
    [
        ("md5", "A" * 32, "md5:" + "a" * 32),
        ("hash", " " + "b" * 64 + " ", "sha256:" + "b" * 64),
        ("hash", "c" * 128, "sha512:" + "c" * 128),
        ("my_PDQ", "d" * 64, "pdq:" + "d" * 64),
        ("my_PDQ", "d" * 32, "none:"),
        ("hash", "e" * 63, "none:"),
        ("hash", "x" * 64, "none:"),
        ("hash", -5, "none:"),
        ("hash", "", ""),
        ("hash", " ", ""),
        ("hash", None, ""),
    ],
)
def test_the_kind_of_a_hash_is_told_by_column_and_digits(column: str, cell: object, expected: str) -> None:
    assert expected_hash(column, cell) == expected


@pytest.mark.parametrize("kind", ["md5", "sha256", "sha512"])
def test_a_digest_is_of_the_bytes_fetched(kind: str) -> None:
    digits = hashlib.new(kind, DATA).hexdigest()
    assert compared(DATA, DONE, f"{kind}:{digits}") is DONE
    assert compared(DATA + b".", DONE, f"{kind}:{digits}") == MISMATCH


def test_a_pdq_may_be_thirty_one_bits_away() -> None:
    for bits, same in ((31, True), (32, False)):
        digits = (int.from_bytes(PDQ, "big") ^ ((1 << bits) - 1)).to_bytes(32, "big").hex()
        assert compared(DATA, DONE, f"pdq:{digits}") == (DONE if same else MISMATCH)


def test_what_was_refused_stays_said_where_no_digest_speaks_against_it() -> None:
    blocked, corrupt = Refused(Reason.BLOCKED_HASH, "x"), Refused(Reason.IMAGE_CORRUPT)
    assert compared(DATA, blocked, "md5:" + "0" * 32) is blocked
    assert compared(DATA, corrupt, "pdq:" + "0" * 64) is corrupt
    assert compared(DATA, corrupt, "md5:" + "0" * 32) == MISMATCH
    assert compared(DATA, DONE, "none:") == Refused(Reason.HASH_MISMATCH, "no hash")
