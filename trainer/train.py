"""Trains a CLIP on published shards: `python -m trainer.train --shards OUT/shards --model NAME --output DIR`.

With several processes: `torchrun --nproc-per-node N -m trainer.train ...`. Each batch is split; the stream is the same.
"""

from __future__ import annotations

if __name__ == "__main__":
    from wit import early

    early.listen("; nothing was trained")

import dataclasses
import itertools
import json
import math
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from rich.console import Console
from torch import Tensor, nn

from trainer import checkpoint, ending
from trainer.augment import augment, draws, normalise
from trainer.config import FREE_TO_CHANGE, TrainConfig, check, parse
from trainer.data import Batch, Fault, Stream, StreamConfig, unlisted
from trainer.journal import Journal
from trainer.loss import contrastive_loss
from trainer.model import CLIP, MODELS
from trainer.ranks import Gradients, Ranks, Reading, joined_ranks
from wit.records import InputError, Stopped
from wit.store import fs, refusals


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """CLIP's two groups: matrices, which decay; and gains, biases and other vectors and scalars, which do not."""
    vectors = [parameter for parameter in model.parameters() if parameter.ndim < 2]
    matrices = [parameter for parameter in model.parameters() if parameter.ndim >= 2]
    return [{"params": vectors, "weight_decay": 0.0}, {"params": matrices, "weight_decay": weight_decay}]


def learning_rate(step: int, *, peak: float, warmup_steps: int, steps: int) -> float:
    """The rate of a step: a linear warm-up to `peak`, then a cosine to 0 at `steps`."""
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup_steps) / max(1, steps - warmup_steps)))


class Numbers(NamedTuple):
    """The numbers of a step, as means over ranks: a wish above 0 was 1 on some rank."""

    loss: float
    accuracy: float
    lost: float  # a rank could read no batch
    stop: float  # somebody asked to stop
    save: float  # a checkpoint is due by the clock
    bad: float  # 1 from the first step on whose loss or gradients are not finite, or that lost a batch: no weights change then


class Trainer:
    """Model, optimiser and step count; how one step changes them, and how a checkpoint keeps them."""

    def __init__(self, config: TrainConfig, ranks: Ranks, steps: int) -> None:
        torch.manual_seed(config.seed)
        self.config, self.ranks, self.steps, self.step = config, ranks, steps, 0
        self.model: CLIP = checkpoint.build(config.model).to(ranks.device)
        groups = parameter_groups(self.model, config.weight_decay)
        betas = (0.9, config.beta2)
        self.corrupt = torch.zeros((), dtype=torch.long, device=ranks.device)  # samples so far, over all ranks
        self.bad = torch.zeros((), device=ranks.device)  # 1 from the first step on that must not change the weights
        self.optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, betas=betas, eps=config.epsilon, fused=True)
        self.optimizer.found_inf = self.bad  # type: ignore[attr-defined]  # fused AdamW does nothing then: as GradScaler's
        self.gradients = Gradients(self.model.parameters(), len(Numbers._fields) - 1, ranks)
        ranks.share(self.model)

    def images(self, batch: Batch) -> Tensor:
        """This rank's pictures, augmented by its part of the step's draws for the whole batch, and normalised."""
        images = batch.images.to(self.ranks.device, non_blocking=True).float() / 255
        draw = draws(self.config.batch_size, 8, seed=self.config.seed, step=self.step)
        mine = draw.chunk(self.ranks.count)[self.ranks.rank]
        return normalise(augment(images, mine, strength=self.config.augmentation))

    def train_step(self, batch: Batch, *, lost: bool = False, stop: bool = False, save: bool = False) -> Reading:
        """Makes one update; returns its `Numbers`, means over ranks. Once the loss or gradients of a step are not finite, or a
        rank's batch is `lost`, neither this step nor any later one changes the weights or the optimiser's state."""
        config, device = self.config, self.ranks.device
        rate = learning_rate(self.step, peak=config.learning_rate, warmup_steps=config.warmup_steps, steps=self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bfloat16"):
            image, text, scale = self.model(self.images(batch), batch.tokens.to(device))
        loss, accuracy, corrupt = contrastive_loss(image, text, scale, batch.valid.to(device))
        self.gradients.clear()
        loss.backward()
        wishes = torch.tensor([lost, stop, save], dtype=torch.float32).to(device)
        numbers = self.gradients.numbers.copy_(torch.cat([torch.stack([loss.detach(), accuracy]), wishes]))
        self.gradients.reduce()
        finite = (numbers[0] + self.gradients.norm()).isfinite()
        self.bad.copy_(torch.maximum(self.bad, torch.maximum((~finite).float(), (numbers[2] > 0).float())))
        self.optimizer.step()
        self.model.clamp_scale()
        self.step += 1
        self.corrupt += corrupt
        return Reading(self.step, torch.cat([numbers, self.bad[None]]))

    def state(self, stream: Stream) -> dict[str, Any]:
        """The state as plain data; `restore` goes on from it exactly, since order, crops and augmentation depend on the step."""
        return {
            "name": self.config.model,
            "epoch": self.step // stream.batches_per_epoch,
            "step": self.step,
            "position": self.step % stream.batches_per_epoch,  # batches into the epoch
            "samples_seen": self.step * self.config.batch_size,
            "corrupt": self.corrupt.item(),
            "config": dataclasses.asdict(self.config),
            "shards": [[fs.name_of(shard.path), shard.samples] for shard in stream.shards],
            "rng": torch.get_rng_state(),
            "state_dict": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def check(self, state: dict[str, Any], stream: Stream) -> None:
        """Raises InputError if a checkpoint belongs to another run, or lacks what resuming needs."""
        if missing := {"config", "shards", "step", "corrupt", "rng", "optimizer"} - state.keys():
            raise InputError(
                f"cannot resume: the checkpoint has no {', '.join(sorted(missing))}; give another --output"
            )
        theirs, ours = state["config"], dataclasses.asdict(self.config)
        changed = [name for name in ours if name not in FREE_TO_CHANGE and theirs.get(name) != ours[name]]
        if changed:
            changes = ", ".join(f"{name} was {theirs.get(name)!r} and is {ours[name]!r}" for name in changed)
            raise InputError(f"cannot resume another configuration ({changes}); give the same, or another --output")
        if state["shards"] != [[fs.name_of(shard.path), shard.samples] for shard in stream.shards]:
            raise InputError("cannot resume: the shards are not those the run began with; give another --output")

    def restore(self, state: dict[str, Any]) -> None:
        """Takes over the state of a checkpoint that has passed `check`."""
        self.model.load_state_dict(state["state_dict"])
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["rng"])
        self.step = state["step"]
        self.corrupt.fill_(state["corrupt"])
        self.ranks.share(self.model)


def stream_config(config: TrainConfig) -> StreamConfig:
    """The stream that a training configuration asks for."""
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


def train(config: TrainConfig, *, again: str = "the same command with --resume") -> None:
    """The whole run, on every rank. Nothing is touched before configuration and shards are checked. `again` is the command to
    go on with, for sentences. Raises Stopped if the run ends early, and Elsewhere on ranks that leave it to another to say
    why."""
    with joined_ranks(config.device) as ranks:
        run(config, ranks, Console(quiet=not ranks.first, highlight=False, soft_wrap=True), again)


def run(config: TrainConfig, ranks: Ranks, console: Console, again: str) -> None:
    """Opens the stream, goes on from a checkpoint if asked to, steps to the end, leaves a checkpoint."""
    ranks.on_first(lambda: check(config))
    shards = ranks.on_first(lambda: Stream.open(config.shards, stream_config(config), ranks=ranks.count).shards)
    stream = Stream(shards, stream_config(config), ranks.rank, ranks.count)
    steps = max(1, round(config.epochs * stream.batches_per_epoch))
    trainer = Trainer(config, ranks, steps)
    go_on(trainer, stream, console)
    journal = Journal(config.output, console, step=trainer.step, steps=steps)
    ranks.on_first(lambda: begin(config, journal, trainer.step))
    console.print(
        f"{config.model} on {stream.samples:,} samples in {len(stream.shards):,} shards: steps {trainer.step:,} to "
        f"{steps:,}, batches of {config.batch_size:,}; {stream.left_out_per_epoch:,} samples of each epoch fill no batch"
    )
    if others := unlisted(config.shards, shards) if ranks.first else []:
        console.print(
            f"{len(others):,} tars that sizes.json does not count are not read: {', '.join(others[:5])}", markup=False
        )
    began, started = trainer.step, time.monotonic()
    with ending.asked() as asked, journal.bar:
        Loop(trainer, stream, journal, asked, again).run()
    took = time.monotonic() - started
    console.print(
        f"done in {took:,.0f} s, {(steps - began) * config.batch_size / took:,.0f} samples/s; {journal.faults()}; "
        f"checkpoint and metrics in {config.output}"
    )


def go_on(trainer: Trainer, stream: Stream, console: Console) -> None:
    """With --resume, takes over the newest whole checkpoint, if there is any; all ranks take the same."""
    config, ranks = trainer.config, trainer.ranks

    chosen: list[checkpoint.Found] = []  # on rank 0, which need not read it twice

    def choose() -> str | None:
        if not config.resume or not checkpoint.list_checkpoints(config.output):
            return None
        loaded = checkpoint.find(config.output)
        for sentence in loaded.sentences():
            console.print(sentence, markup=False)
        trainer.check(loaded.state, stream)
        chosen.append(loaded)
        return loaded.path

    path = ranks.on_first(choose)
    if path is not None:
        trainer.restore(chosen[0].state if chosen else checkpoint.read(path))


def begin(config: TrainConfig, journal: Journal, step: int) -> None:
    """Writes the first files of a run: config.json and the journal. Raises InputError where --output cannot be written."""
    resolved = json.dumps(dataclasses.asdict(config), indent=2) + "\n"
    try:
        fs.write_bytes(fs.join(config.output, "config.json"), resolved.encode())
        journal.go_on(step)
    except OSError as error:
        if (refused := refusals.refusal(error)) is None:
            raise
        raise InputError(refused) from error


class Loop:
    """Makes the steps of a run, and reports and saves them. All ranks end after the same step: a rank's wish travels with the
    gradients, and all heed it one step later, when nobody need wait for it."""

    def __init__(self, trainer: Trainer, stream: Stream, journal: Journal, asked: ending.Asked, again: str) -> None:
        self.trainer, self.stream, self.journal, self.asked, self.again = trainer, stream, journal, asked, again
        self.config, self.ranks = trainer.config, trainer.ranks
        self.kept = trainer.step  # the step of the newest checkpoint
        self.saved = time.monotonic()
        self.logged = trainer.step, self.saved
        self.faults: list[Fault] = []
        self.lost: str | None = None  # why this rank has no batch

    def run(self) -> None:
        """Steps to the end; raises Stopped or Elsewhere where that is not reached."""
        before: Reading | None = None
        for batch in self.batches():
            last = self.step(batch)
            if before is not None:
                self.heed(before, last)
            due = last.step == self.trainer.steps or last.step % self.config.checkpoint_every_steps == 0
            due = due or before is not None and Numbers(*before.read()).save > 0 and before.step > self.kept
            if due or last.step % self.config.log_every_steps == 0:
                self.report(Numbers(*last.read()), save=due)
            before = last
        if before is not None and Numbers(*before.read()).bad:
            self.heed(before, before)

    def batches(self) -> Iterator[Batch]:
        """The batches of the stream. After one that cannot be read come black ones: the other ranks wait for this rank's part."""
        try:
            yield from self.stream.batches(first=self.trainer.step, end=self.trainer.steps)
        except (InputError, OSError) as error:
            if (why := refusals.refusal(error) if isinstance(error, OSError) else f"{error}") is None:
                raise
            self.lost = why
            yield from itertools.repeat(self.stream.empty_batch(), self.trainer.steps - self.trainer.step)

    def step(self, batch: Batch) -> Reading:
        """Makes one step, with this rank's wishes to stop or to save."""
        self.faults += batch.faults
        late = self.ranks.first and time.monotonic() - self.saved > 60 * self.config.checkpoint_every_minutes
        return self.trainer.train_step(batch, lost=self.lost is not None, stop=bool(self.asked.by), save=late)

    def heed(self, reading: Reading, last: Reading) -> None:
        """Ends the run if the numbers of a step ask for it; `last` is the newest step that was made."""
        numbers = Numbers(*reading.read())
        if numbers.lost:
            self.report(None, save=False)
            why = self.ranks.gathered([] if self.lost is None else [self.lost])
            self.end(f"{next(iter(why), '')}; then go on with {self.again}")
        if numbers.bad:
            self.report(None, save=False)
            self.end(diverged(reading.step, self.config.output))
        if numbers.stop and last.step < self.trainer.steps:
            newest = Numbers(*last.read())
            if not newest.bad:
                self.report(newest, save=self.kept != last.step)
            self.end(f"by {self.asked.by or 'a signal to another rank'} after step {self.kept}; to go on: {self.again}")

    def end(self, sentence: str) -> None:
        """Ends this rank, as all others do: the first with the sentence, in Stopped; the others with Elsewhere."""
        if self.ranks.first:
            raise Stopped(sentence)
        raise ending.Elsewhere(3)

    def report(self, numbers: Numbers | None, *, save: bool) -> None:
        """Reports the newest step, on rank 0, and saves a checkpoint of it if `save` is set and its numbers are not bad. Every
        rank comes here after the same steps. A stop or a checkpoint adds no line to metrics.jsonl, so that the file is the same
        however often a run was stopped."""
        faults, self.faults = self.ranks.gathered(self.faults), []
        good = numbers is not None and not numbers.bad
        log = self.trainer.step == self.trainer.steps or self.trainer.step % self.config.log_every_steps == 0

        def write() -> None:
            self.journal.note(faults)
            if numbers is not None and good and log:
                self.journal.record(self.row(numbers))
            if save and good:
                state = self.trainer.state(self.stream)
                checkpoint.save(self.config.output, state, step=self.trainer.step, keep=self.config.keep_checkpoints)

        self.ranks.on_first(lambda: self.written(write))
        if save and good:
            self.kept, self.saved = self.trainer.step, time.monotonic()

    def written(self, write: Callable[[], None]) -> None:
        """Calls `write`; raises Stopped where the disk refuses, or weights are not finite."""
        try:
            write()
        except checkpoint.NotFinite:
            raise Stopped(diverged(self.trainer.step, self.config.output)) from None
        except OSError as error:
            if (refused := refusals.refusal(error)) is None:
                raise
            raise Stopped(f"{refused}, then go on with {self.again}") from error

    def row(self, numbers: Numbers) -> dict[str, Any]:
        """The line of metrics.jsonl for the newest step; the rate is over the steps since the last line."""
        trainer, now = self.trainer, time.monotonic()
        (step, then), self.logged = self.logged, (trainer.step, now)
        return {
            "step": trainer.step,
            "epoch": trainer.step / self.stream.batches_per_epoch,
            "samples": trainer.step * self.config.batch_size,
            "loss": numbers.loss,
            "accuracy": numbers.accuracy,
            "logit_scale": trainer.model.logit_scale.exp().item(),
            "learning_rate": trainer.optimizer.param_groups[0]["lr"],
            "corrupt": trainer.corrupt.item(),
            "samples_per_s": (trainer.step - step) * self.config.batch_size / (now - then),
        }


def diverged(step: int, output: str) -> str:
    """The sentence for a run whose numbers are no longer finite."""
    kept = checkpoint.list_checkpoints(output)
    newest = f"the newest good checkpoint is {kept[-1]}" if kept else "there is no checkpoint from before it"
    return (
        f"the loss, gradients or weights of step {step} are not finite, and nothing of that step was kept; {newest}. "
        "Start anew in another --output with a lower --learning-rate or a longer --warmup-steps"
    )


def going_on(arguments: list[str]) -> str:
    """The command line that goes on with this run."""
    given = shlex.join(arguments if "--resume" in arguments else [*arguments, "--resume"])
    here, everywhere = (os.environ.get(name) for name in ("LOCAL_WORLD_SIZE", "WORLD_SIZE"))
    if everywhere is None:
        return f"python -m trainer.train {given}"
    if here != everywhere:  # only the command knows how the machines find each other
        return "the same torchrun command with --resume"
    return f"torchrun --nproc-per-node {here} -m trainer.train {given}"


def main(arguments: list[str]) -> int:
    """Exit code: 0 trained to the end, else as `trainer.ending` says."""
    again = going_on(arguments)
    return ending.code_of(lambda: train(parse(arguments), again=again), again=again)


if __name__ == "__main__":
    early.leave(main(sys.argv[1:]))
