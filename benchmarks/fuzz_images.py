"""Mutated pictures through the image engine, in the supervised process that a build uses.

    python benchmarks/fuzz_images.py --count 100000

Prints how every one ended, how often the process had to be replaced, its peak memory and the rate. Exits with 1 if anything
was lost, or memory passed 1 GB. The same seed gives the same pictures.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from wit.fetch.config import FetchConfig  # noqa: E402
from wit.fetch.engine import Decoding, Engine  # noqa: E402
from wit.fetch.outcome import Outcome  # noqa: E402
from wit.fetch.ring import USUAL_BYTES, Ring, map_segment  # noqa: E402
from wit.images.config import ImageConfig  # noqa: E402

MEMORY_LIMIT_MB = 1_000
AHEAD = 64


def seeds() -> list[bytes]:
    """Small valid pictures of every format and mode that the engine takes, with and without EXIF and profiles."""
    rng = np.random.default_rng(1)
    scene = Image.fromarray(rng.integers(0, 256, (9, 12, 3), np.uint8)).resize((120, 90), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "camera"
    made: list[tuple[Image.Image, str, dict[str, object]]] = [
        (scene, "JPEG", {}),
        (scene, "JPEG", {"progressive": True, "exif": exif}),
        (scene.convert("CMYK"), "JPEG", {}),
        (scene.convert("L"), "JPEG", {"subsampling": 0}),
        (scene, "PNG", {"exif": exif}),
        (scene.convert("RGBA"), "PNG", {}),
        (scene.quantize(16), "PNG", {"transparency": 3}),
        (Image.fromarray((np.asarray(scene.convert("L")).astype(np.uint16)) * 257), "PNG", {}),
        (scene, "WEBP", {"exif": exif}),
        (scene.convert("RGBA"), "WEBP", {"lossless": True}),
        (scene.quantize(32), "GIF", {"save_all": True, "append_images": [scene.quantize(8)]}),
        (scene, "BMP", {}),
        (scene.quantize(16), "BMP", {}),
        (scene, "TIFF", {}),
        (scene, "TIFF", {"compression": "tiff_lzw"}),
        (scene.convert("F"), "TIFF", {}),
        (scene, "TIFF", {"compression": "jpeg"}),
        (scene, "AVIF", {}),
    ]
    found = []
    for picture, kind, options in made:
        out = io.BytesIO()
        picture.save(out, kind, **options)  # type: ignore[arg-type]
        found.append(out.getvalue())
    return found


def mutated(seed: bytes, rng: np.random.Generator) -> bytes:
    """Flipped bits, patched and moved runs, and a cut now and then; often in the header, where the damage is."""
    data = bytearray(seed)
    for _ in range(int(rng.integers(1, 9))):
        span = min(len(data), 200) if rng.random() < 0.5 else len(data)
        at = int(rng.integers(span))
        match int(rng.integers(5)):
            case 0:
                data[at] ^= 1 << int(rng.integers(8))
            case 1:
                data[at] = int(rng.choice((0, 1, 127, 128, 255)))
            case 2:
                run = int(rng.integers(1, 9))
                data[at : at + run] = rng.bytes(run)
            case 3:
                data[at:at] = data[at : at + int(rng.integers(1, 40))]
            case _:
                del data[at : at + int(rng.integers(1, 20))]
        if not data:
            return b""
    return bytes(data[: int(rng.integers(1, len(data) + 1))] if rng.random() < 0.1 else data)


def fuzz(count: int, seed: int, folder: str) -> tuple[Counter[str], int, float]:
    """(ends, decoders started, peak MB of a decoder) over `count` mutated pictures."""
    base, rng, ends = seeds(), np.random.default_rng(seed), Counter[str]()
    pids: set[int] = set()
    peak, fed, freed = 0.0, 0, {}
    image = ImageConfig(image_size=64, max_pixels=16_000_000, decode_timeout_s=10, exif="all")
    with Engine(FetchConfig(), image, folder) as engine:
        memory, ring = map_segment(engine.ring_fd, engine.ring_size), Ring(engine.ring_size, USUAL_BYTES)
        while ends.total() < count:
            while fed < count and len(engine.decoding) < AHEAD:
                data = mutated(base[int(rng.integers(len(base)))], rng)
                offset = ring.allocate(len(data))
                assert offset is not None
                memory[offset : offset + len(data)] = data
                freed[fed] = offset
                engine.decoding.append(Decoding(Outcome(fed, bytes=len(data), region=offset)))
                fed += 1
            engine._feed_decoder()
            for outcome in engine.poll(0.1):
                ring.free(freed.pop(outcome.id))
                if outcome.spool is not None:
                    engine.spools.release(outcome.spool)
                ends[str(outcome.reason or "stored")] += 1
            pids.add(engine.decoder.process.pid)
            if ends.total() % 20 == 0:
                peak = max(peak, psutil.Process(engine.decoder.process.pid).memory_info().rss / 1e6)
        memory.close()
    return ends, len(pids), peak


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        ends, decoders, peak = fuzz(arguments.count, arguments.seed, folder)
    for end, number in ends.most_common():
        print(f"{number:8} {end}")
    print(
        f"{ends.total()} pictures, {decoders} decoders, peak {peak:.0f} MB, {ends.total() / (time.monotonic() - began):.0f}/s"
    )
    return 0 if ends.total() == arguments.count and peak < MEMORY_LIMIT_MB else 1


if __name__ == "__main__":
    sys.exit(main())
