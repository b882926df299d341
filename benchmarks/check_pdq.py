"""Our PDQ against Meta's: `python benchmarks/check_pdq.py CORPUS [--count 200]`.

Installs pdqhash (a source package: it needs a compiler) into .venv-pdq, hashes every JPEG of the corpus with both and prints
the distances where the reference's quality is 80 or more. Exits with 1 where one is above 10, PDQ's own rule for ports.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from wit.images.config import ImageConfig  # noqa: E402
from wit.images.process import process  # noqa: E402
from wit.images.results import Processed  # noqa: E402

PEER = ROOT / ".venv-pdq"
CONFORMS = 10  # bits of 256, at quality 80 or more
REFERENCE = """
import json, sys, numpy, pdqhash
from PIL import Image, ImageOps
for path in sys.argv[1:]:
    try:
        pixels = numpy.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB"))
    except OSError:
        continue
    bits, quality = pdqhash.compute(pixels)
    print(json.dumps([path, numpy.packbits(bits.astype("uint8")).tobytes().hex(), int(quality)]))
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--count", type=int, default=200)
    arguments = parser.parse_args()
    if not (PEER / "bin/python").exists():
        subprocess.run([sys.executable, "-m", "venv", str(PEER)], check=True)
        subprocess.run([str(PEER / "bin/pip"), "install", "-q", "pdqhash", "pillow", "numpy"], check=True)
    files = [str(path) for path in sorted(arguments.corpus.glob("*.jpg"))[: arguments.count]]
    command = [str(PEER / "bin/python"), "-c", REFERENCE, *files]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    apart, quality_apart = [], []
    for path, bits, quality in map(json.loads, printed.splitlines()):
        ours = process(Path(path).read_bytes(), ImageConfig())
        if quality >= 80 and isinstance(ours, Processed) and ours.pdq is not None and ours.pdq_quality is not None:
            apart.append((int.from_bytes(ours.pdq) ^ int(bits, 16)).bit_count())
            quality_apart.append(abs(ours.pdq_quality - quality))
    print(f"{len(apart)} pictures of quality 80 or more: distance median {median(apart)}, largest {max(apart)}")
    print(f"quality: largest difference {max(quality_apart)}")
    return 0 if max(apart) <= CONFORMS else 1


if __name__ == "__main__":
    sys.exit(main())
