"""Zero-shot evaluation: `python -m trainer.evaluate --checkpoint DIR --dataset PATH`.

trainer/testset.py describes the layouts of datasets.
"""

from __future__ import annotations

if __name__ == "__main__":
    from wit import early

    early.listen()

import dataclasses
import itertools
import json
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import tyro
from rich.console import Console
from torch import Tensor
from torch.nn import functional as F

from trainer import checkpoint, ending
from trainer.augment import normalise
from trainer.baseline import nearest_by_pixels, training_pictures
from trainer.data import crop, decode
from trainer.device import pick_device
from trainer.model import CLIP
from trainer.tally import Hit, Share, by_group, share, wilson
from trainer.testset import Dataset, Picture, open_dataset, pictures
from trainer.tokenizer import clean, tokenize
from wit import flags
from wit.knobs import Range, check_ranges
from wit.records import InputError
from wit.store import fs

NAMED = 5  # names in a sentence; the rest is counted


@dataclass(frozen=True)
class EvaluateConfig:
    """Measures a trained CLIP without training on the classes: top-1 and top-5 accuracy beside chance."""

    checkpoint: str
    """output directory of a training run (its newest checkpoint), or one .pt file"""
    dataset: str
    """directory with classnames.txt, templates.txt and images/<class number>_*.jpg (or png, webp, ...), or with a folder of
    pictures a class (ImageFolder), or of CLIP_benchmark's form"""
    nearest_in: str | None = None
    """directory of the training shards: tells the accuracy of the nearest training picture by raw pixels beside the
    model's; takes 2 kB of memory a picture"""
    output: str | None = None
    """JSON file to write; default: zero-shot-DATASET.json beside the checkpoint"""
    batch_size: int = 256
    """pictures at a time"""
    device: str = "auto"
    """cpu, cuda, or auto: cuda where there is one"""

    def __post_init__(self) -> None:
        check_ranges(self, {"batch_size": Range(1, 1e7)})


MOST_NAMED = 1_000  # corrupt pictures that the result names


@dataclass(frozen=True)
class Result:
    """Accuracies with their 95 % Wilson intervals, and the facts needed to judge them."""

    dataset: str
    classes: int
    images: int
    corrupt: int
    corrupt_pictures: tuple[str, ...]  # the first of them, by path, or by tar and key
    left_out: int  # files beside the pictures that, by their names, are no pictures
    without_pictures: tuple[int, ...]  # numbers of classes without a picture; they may be guessed all the same
    top1: float
    top1_interval: tuple[float, float]
    top5: float
    top5_interval: tuple[float, float]
    chance: float
    groups: dict[str, Share] = field(default_factory=dict)  # top-1 of each group of classes, among all classes
    nearest: Nearest | None = None
    shuffled_captions: bool = False  # a control run


@dataclass(frozen=True)
class Nearest:
    """The accuracy of the nearest training picture by raw pixels (trainer.baseline), over the same test pictures."""

    training_images: int  # whose captions name a class
    images: int
    top1: float
    top1_interval: tuple[float, float]
    groups: dict[str, Share]


@torch.no_grad()
def class_embeddings(model: CLIP, dataset: Dataset, device: torch.device) -> Tensor:
    """`[classes, dim]`: the mean of the normalised embeddings of a class's prompts, normalised again (CLIP section 3.1.4)."""
    rows = []
    for classname in dataset.classnames:
        prompts = [template.replace("{}", classname) for template in dataset.templates]
        tokens = [torch.from_numpy(tokenize(p, context_length=model.config.text.context_length)) for p in prompts]
        rows.append(model.encode_text(torch.stack(tokens).to(device)).mean(dim=0))
    return F.normalize(torch.stack(rows), dim=-1)


def batches(dataset: Dataset, size: int, batch_size: int) -> Iterator[tuple[Tensor, list[int], list[Picture]]]:
    """(pictures `[batch, 3, size, size]` in 0..1, cropped at their centre; their classes; the pictures that did not decode)."""
    remaining = pictures(dataset)
    while part := list(itertools.islice(remaining, batch_size)):
        decoded = [(decode(picture.data, size), picture) for picture in part]
        good = [(crop(pixels, size), picture.label) for pixels, picture in decoded if pixels is not None]
        stacked = torch.stack([torch.tensor(pixels) for pixels, _ in good]) if good else torch.empty(0, size, size, 3)
        broken = [picture for pixels, picture in decoded if pixels is None]
        yield stacked.permute(0, 3, 1, 2).float() / 255, [label for _, label in good], broken


@torch.no_grad()
def zero_shot(model: CLIP, dataset: Dataset, *, batch_size: int = 256, device: str = "cpu") -> Result:
    """The accuracy of giving each picture the class with the nearest embedding; a picture that does not decode counts as
    wrong."""
    where = torch.device(device)
    model = model.to(where).eval()
    classes = class_embeddings(model, dataset, where)
    hits: list[Hit] = []
    top5, corrupt = 0, list[str]()
    for images, labels, broken in batches(dataset, model.config.image_size, batch_size):
        scores = model.encode_image(normalise(images.to(where))) @ classes.T
        best = scores.topk(min(5, len(dataset.classnames)), dim=1).indices.cpu() == torch.tensor(labels)[:, None]
        hits += [*zip(labels, best[:, 0].tolist(), strict=True), *((picture.label, False) for picture in broken)]
        top5 += int(best.any(dim=1).sum())
        corrupt += [picture.name for picture in broken]
    first = share(hits)
    return Result(
        dataset=dataset.name,
        classes=len(dataset.classnames),
        images=first.images,
        corrupt=len(corrupt),
        corrupt_pictures=tuple(corrupt[:MOST_NAMED]),
        left_out=len(dataset.left_out),
        without_pictures=tuple(sorted(set(range(len(dataset.classnames))) - {label for label, _ in hits})),
        top1=first.top1,
        top1_interval=first.top1_interval,
        top5=top5 / first.images,
        top5_interval=wilson(top5, first.images),
        chance=1 / len(dataset.classnames),
        groups=by_group(hits, dataset.groups),
    )


def nearest(dataset: Dataset, shards: str) -> Nearest:
    """The pixel baseline of a dataset against the shards that a model was trained on."""
    training = training_pictures(shards, dataset.classnames)
    hits = nearest_by_pixels(pictures(dataset), training)
    return Nearest(len(training.labels), **vars(share(hits)), groups=by_group(hits, dataset.groups))


def describe(result: Result) -> str:
    """The result in words, a few lines."""
    lines = [
        f"zero-shot on {result.dataset}: {result.images:,} images, {result.classes:,} classes, {result.corrupt:,} corrupt"
        + (" (control run: trained on shuffled captions)" if result.shuffled_captions else ""),
        f"  top-1 {with_interval(result.top1, result.top1_interval)}, chance {result.chance:.4f}",
        f"  top-5 {with_interval(result.top5, result.top5_interval)}, chance {min(1.0, 5 * result.chance):.4f}",
    ]
    if result.corrupt:
        more = ", ..." if result.corrupt > NAMED else ""
        lines.append(f"  corrupt, so wrong: {', '.join(result.corrupt_pictures[:NAMED])}{more}")
    by_pixels = result.nearest.groups if result.nearest else {}
    if result.nearest:
        lines.append(
            f"  nearest of {result.nearest.training_images:,} training pictures by raw pixels: "
            f"top-1 {with_interval(result.nearest.top1, result.nearest.top1_interval)}"
        )
    for group, part in result.groups.items():
        beside = f", by raw pixels {by_pixels[group].top1:.4f}" if group in by_pixels else ""
        lines.append(f"  {group}, {part.images:,} images: top-1 {with_interval(part.top1, part.top1_interval)}{beside}")
    return "\n".join(lines)


def with_interval(part: float, interval: tuple[float, float]) -> str:
    """An accuracy with its 95 % interval, as text."""
    return f"{part:.4f} (95 % {interval[0]:.4f} to {interval[1]:.4f})"


def first_of(names: Sequence[str]) -> str:
    """The first NAMED names, and how many more there are."""
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def about_dataset(dataset: Dataset) -> list[str]:
    """One line for each oddity of a dataset's names: files that are no pictures, classes of one name."""
    lines = [f"no pictures by their names, left out: {first_of(dataset.left_out)}"] if dataset.left_out else []
    if shared := shared_names(dataset.classnames):
        classes = [f"{name} ({', '.join(map(str, numbers))})" for name, numbers in shared.items()]
        lines.append(
            f"warning: classes that have one name, of which only one can ever be right, by their numbers: {first_of(classes)}"
        )
    return lines


def shared_names(classnames: Sequence[str]) -> dict[str, list[int]]:
    """{name: numbers of its classes} of names that several classes share, as the tokenizer reads them."""
    numbers: dict[str, list[int]] = {}
    for number, name in enumerate(classnames):
        numbers.setdefault(clean(name), []).append(number)
    return {name: places for name, places in numbers.items() if len(places) > 1}


def told_without_pictures(dataset: Dataset, numbers: Sequence[int]) -> str:
    """The warning that these classes have no picture."""
    names = first_of([dataset.classnames[number] for number in numbers])
    which = f"{len(numbers):,} of {len(dataset.classnames):,} classes"
    return f"warning: {which} have no picture, and may be guessed all the same: {names}"


def evaluate(config: EvaluateConfig) -> Result:
    """Evaluates, prints, and writes the JSON. The names of files are checked before the model runs."""
    device, dataset = pick_device(config.device), open_dataset(config.dataset)
    beside = config.checkpoint if fs.is_dir(config.checkpoint) else config.checkpoint.rpartition("/")[0] or "."
    output = config.output or fs.join(beside, f"zero-shot-{dataset.name}.json")
    if fs.is_dir(output):
        raise InputError(f"--output {output} is a directory; give the name of a JSON file")
    console = Console(highlight=False, soft_wrap=True)
    for sentence in about_dataset(dataset):
        console.print(sentence, markup=False)
    loaded = checkpoint.find(config.checkpoint)
    for sentence in loaded.sentences():
        console.print(sentence, markup=False)
    model, state = checkpoint.model_of(loaded), loaded.state
    by_pixels = nearest(dataset, config.nearest_in) if config.nearest_in else None
    measured = zero_shot(model, dataset, batch_size=config.batch_size, device=device)
    control = bool(state.get("config", {}).get("shuffle_captions"))
    result = dataclasses.replace(measured, nearest=by_pixels, shuffled_captions=control)
    if result.without_pictures:
        console.print(told_without_pictures(dataset, result.without_pictures), markup=False)
    console.print(describe(result), markup=False)
    written: dict[str, Any] = {"model": state["name"], "step": state.get("step"), **dataclasses.asdict(result)}
    fs.write_bytes(output, json.dumps(written, indent=2).encode() + b"\n")
    console.print(f"written to {output}", markup=False)
    return result


CODES = (
    "Exit codes: 0 done; 2 bad input, nothing was written; 3 stopped (Ctrl-C, a full disk): start it again; 1 a bug."
)


def main(arguments: list[str]) -> int:
    """Exit code: 0 with the JSON written, else as `trainer.ending` says."""

    def work() -> None:
        flags.check_names(arguments, flags.knobs_of(EvaluateConfig))
        description = f"{EvaluateConfig.__doc__}\n\n{CODES}"
        evaluate(tyro.cli(EvaluateConfig, args=arguments, prog="python -m trainer.evaluate", description=description))

    return ending.code_of(work, again=f"python -m trainer.evaluate {shlex.join(arguments)}")


if __name__ == "__main__":
    early.leave(main(sys.argv[1:]))
