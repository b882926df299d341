"""The knobs of a training run, the recipes of models, and the command line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import tyro

from trainer import checkpoint
from trainer.device import pick_device
from trainer.model import MODELS
from wit import flags
from wit.knobs import WHOLE, Range, check_ranges
from wit.records import InputError
from wit.store import fs

STEPS = Range(1, 1e9)
RANGES = {
    "epochs": Range(1e-6, 1e6),
    "batch_size": Range(1, 1e7),
    "learning_rate": Range(0, 100),
    "warmup_steps": Range(0, 1e9),
    "weight_decay": Range(0, 100),
    "beta2": Range(0, 0.999999),  # at 1 the moment never moves
    "epsilon": Range(0, 1),
    "augmentation": Range(0, 1),
    "seed": Range(-WHOLE, WHOLE - 1),
    "shuffle_buffer": Range(0, 1e9),
    "workers": Range(0, 4_096),
    "cache_mb": Range(0, 1e8),
    "log_every_steps": STEPS,
    "checkpoint_every_steps": STEPS,
    "checkpoint_every_minutes": Range(0, 1e7),
    "keep_checkpoints": Range(1, 1e6),
}


@dataclass(frozen=True)
class TrainConfig:
    """Trains a CLIP on published shards. Defaults are the recipe of --model."""

    shards: str
    """directory of the shards, local or s3://, gs://, hdfs://, https://"""
    model: str
    """name of the model; an unknown one lists those there are"""
    output: str
    """directory for checkpoints, metrics.jsonl and config.json"""
    epochs: float = 32
    """passes over the shards"""
    batch_size: int = 1024
    """samples per step, over all processes together"""
    learning_rate: float = 5e-4
    """peak of the learning rate, reached after the warm-up; it falls to 0 along a cosine"""
    warmup_steps: int = 2000
    """steps from 0 to the peak"""
    weight_decay: float = 0.2
    """decoupled weight decay; gains, biases and the temperature have none"""
    beta2: float = 0.98
    """AdamW's second-moment decay (CLIP: 0.98 for ViT, 0.999 for ResNet)"""
    epsilon: float = 1e-6
    """AdamW's epsilon (CLIP: 1e-6 for ViT, 1e-8 for ResNet)"""
    augmentation: float = 0.0
    """strength of shift, scale, turn and colour changes, 0 to 1; pictures are always cropped at random"""
    precision: Literal["float32", "bfloat16"] = "float32"
    """number format of the towers' arithmetic; weights and loss stay float32"""
    seed: int = 0
    """any whole number; it fixes weights, order, crops and augmentation"""
    shuffle_captions: bool = False
    """control run: captions permuted against pictures, fixed by the seed; accuracy must fall to chance"""
    shuffle_buffer: int = 10_000
    """samples that are shuffled together, in memory"""
    workers: int = 4
    """decoding threads per process"""
    cache_mb: int = 0
    """megabytes of decoded pictures kept in memory per process"""
    device: str = "auto"
    """cpu, cuda, or auto: cuda where there is one"""
    log_every_steps: int = 10
    """steps between lines of metrics.jsonl"""
    checkpoint_every_steps: int = 1000
    """steps between checkpoints"""
    checkpoint_every_minutes: float = 15
    """minutes between checkpoints, whichever comes first"""
    keep_checkpoints: int = 2
    """newest checkpoints kept"""
    resume: bool = False
    """go on from the newest checkpoint of --output, exactly where it stopped; start anew where there is none"""

    def __post_init__(self) -> None:
        check_ranges(self, RANGES)


KNOBS = flags.knobs_of(TrainConfig)

# Knobs that a resumed run may change: they do not change what is learnt.
FREE_TO_CHANGE = {"shards", "output", "workers", "cache_mb", "device", "resume", "keep_checkpoints"} | {
    "log_every_steps",
    "checkpoint_every_steps",
    "checkpoint_every_minutes",
}


def recipe(model: str) -> dict[str, Any]:
    """The defaults of a named model that differ from TrainConfig's (CLIP table 18, except for the batch)."""
    if model.startswith("demo"):
        # Two minutes of one core for the 8,000 pictures of the demonstration web.
        return dict(
            epochs=24, batch_size=256, learning_rate=2e-3, warmup_steps=50, augmentation=0.6, cache_mb=500, workers=2
        )
    if model.startswith("RN"):
        return dict(beta2=0.999, epsilon=1e-8)
    return {}


CODES = (
    "Exit codes: 0 trained to the end; 2 bad input, nothing was touched; 3 stopped (Ctrl-C, SIGTERM, a full disk, a damaged "
    "shard, numbers that are not finite): the sentence says how to go on; 1 a bug."
)


def check(config: TrainConfig) -> None:
    """Raises InputError if the run cannot start with this configuration; nothing is touched."""
    if config.model not in MODELS:
        raise InputError(f"no such model: {config.model}; {flags.instead(config.model, MODELS)}")
    for path in (config.output, fs.join(config.output, "checkpoints")):
        if fs.exists(path) and not fs.is_dir(path):
            raise InputError(f"{path} is a file; give a directory as --output")
    if not config.resume and checkpoint.list_checkpoints(config.output):
        raise InputError(f"{config.output} holds a run; add --resume to go on with it, or give another --output")
    pick_device(config.device)


def parse(arguments: list[str]) -> TrainConfig:
    """The configuration of a command line: TrainConfig's defaults, then the model's recipe, then what is given."""
    flags.check_names(arguments, KNOBS)
    flags.check_values(arguments, KNOBS)
    names = [b for a, b in zip(arguments, arguments[1:], strict=False) if a == "--model"]
    names += [a.removeprefix("--model=") for a in arguments if a.startswith("--model=")]
    if names and names[0] not in MODELS:
        raise InputError(f"no such model: {names[0]}; {flags.instead(names[0], MODELS)}")
    missing: Any = tyro.MISSING
    default = TrainConfig(shards=missing, model=missing, output=missing, **recipe(names[0] if names else ""))
    description = f"{TrainConfig.__doc__}\n\n{CODES}"
    return tyro.cli(
        TrainConfig, default=default, args=arguments, prog="python -m trainer.train", description=description
    )
