"""What a training run leaves on disk: `checkpoints/step-NNNNNNNNNN.pt`, whole or not there, loadable as plain data.

The keys `name`, `epoch`, `state_dict` and `optimizer` are open_clip's, so its tools read the weights.
"""

from __future__ import annotations

import io
from typing import Any

import torch

from trainer.model import CLIP, MODELS
from wit import storage
from wit.records import InputError


def list_checkpoints(output: str) -> list[str]:
    """The checkpoints of a run, oldest first."""
    directory = storage.join(output, "checkpoints")
    names = [name for name in storage.list_dir(directory) if name.startswith("step-") and name.endswith(".pt")]
    return [storage.join(directory, name) for name in names]


def save(output: str, state: dict[str, Any], *, step: int, keep: int) -> None:
    """Writes the checkpoint of `step`, then removes all but the newest `keep`."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    storage.write_bytes(storage.join(output, "checkpoints", f"step-{step:010d}.pt"), buffer.getvalue())
    for path in list_checkpoints(output)[:-keep]:
        storage.remove(path)


def load(path: str) -> dict[str, Any]:
    """The state of a checkpoint file, or of the newest one of a run's directory; runs no code from the file."""
    if storage.is_dir(path):
        found = list_checkpoints(path)
        if not found:
            raise InputError(f"no checkpoint in {path}; give the --output of a training run, or a .pt file")
        path = found[-1]
    elif not storage.exists(path):
        raise InputError(f"no such checkpoint: {path}; give the --output of a training run, or a .pt file")
    state: dict[str, Any] = torch.load(io.BytesIO(storage.read_bytes(path)), map_location="cpu", weights_only=True)
    return state


def build(name: str) -> CLIP:
    """The named model with fresh weights; raises InputError naming the known ones."""
    if name not in MODELS:
        raise InputError(f"no such model: {name}; have {', '.join(MODELS)}")
    return CLIP(MODELS[name])


def load_model(path: str) -> tuple[CLIP, dict[str, Any]]:
    """The trained model, ready to evaluate, and the rest of its checkpoint."""
    state = load(path)
    model = build(state["name"])
    model.load_state_dict(state.pop("state_dict"))
    return model.eval(), state
