from __future__ import annotations

from typing import Any

import pytest

from wit.errors import InputError
from wit.images.config import ImageConfig


def test_knobs_are_checked() -> None:
    with pytest.raises(InputError, match="0 to 9"):
        ImageConfig(encode_format="png")
    with pytest.raises(InputError, match="image-size"):
        ImageConfig(image_size=0)


def test_a_pdq_cannot_be_compared_without_hashes() -> None:
    with pytest.raises(InputError, match="perceptual-hashes"):
        ImageConfig(verify_hash="pdq", perceptual_hashes=False)


@pytest.mark.parametrize("knobs", [{"background": "nocolour"}, {"max_pixels": -1}, {"decode_timeout_s": 0}])
def test_settings_of_which_nothing_could_come_are_refused(knobs: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="give a"):
        ImageConfig(**knobs)
    assert ImageConfig(background="white").background == "white"
