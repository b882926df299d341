from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from trainer import checkpoint
from trainer.config import TrainConfig, recipe
from trainer.evaluate import class_embeddings, describe, main, wilson, zero_shot
from trainer.model import CLIP, MODELS
from trainer.testset import open_dataset
from trainer.tokenizer import tokenize
from trainer.train import train
from wit.shards import ShardWriter

QUICK = dict(model="demo", epochs=6, batch_size=32, warmup_steps=5, log_every_steps=100, device="cpu")


def test_a_trained_model_knows_colours_and_one_trained_on_shuffled_captions_does_not(
    make_shards: Callable[..., str], make_dataset: Callable[..., str], tmp_path: Path, capsys
) -> None:
    shards, dataset = make_shards(200, 120), make_dataset(96)
    right = TrainConfig(
        shards=shards, output=str(tmp_path / "right"), **(recipe("demo") | QUICK | {"augmentation": 0.2})
    )
    train(right)
    train(dataclasses.replace(right, output=str(tmp_path / "wrong"), shuffle_captions=True))
    for name in ("right", "wrong"):
        command = ["--checkpoint", str(tmp_path / name), "--dataset", dataset, "--device", "cpu"]
        assert main([*command, "--nearest-in", shards]) == 0
    told = {name: json.loads((tmp_path / name / "zero-shot-discs.json").read_text()) for name in ("right", "wrong")}
    assert told["right"]["top1"] > 0.9 and told["wrong"]["top1"] < 0.6 and told["right"]["chance"] == 0.125
    assert told["right"]["nearest"]["training_images"] == 320 and 0.5 < told["right"]["nearest"]["top1"] <= 1
    assert (told["right"]["shuffled_captions"], told["wrong"]["shuffled_captions"]) == (False, True)
    said = capsys.readouterr().out
    assert "training pictures by raw pixels: top-1" in said and "control run" in said


def test_a_class_is_the_mean_of_its_prompts(make_dataset: Callable[..., str]) -> None:
    model = CLIP(MODELS["demo"]).eval()
    dataset = open_dataset(make_dataset(8))
    found = class_embeddings(model, dataset, torch.device("cpu"))
    prompts = [torch.tensor(tokenize(text, context_length=32)) for text in ("number 3 is blue", "it is blue")]
    expected = model.encode_text(torch.stack(prompts)).mean(dim=0)
    torch.testing.assert_close(found[2], expected / expected.norm())


def test_a_picture_that_does_not_decode_counts_as_wrong(make_dataset: Callable[..., str]) -> None:
    path = make_dataset(8)
    for image in Path(path, "images").iterdir():
        image.write_bytes(b"broken")
    result = zero_shot(CLIP(MODELS["demo"]), open_dataset(path))
    assert (result.images, result.corrupt, result.top1, result.top5) == (8, 8, 0, 0)
    named = sorted(str(image) for image in Path(path, "images").iterdir())
    assert sorted(result.corrupt_pictures) == named
    assert f"corrupt, so wrong: {', '.join(result.corrupt_pictures[:5])}, ..." in describe(result)


def test_clip_benchmarks_form_gives_the_same_result(make_dataset: Callable[..., str], tmp_path: Path) -> None:
    folder, other = Path(make_dataset(24)), tmp_path / "benchmark"
    (other / "test").mkdir(parents=True)
    (other / "test" / "nshards.txt").write_text("2\n")
    (other / "classnames.txt").write_bytes((folder / "classnames.txt").read_bytes())
    templates = (folder / "templates.txt").read_text().replace("{}", "{c}")
    (other / "zeroshot_classification_templates.txt").write_text(templates)
    images = sorted((folder / "images").iterdir())
    for shard in range(2):
        with open(other / "test" / f"{shard}.tar", "wb") as stream:
            writer = ShardWriter(stream)
            for number, image in enumerate(images[shard::2]):
                writer.add_member(f"s{number:07d}.cls", image.name.split("_")[0].lstrip("0").encode() or b"0")
                writer.add_member(f"s{number:07d}.png", image.read_bytes())
            writer.close()
    model = CLIP(MODELS["demo"])
    ours, theirs = (zero_shot(model, open_dataset(str(path))) for path in (folder, other))
    assert dataclasses.replace(theirs, dataset="discs") == ours


@pytest.mark.parametrize("right, n, interval", [(0, 10, (0, 0.2775)), (5, 10, (0.2366, 0.7634)), (10, 10, (0.7225, 1))])
def test_wilsons_interval(right: int, n: int, interval: tuple[float, float]) -> None:
    assert wilson(right, n) == pytest.approx(interval, abs=1e-4)


def test_groups_of_classes_are_told_apart(make_dataset: Callable[..., str]) -> None:
    path = make_dataset(24)
    Path(path, "groups.txt").write_text("warm\ncold\ncold\nwarm\ncold\ncold\nwarm\ncold\n", encoding="utf-8")
    result = zero_shot(CLIP(MODELS["demo"]), open_dataset(path))
    assert {name: part.images for name, part in result.groups.items()} == {"warm": 9, "cold": 15}
    assert sum(part.top1 * part.images for part in result.groups.values()) == pytest.approx(24 * result.top1)
    assert "cold, 15 images: top-1" in describe(result)


def spoil(dataset: Path, how: str) -> None:
    match how:
        case "names":
            (dataset / "classnames.txt").unlink()
        case "template":
            (dataset / "templates.txt").write_text("no place for a name\n")
        case "number":
            (dataset / "images" / "00008_x.png").write_bytes(b"")
        case "groups":
            (dataset / "groups.txt").write_text("warm\ncold\n", encoding="utf-8")
        case "a blank group":
            (dataset / "groups.txt").write_text("warm\ncold\n\n" + 5 * "cold\n", encoding="utf-8")
        case "images":
            for image in (dataset / "images").iterdir():
                image.unlink()


@pytest.mark.parametrize(
    "how, told",
    [
        ("names", "no such file"),
        ("template", "has no {} for the class name"),
        ("number", "class number below 8"),
        ("images", "no images; it needs both"),
        ("groups", "has 2 lines for 8 classes"),
        ("a blank group", "line 3 is blank"),
        ("nothing", "no checkpoint in"),
    ],
)
def test_bad_input_gets_one_sentence(how: str, told: str, make_dataset, tmp_path: Path, capsys) -> None:
    dataset = Path(make_dataset(8))
    spoil(dataset, how)
    assert main(["--checkpoint", str(tmp_path), "--dataset", str(dataset)]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("how", ["cut", "other model"])
def test_a_damaged_checkpoint_gets_one_sentence(how: str, make_dataset, tmp_path: Path, capsys) -> None:
    model = "demo" if how == "cut" else "demo-vit"
    state = {"name": model, "step": 1, "state_dict": CLIP(MODELS["demo"]).state_dict()}
    checkpoint.save(str(tmp_path / "run"), state, step=1, keep=1)
    [path] = map(Path, checkpoint.list_checkpoints(str(tmp_path / "run")))
    if how == "cut":
        path.write_bytes(path.read_bytes()[:-1000])
    assert main(["--checkpoint", str(path), "--dataset", make_dataset(8)]) == 2
    said = capsys.readouterr().err
    assert path.name in said and said.count("\n") == 1


def test_a_checkpoint_that_is_taken_instead_and_the_place_of_the_result_are_told(
    make_dataset, tmp_path: Path, capsys
) -> None:
    run, dataset = tmp_path / "run", make_dataset(8)
    for step in (1, 2):
        state = {"name": "demo", "step": step, "state_dict": CLIP(MODELS["demo"]).state_dict()}
        checkpoint.save(str(run), state, step=step, keep=2)
    older, newer = map(Path, checkpoint.list_checkpoints(str(run)))
    newer.write_bytes(newer.read_bytes()[:-1000])
    assert main(["--checkpoint", str(run), "--dataset", dataset]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith(f"passed over: {newer} ") and said[1] == f"taken instead: {older}"
    assert said[-1] == f"written to {run}/zero-shot-discs.json" and "warning" not in "".join(said)
    newer.unlink()
    assert main(["--checkpoint", str(run), "--dataset", dataset, "--output", str(tmp_path / "r.json")]) == 0
    said = capsys.readouterr().out.splitlines()
    assert "taken" not in "".join(said) and said[-1] == f"written to {tmp_path}/r.json"


def test_an_output_that_cannot_be_a_file_is_refused_before_the_model_runs(make_dataset, tmp_path: Path, capsys) -> None:
    assert main(["--checkpoint", str(tmp_path), "--dataset", make_dataset(8), "--output", str(tmp_path)]) == 2
    assert "is a directory; give the name of a JSON file" in capsys.readouterr().err
