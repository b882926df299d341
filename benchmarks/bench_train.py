"""A training step against open_clip's: the same model, batch and arithmetic, in turn, on the same device.

    python benchmarks/bench_train.py [--model ViT-B/32] [--batch-size 1024] [--precision bfloat16] [--device cuda]

A step is what a training run does between two batches: towers, loss, gradients, optimiser; pictures are random pixels on the
device for both, so that reading and decoding are no part of it. Prints samples a second of either, their ratio by turn, peak
memory, and how far the two losses lie apart from the same weights. open_clip is a package of the tests; nothing is installed.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import open_clip
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))

from trainer.config import TrainConfig
from trainer.data import Batch
from trainer.device import pick_device
from trainer.model import MODELS
from trainer.train import Ranks, Trainer

WARM_UP_STEPS = 5


def batch_of(size: int, image_size: int, context: int) -> Batch:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (size, 3, image_size, image_size), dtype=torch.uint8, generator=generator)
    tokens = torch.randint(1, 49_000, (size, context), generator=generator)
    tokens[:, 0], tokens[:, -1] = 49_406, 49_407
    return Batch(images, tokens, torch.ones(size, dtype=torch.bool), tuple(map(str, range(size))), ())


def our_step(arguments: argparse.Namespace, device: str, batch: Batch) -> tuple[Callable[[], Tensor], Trainer]:
    config = TrainConfig(
        shards="",
        model=arguments.model,
        output="",
        batch_size=arguments.batch_size,
        precision=arguments.precision,
        warmup_steps=1,
    )
    trainer = Trainer(config, Ranks(0, 1, torch.device(device)), 1_000_000)
    there = Batch(batch.images.to(device), batch.tokens.to(device), batch.valid.to(device), batch.keys, batch.faults)
    return lambda: trainer.train_step(there), trainer  # type: ignore[return-value]


def their_step(
    arguments: argparse.Namespace, device: str, batch: Batch, weights: dict[str, Tensor]
) -> Callable[[], Tensor]:
    """As open_clip's training loop does it: its model, its loss, its two groups of parameters, its clamp of the scale."""
    name = arguments.model.replace("/", "-")
    model = open_clip.create_model(name, precision="fp32", force_quick_gelu=True).to(device).train()
    model.load_state_dict(weights)
    loss_of = open_clip.ClipLoss()
    small = [p for p in model.parameters() if p.ndim < 2]
    large = [p for p in model.parameters() if p.ndim >= 2]
    groups = [{"params": small, "weight_decay": 0.0}, {"params": large, "weight_decay": 0.2}]
    optimizer = torch.optim.AdamW(groups, lr=5e-4, betas=(0.9, 0.98), eps=1e-6, fused=True)
    mean, std = (
        torch.tensor(v, device=device).view(1, 3, 1, 1)
        for v in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
    )
    images, tokens = batch.images.to(device), batch.tokens.to(device)

    def step() -> Tensor:
        pixels = (images.float() / 255 - mean) / std
        optimizer.zero_grad()
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=arguments.precision == "bfloat16"):
            image, text, scale = model(pixels, tokens)
        loss: Tensor = loss_of(image, text, scale)
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, 4.6052)
        return loss

    return step


def rate(step: Callable[[], Tensor], arguments: argparse.Namespace, device: str) -> float:
    """Samples a second over the steps, the first of them left out."""
    for _ in range(WARM_UP_STEPS):
        step()
    wait(device)
    started = time.perf_counter()
    for _ in range(arguments.steps):
        step()
    wait(device)
    return float(arguments.steps * arguments.batch_size / (time.perf_counter() - started))


def wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def peak_gb(device: str) -> float:
    """Since the last call."""
    if device != "cuda":
        return 0.0
    peak = torch.cuda.max_memory_allocated() / 1e9
    torch.cuda.reset_peak_memory_stats()
    return float(peak)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="ViT-B/32", choices=[name for name in MODELS if not name.startswith("demo")])
    parser.add_argument("--batch-size", type=int, default=1024)
    parser.add_argument("--precision", default="bfloat16", choices=["bfloat16", "float32"])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    device = pick_device(arguments.device)
    card = torch.cuda.get_device_name() if device == "cuda" else platform.machine()
    print(f"{card}, torch {torch.__version__}, open_clip {open_clip.__version__}, {arguments}", flush=True)
    shape = MODELS[arguments.model]
    batch = batch_of(arguments.batch_size, shape.image_size, shape.text.context_length)
    ours, trainer = our_step(arguments, device, batch)
    theirs = their_step(
        arguments, device, batch, {name: value.clone() for name, value in trainer.model.state_dict().items()}
    )
    rates: list[tuple[float, float]] = []
    peaks = (0.0, 0.0)
    for _ in range(arguments.repeats):
        peak_gb(device)
        peer = rate(theirs, arguments, device)
        their_peak = peak_gb(device)
        mine = rate(ours, arguments, device)
        rates.append((peer, mine))
        peaks = max(peaks[0], their_peak), max(peaks[1], peak_gb(device))
    ratios = [mine / peer for peer, mine in rates]
    print(f"open_clip {median(p for p, _ in rates):,.0f} samples/s, peak {peaks[0]:.1f} GB")
    print(f"wit       {median(m for _, m in rates):,.0f} samples/s, peak {peaks[1]:.1f} GB (both models held)")
    print(f"ratio     {median(ratios):.2f}x   turns {' '.join(f'{ratio:.2f}' for ratio in ratios)}", flush=True)


if __name__ == "__main__":
    main()
