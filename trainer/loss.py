"""The symmetric contrastive loss, over the batches of all ranks together."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F


class Gather(torch.autograd.Function):
    """All ranks' rows in rank order; the gradient of a row is the sum of its gradients in every rank's loss."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        """`[batch, ...]` of each rank -> `[ranks * batch, ...]` on all."""
        parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """The gradient of this rank's rows, summed over ranks."""
        total = gradients[0].contiguous()
        dist.all_reduce(total)
        return total.chunk(dist.get_world_size())[dist.get_rank()]


def gather(rows: Tensor) -> Tensor:
    """The rows of all ranks, `[ranks * batch, ...]`; gradients flow back to the rank that a row came from."""
    return Gather.apply(rows) if dist.is_initialized() else rows  # type: ignore[no-any-return, no-untyped-call]


def contrastive_loss(image: Tensor, text: Tensor, scale: Tensor, valid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(loss, share of images that pick their own text, number of invalid pairs), over the pairs of all ranks.

    `image` and `text` are `[batch, dim]` of length 1. `valid` `[batch]` is False for a pair that did not decode: it is neither an
    example nor a negative. Every rank compares its own rows with everybody's ("local loss"), so memory is batch x global batch.
    Loss and share are scaled so that their mean over ranks is that of the global batch, as gradients are averaged over ranks.
    """
    images, texts, valids = gather(image), gather(text), gather(valid)
    rank, ranks = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    targets = torch.arange(len(image), device=image.device) + rank * len(image)
    weight = valid * ranks / valids.sum().clamp(min=1)
    by_image = (scale * image @ texts.T).masked_fill(~valids, -torch.inf)
    by_text = (scale * text @ images.T).masked_fill(~valids, -torch.inf)
    losses = sum(F.cross_entropy(logits[valid], targets[valid], reduction="none") for logits in (by_image, by_text)) / 2
    right = by_image.argmax(dim=1) == targets
    return (losses * weight[valid]).sum(), (right * weight).sum(), (~valids).sum()
