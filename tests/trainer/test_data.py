from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from trainer.data import Batch, Stream, StreamConfig, crop, decode, permutation
from trainer.tokenizer import tokenize
from wit.errors import InputError

CONFIG = StreamConfig(batch_size=8, image_size=16, context_length=12, seed=7, shuffle_buffer=20)


def batches(shards: str, first: int = 0, end: int = 15, rank: int = 0, ranks: int = 1, **knobs: object) -> list[Batch]:
    stream = Stream.open(shards, dataclasses.replace(CONFIG, **knobs), rank=rank, ranks=ranks)
    return list(stream.batches(first=first, end=end))


def keys(found: list[Batch]) -> list[str]:
    return [key for batch in found for key in batch.keys]


def assert_same(found: list[Batch], expected: list[Batch]) -> None:
    assert keys(found) == keys(expected)
    for name in ("images", "tokens", "valid"):
        assert torch.equal(
            torch.cat([getattr(batch, name) for batch in found]), torch.cat([getattr(b, name) for b in expected])
        )


@pytest.fixture
def shards(make_shards: Callable[..., str]) -> str:
    return make_shards(11, 3, 9, 17)  # 40 samples, 5 batches an epoch


def test_every_sample_comes_once_an_epoch_in_another_order_each(shards: str) -> None:
    found = keys(batches(shards))
    epochs = [found[:40], found[40:80], found[80:]]
    assert all(sorted(epoch) == sorted(epochs[0]) and len(set(epoch)) == 40 for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2] and epochs[0] != sorted(epochs[0])


def test_a_picture_keeps_its_caption(shards: str) -> None:
    for batch in batches(shards):
        for key, tokens in zip(batch.keys, batch.tokens, strict=True):
            n = int(key, 16)
            colours = ("red", "green", "blue", "yellow", "black", "purple", "orange", "cyan")
            told = f"number {n} is {colours[n % 8]}"
            assert np.array_equal(tokens.numpy(), tokenize(told, context_length=12))


@pytest.mark.parametrize("knobs", [{"workers": 5}, {"cache_mb": 10}, {"cache_mb": 10, "workers": 3}])
def test_workers_and_cache_do_not_change_the_stream(shards: str, knobs: dict[str, int]) -> None:
    assert_same(batches(shards, workers=1), batches(shards, **knobs))


@pytest.mark.parametrize("first", [0, 1, 4, 5, 9, 14])
def test_a_stream_begun_in_the_middle_is_the_rest_of_the_whole(shards: str, first: int) -> None:
    assert_same(batches(shards, first=first), batches(shards)[first:])


@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_share_the_batches_of_one_process(shards: str, ranks: int) -> None:
    parts = [batches(shards, rank=rank, ranks=ranks) for rank in range(ranks)]
    assert_same([batch for step in zip(*parts, strict=True) for batch in step], batches(shards))


def test_samples_that_fill_no_batch_are_counted(make_shards: Callable[..., str]) -> None:
    stream = Stream.open(make_shards(13, 6), CONFIG)
    assert (stream.samples, stream.batches_per_epoch, stream.left_out_per_epoch) == (19, 2, 3)
    assert len(set(keys(list(stream.batches(end=2))))) == 16


def test_a_corrupt_picture_is_named_and_not_valid(make_shards: Callable[..., str]) -> None:
    found = batches(make_shards(20, 20, corrupt=(3, 25)), end=5)
    assert sorted(key for batch in found for key in batch.corrupt) == [f"{3:032x}", f"{25:032x}"]
    assert sum(int(batch.valid.sum()) for batch in found) == 38


def test_shuffled_captions_are_all_there_and_nearly_none_in_its_place(shards: str) -> None:
    right = {k: tuple(t.tolist()) for b in batches(shards, end=5) for k, t in zip(b.keys, b.tokens, strict=True)}
    found = batches(shards, shuffle_captions=True)
    wrong = {k: tuple(t.tolist()) for b in found[:5] for k, t in zip(b.keys, b.tokens, strict=True)}
    again = {k: tuple(t.tolist()) for b in found[5:10] for k, t in zip(b.keys, b.tokens, strict=True)}
    assert sorted(right.values()) == sorted(wrong.values()) and wrong == again
    assert sum(right[key] == wrong[key] for key in right) < 12


def test_a_shard_with_a_sample_missing_stops_the_stream(shards: str) -> None:
    sizes = Path(shards, "sizes.json")
    sizes.write_text(json.dumps({**json.loads(sizes.read_text(encoding="utf-8")), "00001.tar": 4}), encoding="utf-8")
    with pytest.raises(InputError, match=r"00001.tar holds 3 samples where .* 4"):
        batches(shards)


def test_too_few_samples_for_a_batch_are_refused(make_shards: Callable[..., str]) -> None:
    with pytest.raises(InputError, match="5 samples, fewer than a batch of 8"):
        Stream.open(make_shards(5), CONFIG)


@pytest.mark.parametrize("n", [0, 1, 2, 1000])
def test_a_permutation_has_every_number_once(n: int) -> None:
    assert sorted(permutation(n, seed=1, purpose="x").tolist()) == list(range(n))


def test_a_permutation_never_changes() -> None:
    assert permutation(10, seed=1, purpose="x").tolist() == [7, 0, 9, 1, 4, 3, 6, 2, 5, 8]


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


@pytest.mark.parametrize(
    "data, pixel",
    [
        (encoded(Image.new("RGB", (60, 30), (10, 20, 30)), "PNG"), (10, 20, 30)),
        (encoded(Image.new("RGBA", (30, 60), (10, 20, 30, 0)), "PNG"), (255, 255, 255)),
        (encoded(Image.new("LA", (30, 30), (0, 255)), "PNG"), (0, 0, 0)),
        (encoded(Image.new("L", (30, 30), 7), "WEBP", lossless=True), (7, 7, 7)),
        (encoded(Image.new("P", (30, 30), 0), "PNG", transparency=0), (255, 255, 255)),
        (encoded(Image.new("CMYK", (30, 30), (0, 0, 0, 0)), "JPEG"), (255, 255, 255)),
        (encoded(Image.new("RGB", (1, 300), "white"), "PNG"), (255, 255, 255)),
    ],
)
def test_every_kind_of_picture_becomes_rgb_on_white(data: bytes, pixel: tuple[int, int, int]) -> None:
    image = decode(data, 16)
    assert image is not None and min(image.shape[:2]) == 16
    assert crop(image, 16).shape == (16, 16, 3) and tuple(image[0, 0]) == pixel


SIDES = [(w, h) for w, h in zip(range(33, 633, 10), [*range(640, 40, -20), *range(35, 335, 10)], strict=True)]


@pytest.mark.parametrize("size", [32, 224])
def test_pictures_of_60_sizes_are_prepared_as_open_clip_prepares_them(size: int) -> None:
    theirs = open_clip.image_transform(size, is_train=False, mean=(0, 0, 0), std=(1, 1, 1))
    rng = np.random.default_rng(1)
    differ = []
    for width, height in SIDES:
        image = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
        ours = crop(decode(encoded(image, "PNG"), size), size)
        if not np.array_equal(ours, (theirs(image) * 255).round().byte().permute(1, 2, 0).numpy()):
            differ.append((width, height))
    assert len(SIDES) == 60 and differ == []


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<html>",
        encoded(Image.effect_noise((64, 64), 50), "PNG")[:900],
        b"\x89PNG\r\n\x1a\n" + b"\0" * 50,
        b"qoif\0\0\0\x08\0\0\0\x08\x03\0",  # Pillow raises IndexError
        b"DDS \x7c" + bytes(3 + 4 + 4) + b"\x08\0\0\0\x08" + bytes(111),  # NotImplementedError
    ],
)
def test_what_is_no_picture_does_not_decode(data: bytes) -> None:
    assert decode(data, 16) is None
