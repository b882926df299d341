from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw

from wit.shards import ShardWriter

# Two busy cores and two threads wait for each other at every operation: up to 20 times slower than one thread.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"

COLOURS = ("red", "green", "blue", "yellow", "black", "purple", "orange", "cyan")


def picture(n: int, *, mode: str = "RGB") -> bytes:
    """A disc in the colour of `n`, its place and size of its own, as PNG."""
    image = Image.new(mode, (40 + n % 5, 40 + n % 3), "white")
    ImageDraw.Draw(image).ellipse((n % 7, n % 11, 30 + n % 5, 30 + n % 4), fill=COLOURS[n % len(COLOURS)])
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def make_shards(tmp_path: Path) -> Callable[..., str]:
    """Writes shards of the published form with `counts` samples each; those numbered in `corrupt` do not decode."""

    def make(*counts: int, name: str = "shards", corrupt: tuple[int, ...] = ()) -> str:
        folder = tmp_path / name
        folder.mkdir()
        n = 0
        for shard, count in enumerate(counts):
            with open(folder / f"{shard:05d}.tar", "wb") as stream:
                writer = ShardWriter(stream)
                for _ in range(count):
                    key, caption = f"{n:032x}", f"number {n} is {COLOURS[n % len(COLOURS)]}"
                    data = picture(n)
                    image = data[: len(data) // 2] if n in corrupt else data
                    writer.add(key, image, "png", caption, {"key": key, "caption": caption})
                    n += 1
                writer.close()
        sizes = {f"{shard:05d}.tar": count for shard, count in enumerate(counts)}
        (folder / "sizes.json").write_text(json.dumps(sizes))
        return str(folder)

    return make


@pytest.fixture
def make_dataset(tmp_path: Path) -> Callable[..., str]:
    """Writes a zero-shot dataset of discs: the colours are the classes."""

    def make(images: int) -> str:
        folder = tmp_path / "discs"
        (folder / "images").mkdir(parents=True)
        (folder / "classnames.txt").write_text("\n".join(COLOURS) + "\n")
        (folder / "templates.txt").write_text("number 3 is {}\nit is {}\n")
        for n in range(images):
            (folder / "images" / f"{n % len(COLOURS):05d}_{n}.png").write_bytes(picture(n + 1000))
        return str(folder)

    return make
