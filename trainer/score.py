"""Scores how well a caption fits its picture, by a trained CLIP: the cosine of their embeddings."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from trainer import checkpoint
from trainer.augment import normalise
from trainer.data import crop, decode
from trainer.device import pick_device
from trainer.model import CLIP
from trainer.tokenizer import tokenize
from wit.records import InputError
from wit.store import fs


@dataclass(frozen=True, slots=True)
class Scorer:
    """A checkpoint file that scores pairs; cheap to hand to a worker process, which loads the model at its first batch."""

    path: str
    model: str  # its name
    sha256: str  # of the checkpoint file

    def __call__(self, pairs: Sequence[tuple[bytes, str]]) -> list[float | None]:
        """The cosine similarity of each picture's bytes and caption; None where the picture does not decode."""
        model, device = loaded(self.path, self.sha256)
        return similarities(model, pairs, device=device)


def open_scorer(path: str) -> Scorer:
    """The scorer of a .pt file, or of the newest whole checkpoint in a run's directory; raises InputError where there is none."""
    loaded = checkpoint.find(path)
    for sentence in loaded.sentences():
        print(sentence, file=sys.stderr)
    checkpoint.model_of(loaded)
    return Scorer(loaded.path, loaded.state["name"], fs.sha256_file(loaded.path))


@lru_cache(maxsize=1)
def loaded(path: str, sha256: str) -> tuple[CLIP, str]:
    """(model, its device), loaded once a process. Each worker process computes with one thread, so that scores do not depend on
    the number of cores. Raises InputError if the file has changed."""
    if fs.sha256_file(path) != sha256:
        raise InputError(f"{path} changed while it was used: start the build again")
    torch.set_num_threads(1)
    device = pick_device("auto")
    return checkpoint.load_model(path)[0].to(device), device


@torch.no_grad()
def similarities(model: CLIP, pairs: Sequence[tuple[bytes, str]], *, device: str = "cpu") -> list[float | None]:
    """One number in -1..1 a pair, in order; None where the picture does not decode."""
    size, length = model.config.image_size, model.config.text.context_length
    decoded = [decode(data, size) for data, _ in pairs]
    good = [i for i, pixels in enumerate(decoded) if pixels is not None]
    scores: list[float | None] = [None] * len(pairs)
    if not good:
        return scores
    images = torch.stack([torch.tensor(crop(pixels, size)) for pixels in decoded if pixels is not None])
    tokens = torch.stack([torch.from_numpy(tokenize(pairs[i][1], context_length=length)) for i in good])
    cosines = _cosines(model, images.to(device), tokens.to(device))
    for i, cosine in zip(good, cosines.tolist(), strict=True):
        scores[i] = cosine
    return scores


def _cosines(model: CLIP, images: Tensor, tokens: Tensor) -> Tensor:
    """`[batch]` cosines, from pixels `[batch, size, size, 3]` in 0..255 and tokens `[batch, context_length]`."""
    pixels = images.permute(0, 3, 1, 2).float() / 255
    return (model.encode_image(normalise(pixels)) * model.encode_text(tokens)).sum(dim=-1)
