"""What a training run leaves on disk: `checkpoints/step-NNNNNNNNNN.pt`, whole or not there, loadable as plain data.

The keys `name`, `epoch`, `state_dict` and `optimizer` are open_clip's, so its tools read the weights. A checkpoint is a zip file
with a CRC-32 of every record, and was one in earlier versions too. PyTorch does not compare the CRC-32, so it is done here: a
file that was cut off or flipped is noticed.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trainer.model import CLIP, MODELS
from wit import flags
from wit.records import InputError
from wit.store import fs

GIVE = "give the --output of a training run, or a .pt file"


class NotFinite(Exception):
    """A state with weights or moments that are not finite was about to be saved."""


@dataclass(frozen=True)
class Found:
    """A whole checkpoint; and for each newer one that was passed over, a sentence that says why."""

    path: str
    state: dict[str, Any]
    passed_over: tuple[str, ...] = ()

    def sentences(self) -> list[str]:
        """The lines to print about the choice; none if it was the newest."""
        lines = [f"passed over: {sentence}" for sentence in self.passed_over]
        return [*lines, f"taken instead: {self.path}"] if lines else []


def list_checkpoints(output: str) -> list[str]:
    """The checkpoints of a run, oldest first."""
    directory = fs.join(output, "checkpoints")
    names = [name for name in fs.list_dir(directory) if name.startswith("step-") and name.endswith(".pt")]
    return [fs.join(directory, name) for name in names]


def path_of(output: str, step: int) -> str:
    """The path of the checkpoint of that step; ten digits, so that names sort by step."""
    return fs.join(output, "checkpoints", f"step-{step:010d}.pt")


def save(output: str, state: dict[str, Any], *, step: int, keep: int) -> None:
    """Writes the checkpoint of `step`, and keeps only the newest `keep`. Later ones go too: they were passed over as damaged when
    the run went on. Raises NotFinite for a state that is not finite, which must not replace a good one."""
    if not is_finite(state):
        raise NotFinite(f"step {step}")
    buffer = io.BytesIO()
    torch.save(state, buffer)
    written = path_of(output, step)
    fs.write_bytes(written, buffer.getvalue())
    checkpoints = list_checkpoints(output)
    sound = checkpoints[: checkpoints.index(written) + 1]
    for path in [*checkpoints[len(sound) :], *sound[:-keep]]:
        fs.remove(path)


def is_finite(state: dict[str, Any]) -> bool:
    """Whether all weights, running statistics and moments are finite numbers."""
    kept = (state.get("state_dict"), state.get("optimizer"))
    return all(bool(tensor.isfinite().all()) for tensor in tensors_of(kept))


def tensors_of(value: Any) -> Iterator[Tensor]:
    """Every tensor in nested dicts, lists and tuples."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict | list | tuple):
        for part in value.values() if isinstance(value, dict) else value:
            yield from tensors_of(part)


def find(path: str) -> Found:
    """A checkpoint file, or the newest whole one of a run's directory; raises InputError where there is none."""
    if not fs.is_dir(path):
        return Found(path, read(path))
    passed: list[str] = []
    for file in reversed(list_checkpoints(path)):
        try:
            return Found(file, read(file), tuple(passed))
        except InputError as error:
            passed.append(str(error))
    if passed:
        raise InputError(f"no checkpoint in {path} can be used ({passed[0]}); put a copy back, or train anew elsewhere")
    raise InputError(f"no checkpoint in {path}; {GIVE}")


def load(path: str) -> dict[str, Any]:
    """The state of a checkpoint file, or of the newest whole one of a run's directory; runs no code from the file."""
    return find(path).state


def read(path: str) -> dict[str, Any]:
    """The state in a file; raises InputError where it is missing, not whole, or holds numbers that are not finite."""
    if not fs.exists(path):
        raise InputError(f"no such checkpoint: {path}; {GIVE}")
    data = fs.read_bytes(path)
    try:
        state = _state(data)
    except pickle.UnpicklingError as error:  # its text advises to run the file's code
        raise InputError(
            f"{path} is no checkpoint of trainer.train: it holds more than numbers and texts; {GIVE}"
        ) from error
    except Exception as error:  # flipped bytes raise what they like in zipfile, pickle and PyTorch
        raise InputError(f"{path} is no whole checkpoint ({f'{error}'.partition(chr(10))[0]}): {GIVE}") from error
    if not is_finite(state):
        raise InputError(f"{path} holds numbers that are not finite: {GIVE}")
    return state


def _state(data: bytes) -> dict[str, Any]:
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        if (flipped := file.testzip()) is not None:
            raise ValueError(f"{flipped} has another checksum than was written")
    state: dict[str, Any] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    if missing := {"name", "state_dict"} - state.keys():
        raise ValueError(f"it has no {', '.join(sorted(missing))}")
    return state


def build(name: str) -> CLIP:
    """The named model with fresh weights; raises InputError naming the known ones."""
    if name not in MODELS:
        raise InputError(f"no such model: {name}; {flags.instead(name, MODELS)}")
    return CLIP(MODELS[name])


def model_of(loaded: Found) -> CLIP:
    """The trained model, ready to evaluate; raises InputError where the weights are another model's."""
    model = build(loaded.state["name"])
    try:
        model.load_state_dict(loaded.state["state_dict"])
    except RuntimeError as error:
        raise InputError(f"{loaded.path} holds other weights than those of a {loaded.state['name']}: {GIVE}") from error
    return model.eval()


def load_model(path: str) -> tuple[CLIP, dict[str, Any]]:
    """The trained model, ready to evaluate, and the rest of its checkpoint."""
    loaded = find(path)
    model = model_of(loaded)
    return model, {name: value for name, value in loaded.state.items() if name != "state_dict"}
