"""Which processor to compute on."""

from __future__ import annotations

import torch

from wit import flags
from wit.records import InputError

DEVICES = ("auto", "cpu", "cuda")


def pick_device(name: str) -> str:
    """`cpu` or `cuda`: the one named, or for `auto` cuda if there is any. Raises InputError if the device is not available."""
    if name not in DEVICES:
        raise InputError(f"no such device: {name}; {flags.instead(name, DEVICES)}")
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("no CUDA device here; leave --device out, or give cpu")
    return ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name
