"""Augmentation of a whole batch on the device: geometry and colour, drawn from (seed, step) alone."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from trainer.model import MEAN, STD
from wit.records import keyed_hash


def normalise(images: Tensor) -> Tensor:
    """Float pixels in 0..1, shifted by CLIP's mean and scaled by its standard deviation."""
    mean, std = (images.new_tensor(value).view(1, 3, 1, 1) for value in (MEAN, STD))
    return (images - mean) / std


def draws(batch: int, columns: int, *, seed: int, step: int) -> Tensor:
    """`[batch, columns]` uniform draws in -1..1, the same on every rank and device."""
    generator = torch.Generator().manual_seed(keyed_hash(seed, "augment", str(step)) >> 1)
    return torch.rand(batch, columns, generator=generator) * 2 - 1


def augment(images: Tensor, draw: Tensor, *, strength: float) -> Tensor:
    """Pictures `[batch, 3, size, size]` in 0..1, shifted, scaled, turned and recoloured by `draw` `[batch, 8]` in -1..1.
    Strength 0 changes nothing; 1 is at most 12 % of shift, 25 % of scale, 17 degrees and 50 % of colour."""
    if not strength:
        return images
    shift, scale, turn, bright, contrast, saturation, hue = (strength * draw.to(images)).split(
        [2, 1, 1, 1, 1, 1, 1], dim=1
    )
    images = warp(images, 0.24 * shift, torch.exp2(0.32 * scale), 0.3 * turn)
    return recolour(images, 1 + 0.5 * saturation, 1 + 0.4 * contrast, 0.2 * bright, 0.5 * hue)


def warp(images: Tensor, shift: Tensor, scale: Tensor, angle: Tensor) -> Tensor:
    """Moves pictures, bilinearly; beyond its border a picture has the border's colour. `shift` in half sizes, `angle` in
    radians."""
    cos, sin = scale * angle.cos(), scale * angle.sin()
    theta = torch.stack([torch.cat([cos, -sin, shift[:, :1]], 1), torch.cat([sin, cos, shift[:, 1:]], 1)], dim=1)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def recolour(images: Tensor, saturation: Tensor, contrast: Tensor, brightness: Tensor, hue: Tensor) -> Tensor:
    """Applies one affine map of RGB to each picture: turned by `hue` radians about the grey axis, stretched from grey,
    shifted."""
    one = torch.eye(3, device=images.device)
    grey = torch.full_like(one, 1 / 3)
    axis = (one.roll(-1, 0) - one.roll(1, 0)) / math.sqrt(3)  # the cross product with the grey axis
    cos, sin = (value[:, :, None] for value in (hue.cos(), hue.sin()))
    colour = cos * (one - grey) + sin * axis
    matrix = contrast[:, :, None] * (grey + saturation[:, :, None] * colour)
    offset = (0.5 - 0.5 * contrast + brightness)[:, :, None]
    mixed = matrix @ images.flatten(2) + offset
    return mixed.clamp(0, 1).view_as(images)
