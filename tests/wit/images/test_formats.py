from __future__ import annotations

import io
from typing import Any, get_args

import numpy as np
import pytest
from PIL import Image

from wit.images.config import ImageConfig
from wit.images.formats import ENCODERS, EXTENSIONS, FORMATS, SAMPLE_EXTENSIONS, EncodeFormat
from wit.images.headers import sniff
from wit.images.pixels import encode


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_known_by_its_magic_bytes_and_by_pillow_under_its_name(name: str) -> None:
    form, stream = FORMATS[name], io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(stream, form.pillow)
    assert sniff(stream.getvalue()) == name == form.name
    assert Image.MIME[form.pillow] == form.media_type
    assert Image.registered_extensions()[f".{form.extensions[0]}"] == form.pillow


def test_an_extension_belongs_to_one_format_and_shards_use_the_first() -> None:
    assert sum(len(form.extensions) for form in FORMATS.values()) == len(EXTENSIONS)
    assert SAMPLE_EXTENSIONS[:4] == ("jpg", "jpeg", "png", "webp")
    assert {name for name, form in FORMATS.items() if form.kept} == {"jpg", "png", "webp"}


def test_what_pictures_are_encoded_to_says_what_that_takes() -> None:
    assert set(ENCODERS) == set(get_args(EncodeFormat))


@pytest.mark.parametrize("name", get_args(EncodeFormat))
def test_a_picture_is_encoded_as_its_format(name: Any) -> None:
    assert sniff(encode(np.zeros((8, 8, 3), np.uint8), ImageConfig(encode_format=name, encode_quality=9))) == name
