"""A corpus of varied photographs for bench_download: crops of free photographs at web sizes, with synthetic grain.

    python benchmarks/make_pictures.py OUT --count 3000

Sources are what can be had from package registries: the photographs in the scikit-image and scikit-learn wheels and, where
apt works, the Debian package plasma-workspace-wallpapers. 90 % JPEG (a quarter of them progressive, quality 75 to 92), PNG,
WebP and GIF. The same arguments give the same files. Not real web images: the share of progressive JPEG and the bits per
pixel drive all results, and both were chosen, not measured.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

Image.MAX_IMAGE_PIXELS = None
PACKAGE = "plasma-workspace-wallpapers"
WHEEL_PHOTOGRAPHS = {
    "skimage": (
        "data/astronaut.png",
        "data/coffee.png",
        "data/chelsea.png",
        "data/rocket.jpg",
        "data/motorcycle_left.png",
    ),
    "sklearn": ("datasets/images/china.jpg", "datasets/images/flower.jpg"),
}
KINDS = ("JPEG",) * 903 + ("PNG",) * 52 + ("WEBP",) * 29 + ("GIF",) * 16
BAD = 0.01  # of the corpus, beside it: cut off, HTML, noise; a third each


def wheel_photographs() -> list[Image.Image]:
    """The photographs that the installed wheels bring."""
    found = []
    for package, names in WHEEL_PHOTOGRAPHS.items():
        spec = importlib.util.find_spec(package)
        root = Path(spec.origin).parent if spec and spec.origin else Path()
        found += [Image.open(root / name).convert("RGB") for name in names if (root / name).exists()]
    return found


def wallpapers() -> list[Image.Image]:
    """The largest rendering of each Debian wallpaper; none where apt does not work."""
    with tempfile.TemporaryDirectory() as folder:
        if subprocess.run(["apt-get", "download", "-qq", PACKAGE], cwd=folder, capture_output=True).returncode:
            return []
        (package,) = Path(folder).glob("*.deb")
        subprocess.run(["dpkg", "-x", package, folder], check=True)
        files = sorted(Path(folder).glob("usr/share/wallpapers/*/contents/images/*.*"))
        largest: dict[Path, Path] = {}
        for file in files:
            if (
                file.suffix.lower() in (".jpg", ".png")
                and file.stat().st_size > largest.get(file.parent, file).stat().st_size - 1
            ):
                largest[file.parent] = file
        pictures = []
        for file in largest.values():
            with Image.open(file) as opened:
                opened.draft("RGB", (2560, 2560))
                picture = opened.convert("RGB")
            picture.thumbnail((2560, 2560))
            pictures.append(picture)
        return pictures


def photograph(sources: list[Image.Image], rng: np.random.Generator) -> Image.Image:
    """A random crop at a random web size (median 0.68, mean about 1.1 megapixels), with grain."""
    source = sources[rng.integers(len(sources))]
    pixels = float(np.clip(np.exp(rng.normal(np.log(0.68e6), 0.95)), 20_000, 8e6))
    ratio = float(np.exp(rng.normal(0.15, 0.3)))
    width, height = int((pixels * ratio) ** 0.5), int((pixels / ratio) ** 0.5)
    part = min(1.0, rng.uniform(0.35, 1.0))
    side = min(source.width / width, source.height / height) * part
    w, h = max(int(width * side), 8), max(int(height * side), 8)
    left, top = int(rng.integers(source.width - w + 1)), int(rng.integers(source.height - h + 1))
    crop = source.resize((width, height), Image.Resampling.BICUBIC, (left, top, left + w, top + h))
    grain = rng.integers(-128, 128, (height, width, 1), np.int16) * int(rng.integers(2, 14)) // 128
    return Image.fromarray((np.asarray(crop, np.int16) + grain).clip(0, 255).astype(np.uint8))


def encoded(picture: Image.Image, kind: str, rng: np.random.Generator) -> bytes:
    out = io.BytesIO()
    if kind == "JPEG":
        quality, progressive = int(rng.integers(75, 93)), bool(rng.random() < 0.25)
        picture.save(out, kind, quality=quality, progressive=progressive, subsampling=int(rng.choice((0, 2, 2, 2))))
    elif kind == "WEBP":
        picture.save(out, kind, quality=80, method=2)
    else:
        picture.thumbnail((1000, 1000))
        picture.save(out, kind, compress_level=4) if kind == "PNG" else picture.quantize(64).save(out, kind)
    return out.getvalue()


def bad(number: int, good: bytes) -> bytes:
    return (good[: len(good) // 2], b"<!doctype html><html>gone</html>", good[:100] + bytes(range(256)) * 20)[
        number % 3
    ]


def make(out: Path, count: int, seed: int = 1) -> None:
    """Writes `count` pictures and 1 % of bad files as OUT/NNNNN.EXT, unless they are there."""
    out.mkdir(parents=True, exist_ok=True)
    sources = wheel_photographs() + wallpapers()
    for number in range(count):
        rng = np.random.default_rng((seed, number))
        kind = KINDS[int(rng.integers(len(KINDS)))]
        place = out / f"{number:05d}.{'jpg' if kind == 'JPEG' else kind.lower()}"
        if not place.exists():
            data = encoded(photograph(sources, rng), kind, rng)
            place.write_bytes(data)
            if number % int(1 / BAD) == 0:
                (out / f"{number:05d}bad.jpg").write_bytes(bad(number // int(1 / BAD), data))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=3000)
    parser.add_argument("--first", type=int, default=0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    make(arguments.out, arguments.count)


if __name__ == "__main__":
    main()
