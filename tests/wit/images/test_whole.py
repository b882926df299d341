"""What the sizes in a lossy WebP tell without decoding it."""

from __future__ import annotations

import io
import random
import struct
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from wit.images.config import ImageConfig
from wit.images.headers import probe
from wit.images.process import process
from wit.images.results import Probe, Processed, Refused
from wit.images.whole import is_whole_lossy_webp
from wit.reasons import Reason

KEEP = ImageConfig(keep_original=True, perceptual_hashes=False)


def webp(**options: object) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (90, 130, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).resize((260, 180)).save(file, "WEBP", **options)
    return file.getvalue()


def riff(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"".join(kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) & 1) for kind, data in chunks)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


PLAIN = webp()
STREAM = PLAIN[20 : 20 + int.from_bytes(PLAIN[16:20], "little")]
FIRST = (int.from_bytes(STREAM[:3], "little") >> 5) + 10  # where the second partition begins


CANVAS = struct.pack("<I", 0) + (259).to_bytes(3, "little") + (179).to_bytes(3, "little")


@pytest.mark.parametrize("check", ["fast", "full"])
@pytest.mark.parametrize(
    "data",
    [
        PLAIN,
        PLAIN + bytes(170_000),  # of which nothing is a chunk
        riff((b"VP8 ", STREAM)),
        riff((b"VP8X", CANVAS), (b"VP8 ", STREAM), (b"ODD ", b"1")),
        webp(xmp=b"<x/>"),
        webp(lossless=True),
        webp(lossless=True, xmp=b"<x/>"),  # VP8L under a VP8X that says nothing of transparency
        webp(lossless=True, exif=b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0"),
        webp(quality=0, method=0),
        webp(quality=100, method=6),
    ],
)
def test_whole_ones_are_kept_with_what_stands_beside_the_picture(data: bytes, check: str) -> None:
    result = process(data, replace(KEEP, check_pixels=check))
    assert isinstance(result, Processed) and result.data == data
    assert (result.width, result.height) == (260, 180)


@pytest.mark.parametrize("side", [(1, 1), (16, 16), (17, 3), (4_000, 4_000), (16_383, 3), (3, 16_383)])
@pytest.mark.parametrize("colour", ["black", "#123456"])
def test_flat_pictures_of_every_size_are_told_by_their_sizes(side: tuple[int, int], colour: str) -> None:
    """These have the shortest first partitions that there are: none is below what the rule asks for."""
    for options in ({"quality": 0}, {"quality": 100, "method": 6}, {"method": 0}):
        file = io.BytesIO()
        Image.new("RGB", side, colour).save(file, "WEBP", **options)
        found = probe(file.getvalue())
        assert isinstance(found, Probe) and is_whole_lossy_webp(file.getvalue(), found)


@pytest.mark.parametrize("check", ["fast", "full"])
def test_a_cut_in_the_first_partition_is_found_though_all_sizes_were_set_right(check: str) -> None:
    for at in range(0, FIRST + 1, max(FIRST // 40, 1)):
        result = process(riff((b"VP8 ", STREAM[:at])), replace(KEEP, check_pixels=check))
        assert isinstance(result, Refused), at


def test_a_cut_behind_it_is_found_by_full_alone() -> None:
    cut = riff((b"VP8 ", STREAM[: (FIRST + len(STREAM)) // 2]))
    assert isinstance(process(cut, KEEP), Processed)
    result = process(cut, replace(KEEP, check_pixels="full"))
    assert isinstance(result, Refused)


def without_picture(how: str) -> bytes:
    stream = bytearray(STREAM)
    match how:
        case "no first partition":
            stream[:3] = (int.from_bytes(stream[:3], "little") & 0x1F).to_bytes(3, "little")
        case "hidden":
            stream[0] &= ~0x10
        case "another size":
            canvas = struct.pack("<I", 0) + (99).to_bytes(3, "little") * 2
            return riff((b"VP8X", canvas), (b"VP8 ", bytes(stream)))
        case "none":
            return riff((b"VP8X", CANVAS), (b"ODD ", b"12345678901234567890"))
        case "a size that nothing is left for":
            return riff((b"VP8 ", b"\x30\0\0\x9d\x01\x2a" + struct.pack("<HH", 4000, 4000) + b"\0\0"))
        case "a profile that there is not":
            stream[0] |= 8
        case "no length":
            return PLAIN[:4] + bytes(4) + PLAIN[8:]
        case "a length that ends in metadata":
            return PLAIN[:4] + struct.pack("<I", len(PLAIN)) + PLAIN[8:] + b"EXIF\xe8\x03\0\0"
        case "stray bytes":
            return PLAIN[:4] + struct.pack("<I", len(PLAIN) - 3) + PLAIN[8:] + b"abcde"
        case "two pictures":
            return riff((b"VP8X", CANVAS), (b"VP8 ", STREAM), (b"VP8 ", STREAM))
        case "an animation that is none":
            return riff((b"VP8X", CANVAS), (b"ANIM", bytes(6)), (b"VP8 ", STREAM))
        case "header alone":
            return riff((b"VP8 ", STREAM[:10]))
    return riff((b"VP8 ", bytes(stream)))


@pytest.mark.parametrize("check", ["fast", "full"])
@pytest.mark.parametrize(
    "how",
    [
        "no first partition",
        "hidden",
        "another size",
        "none",
        "a size that nothing is left for",
        "a profile that there is not",
        "no length",
        "a length that ends in metadata",
        "stray bytes",
        "two pictures",
        "an animation that is none",
        "header alone",
    ],
)
def test_what_holds_no_picture_is_refused(how: str, check: str) -> None:
    result = process(without_picture(how), replace(KEEP, check_pixels=check))
    assert isinstance(result, Refused)
    assert result.reason in (Reason.IMAGE_CORRUPT, Reason.IMAGE_TRUNCATED, Reason.NOT_AN_IMAGE)


def test_what_fast_refuses_full_refuses() -> None:
    """Over flipped bits of the headers."""
    chance = random.Random(0)
    for _ in range(300):
        data = bytearray(PLAIN)
        data[chance.randrange(30)] ^= 1 << chance.randrange(8)
        if isinstance(process(bytes(data), KEEP), Refused):
            assert isinstance(process(bytes(data), replace(KEEP, check_pixels="full")), Refused)
