"""The baseline that an accuracy must beat: the nearest training picture, by raw pixels.

Every picture, of either side, is laid on white, freed of its white margins, squeezed into 10 x 10 px and read as RGB values. A
picture of the test set gets the class of the training picture at the smallest Euclidean distance. The class of a training
picture is the longest class name, in words, that stands in its caption; where the caption names none, the picture is left
out. Margins, size and what is left out are those that, of what was tried, make the baseline hardest to beat.
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

SIDE_PX = 10  # of 8 to 32 px that at which most of the demonstration's test set is found (docs/log.md)
DECODED_PX = 64  # the shorter side before margins are cut off
WHITE = 245  # no channel of a margin is darker
ROWS = 256  # of distances at a time

Names = Mapping[tuple[str, ...], int]  # words of a class name -> class


@dataclass(frozen=True)
class Training:
    """The training pictures whose captions name a class."""

    pixels: Tensor  # [n, SIDE_PX * SIDE_PX * 3], in -0.5..0.5
    labels: Tensor  # int64 [n]


def words(text: str) -> tuple[str, ...]:
    return tuple(re.findall(r"\w+", text.casefold()))


def named_class(caption: str, names: Names) -> int | None:
    """The class whose name is the longest in the caption, whole words, case aside; of equals the first in the caption."""
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
    """The part of a picture that holds all that is not white; the whole of a white one."""
    drawn = pixels.min(axis=2) < WHITE
    rows, columns = (np.flatnonzero(drawn.any(axis=axis)) for axis in (1, 0))
    return pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] if len(rows) else pixels


def training_pictures(shards: str, classnames: Sequence[str]) -> Training:
    """What the shards of a directory show of the classes; raises InputError where there are no shards."""
    names = {words(name): number for number, name in reversed(list(enumerate(classnames)))}
    names.pop((), None)
    pairs = list(named_pictures(shards, names))
    pixels = torch.stack([pixels for pixels, _ in pairs]) if pairs else torch.empty(0, SIDE_PX * SIDE_PX * 3)
    return Training(pixels, torch.tensor([label for _, label in pairs], dtype=torch.int64))


def named_pictures(shards: str, names: Names) -> Iterator[tuple[Tensor, int]]:
    for shard in list_shards(shards):
        for sample in iter_samples(shard.path):
            label = named_class(sample.caption, names)
            if label is not None and (pixels := flat_pixels(sample.image_bytes)) is not None:
                yield pixels, label


def nearest_classes(pixels: Tensor, training: Training) -> Tensor:
    """`[n]`: the class of the nearest training picture of each row; of equally near ones the first."""
    lengths = training.pixels.square().sum(dim=1)
    parts = [lengths - 2 * part @ training.pixels.T for part in pixels.split(ROWS)]
    return training.labels[torch.cat([part.argmin(dim=1) for part in parts])]


def nearest_by_pixels(pictures: Iterable[Picture], training: Training) -> list[Hit]:
    """Whether each picture's class is that of the nearest training picture; one that does not decode is not found."""
    flat = [(flat_pixels(picture.data), picture.label) for picture in pictures]
    good = [pixels for pixels, _ in flat if pixels is not None]
    if not good or not len(training.labels):
        return [(label, False) for _, label in flat]
    classes = iter(nearest_classes(torch.stack(good), training).tolist())
    return [(label, pixels is not None and next(classes) == label) for pixels, label in flat]
