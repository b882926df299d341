"""Extraction beside cc2dataset, in CPU seconds of one core: `python benchmarks/bench_extract.py [--wat FILE] [--rounds N]`.

cc2dataset runs in an environment of its own (`.venv-peers`, made at the first start), through the function that its Spark
job maps over the files, `cc2dataset.main.extract_documents_from_wat(stream, "image")`, on the bytes of the file in memory.
Ours reads the same file from disk through `wit.sources.read_pairs`. Both run in turn, each round in a fresh process that
reads the file three times and counts the last two (a real file is ten times as long, so starting up does not matter). The
medians and their ratio are printed, and whether the pairs are the same:

- of absolute URLs, the multiset of (URL, alt) with an alt text, as strings, must be identical;
- of all URLs, resolved ones included, it must be identical in canonical form.

The HTML part times `wit.sources.html.page_images` on synthetic pages of about 54 kB with 9 images, as real ones have.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from random import Random
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PEERS = ROOT / ".venv-peers"
PEER_PACKAGES = ("cc2dataset", "fastwarc", "pysimdjson")

PEER_CODE = """
import hashlib, io, json, sys, time
from importlib.metadata import version
import cc2dataset.main as peer
data = open(sys.argv[1], "rb").read()
if sys.argv[2] == "absolute":  # links as they stand in the file: the function then keeps the absolute ones alone
    peer.make_links_absolute = lambda links, base: links
seconds = []
for _ in range(3 if sys.argv[2] == "time" else 1):
    start = time.process_time()
    found = peer.extract_documents_from_wat(io.BytesIO(data), "image")
    seconds.append(time.process_time() - start)
if sys.argv[2] != "time":
    with open(sys.argv[3], "w") as out:
        json.dump([[link["url"], link["alt"]] for link in found], out)
versions = {name: version(name) for name in ("cc2dataset", "FastWARC", "pysimdjson")}
print(json.dumps({"seconds": seconds[1:], "pairs": len(found), "versions": versions}))
"""


def peer_python() -> str:
    """The interpreter of the peers' environment, made if need be."""
    python = PEERS / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(PEERS)], check=True)
    if subprocess.run([str(python), "-c", "import cc2dataset.main"], capture_output=True).returncode:
        print("installing cc2dataset into .venv-peers", flush=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", *PEER_PACKAGES], check=True)
    return str(python)


def run(command: list[str]) -> Any:
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    return json.loads(done.stdout.splitlines()[-1])


def run_ours(wat: str) -> Any:
    """One round of ours in a process of its own."""
    return run([sys.executable, __file__, "--child", "--wat", wat])


def child(wat: str) -> None:
    """Prints the seconds of two readings after a first, and the pairs."""
    sys.path.insert(0, str(ROOT))
    from wit.sources import SourceFile, SourceReport, read_pairs

    seconds = []
    for _ in range(3):
        report = SourceReport(wat)
        start = time.process_time()
        urls = sum(len(batch.url) - batch.url.count(None) for batch in read_pairs(SourceFile("wat", wat), report))
        seconds.append(time.process_time() - start)
    print(json.dumps({"seconds": seconds[1:], "pairs": report.pairs, "urls": urls, "pages": report.pages}))


def compare(wat: str, python: str, folder: Path) -> None:
    """Prints whether the peer's pairs are among ours; exits with 1 if not."""
    from wit.sources import SourceFile, SourceReport, read_pairs
    from wit.urls import canonical_urls

    absolute: Counter[tuple[str, str]] = Counter()
    everything: Counter[tuple[str | None, str]] = Counter()
    for batch in read_pairs(SourceFile("wat", wat), SourceReport(wat)):
        for src, url, canonical, alt in zip(batch.src, batch.url, canonical_urls(batch.url), batch.alt, strict=True):
            if alt and url:
                everything[canonical, alt] += 1
                if src == url:
                    absolute[url, alt] += 1
    ok = True
    for mode, ours in (("absolute", absolute), ("all", everything)):
        path = folder / f"peer-{mode}.json"
        run([python, "-c", PEER_CODE, wat, mode, str(path)])
        pairs = json.loads(path.read_text())
        urls = [url for url, _ in pairs] if mode == "absolute" else canonical_urls([url for url, _ in pairs])
        theirs = Counter(zip(urls, (alt for _, alt in pairs), strict=True))
        missing, more = (theirs - ours).total(), (ours - theirs).total()
        ok &= missing == 0 and (mode == "all" or more == 0)
        print(
            f"(URL, alt) of {mode:8} URLs: {theirs.total():,} theirs, {ours.total():,} ours; "
            f"{missing} only theirs, {more} only ours"
        )
    if not ok:
        sys.exit(1)


def html_pages(count: int) -> list[str]:
    """Synthetic pages of about 54 kB, with 9 images of all kinds in many other elements."""
    draw, pages = Random(1), []
    words = [hashlib.sha1(str(n).encode()).hexdigest()[: 3 + n % 7] for n in range(2_000)]
    for _ in range(count):
        parts = [
            '<!doctype html><html><head><meta charset="utf-8"><title>page</title>',
            "<style>a{b:c}</style>" * 20,
            "</head><body>",
        ]
        for block in range(90):
            text = " ".join(draw.choices(words, k=40))
            parts.append(
                f'<div class="row-{block} col item"><p>{text}</p><a class="link" href="/{draw.choice(words)}/{block}">x</a></div>'
            )
            parts.append(f'<ul><li data-id="{block}"><span>{draw.choice(words)}</span></li></ul>')
            if block % 10 == 0:
                name = draw.choice(words)
                parts.append(
                    f'<figure><img class="w" src="/s/{name}.jpg" srcset="/m/{name}.jpg 640w, /l/{name}.jpg 1280w" '
                    f'alt="{name} of {name}" width=640>'
                )
                parts.append(f"<figcaption>{text[:60]}</figcaption></figure>")
        pages.append("".join(parts) + "<script>" + "var a=1;" * 800 + "</script></body></html>")
    return pages


def bench_html(rounds: int) -> None:
    from wit.sources.html import page_images

    pages = html_pages(300)
    size = sum(map(len, pages))
    seconds = []
    for _ in range(rounds):
        start = time.process_time()
        images = sum(len(page_images(page, "https://www.page.example/a").srcs) for page in pages)
        seconds.append(time.process_time() - start)
    median = statistics.median(seconds)
    print(
        f"\nHTML: {len(pages)} pages, {size / len(pages) / 1e3:.0f} kB and {images / len(pages):.0f} images each, selectolax "
        f"{version('selectolax')}: {len(pages) / median:,.0f} pages/s, {size / median / 1e6:.0f} MB/s (must: 2,000 pages/s)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wat", help="a WAT file (default: one of 4,000 pages is made)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.wat)
        return
    sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]
    folder = ROOT / "out" / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    wat = options.wat or str(folder / "bench.warc.wat.gz")
    if not os.path.exists(wat):
        from make_wat import write_wat

        print("making a WAT of 4,000 pages", flush=True)
        write_wat(wat)
    python = peer_python()
    ours, theirs = [], []
    for _ in range(options.rounds):
        ours.append(run_ours(wat))
        theirs.append(run([python, "-c", PEER_CODE, wat, "time", ""]))
    mine = statistics.median(seconds for one in ours for seconds in one["seconds"])
    peer = statistics.median(seconds for one in theirs for seconds in one["seconds"])
    megabytes = os.path.getsize(wat) / 1e6
    print(
        f"{wat}: {megabytes:.1f} MB gz, {ours[0]['pages']:,} pages; CPU seconds, median of {2 * options.rounds}; "
        f"Python {platform.python_version()}"
    )
    print(f"{'':22}{'CPU s':>8}{'gz MB/s':>9}{'pairs':>9}{'pairs/s':>10}")
    for name, seconds, pairs in (("wit.sources", mine, ours[0]["pairs"]), ("cc2dataset", peer, theirs[0]["pairs"])):
        print(f"{name:22}{seconds:8.3f}{megabytes / seconds:9.1f}{pairs:9,}{pairs / seconds:10,.0f}")
    print(
        f"ratio {peer / mine:.2f} (must: 3, goal: 5); ours have {ours[0]['urls']:,} absolute URLs, with or without a text"
    )
    print(
        "versions:",
        ", ".join(f"{k} {v}" for k, v in theirs[0]["versions"].items()),
        "| deflate",
        version("deflate"),
        "msgspec",
        version("msgspec"),
    )
    compare(wat, python, folder)
    bench_html(options.rounds)


if __name__ == "__main__":
    main()
