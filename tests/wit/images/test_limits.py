from __future__ import annotations

from dataclasses import replace

import pytest

from wit.images.config import ImageConfig
from wit.images.formats import MAX_SIDE
from wit.images.limits import WORKING_BYTES, beyond_limits, decoding_bytes, working_bytes
from wit.images.results import Probe
from wit.reasons import Reason

KEEP = ImageConfig(keep_original=True)


@pytest.mark.parametrize(
    "found, config, reason",
    [
        (Probe("png", MAX_SIDE, 10), ImageConfig(), None),
        (Probe("png", MAX_SIDE + 1, 10), ImageConfig(), Reason.IMAGE_SIDE_TOO_LONG),
        (Probe("png", 10, MAX_SIDE + 1), KEEP, Reason.IMAGE_SIDE_TOO_LONG),
        (
            Probe("png", 20_000, 10),
            replace(KEEP, keep_original=False, encode_format="webp", resize_mode="no"),
            Reason.IMAGE_SIDE_TOO_LONG,
        ),
        (Probe("png", 20_000, 1_000), ImageConfig(encode_format="webp"), None),
        (Probe("jpg", 8_000, 8_000), ImageConfig(), None),
        (Probe("avif", 8_000, 8_000), ImageConfig(), Reason.IMAGE_NEEDS_MEMORY),
        (Probe("webp", 7_000, 7_000, extended=True), ImageConfig(), Reason.IMAGE_NEEDS_MEMORY),
        (Probe("png", 9_000, 9_000), ImageConfig(encode_format="webp", resize_mode="no"), Reason.IMAGE_NEEDS_MEMORY),
        (Probe("png", 9_000, 9_000), KEEP, None),
    ],
)
def test_what_is_not_decoded_at_all(found: Probe, config: ImageConfig, reason: Reason | None) -> None:
    refused = beyond_limits(found, 1, config)
    assert (refused and refused.reason) == reason


def test_a_progressive_jpeg_holds_all_coefficients_whatever_it_is_scaled_to() -> None:
    plain, passes = Probe("jpg", 6_400, 6_400), Probe("jpg", 6_400, 6_400, passes=True)
    pixels = 6_400 * 6_400
    assert decoding_bytes(plain, 8) == pixels * 3 / 64 and decoding_bytes(plain, 1) == pixels * 3
    assert decoding_bytes(passes, 8) == pixels * (6 + 3 / 64)
    assert decoding_bytes(replace(passes, components=4), 8) == pixels * 12


def test_memory_is_that_of_the_hungriest_step() -> None:
    found = Probe("jpg", 6_400, 6_400)
    assert working_bytes(found, 1, 0, ImageConfig()) == 9 * 6_400 * 6_400 < WORKING_BYTES
    assert working_bytes(found, 8, 10_000_000, ImageConfig(encode_format="webp")) == 36 * 10_000_000
