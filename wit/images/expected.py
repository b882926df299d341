"""Compares fetched pictures with the hashes that a list of URLs gives for them. Whoever buys a domain on such a list can poison
it after it was made (Carlini et al. 2023, "Poisoning Web-Scale Training Datasets is Practical")."""

from __future__ import annotations

import hashlib

from wit.images.blocklist import PDQ_CLOSE
from wit.images.results import Processed, Refused
from wit.reasons import Reason

# By number of hexadecimal digits. They are digests of the fetched bytes, as img2dataset's are.
DIGESTS = {
    32: "md5",
    64: "sha256",
    128: "sha512",
}


def kind_of(column: str, value: str) -> str:
    """The kind of hash in a cell: pdq, if the column's name says so; else by its number of digits. Empty for no hash."""
    if value.strip("0123456789abcdef"):
        return ""
    if "pdq" in column.lower():
        return "pdq" if len(value) == 64 else ""
    return DIGESTS.get(len(value), "")


def expected_hash(column: str, value: object) -> str:
    """KIND:DIGITS of a cell; empty for an empty cell, which is not compared; "none:" for a cell that holds no hash."""
    text = "" if value is None else str(value).strip().lower()
    kind = kind_of(column, text)
    return f"{kind}:{text}" if kind else "none:" if text else ""


def compared(data: bytes, result: Processed | Refused, expected: str) -> Processed | Refused:
    """The result for these bytes, or HASH_MISMATCH. BLOCKED_HASH takes precedence; so does any refusal if a PDQ is expected."""
    kind, _, digits = expected.partition(":")
    if isinstance(result, Refused) and (result.reason is Reason.BLOCKED_HASH or kind == "pdq"):
        return result
    if kind == "none":
        return Refused(Reason.HASH_MISMATCH, "no hash")
    if kind != "pdq":
        same = hashlib.new(kind, data, usedforsecurity=False).hexdigest() == digits
    else:
        assert isinstance(result, Processed) and result.pdq is not None, "the configuration asks for it"
        same = (int.from_bytes(result.pdq, "big") ^ int(digits, 16)).bit_count() <= PDQ_CLOSE
    return result if same else Refused(Reason.HASH_MISMATCH)
