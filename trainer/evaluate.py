"""Zero-shot evaluation: `python -m trainer.evaluate --checkpoint DIR --dataset PATH`.

A dataset is a directory with `classnames.txt` (one a line), `templates.txt` (prompts, `{}` for the name) and
`images/<class number>_<anything>.png|jpg|webp`, class numbers counted from 0; or one in CLIP_benchmark's form:
`classnames.txt`, `zeroshot_classification_templates.txt` (`{c}` for the name), `test/nshards.txt` and `test/N.tar` with
`KEY.jpg|png|webp` and `KEY.cls`. `groups.txt` beside classnames.txt, if it is there, names the group of each class, one a
line: accuracies are told of each group too.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
import tyro
from rich.console import Console
from torch import Tensor
from torch.nn import functional as F

from trainer import checkpoint
from trainer.augment import normalise
from trainer.baseline import nearest_by_pixels, training_pictures
from trainer.data import crop, decode
from trainer.device import pick_device
from trainer.model import CLIP
from trainer.tally import Hit, Share, by_group, share, wilson
from trainer.tokenizer import tokenize
from wit import storage
from wit.records import InputError
from wit.shards import iter_members, split_name


@dataclass(frozen=True)
class EvaluateConfig:
    """Measures a trained CLIP without training on the classes: top-1 and top-5 accuracy beside chance."""

    checkpoint: str
    """Output directory of a training run (its newest checkpoint), or one .pt file."""
    dataset: str
    """Directory with classnames.txt, templates.txt and images/<class number>_*.png|jpg|webp, or of CLIP_benchmark's form."""
    nearest_in: str | None = None
    """Directory of the training shards: tells the accuracy of the nearest training picture by raw pixels beside the
    model's. Takes 2 kB of memory a picture."""
    output: str | None = None
    """JSON file to write; default: zero-shot-DATASET.json beside the checkpoint."""
    batch_size: int = 256
    """Pictures at a time."""
    device: str = "auto"
    """cpu, cuda, or auto: cuda where there is one."""


@dataclass(frozen=True)
class Dataset:
    name: str
    classnames: list[str]
    templates: list[str]  # with {} for the name
    files: list[tuple[str, int]]  # path and class of each picture
    tars: list[str]  # or of several pictures with their .cls
    groups: list[str] = field(default_factory=list)  # of each class, or none


@dataclass(frozen=True)
class Result:
    """Accuracies with their 95 % Wilson intervals, and what is needed to judge them."""

    dataset: str
    classes: int
    images: int
    corrupt: int
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
    """What the nearest training picture by raw pixels is right in (trainer.baseline), over the same pictures."""

    training_images: int  # whose captions name a class
    images: int
    top1: float
    top1_interval: tuple[float, float]
    groups: dict[str, Share]


def read_lines(path: str) -> list[str]:
    if not storage.exists(path):
        raise InputError(f"no such file: {path}; a dataset has classnames.txt, templates.txt and images/")
    return [line.strip() for line in storage.read_bytes(path).decode("utf-8").splitlines() if line.strip()]


def open_dataset(path: str) -> Dataset:
    """The dataset of a directory; raises InputError where it is not one."""
    if not storage.is_dir(path):
        raise InputError(f"no such dataset: {path}; give a directory with classnames.txt, templates.txt and images/")
    foreign = storage.exists(storage.join(path, "zeroshot_classification_templates.txt"))
    dataset = open_clip_benchmark(path) if foreign else open_folder(path)
    if bad := [template for template in dataset.templates if "{}" not in template]:
        raise InputError(f"the template {bad[0]!r} of {path} has no {{}} for the class name; add it")
    if not dataset.templates or not (dataset.files or dataset.tars):
        raise InputError(f"{path} has no templates or no images; it needs both")
    return dataclasses.replace(dataset, groups=read_groups(path, len(dataset.classnames)))


def read_groups(path: str, classes: int) -> list[str]:
    """The group of each class; empty where the dataset has no groups.txt."""
    file = storage.join(path, "groups.txt")
    groups = read_lines(file) if storage.exists(file) else []
    if groups and len(groups) != classes:
        raise InputError(
            f"{file} has {len(groups)} lines for {classes} classes; give one group a line, one line a class"
        )
    return groups


def open_folder(path: str) -> Dataset:
    classnames = read_lines(storage.join(path, "classnames.txt"))
    folder = storage.join(path, "images")
    names = [name for name in storage.list_dir(folder) if name.endswith((".png", ".jpg", ".webp"))]
    files = [(storage.join(folder, name), class_of(name, len(classnames))) for name in names]
    return Dataset(storage.name_of(path), classnames, read_lines(storage.join(path, "templates.txt")), files, [])


def open_clip_benchmark(path: str) -> Dataset:
    templates = read_lines(storage.join(path, "zeroshot_classification_templates.txt"))
    shards = int(read_lines(storage.join(path, "test", "nshards.txt"))[0])
    return Dataset(
        storage.name_of(path),
        read_lines(storage.join(path, "classnames.txt")),
        [template.replace("{c}", "{}") for template in templates],
        files=[],
        tars=[storage.join(path, "test", f"{shard}.tar") for shard in range(shards)],
    )


def pictures(dataset: Dataset) -> Iterator[tuple[bytes, int]]:
    """The bytes and the class of every picture."""
    for path, label in dataset.files:
        yield storage.read_bytes(path), label
    for path in dataset.tars:
        members = itertools.groupby(iter_members(path), key=lambda member: split_name(member.name)[0])
        for _, group in members:
            files = {split_name(member.name)[1]: member.data for member in group}
            yield next(files[form] for form in ("jpg", "png", "webp") if form in files), int(files["cls"])


def class_of(name: str, classes: int) -> int:
    number = name.split("_", 1)[0]
    if not number.isdecimal() or int(number) >= classes:
        raise InputError(f"images/{name} does not begin with a class number below {classes} and an underscore")
    return int(number)


@torch.no_grad()
def class_embeddings(model: CLIP, dataset: Dataset, device: torch.device) -> Tensor:
    """`[classes, dim]`: each prompt's embedding normalised, their mean, normalised again (CLIP section 3.1.4)."""
    rows = []
    for classname in dataset.classnames:
        prompts = [template.replace("{}", classname) for template in dataset.templates]
        tokens = [torch.from_numpy(tokenize(p, context_length=model.config.text.context_length)) for p in prompts]
        rows.append(model.encode_text(torch.stack(tokens).to(device)).mean(dim=0))
    return F.normalize(torch.stack(rows), dim=-1)


def batches(dataset: Dataset, size: int, batch_size: int) -> Iterator[tuple[Tensor, list[int], list[int]]]:
    """Pictures `[batch, 3, size, size]` in 0..1 cropped at their centre, their classes, and those of what did not decode."""
    remaining = pictures(dataset)
    while part := list(itertools.islice(remaining, batch_size)):
        found = [(decode(data, size), label) for data, label in part]
        good = [(crop(pixels, size), label) for pixels, label in found if pixels is not None]
        stacked = torch.stack([torch.tensor(pixels) for pixels, _ in good]) if good else torch.empty(0, size, size, 3)
        broken = [label for pixels, label in found if pixels is None]
        yield stacked.permute(0, 3, 1, 2).float() / 255, [label for _, label in good], broken


@torch.no_grad()
def zero_shot(model: CLIP, dataset: Dataset, *, batch_size: int = 256, device: str = "cpu") -> Result:
    """Accuracy of picking each picture's class by the nearest class embedding; what does not decode counts as wrong."""
    where = torch.device(device)
    model = model.to(where).eval()
    classes = class_embeddings(model, dataset, where)
    hits: list[Hit] = []
    top5 = corrupt = 0
    for images, labels, broken in batches(dataset, model.config.image_size, batch_size):
        scores = model.encode_image(normalise(images.to(where))) @ classes.T
        best = scores.topk(min(5, len(dataset.classnames)), dim=1).indices.cpu() == torch.tensor(labels)[:, None]
        hits += [*zip(labels, best[:, 0].tolist(), strict=True), *((label, False) for label in broken)]
        top5, corrupt = top5 + int(best.any(dim=1).sum()), corrupt + len(broken)
    first = share(hits)
    return Result(
        dataset=dataset.name,
        classes=len(dataset.classnames),
        images=first.images,
        corrupt=corrupt,
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
    lines = [
        f"zero-shot on {result.dataset}: {result.images:,} images, {result.classes:,} classes, {result.corrupt:,} corrupt"
        + (" (control run: trained on shuffled captions)" if result.shuffled_captions else ""),
        f"  top-1 {told(result.top1, result.top1_interval)}, chance {result.chance:.4f}",
        f"  top-5 {told(result.top5, result.top5_interval)}, chance {min(1.0, 5 * result.chance):.4f}",
    ]
    by_pixels = result.nearest.groups if result.nearest else {}
    if result.nearest:
        lines.append(
            f"  nearest of {result.nearest.training_images:,} training pictures by raw pixels: "
            f"top-1 {told(result.nearest.top1, result.nearest.top1_interval)}"
        )
    for group, part in result.groups.items():
        beside = f", by raw pixels {by_pixels[group].top1:.4f}" if group in by_pixels else ""
        lines.append(f"  {group}, {part.images:,} images: top-1 {told(part.top1, part.top1_interval)}{beside}")
    return "\n".join(lines)


def told(part: float, interval: tuple[float, float]) -> str:
    return f"{part:.4f} (95 % {interval[0]:.4f} to {interval[1]:.4f})"


def evaluate(config: EvaluateConfig) -> Result:
    """Evaluates, prints, and writes the JSON; everything is checked before the model runs."""
    device, dataset = pick_device(config.device), open_dataset(config.dataset)
    model, state = checkpoint.load_model(config.checkpoint)
    by_pixels = nearest(dataset, config.nearest_in) if config.nearest_in else None
    found = zero_shot(model, dataset, batch_size=config.batch_size, device=device)
    result = dataclasses.replace(found, nearest=by_pixels, shuffled_captions=state["config"]["shuffle_captions"])
    Console(highlight=False, soft_wrap=True).print(describe(result))
    beside = config.checkpoint if storage.is_dir(config.checkpoint) else config.checkpoint.rsplit("/", 1)[0]
    output = config.output or storage.join(beside, f"zero-shot-{dataset.name}.json")
    written: dict[str, Any] = {"model": state["name"], "step": state["step"], **dataclasses.asdict(result)}
    storage.write_bytes(output, json.dumps(written, indent=2).encode() + b"\n")
    return result


def main(arguments: list[str]) -> int:
    try:
        evaluate(tyro.cli(EvaluateConfig, args=arguments, prog="python -m trainer.evaluate"))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
