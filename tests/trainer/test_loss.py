from __future__ import annotations

import open_clip
import torch
from torch.nn import functional as F

from trainer.loss import contrastive_loss


def features(n: int, seed: int) -> torch.Tensor:
    return F.normalize(torch.randn(n, 8, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_the_loss_is_open_clips() -> None:
    image, text, scale = features(6, 1), features(6, 2), torch.tensor(14.3)
    loss, _, corrupt = contrastive_loss(image, text, scale, torch.ones(6, dtype=torch.bool))
    torch.testing.assert_close(loss, open_clip.ClipLoss()(image, text, scale))
    assert corrupt == 0


def test_a_pair_that_is_not_valid_is_neither_example_nor_negative() -> None:
    image, text, scale = features(6, 1).requires_grad_(), features(6, 2), torch.tensor(14.3)
    valid = torch.tensor([True, True, False, True, False, True])
    loss, accuracy, corrupt = contrastive_loss(image, text, scale, valid)
    alone, alone_accuracy, _ = contrastive_loss(image[valid], text[valid], scale, valid[valid])
    torch.testing.assert_close(loss, alone)
    torch.testing.assert_close(accuracy, alone_accuracy)
    assert corrupt == 2
    (gradient,) = torch.autograd.grad(loss, image)
    assert gradient[~valid].abs().max() == 0 and gradient[valid].abs().min() > 0


def test_a_batch_with_nothing_valid_teaches_nothing() -> None:
    image = features(3, 1).requires_grad_()
    loss, accuracy, corrupt = contrastive_loss(image, features(3, 2), torch.tensor(9.0), torch.zeros(3).bool())
    loss.backward()
    assert (loss.item(), accuracy.item(), corrupt.item()) == (0, 0, 3) and image.grad.abs().max() == 0


def test_accuracy_is_the_share_of_images_nearest_to_their_own_text() -> None:
    text = torch.eye(4)
    image = text[[0, 1, 3, 2]]
    assert contrastive_loss(image, text, torch.tensor(1.0), torch.ones(4).bool())[1] == 0.5
