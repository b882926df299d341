from __future__ import annotations

import dataclasses
import pickle

import pytest

from wit.images.results import Probe, Processed, Refused
from wit.reasons import Reason

FULL = Processed(
    b"stored", "jpg", 2, 3, "png", 4, 5, "sha", "original sha", phash=6, pdq=b"p" * 32, pdq_quality=7, exif="{}"
)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_viewer_sees_width_and_height_swapped_from_the_fifth_orientation_on(orientation: int) -> None:
    found = Probe("jpg", 640, 480, orientation=orientation)
    assert found.size == ((480, 640) if found.turned else (640, 480))
    assert found.turned == (orientation in (5, 6, 7, 8))


def test_a_header_that_says_no_more_is_of_one_upright_frame_in_colour() -> None:
    assert Probe("jpg", 4, 3) == Probe("jpg", 4, 3, 1, 1, 3, b"", b"", False, False)
    assert Refused(Reason.IMAGE_CORRUPT) == Refused(Reason.IMAGE_CORRUPT, "")


def test_without_data_every_column_stays() -> None:
    assert FULL.without_data() == dataclasses.replace(FULL, data=b"")


@pytest.mark.parametrize("result", [FULL, FULL.without_data(), Refused(Reason.IMAGE_CORRUPT, "why")], ids=repr)
def test_results_are_the_same_in_another_process(result: Processed | Refused) -> None:
    assert pickle.loads(pickle.dumps(result)) == result
