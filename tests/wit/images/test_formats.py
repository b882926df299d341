from __future__ import annotations

import io

import pytest
from PIL import Image

from wit.images.formats import EXTENSIONS, FORMATS, SAMPLE_EXTENSIONS
from wit.images.headers import sniff


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
