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
from wit.images.process import process
from wit.images.results import Processed, Refused
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


def test_whole_ones_are_kept_with_what_stands_beside_the_picture() -> None:
    canvas = struct.pack("<I", 0) + (259).to_bytes(3, "little") + (179).to_bytes(3, "little")
    for data in (
        PLAIN,
        PLAIN + b"\0" * 9,
        riff((b"VP8 ", STREAM)),
        riff((b"VP8X", canvas), (b"VP8 ", STREAM), (b"ODD ", b"1")),
    ):
        result = process(data, KEEP)
        assert isinstance(result, Processed) and result.data == data
        assert (result.width, result.height) == (260, 180)


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
            canvas = struct.pack("<I", 0) + (259).to_bytes(3, "little") + (179).to_bytes(3, "little")
            return riff((b"VP8X", canvas), (b"ODD ", b"12345678901234567890"))
        case "header alone":
            return riff((b"VP8 ", STREAM[:10]))
    return riff((b"VP8 ", bytes(stream)))


@pytest.mark.parametrize("check", ["fast", "full"])
@pytest.mark.parametrize("how", ["no first partition", "hidden", "another size", "none", "header alone"])
def test_what_holds_no_picture_is_refused(how: str, check: str) -> None:
    result = process(without_picture(how), replace(KEEP, check_pixels=check))
    assert isinstance(result, Refused)
    assert result.reason in (Reason.IMAGE_CORRUPT, Reason.IMAGE_TRUNCATED)


def test_what_fast_refuses_full_refuses() -> None:
    """Over flipped bits of the headers."""
    chance = random.Random(0)
    for _ in range(300):
        data = bytearray(PLAIN)
        data[chance.randrange(30)] ^= 1 << chance.randrange(8)
        if isinstance(process(bytes(data), KEEP), Refused):
            assert isinstance(process(bytes(data), replace(KEEP, check_pixels="full")), Refused)
