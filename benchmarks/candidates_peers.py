"""The peers of bench_candidates.py, run in an environment of their own: one JSON task a line in, one JSON answer out.

`{"task": "match"}` builds the automaton of MetaCLIP's published speed-up (pyahocorasick over padded entries, id and text as
value) at first, then matches the captions; `{"task": "extract"}` is cc2dataset's WAT parser. An answer says CPU seconds.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from array import array
from importlib.metadata import version
from io import BytesIO
from typing import Any

import ahocorasick
import psutil
from cc2dataset.main import extract_documents_from_wat
from loguru import logger


def spaced(text: str) -> str:
    """As MetaCLIP v1 reads a text: its seven marks between spaces, line ends and tabs as spaces, a space at either end."""
    for mark in ",.;:?!`":
        text = text.replace(mark, f" {mark} ")
    for space in "\t\n\r":
        text = text.replace(space, " ")
    return f" {text} "


class Peers:
    def __init__(self, wat: str, queries: str, captions: str) -> None:
        with open(wat, "rb") as stream:
            self.wat = stream.read()
        with open(queries, encoding="utf-8") as lines:
            self.queries = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
        with open(captions, encoding="utf-8") as lines:
            self.captions = [json.loads(line) for line in lines]

    def build(self) -> dict[str, Any]:
        before, started = psutil.Process().memory_info().rss, time.process_time()
        self.automaton = ahocorasick.Automaton()
        for number, query in enumerate(self.queries):
            self.automaton.add_word(f" {query} ", (number, query))
        self.automaton.make_automaton()
        seconds = time.process_time() - started
        return {"seconds": seconds, "rss": psutil.Process().memory_info().rss - before}

    def match(self) -> dict[str, Any]:
        started = time.process_time()
        found = [sorted({value[0] for _, value in self.automaton.iter(spaced(text))}) for text in self.captions]
        seconds = time.process_time() - started
        digest = hashlib.sha256()
        for ids in found:
            digest.update(array("i", [len(ids), *ids]).tobytes())
        return {"seconds": seconds, "matches": sum(map(len, found)), "digest": digest.hexdigest()}

    def extract(self) -> dict[str, Any]:
        started = time.process_time()
        documents = extract_documents_from_wat(BytesIO(self.wat), "image")
        seconds = time.process_time() - started
        return {"seconds": seconds, "count": len(documents)}

    def pairs(self) -> dict[str, Any]:
        documents = extract_documents_from_wat(BytesIO(self.wat), "image")
        return {"pairs": [(document["url"], document["alt"]) for document in documents]}

    def damaged(self) -> dict[str, Any]:
        """Pairs of the file with one byte flipped in each of three gzip members, and cut off in its last tenth."""
        data = bytearray(self.wat[: len(self.wat) * 9 // 10])
        for share in (0.2, 0.5, 0.8):
            data[int(len(data) * share)] ^= 0xFF
        return {"count": len(extract_documents_from_wat(BytesIO(bytes(data)), "image"))}

    def versions(self) -> dict[str, Any]:
        return {name: version(name) for name in ("cc2dataset", "pyahocorasick", "fastwarc", "pysimdjson")}


def main() -> None:
    logger.remove()
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("wat", "queries", "captions"):
        parser.add_argument(name)
    options = parser.parse_args()
    peers = Peers(options.wat, options.queries, options.captions)
    for line in sys.stdin:
        print(json.dumps(getattr(peers, json.loads(line)["task"])()), flush=True)


if __name__ == "__main__":
    main()
