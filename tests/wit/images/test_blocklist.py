from __future__ import annotations

import pytest

from wit.images.blocklist import PDQ_CLOSE, Blocklist

SHA, PDQ = "ab" * 32, bytes(range(32))


def flipped(pdq: bytes, bits: int) -> bytes:
    return (int.from_bytes(pdq, "big") ^ ((1 << bits) - 1)).to_bytes(32, "big")


def test_a_digest_matches_itself_alone_and_says_its_list() -> None:
    listed = Blocklist({SHA: "a list"})
    assert listed.match(SHA) == f"{SHA} a list" and listed.match("cd" * 32) is None
    assert not listed.looks_at_pixels and listed.match("cd" * 32, PDQ) is None


@pytest.mark.parametrize("bits, near", [(0, True), (PDQ_CLOSE, True), (PDQ_CLOSE + 1, False), (200, False)])
def test_a_pdq_matches_within_its_distance(bits: int, near: bool) -> None:
    listed = Blocklist({f"pdq:{PDQ.hex()}": "b"})
    assert listed.looks_at_pixels
    assert (listed.match("cd" * 32, flipped(PDQ, bits)) is not None) is near
    assert listed.match("cd" * 32) is None


def test_the_nearest_of_several_is_named() -> None:
    near, far = flipped(PDQ, 3).hex(), flipped(PDQ, 20).hex()
    assert Blocklist({f"pdq:{far}": "far", f"pdq:{near}": "near"}).match("", PDQ) == f"pdq:{near} near"
    assert Blocklist([f"pdq:{near}"]).match("", PDQ) == f"pdq:{near} "
