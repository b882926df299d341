from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image, ImageDraw

from trainer.baseline import (
    SIDE_PX,
    flat_pixels,
    named_class,
    nearest_by_pixels,
    nearest_classes,
    training_pictures,
    words,
)
from trainer.testset import Picture
from wit.shards import ShardWriter

CLASSES = ["fox", "red fox", "Flag of Niger", "flag of Nigeria", "twelve o'clock", "red"]


@pytest.mark.parametrize(
    "caption, name",
    [
        ("a drawing of a fox", "fox"),
        ("a drawing of a Red  Fox!", "red fox"),
        ("foxes are red", "red"),
        ("the flag of Nigeria in bright colors", "flag of Nigeria"),
        ("the flag of niger", "Flag of Niger"),
        ("it is twelve o'clock, red fox", "twelve o'clock"),  # three words
        ("a red door and a fox", "red"),  # of equal length: the first in the caption
        ("a bear", None),
        ("", None),
    ],
)
def test_a_captions_class_is_the_longest_name_in_it(caption: str, name: str | None) -> None:
    found = named_class(caption, {words(name): number for number, name in enumerate(CLASSES)})
    assert (None if found is None else CLASSES[found]) == name


def noise(n: int) -> bytes:
    """A picture of few large squares, so that some are nearer than others."""
    squares = np.random.default_rng(n).integers(0, 240, (4, 4, 3), dtype=np.uint8)
    return as_png(Image.fromarray(squares).resize((64, 64), Image.Resampling.NEAREST))


def test_the_nearest_training_picture_is_that_of_the_obvious_twin(tmp_path: Path) -> None:
    shown = [(CLASSES[n % len(CLASSES)], noise(n)) for n in range(70)]
    training = training_pictures(write_shard(tmp_path, shown), CLASSES)
    test = [noise(1000 + n) for n in range(300)]
    found = nearest_classes(torch.stack([flat_pixels(data) for data in test]), training)
    assert [CLASSES[label] for label in found] == [obvious_twin(shown, data) for data in test]


def obvious_twin(shown: list[tuple[str, bytes]], data: bytes) -> str:
    """One picture after the other, with Pillow and NumPy alone."""
    distances = [np.linalg.norm(plain_pixels(data) - plain_pixels(other)) for _, other in shown]
    return shown[int(np.argmin(distances))][0]


def plain_pixels(data: bytes) -> npt.NDArray[np.float64]:
    image = Image.open(io.BytesIO(data)).resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC)
    return np.asarray(image, dtype=np.float64)


def test_margins_and_proportions_do_not_count() -> None:
    small, large = Image.new("RGB", (64, 64), "white"), Image.new("RGB", (120, 90), "navy")
    ImageDraw.Draw(small).rectangle((10, 20, 49, 50), fill="navy")
    ImageDraw.Draw(small).rectangle((30, 20, 49, 50), fill="orange")
    ImageDraw.Draw(large).rectangle((60, 0, 119, 89), fill="orange")
    one, other, white = (flat_pixels(as_png(image)) for image in (small, large, Image.new("RGB", (50, 50), "white")))
    torch.testing.assert_close(one, other, atol=0.02, rtol=0)
    assert white is not None and white.unique().tolist() == [0.5]


def write_shard(folder: Path, samples: list[tuple[str, bytes]]) -> str:
    with open(folder / "00000.tar", "wb") as stream:
        writer = ShardWriter(stream)
        for number, (caption, image) in enumerate(samples):
            writer.add(f"{number:032x}", image, "png", caption, {})
        writer.close()
    (folder / "sizes.json").write_text(json.dumps({"00000.tar": len(samples)}))
    return str(folder)


def as_png(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def plain(colour: str, size: tuple[int, int] = (50, 50)) -> bytes:
    return as_png(Image.new("RGB", size, colour))


def test_captions_without_a_class_and_broken_pictures_take_no_part(tmp_path: Path) -> None:
    shown = [("a fox", plain("#f00")), ("something", plain("#f10")), ("a red fox", b"broken"), ("red", plain("#900"))]
    training = training_pictures(write_shard(tmp_path, shown), CLASSES)
    assert training.labels.tolist() == [0, 5]
    test = [Picture(plain("#f10", (90, 60)), 0, "a"), Picture(plain("#a00"), 5, "b"), Picture(plain("#a00"), 0, "c")]
    test.append(Picture(b"broken", 0, "d"))
    assert nearest_by_pixels(test, training) == [(0, True), (5, True), (0, False), (0, False)]


def test_where_no_caption_names_a_class_nothing_is_found(tmp_path: Path) -> None:
    training = training_pictures(write_shard(tmp_path, [("a bear", plain("#f00"))]), CLASSES)
    assert nearest_by_pixels([Picture(plain("#f00"), 0, "a")], training) == [(0, False)]
