"""croissant.json describes the tars and what is in them."""

import pytest

from wit.images.formats import FORMATS
from wit.report.croissant import croissant
from wit.store.manifests import File

TARS = [File("00000.tar", 1_024, sha256="a" * 64), File("00001.tar", 99, sha256="b" * 64)]


def test_every_tar_is_a_file_with_its_place_size_and_digest() -> None:
    described = croissant("wit-1234", 12_345, TARS, [FORMATS["jpg"]])
    assert (described["name"], described["conformsTo"]) == ("wit-1234", "http://mlcommons.org/croissant/1.0")
    assert described["description"].startswith("12,345 image-text pairs")
    *files, pictures = described["distribution"]
    assert [(f["@id"], f["contentUrl"], f["contentSize"], f["sha256"]) for f in files] == [
        ("00000.tar", "shards/00000.tar", "1024 B", "a" * 64),
        ("00001.tar", "shards/00001.tar", "99 B", "b" * 64),
    ]
    assert {f["@type"] for f in files} == {"cr:FileObject"} and pictures["@type"] == "cr:FileSet"
    assert pictures["containedIn"] == [{"@id": "00000.tar"}, {"@id": "00001.tar"}]


@pytest.mark.parametrize(
    "names, types, globs",
    [
        (["jpg"], "image/jpeg", "*.jpg"),
        (["png", "jpg", "webp"], ["image/png", "image/jpeg", "image/webp"], ["*.png", "*.jpg", "*.webp"]),
    ],
)
def test_one_format_is_a_text_and_several_are_a_list(names: list[str], types: object, globs: object) -> None:
    pictures = croissant("x", 1, TARS, [FORMATS[name] for name in names])["distribution"][-1]
    assert (pictures["encodingFormat"], pictures["includes"]) == (types, globs)


def test_a_set_without_shards_is_described_too() -> None:
    (pictures,) = croissant("x", 0, [], [FORMATS["jpg"]])["distribution"]
    assert pictures["containedIn"] == []
