from __future__ import annotations

import torch

from trainer.augment import augment, draws, warp


def test_nothing_changes_without_strength_or_draw() -> None:
    images = torch.rand(4, 3, 16, 16)
    assert augment(images, draws(4, 8, seed=1, step=1), strength=0) is images
    torch.testing.assert_close(augment(images, torch.zeros(4, 8), strength=1), images, atol=1e-5, rtol=0)


def test_a_step_draws_the_same_again_and_another_step_something_else() -> None:
    first, again, other = (draws(4, 8, seed=1, step=step) for step in (5, 5, 6))
    assert torch.equal(first, again) and not torch.equal(first, other) and first.abs().max() <= 1


def test_colours_stay_in_range_and_grey_stays_grey_when_only_hue_turns() -> None:
    draw = draws(64, 8, seed=1, step=1)
    changed = augment(torch.rand(64, 3, 16, 16), draw, strength=1)
    assert changed.min() >= 0 and changed.max() <= 1
    hue = torch.zeros(64, 8)
    hue[:, 7] = draw[:, 7]
    grey = torch.full((64, 3, 8, 8), 0.4)
    torch.testing.assert_close(augment(grey, hue, strength=1), grey)


def test_a_shift_of_one_half_size_moves_the_picture_by_half_and_repeats_its_border() -> None:
    image = torch.arange(8.0).expand(1, 3, 8, 8) / 8
    moved = warp(image, torch.tensor([[1.0, 0.0]]), torch.ones(1, 1), torch.zeros(1, 1))
    torch.testing.assert_close(moved[0, 0, 0], torch.tensor([4, 5, 6, 7, 7, 7, 7, 7]) / 8)
