"""One of several processes that train together over gloo on loopback; test_ranks.py starts them.

    python tests/trainer/many_ranks.py resume MODEL FOLDER SHARDS    a run, and the rest of it after a kill at step 5
    python tests/trainer/many_ranks.py gradients MODEL FOLDER        the same step again and again

Rank 0 writes what came out to FOLDER/found.json.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from rich.console import Console
from torch.nn.parallel import DistributedDataParallel

from trainer import checkpoint
from trainer.config import TrainConfig
from trainer.loss import contrastive_loss
from trainer.model import CLIP, MODELS
from trainer.ranks import Gradients, Ranks, joined_ranks
from trainer.train import run

SMALL = dict(epochs=1.5, batch_size=12, learning_rate=1e-3, warmup_steps=2, augmentation=0.5, workers=1)
KEPT = dict(log_every_steps=1, checkpoint_every_steps=5, keep_checkpoints=100, device="cpu")


def digest(tensors: list[torch.Tensor]) -> str:
    return hashlib.sha256(b"".join(tensor.detach().numpy().tobytes() for tensor in tensors)).hexdigest()[:16]


def resume(ranks: Ranks, model: str, folder: Path, shards: str) -> dict[str, object]:
    """Losses and weights of a run that never stopped and of one that a kill after step 5 left with that checkpoint alone."""
    quiet, whole, killed = Console(quiet=True), folder / "whole", folder / "killed"
    run(TrainConfig(shards=shards, model=model, output=str(whole), **SMALL, **KEPT), ranks, quiet, "")

    def kill() -> None:
        (killed / "checkpoints").mkdir(parents=True)
        for name in ("metrics.jsonl", "checkpoints/step-0000000005.pt"):
            shutil.copy(whole / name, killed / name)

    ranks.on_first(kill)
    run(TrainConfig(shards=shards, model=model, output=str(killed), resume=True, **SMALL, **KEPT), ranks, quiet, "")
    return {path.name: outcome(path) for path in (whole, killed)} if ranks.first else {}


def outcome(run: Path) -> dict[str, object]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    weights = checkpoint.load(str(run))["state_dict"].values()
    return {"losses": [(row["step"], row["loss"]) for row in rows], "weights": digest(list(weights))}


def gradients(ranks: Ranks, model: str) -> dict[str, list[str]]:
    """The digests of the reduced gradients of six equal steps at the same weights, by our reduction and by PyTorch's."""
    torch.manual_seed(ranks.rank)
    batch = torch.randn(4, 3, 32, 32), torch.randint(1, 40000, (4, 32))
    return {how: [*equal_steps(ranks, model, batch, ours=how == "ours")] for how in ("ours", "ddp")}


def equal_steps(ranks: Ranks, name: str, batch: tuple[torch.Tensor, ...], *, ours: bool) -> Iterator[str]:
    torch.manual_seed(1)
    model = CLIP(MODELS[name])
    parameters = list(model.parameters())
    vector = Gradients(parameters, 1, ranks) if ours else None
    forward = model if ours else DistributedDataParallel(model)
    for _ in range(6):
        forward.zero_grad()
        loss, *_ = contrastive_loss(*forward(*batch), torch.ones(4, dtype=torch.bool))
        loss.backward()
        if vector:
            vector.reduce()
        yield digest([parameter.grad for parameter in parameters if parameter.grad is not None])


def main(what: str, model: str, folder: str, *shards: str) -> None:
    torch.set_num_threads(1)
    with joined_ranks("cpu") as ranks:
        found = resume(ranks, model, Path(folder), *shards) if what == "resume" else gradients(ranks, model)
        if ranks.first:
            Path(folder, "found.json").write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
