from __future__ import annotations

import dataclasses

import open_clip
import pytest
import torch

from trainer.model import CLIP, MODELS, ResNetConfig, TextConfig, ViTConfig


def theirs(name: str, **shrink: object) -> open_clip.CLIP:
    """open_clip's model of that name with random weights, its sizes changed by `shrink`."""
    config = open_clip.get_model_config(name)
    vision, text = dict(config["vision_cfg"]), dict(config["text_cfg"])
    vision.update(shrink.get("vision", {}))  # type: ignore[call-overload]
    text.update(shrink.get("text", {}))  # type: ignore[call-overload]
    return open_clip.CLIP(config["embed_dim"], vision, text, quick_gelu=True).eval()


def randomised(model: torch.nn.Module) -> torch.nn.Module:
    """Every parameter and statistic drawn anew: zero-initialised ones would hide a mistake."""
    torch.manual_seed(1)
    for name, value in model.state_dict().items():
        if value.is_floating_point() and "logit_scale" not in name:
            scale = 0.3 if value.ndim == 1 else value.shape[-1] ** -0.5
            value.copy_(torch.randn_like(value) * scale + (1 if value.ndim == 1 else 0)).abs_() if (
                "running_var" in name
            ) else value.copy_(torch.randn_like(value) * scale + (1 if value.ndim == 1 else 0))
    return model


@pytest.mark.parametrize(
    "name, image, text, vision_shrink, text_shrink",
    [
        ("ViT-B-32", ViTConfig(32, 128, 2), TextConfig(64, 2, 2), {"width": 128, "layers": 2}, {}),
        ("RN50", ResNetConfig((1, 2, 1, 1), 16), TextConfig(64, 2, 2), {"width": 16, "layers": [1, 2, 1, 1]}, {}),
    ],
)
def test_a_model_of_either_kind_computes_what_open_clips_does(name, image, text, vision_shrink, text_shrink) -> None:
    config = dataclasses.replace(MODELS[name.replace("B-", "B/")], image=image, text=text)
    peer = randomised(theirs(name, vision=vision_shrink, text={"width": 64, "layers": 2, "heads": 2} | text_shrink))
    ours = CLIP(config).eval()
    ours.load_state_dict(peer.state_dict())
    images = torch.randn(3, 3, config.image_size, config.image_size)
    tokens = open_clip.tokenize(["a fox", "", "two words and a very long rest of it " * 30])
    with torch.no_grad():
        torch.testing.assert_close(
            ours.encode_image(images), peer.encode_image(images, normalize=True), atol=1e-5, rtol=0
        )
        torch.testing.assert_close(
            ours.encode_text(tokens), peer.encode_text(tokens, normalize=True), atol=1e-5, rtol=0
        )


@pytest.mark.parametrize("name", [name for name in MODELS if not name.startswith("demo")])
def test_a_named_model_has_open_clips_parameters_and_shapes(name: str) -> None:
    with torch.device("meta"):
        ours = CLIP(MODELS[name]).state_dict()
        config = open_clip.get_model_config(name.replace("/", "-").replace("@336px", "-336"))
        peer = open_clip.CLIP(
            config["embed_dim"], config["vision_cfg"], config["text_cfg"], quick_gelu=True
        ).state_dict()
    assert {key: value.shape for key, value in ours.items()} == {key: value.shape for key, value in peer.items()}


@pytest.mark.parametrize("name", ["demo", "demo-vit"])
def test_words_after_the_end_do_not_change_a_text(name: str) -> None:
    model = CLIP(MODELS[name]).eval()
    tokens = torch.zeros(2, 32, dtype=torch.long)
    tokens[:, :4] = torch.tensor([49406, 320, 2019, 49407])
    tokens[1, 5:] = 17
    first, second = model.encode_text(tokens)
    torch.testing.assert_close(first, second)
