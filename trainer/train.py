"""Trains a CLIP on published shards: `python -m trainer.train --shards OUT/shards --model NAME --output DIR`.

With several processes: `torchrun --nproc-per-node N -m trainer.train ...`; the batch is split, the stream is the same.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import json
import math
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.distributed as dist
import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from trainer import checkpoint
from trainer.augment import augment, draws, normalise
from trainer.data import Batch, Stream, StreamConfig
from trainer.device import pick_device
from trainer.loss import contrastive_loss
from trainer.model import CLIP, MODELS
from wit import storage
from wit.records import InputError


@dataclass(frozen=True)
class TrainConfig:
    """Trains a CLIP on published shards. Defaults are the recipe of --model."""

    shards: str
    """Directory of the shards, local or s3://, gs://, hdfs://, https://."""
    model: str
    """Name of the model; an unknown one lists those there are."""
    output: str
    """Directory for checkpoints, metrics.jsonl and config.json."""
    epochs: float = 32
    """Passes over the shards."""
    batch_size: int = 1024
    """Samples per step, over all processes together."""
    learning_rate: float = 5e-4
    """Peak, reached after the warm-up; falls to 0 along a cosine."""
    warmup_steps: int = 2000
    """Steps from 0 to the peak."""
    weight_decay: float = 0.2
    """Decoupled; not on gains, biases and the temperature."""
    beta2: float = 0.98
    """AdamW's second-moment decay (CLIP: 0.98 for ViT, 0.999 for ResNet)."""
    epsilon: float = 1e-6
    """AdamW's (CLIP: 1e-6 for ViT, 1e-8 for ResNet)."""
    augmentation: float = 0.0
    """Strength of shift, scale, turn and colour changes, 0 to 1; pictures are always cropped at random."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the towers' arithmetic; weights and loss stay float32."""
    seed: int = 0
    """Fixes weights, order, crops and augmentation."""
    shuffle_captions: bool = False
    """Control run: captions permuted against pictures, fixed by the seed; accuracy must fall to chance."""
    shuffle_buffer: int = 10_000
    """Samples that are shuffled together, in memory."""
    workers: int = 4
    """Decoding threads per process."""
    cache_mb: int = 0
    """Megabytes of decoded pictures kept in memory per process."""
    device: str = "auto"
    """cpu, cuda, or auto: cuda where there is one."""
    log_every_steps: int = 10
    """Steps between lines of metrics.jsonl."""
    checkpoint_every_steps: int = 1000
    """Steps between checkpoints."""
    checkpoint_every_minutes: float = 15
    """Minutes between checkpoints, whichever comes first."""
    keep_checkpoints: int = 2
    """Newest checkpoints kept."""
    resume: bool = False
    """Goes on from the newest checkpoint of --output, exactly where it stopped; starts anew where there is none."""


# What may differ between a run and its resumption without changing what is learnt.
FREE_TO_CHANGE = {"shards", "output", "workers", "cache_mb", "device", "resume", "keep_checkpoints"} | {
    "log_every_steps",
    "checkpoint_every_steps",
    "checkpoint_every_minutes",
}


def recipe(model: str) -> dict[str, Any]:
    """The defaults that fit a named model where they differ from TrainConfig's (CLIP table 18 but for the batch)."""
    if model.startswith("demo"):
        # Two minutes of one core for the 8,000 pictures of the demonstration web.
        return dict(
            epochs=24, batch_size=256, learning_rate=2e-3, warmup_steps=50, augmentation=0.6, cache_mb=500, workers=2
        )
    if model.startswith("RN"):
        return dict(beta2=0.999, epsilon=1e-8)
    return {}


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """CLIP's two groups: everything decays but gains, biases and other vectors and scalars."""
    vectors = [parameter for parameter in model.parameters() if parameter.ndim < 2]
    matrices = [parameter for parameter in model.parameters() if parameter.ndim >= 2]
    return [{"params": vectors, "weight_decay": 0.0}, {"params": matrices, "weight_decay": weight_decay}]


def learning_rate(step: int, *, peak: float, warmup_steps: int, steps: int) -> float:
    """Linear warm-up, then a cosine to 0 at `steps`."""
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup_steps) / max(1, steps - warmup_steps)))


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together."""

    rank: int
    count: int
    device: torch.device

    @property
    def first(self) -> bool:
        return self.rank == 0


@contextlib.contextmanager
def joined_ranks(device: str) -> Iterator[Ranks]:
    """Joins the processes that torchrun started, if it did."""
    local = int(os.environ.get("LOCAL_RANK", 0))
    where = torch.device("cuda", local) if pick_device(device) == "cuda" else torch.device("cpu")
    if "WORLD_SIZE" not in os.environ:
        yield Ranks(0, 1, where)
        return
    if where.type == "cuda":
        torch.cuda.set_device(where)
    dist.init_process_group("nccl" if where.type == "cuda" else "gloo")
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size(), where)
        gc.collect()  # gloo aborts at exit in some runs while a model or an optimiser still holds the group
        dist.barrier()
    finally:
        dist.destroy_process_group()


class Trainer:
    """Model, optimiser and step: what a checkpoint holds, and what one step does to it."""

    def __init__(self, config: TrainConfig, ranks: Ranks, steps: int) -> None:
        torch.manual_seed(config.seed)
        self.config, self.ranks, self.steps, self.step = config, ranks, steps, 0
        self.model: CLIP = checkpoint.build(config.model).to(ranks.device)
        groups = parameter_groups(self.model, config.weight_decay)
        betas = (0.9, config.beta2)
        self.corrupt = torch.zeros((), dtype=torch.long, device=ranks.device)  # samples so far, over all ranks
        self.optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, betas=betas, eps=config.epsilon, fused=True)
        self.forward: nn.Module = DistributedDataParallel(self.model) if ranks.count > 1 else self.model

    def images(self, batch: Batch) -> Tensor:
        """This rank's pictures, augmented by its part of the step's draws for the whole batch, and normalised."""
        images = batch.images.to(self.ranks.device, non_blocking=True).float() / 255
        draw = draws(self.config.batch_size, 8, seed=self.config.seed, step=self.step)
        mine = draw.chunk(self.ranks.count)[self.ranks.rank]
        return normalise(augment(images, mine, strength=self.config.augmentation))

    def train_step(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """One update; this rank's loss and accuracy, whose mean over ranks is the global batch's."""
        config, device = self.config, self.ranks.device
        rate = learning_rate(self.step, peak=config.learning_rate, warmup_steps=config.warmup_steps, steps=self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bfloat16"):
            image, text, scale = self.forward(self.images(batch), batch.tokens.to(device))
        loss, accuracy, corrupt = contrastive_loss(image, text, scale, batch.valid.to(device))
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.model.clamp_scale()
        self.step += 1
        self.corrupt += corrupt
        return loss.detach(), accuracy

    def state(self, stream: Stream) -> dict[str, Any]:
        """Plain data from which `restore` goes on exactly: order, crops and augmentation are functions of the step."""
        return {
            "name": self.config.model,
            "epoch": self.step // stream.batches_per_epoch,
            "step": self.step,
            "position": self.step % stream.batches_per_epoch,  # batches into the epoch
            "samples_seen": self.step * self.config.batch_size,
            "corrupt": self.corrupt.item(),
            "config": dataclasses.asdict(self.config),
            "shards": [[storage.name_of(shard.path), shard.samples] for shard in stream.shards],
            "rng": torch.get_rng_state(),
            "state_dict": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def restore(self, state: dict[str, Any], stream: Stream) -> None:
        """Takes over a checkpoint. Raises InputError if it is another run's."""
        theirs, ours = state["config"], dataclasses.asdict(self.config)
        changed = [name for name in ours if name not in FREE_TO_CHANGE and theirs.get(name) != ours[name]]
        if changed:
            told = ", ".join(f"{name} was {theirs.get(name)!r} and is {ours[name]!r}" for name in changed)
            raise InputError(f"cannot resume another configuration ({told}); give the same, or another --output")
        if state["shards"] != [[storage.name_of(shard.path), shard.samples] for shard in stream.shards]:
            raise InputError("cannot resume: the shards are not those the run began with; give another --output")
        self.model.load_state_dict(state["state_dict"])
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["rng"])
        self.step = state["step"]
        self.corrupt.fill_(state["corrupt"])


def check(config: TrainConfig) -> None:
    """Raises InputError for what is wrong with the configuration, before anything is touched."""
    if config.model not in MODELS:
        raise InputError(f"no such model: {config.model}; have {', '.join(MODELS)}")
    for name in ("epochs", "batch_size", "log_every_steps", "checkpoint_every_steps", "keep_checkpoints"):
        if getattr(config, name) <= 0:
            raise InputError(f"--{name.replace('_', '-')} must be above 0, not {getattr(config, name)}")
    if not config.resume and checkpoint.list_checkpoints(config.output):
        raise InputError(f"{config.output} holds a run; add --resume to go on with it, or give another --output")
    pick_device(config.device)


def averaged(*values: Tensor) -> list[float]:
    """Each value's mean over the ranks."""
    stacked = torch.stack(values)
    if dist.is_initialized():
        dist.all_reduce(stacked)
        stacked /= dist.get_world_size()
    return stacked.tolist()


class Journal:
    """What is told of a run: the progress bar, and `metrics.jsonl` with one line per logged step. On resumption lines
    after the checkpoint are dropped, so that every step is there once."""

    def __init__(self, trainer: Trainer, stream: Stream, console: Console) -> None:
        self.trainer, self.stream, self.console = trainer, stream, console
        self.path = storage.join(trainer.config.output, "metrics.jsonl")
        self.step, self.time = trainer.step, time.monotonic()
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        self.bar = Progress(*columns, TextColumn("{task.fields[status]}"), console=console)
        self.task = self.bar.add_task("train", total=trainer.steps, completed=self.step, status="first shards")
        if trainer.ranks.first:
            self.drop_later_lines()

    def drop_later_lines(self) -> None:
        told = storage.read_bytes(self.path) if storage.exists(self.path) else b""
        lines = told.split(b"\n")[:-1]  # without a last line that a crash cut off
        kept = [line for line in lines if json.loads(line)["step"] <= self.step]
        storage.write_bytes(self.path, b"".join(line + b"\n" for line in kept))

    def record(self, loss: float, accuracy: float) -> None:
        """Tells the step that was just made; raises InputError where training has diverged."""
        trainer, now = self.trainer, time.monotonic()
        if not math.isfinite(loss):
            raise InputError(
                f"the loss is {loss} at step {trainer.step}; lower --learning-rate or lengthen the warm-up"
            )
        rate = (trainer.step - self.step) * trainer.config.batch_size / (now - self.time)
        self.step, self.time = trainer.step, now
        status = f"loss {loss:.3f}  in-batch accuracy {accuracy:.3f}  {rate:,.0f} samples/s"
        self.bar.update(self.task, completed=trainer.step, status=status)
        row = {
            "step": trainer.step,
            "epoch": trainer.step / self.stream.batches_per_epoch,
            "samples": trainer.step * trainer.config.batch_size,
            "loss": loss,
            "accuracy": accuracy,
            "logit_scale": trainer.model.logit_scale.exp().item(),
            "learning_rate": trainer.optimizer.param_groups[0]["lr"],
            "corrupt": trainer.corrupt.item(),
            "samples_per_s": rate,
        }
        if trainer.ranks.first:
            storage.append_bytes(self.path, json.dumps(row).encode() + b"\n")


def stream_config(config: TrainConfig) -> StreamConfig:
    model = MODELS[config.model]
    return StreamConfig(
        batch_size=config.batch_size,
        image_size=model.image_size,
        context_length=model.text.context_length,
        seed=config.seed,
        shuffle_buffer=config.shuffle_buffer,
        shuffle_captions=config.shuffle_captions,
        workers=config.workers,
        cache_mb=config.cache_mb,
    )


def train(config: TrainConfig) -> None:
    """The whole run, on every rank; nothing is touched before the configuration and the shards are checked."""
    check(config)
    with joined_ranks(config.device) as ranks:
        run(config, ranks, Console(quiet=not ranks.first, highlight=False, soft_wrap=True))


def run(config: TrainConfig, ranks: Ranks, console: Console) -> None:
    """Opens the stream, goes on from a checkpoint if asked to, steps to the end, leaves a checkpoint."""
    stream = Stream.open(config.shards, stream_config(config), rank=ranks.rank, ranks=ranks.count)
    steps = max(1, round(config.epochs * stream.batches_per_epoch))
    trainer = Trainer(config, ranks, steps)
    if config.resume and checkpoint.list_checkpoints(config.output):
        trainer.restore(checkpoint.load(config.output), stream)
    if ranks.first:
        resolved = json.dumps(dataclasses.asdict(config), indent=2) + "\n"
        storage.write_bytes(storage.join(config.output, "config.json"), resolved.encode())
    console.print(
        f"{config.model} on {stream.samples:,} samples in {len(stream.shards):,} shards: steps {trainer.step:,} to "
        f"{steps:,}, batches of {config.batch_size:,}; {stream.left_out_per_epoch:,} samples of each epoch fill no batch"
    )
    journal = Journal(trainer, stream, console)
    began, started = trainer.step, time.monotonic()
    saved = started
    with journal.bar:
        for batch in stream.batches(first=trainer.step, end=steps):
            loss, accuracy = trainer.train_step(batch)
            for key in batch.corrupt:
                console.print(f"corrupt picture, left out of its batch: {key}")
            last = trainer.step == steps
            if last or trainer.step % config.log_every_steps == 0:
                journal.record(*averaged(loss, accuracy))
            late = time.monotonic() - saved > 60 * config.checkpoint_every_minutes
            if ranks.first and (last or late or trainer.step % config.checkpoint_every_steps == 0):
                checkpoint.save(config.output, trainer.state(stream), step=trainer.step, keep=config.keep_checkpoints)
                saved = time.monotonic()
    took = time.monotonic() - started
    console.print(
        f"done in {took:,.0f} s, {(steps - began) * config.batch_size / took:,.0f} samples/s, "
        f"{trainer.corrupt.item():,} corrupt; checkpoint and metrics in {config.output}"
    )


def parse(arguments: list[str]) -> TrainConfig:
    """The configuration of a command line: TrainConfig's defaults, then the model's recipe, then what is given."""
    names = [b for a, b in zip(arguments, arguments[1:], strict=False) if a == "--model"]
    names += [a.removeprefix("--model=") for a in arguments if a.startswith("--model=")]
    if names and names[0] not in MODELS:
        raise InputError(f"no such model: {names[0]}; have {', '.join(MODELS)}")
    missing: Any = tyro.MISSING
    default = TrainConfig(shards=missing, model=missing, output=missing, **recipe(names[0] if names else ""))
    return tyro.cli(TrainConfig, default=default, args=arguments, prog="python -m trainer.train")


def main(arguments: list[str]) -> int:
    try:
        train(parse(arguments))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
