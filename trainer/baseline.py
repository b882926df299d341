"""The baseline that an accuracy must beat: the nearest training picture, by raw pixels.

Every picture, for training or test, is laid on white, freed of its white margins, squeezed into 10 x 10 px and read as RGB
values. A test picture gets the class of the training picture at the smallest Euclidean distance. The class of a training
picture is the longest class name, in words, in its caption; if the caption names none, the picture is left out. Of all variants
that were tried, these margins, this size and this omission make the baseline hardest to beat.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from trainer.data import Pixels, decode
from trainer.tally import Hit
from trainer.testset import Picture
from wit.shards import iter_samples, list_shards

SIDE_PX = 10  # of 8 to 32 px, the size that finds most of the demonstration's test set (docs/log.md)
DECODED_PX = 64  # the shorter side before margins are cut off
WHITE = 245  # no channel of a margin's pixel is darker
ROWS = 256  # test pictures whose distances are computed at a time

Names = Mapping[tuple[str, ...], int]  # words of a class name -> class


@dataclass(frozen=True)
class Training:
    """The training pictures whose captions name a class."""

    pixels: Tensor  # [n, SIDE_PX * SIDE_PX * 3], in -0.5..0.5
    labels: Tensor  # int64 [n]


def words(text: str) -> tuple[str, ...]:
    """The words of a text, case-folded."""
    return tuple(re.findall(r"\w+", text.casefold()))


def named_class(caption: str, names: Names) -> int | None:
    """The class with the longest name in the caption, in whole words, case aside; of names as long, the first in the caption."""
    caption_words = words(caption)
    for length in range(max(map(len, names), default=0), 0, -1):
        spans = (caption_words[start : start + length] for start in range(len(caption_words) - length + 1))
        if classes := [names[span] for span in spans if span in names]:
            return classes[0]
    return None


def flat_pixels(data: bytes) -> Tensor | None:
    """`[SIDE_PX * SIDE_PX * 3]` of a picture file, in -0.5..0.5; None if it does not decode."""
    pixels = decode(data, DECODED_PX)
    if pixels is None:
        return None
    small = Image.fromarray(without_margins(pixels)).resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC)
    return torch.tensor(np.asarray(small)).flatten().float() / 255 - 0.5


def without_margins(pixels: Pixels) -> Pixels:
    """The smallest part of a picture that holds every pixel that is not white; all of it if every pixel is white."""
    drawn = pixels.min(axis=2) < WHITE
    rows, columns = (np.flatnonzero(drawn.any(axis=axis)) for axis in (1, 0))
    return pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] if len(rows) else pixels


def training_pictures(shards: str, classnames: Sequence[str]) -> Training:
    """The training pictures in a directory of shards that name a class; raises InputError where there are no shards."""
    names = {words(name): number for number, name in reversed(list(enumerate(classnames)))}
    names.pop((), None)
    pairs = list(named_pictures(shards, names))
    pixels = torch.stack([pixels for pixels, _ in pairs]) if pairs else torch.empty(0, SIDE_PX * SIDE_PX * 3)
    return Training(pixels, torch.tensor([label for _, label in pairs], dtype=torch.int64))


def named_pictures(shards: str, names: Names) -> Iterator[tuple[Tensor, int]]:
    """(pixels, class) of every training picture that decodes and whose caption names a class."""
    for shard in list_shards(shards):
        for sample in iter_samples(shard.path):
            label = named_class(sample.caption, names)
            if label is not None and (pixels := flat_pixels(sample.image_bytes)) is not None:
                yield pixels, label


def nearest_classes(pixels: Tensor, training: Training) -> Tensor:
    """`[n]` the class of the training picture nearest to each row; of equally near ones the first."""
    lengths = training.pixels.square().sum(dim=1)
    parts = [lengths - 2 * part @ training.pixels.T for part in pixels.split(ROWS)]
    return training.labels[torch.cat([part.argmin(dim=1) for part in parts])]


def nearest_by_pixels(pictures: Iterable[Picture], training: Training) -> list[Hit]:
    """(class, whether the nearest training picture has it) of each picture; a picture that does not decode counts as not
    found."""
    flat = [(flat_pixels(picture.data), picture.label) for picture in pictures]
    good = [pixels for pixels, _ in flat if pixels is not None]
    if not good or not len(training.labels):
        return [(label, False) for _, label in flat]
    classes = iter(nearest_classes(torch.stack(good), training).tolist())
    return [(label, pixels is not None and next(classes) == label) for pixels, label in flat]
