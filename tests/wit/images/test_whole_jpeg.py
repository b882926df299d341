"""What the structure of a JPEG tells of its wholeness, beside what decoding it tells."""

from __future__ import annotations

import base64
import io
import random
from itertools import product
from typing import Any

import numpy as np
import pytest
from PIL import Image

from wit.images.decode import decode_jpeg
from wit.images.headers import probe
from wit.images.results import Probe, Refused
from wit.images.whole_jpeg import not_whole_jpeg
from wit.reasons import Reason

END = b"\xff\xd9"


def picture(width: int = 150, height: int = 110, mode: str = "RGB", **options: Any) -> bytes:
    noise = np.random.default_rng(5).integers(0, 255, (height // 5 + 1, width // 5 + 1, 3), np.uint8)
    image = Image.fromarray(noise).resize((width, height)).convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **options)
    return buffer.getvalue()


SHAPES = [
    {"progressive": p, "subsampling": s, "optimize": o} | ({"restart_marker_blocks": r} if r else {})
    for p, s, o, r in product((False, True), (0, 1, 2), (False, True), (0, 1, 7))
]


@pytest.mark.parametrize("options", SHAPES, ids=str)
def test_a_whole_jpeg_is_whole(options: dict[str, Any]) -> None:
    for size, mode in product([(1, 1), (7, 9), (16, 16), (17, 33), (150, 110)], ("RGB", "L", "CMYK")):
        assert not_whole_jpeg(picture(*size, mode, **options)) is None, (size, mode)


def test_flat_pictures_whose_blocks_take_the_fewest_bits_are_whole() -> None:
    for mode, side, options in product(("RGB", "L"), (8, 500), SHAPES):
        buffer = io.BytesIO()
        Image.new(mode, (side, side)).save(buffer, "JPEG", quality=1, **options)
        assert not_whole_jpeg(buffer.getvalue()) is None, (mode, side, options)


@pytest.mark.parametrize("options", SHAPES, ids=str)
def test_every_cut_is_found(options: dict[str, Any]) -> None:
    data = picture(**options)
    frame = next(i for i in range(len(data)) if data[i] == 0xFF and data[i + 1] in (0xC0, 0xC2))
    for at in range(frame + 19, len(data) - 1):
        assert not_whole_jpeg(data[:at]), at


@pytest.mark.parametrize(
    "options", [o for o in SHAPES if o.get("restart_marker_blocks") and not o["progressive"]], ids=str
)
def test_with_restart_markers_a_cut_is_found_behind_an_end_mark_too(options: dict[str, Any]) -> None:
    """All but the last interval: 7 MCUs, or 1."""
    data = picture(**options)
    last = max(data.rfind(bytes((0xFF, 0xD0 + n))) for n in range(8))
    for at in range(data.index(b"\xff\xda") + 14, last):
        assert not_whole_jpeg(data[:at] + END), at


@pytest.mark.parametrize("progressive", [False, True])
def test_a_picture_without_its_first_scan_or_with_nearly_nothing_of_it_is_cut(progressive: bool) -> None:
    data = picture(600, 600, progressive=progressive)
    scan = data.index(b"\xff\xda")
    for at in (scan, scan + 14, scan + 20, scan + 40):
        assert not_whole_jpeg(data[:at] + END) == Refused(
            Reason.IMAGE_TRUNCATED, "fewer bytes than blocks" if at > scan else "scans"
        )


@pytest.mark.parametrize(
    "other", [b"<html><body>Not found</body></html>" * 30, bytes(range(256)) * 4, b"\xff\xd8\xff\xe0" * 9]
)
def test_other_bytes_in_place_of_pixels_are_found_where_they_look_like_markers(other: bytes) -> None:
    data = picture()
    middle = len(data) // 2
    broken = not_whole_jpeg(data[:middle] + other + data[middle + len(other) :])
    assert bool(broken) == (b"\xff" in other)


def test_what_stands_behind_the_end_is_no_part_of_it() -> None:
    for behind in (bytes(9), b"\r\n", picture(), END, b"\xff"):
        assert not_whole_jpeg(picture() + behind) is None


def test_a_jpeg_inside_the_metadata_is_not_taken_for_the_picture() -> None:
    thumbnail = picture(32, 32)
    data = picture()
    segment = b"\xff\xe2" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    assert not_whole_jpeg(data[:2] + segment + data[2:]) is None
    assert not_whole_jpeg((data[:2] + segment + data[2:])[:-400])


def test_components_of_equal_names_are_taken_in_turn() -> None:
    """As libjpeg takes them; the frame header has three, and the scan's header too."""
    data = bytearray(picture())
    frame, scan = data.index(b"\xff\xc0"), data.index(b"\xff\xda")
    for n in range(3):
        data[frame + 10 + 3 * n] = data[scan + 5 + 2 * n] = 1
    assert not_whole_jpeg(bytes(data)) is None


QUANTISER, CODES, FRAME, SCAN = b"\xff\xdb", b"\xff\xc4", b"\xff\xc0", b"\xff\xda"


@pytest.mark.parametrize(
    "broken",
    [
        lambda data: data[:2] + data,  # a second start of image
        lambda data: data[:2] + b"\xff\xdd\0\6\0\0\0\0" + data[2:],  # a restart interval of four bytes
        lambda data: data.replace(QUANTISER + b"\0\x43", QUANTISER + b"\0\x44"),
        lambda data: longer(data, CODES),
        lambda data: longer(data, FRAME),
        lambda data: longer(data, SCAN),
        lambda data: set_byte(data, data.index(FRAME) + 11, 0x51),  # five samples across
        lambda data: set_byte(data, data.index(FRAME) + 11, 0x10),  # none down
        lambda data: set_byte(data, data.index(CODES) + 5, 255),  # 255 codes of one bit
        lambda data: set_byte(data, data.index(SCAN) + 4, 0),  # a scan of nothing
        lambda data: set_byte(data, data.index(SCAN) + 5, 9),  # of a component that is not there
    ],
)
def test_headers_that_cannot_be_are_found(broken: Any) -> None:
    data = broken(picture())
    found = not_whole_jpeg(data)
    assert found is not None and found.reason in (Reason.IMAGE_CORRUPT, Reason.IMAGE_TRUNCATED)


def longer(data: bytes, marker: bytes) -> bytes:
    """The first segment of its kind with a byte more."""
    at = data.index(marker) + 2
    end = at + int.from_bytes(data[at : at + 2], "big")
    return data[:at] + (end - at + 1).to_bytes(2, "big") + data[at + 2 : end] + b"\0" + data[end:]


def set_byte(data: bytes, at: int, value: int) -> bytes:
    return data[:at] + bytes((value,)) + data[at + 1 :]


@pytest.mark.parametrize("count", [0, 2, 5, 255])
def test_a_frame_of_other_than_one_three_or_four_components_is_not_supported_and_costs_no_time(count: int) -> None:
    frame = FRAME + (8 + 3 * count).to_bytes(2, "big") + b"\x08\0\x10\0\x10" + bytes((count,)) + b"\7\x11\0" * count
    scan = SCAN + (6 + 2 * count).to_bytes(2, "big") + bytes((count,)) + b"\7\0" * count + b"\0\x3f\0" + b"a" * 70
    found = probe(b"\xff\xd8" + QUANTISER + b"\0\x43\0" + b"\1" * 64 + frame + scan * 2_000 + END)
    assert isinstance(found, Refused) and found.reason is Reason.FORMAT_UNSUPPORTED


def test_a_flat_picture_of_an_arithmetic_coder_may_be_of_no_bytes() -> None:
    data = base64.b64decode(
        "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABALDA4MChAODQ4SERATGCgaGBYWGDEjJR0oOjM9PDkzODdASFxOQERXRTc4UG1RV19iZ2hnPk1xeXBkeF"
        "xlZ2P/yQALCAAIAAgBAREA/8wABgAQEAX/2gAIAQEAAD8A/9k="
    )
    assert not_whole_jpeg(data) is None


@pytest.mark.parametrize("options", [{}, {"restart_marker_blocks": 7}])
def test_restart_markers_behind_the_last_block_are_passed_over_as_decoders_do(options: dict[str, Any]) -> None:
    data = picture(**options)
    for behind in (b"\xff\xd0", b"\xff\xd3\xff\xd7\xff\xd1"):
        assert not_whole_jpeg(data[:-2] + behind + END) is None


def test_a_restart_marker_among_pixels_that_have_none_is_found() -> None:
    data = picture()
    assert not_whole_jpeg(data[:-300] + b"\xff\xd0" + data[-300:]) == Refused(Reason.IMAGE_CORRUPT, "restart markers")


@pytest.mark.parametrize("seed", range(8))
def test_bytes_changed_anywhere_raise_nothing_and_most_that_is_refused_does_not_decode(seed: int) -> None:
    rng, refused, decoded = random.Random(seed), 0, 0
    for _ in range(250):
        data = bytearray(picture(40, 30, "L", **rng.choice(SHAPES)))
        for _ in range(rng.choice((1, 1, 2, 5))):
            data[rng.randrange(2, len(data))] = rng.choice((0, 0xFF, 0xD0, 0xD9, rng.randrange(256)))
        found = probe(bytes(data))
        if isinstance(found, Probe) and found.format == "jpg" and not_whole_jpeg(bytes(data)):
            refused += 1
            decoded += not isinstance(decode_jpeg(bytes(data), found, 8, "GRAY"), Refused)
    assert refused > 20 and decoded <= refused // 4
