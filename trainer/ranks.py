"""The processes that train together: this one's rank, what they agree on, and the sum of their gradients.

PyTorch's DistributedDataParallel regroups its buckets after the first step, which changes the order in which numbers are added:
with three or more processes, a resumed run differs from one that never stopped. Here all gradients are one vector, summed by one
all_reduce of the same shape at every step, so the same weights and pictures give the same bytes.
"""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from trainer.device import pick_device
from trainer.ending import Elsewhere
from wit.records import InputError, Stopped

T = TypeVar("T")
ALIGNMENT = 16  # float32 numbers, 64 bytes: vectorised kernels want each gradient to begin at a multiple of it


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together."""

    rank: int
    count: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this is rank 0, which prints and writes."""
        return self.rank == 0

    def on_first(self, work: Callable[[], T]) -> T:
        """Runs `work` on rank 0, and returns its result on every rank. If it raises there, the other ranks raise Elsewhere."""
        if self.count == 1:
            return work()
        if self.first:
            try:
                result = work()
            except BaseException as error:
                dist.broadcast_object_list([None, 2 if isinstance(error, InputError) else 3], src=0)
                raise
            dist.broadcast_object_list([result, 0], src=0)
            return result
        outcome: list[Any] = [None, None]
        dist.broadcast_object_list(outcome, src=0)
        if outcome[1]:
            raise Elsewhere(outcome[1])
        return outcome[0]  # type: ignore[no-any-return]

    def gathered(self, mine: list[T]) -> list[T]:
        """On rank 0 the items of all ranks, in rank order; an empty list on the others."""
        if self.count == 1:
            return mine
        parts: list[Any] | None = [None] * self.count if self.first else None
        dist.gather_object(mine, parts, dst=0)
        return [item for part in parts or [] for item in part]

    def share(self, model: nn.Module) -> None:
        """Gives every rank the weights and buffers of rank 0."""
        if self.count > 1:
            for tensor in (*model.parameters(), *model.buffers()):
                dist.broadcast(tensor.detach(), 0)


@contextlib.contextmanager
def joined_ranks(device: str) -> Iterator[Ranks]:
    """Joins the processes that torchrun started, if it did. All ranks must raise InputError, Stopped or Elsewhere, or none."""
    local = int(os.environ.get("LOCAL_RANK", 0))
    where = torch.device("cuda", local) if pick_device(device) == "cuda" else torch.device("cpu")
    if "WORLD_SIZE" not in os.environ:
        yield Ranks(0, 1, where)
        return
    if where.type == "cuda":
        torch.cuda.set_device(where)
    dist.init_process_group("nccl" if where.type == "cuda" else "gloo")
    try:
        try:
            yield Ranks(dist.get_rank(), dist.get_world_size(), where)
        except (InputError, Stopped, Elsewhere):
            dist.barrier()  # nobody leaves before all have heard why
            raise
        gc.collect()  # gloo aborts at exit in some runs while a model or an optimiser still holds the group
        dist.barrier()
    finally:
        dist.destroy_process_group()


class Gradients:
    """The gradients of all parameters, and a few `numbers` of the step. With several ranks `reduce` lays them all into one
    vector, in the order of the parameters, and replaces each by its mean over ranks."""

    def __init__(self, parameters: Iterable[nn.Parameter], numbers: int, ranks: Ranks) -> None:
        self._parameters, self._ranks = list(parameters), ranks
        rooms = [-(-parameter.numel() // ALIGNMENT) * ALIGNMENT for parameter in self._parameters]
        rooms = rooms if ranks.count > 1 else []
        self._all = torch.zeros(sum(rooms) + numbers, device=ranks.device)
        *parts, self.numbers = torch.split(self._all, [*rooms, numbers])
        pairs = zip(self._parameters, parts, strict=False)
        self._views = [part[: parameter.numel()].view_as(parameter) for parameter, part in pairs]

    def clear(self) -> None:
        """Drops all gradients; call it before a backward pass, which then neither adds nor copies."""
        for parameter in self._parameters:
            parameter.grad = None

    def reduce(self) -> None:
        """Makes gradients and numbers their means over ranks; does nothing for one rank."""
        if self._ranks.count == 1:
            return
        torch._foreach_copy_(self._views, [parameter.grad for parameter in self._parameters])
        for parameter, view in zip(self._parameters, self._views, strict=True):
            parameter.grad = view
        dist.all_reduce(self._all)
        self._all /= self._ranks.count

    def norm(self) -> Tensor:
        """The norm of all gradients together; not finite if any of them is not."""
        return nn.utils.get_total_norm(p.grad for p in self._parameters if p.grad is not None)


class Reading:
    """Numbers of one step on their way from the device: read a step later, they do not make us wait for the step in work."""

    def __init__(self, step: int, numbers: Tensor) -> None:
        self.step, self._event = step, None
        if numbers.device.type == "cuda":
            self._numbers = torch.empty(numbers.shape, dtype=numbers.dtype, pin_memory=True)
            self._numbers.copy_(numbers, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()
        else:
            self._numbers = numbers

    def read(self) -> list[float]:
        """The numbers; waits for the device if they are not here yet."""
        if self._event is not None:
            self._event.synchronize()
        return self._numbers.tolist()
