"""How near the pictures that the programs store are to a full decode and Pillow's Lanczos: PSNR, SSIM and mean absolute error."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from wit.store import parquet

SAMPLE = 400  # pictures compared


def stretched(data: bytes, size: int = 256) -> np.ndarray[Any, Any]:
    """Full decode, Pillow's Lanczos to a square of `size` whatever the shape: uncompressed."""
    picture = Image.open(io.BytesIO(data)).convert("RGB")
    return np.asarray(picture.resize((size, size), Image.Resampling.LANCZOS), np.float64)


def on_paper(data: bytes, size: int = 256) -> np.ndarray[Any, Any]:
    """Full decode, upright, Pillow's Lanczos with its longer side `size`, on a white square: uncompressed."""
    picture = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    by = size / max(picture.size)
    width, height = (max(1, round(side * by)) for side in picture.size)
    small = picture.resize((width, height), Image.Resampling.LANCZOS)
    paper = Image.new("RGB", (size, size), "white")
    paper.paste(small, ((size - width) // 2, (size - height) // 2))
    return np.asarray(paper, np.float64)


def psnr(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> float:
    error = float(((a - b) ** 2).mean())
    return 99.0 if error == 0 else 10 * float(np.log10(255**2 / error))


def ssim(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> float:
    """Mean structural similarity of the luma over 8 x 8 windows at every position (Wang et al. 2004, uniform window)."""
    x, y = (picture @ (0.299, 0.587, 0.114) for picture in (a, b))

    def means(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        total = np.pad(values.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
        return (total[8:, 8:] - total[:-8, 8:] - total[8:, :-8] + total[:-8, :-8]) / 64

    mx, my = means(x), means(y)
    vx, vy, vxy = means(x * x) - mx**2, means(y * y) - my**2, means(x * y) - mx * my
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    return float((((2 * mx * my + c1) * (2 * vxy + c2)) / ((mx**2 + my**2 + c1) * (vx + vy + c2))).mean())


def our_pictures(out: Path) -> dict[str, bytes]:
    """File name in the corpus -> stored bytes."""
    found = {}
    for path in (out / "raw").glob("?????-????.json"):
        files = json.loads(path.read_bytes())["files"]
        tar = (out / files["tar"]["name"]).read_bytes()
        for row in parquet.read_table(str(out / files["parquet"]["name"])).to_pylist():
            if row["reason"] is None:
                found[row["url"].rpartition("/")[2]] = tar[row["tar_offset"] : row["tar_offset"] + row["tar_size"]]
    return found


def peer_pictures(out: Path) -> dict[str, bytes]:
    found = {}
    for path in sorted(out.glob("*.parquet")):
        urls = {
            row["key"]: row["url"] for row in parquet.read_table(str(path)).to_pylist() if row["status"] == "success"
        }
        with tarfile.open(path.with_suffix(".tar")) as tar:
            for member in tar:
                key, _, extension = member.name.partition(".")
                if extension == "jpg" and key in urls:
                    body = tar.extractfile(member)
                    assert body
                    found[urls[key].rpartition("/")[2]] = body.read()
    return found


def daft_pictures(out: Path) -> dict[str, bytes]:
    tables = [parquet.read_table(str(path)) for path in sorted(out.glob("*.parquet"))]
    return {row["url"].rpartition("/")[2]: row["jpg"] for table in tables for row in table.to_pylist()}


def quality(
    corpus: Path, stored: dict[str, bytes], reference: Callable[[bytes], np.ndarray[Any, Any]] = on_paper
) -> str:
    damaged = sum("bad" in name for name in stored)
    names = sorted(name for name in stored if name.endswith("jpg") and "bad" not in name)
    names = names[:: max(1, len(names) // SAMPLE)]
    pairs = []
    for name in names:
        wanted = reference((corpus / name).read_bytes())
        got = np.asarray(Image.open(io.BytesIO(stored[name])).convert("RGB"), np.float64)
        if got.shape == wanted.shape:
            pairs.append((psnr(wanted, got), ssim(wanted, got), float(np.abs(wanted - got).mean())))
    p, s, off = (np.array(column) for column in zip(*pairs, strict=True))
    return (
        f"PSNR median {np.median(p):5.2f} p5 {np.percentile(p, 5):5.2f} dB   SSIM median {np.median(s):.4f} "
        f"p5 {np.percentile(s, 5):.4f}   mean error {off.mean():.2f} of 255   ({len(pairs)} JPEGs; "
        f"{damaged} damaged ones stored)"
    )
