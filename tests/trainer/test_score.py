from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from trainer import checkpoint, score
from trainer.augment import normalise
from trainer.config import TrainConfig, recipe
from trainer.data import crop, decode
from trainer.model import CLIP, MODELS
from trainer.tokenizer import tokenize
from trainer.train import train
from wit.errors import InputError
from wit.shards import iter_samples, list_shards

QUICK = dict(model="demo", epochs=6, batch_size=32, warmup_steps=5, log_every_steps=100, device="cpu")


def pairs_of(shards: str) -> list[tuple[bytes, str]]:
    return [(s.image_bytes, s.caption) for shard in list_shards(shards) for s in iter_samples(shard.path)]


def test_a_trained_model_scores_matching_captions_above_shuffled_ones(
    make_shards: Callable[..., str], tmp_path: Path
) -> None:
    train(TrainConfig(shards=make_shards(200, 120), output=str(tmp_path / "run"), **(recipe("demo") | QUICK)))
    unseen = [
        (data, f"it is {caption.split()[-1]}") for data, caption in pairs_of(make_shards(403, name="unseen"))[320:]
    ]
    shifted = [(data, unseen[(i + 1) % len(unseen)][1]) for i, (data, _) in enumerate(unseen)]  # the next colour
    scorer = score.open_scorer(str(tmp_path / "run"))
    right, wrong = scorer(unseen), scorer(shifted)
    wins = [a > b for a, b in zip(right, wrong, strict=True) if a is not None and b is not None]
    assert len(wins) == 83 and sum(wins) > 0.9 * len(wins)
    assert scorer(unseen) == right


@pytest.fixture
def untrained(tmp_path: Path) -> str:
    torch.manual_seed(3)
    state = {"name": "demo", "state_dict": CLIP(MODELS["demo"]).state_dict()}
    checkpoint.save(str(tmp_path / "run"), state, step=1, keep=1)
    return str(tmp_path / "run")


def test_a_score_is_the_cosine_of_the_two_embeddings_and_none_where_nothing_decodes(
    untrained: str, make_shards: Callable[..., str]
) -> None:
    pairs = pairs_of(make_shards(5, corrupt=(1, 4)))
    found = score.open_scorer(untrained)(pairs)
    assert [value is None for value in found] == [False, True, False, False, True]
    model, _ = checkpoint.load_model(untrained)
    for (data, caption), value in zip(pairs, found, strict=True):
        if value is not None:
            pixels = torch.tensor(crop(decode(data, 32), 32)).permute(2, 0, 1)[None].float() / 255
            tokens = torch.tensor(tokenize(caption, context_length=model.config.text.context_length))[None]
            cosine = F.cosine_similarity(model.encode_image(normalise(pixels)), model.encode_text(tokens))
            assert value == pytest.approx(cosine.item(), abs=1e-5)
    assert score.open_scorer(untrained)(pairs[4:]) == [None]
    assert score.open_scorer(untrained)([]) == []


def test_a_scorer_names_its_model_and_notices_another_checkpoint_in_its_place(untrained: str) -> None:
    scorer = score.open_scorer(untrained)
    assert scorer.model == "demo" and scorer.path.endswith("step-0000000001.pt") and len(scorer.sha256) == 64
    with pytest.raises(InputError, match="changed while it was used"):
        dataclasses.replace(scorer, sha256="0" * 64)([])


@pytest.mark.parametrize("data", [b"", b"not a checkpoint", b"PK\x03\x04 cut off"])
def test_what_is_no_checkpoint_is_bad_input(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.pt").write_bytes(data)
    torch.save({"name": "demo", "state_dict": {}, "args": Path("x")}, tmp_path / "other.pt")
    with pytest.raises(InputError, match="other.pt is no checkpoint of trainer.train") as error:
        score.open_scorer(str(tmp_path / "other.pt"))
    assert "weights_only" not in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(InputError, match="x.pt is no whole checkpoint"):
        score.open_scorer(str(tmp_path / "x.pt"))
    with pytest.raises(InputError, match="no checkpoint in"):
        score.open_scorer(str(tmp_path))
