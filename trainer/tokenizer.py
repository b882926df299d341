"""CLIP's byte-pair tokenizer: the same ids as OpenAI's and open_clip's (vocabulary 49,408)."""

from __future__ import annotations

import gzip
import html
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, lru_cache
from heapq import heappop, heappush
from itertools import islice
from pathlib import Path

import ftfy
import numpy as np
import numpy.typing as npt
import regex

from wit.store import fs

START, END = 49406, 49407
VOCABULARY = 49408
MERGES = 49152 - 256 - 2  # the file holds more; CLIP uses the first 48,894
PATTERN = regex.compile(
    r"<start_of_text>|<end_of_text>|'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+", regex.IGNORECASE
)


@cache
def byte_symbols() -> dict[int, str]:
    """{byte: one printable character}, as in GPT-2's file of merges; a printable byte stands for itself."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}


@cache
def vocabulary() -> tuple[dict[str, int], dict[tuple[str, str], int]]:
    """({symbol: id}, {pair of symbols: rank of its merge})."""
    packed = fs.read_bytes(str(Path(__file__).parent / "bpe_simple_vocab_16e6.txt.gz"))
    lines = gzip.decompress(packed).decode("utf-8").split("\n")[1 : MERGES + 1]
    merges = [(first, second) for first, second in (line.split() for line in lines)]
    letters = list(byte_symbols().values())
    symbols = [*letters, *(letter + "</w>" for letter in letters), *(first + second for first, second in merges)]
    symbols += ["<start_of_text>", "<end_of_text>"]
    return {symbol: i for i, symbol in enumerate(symbols)}, {pair: rank for rank, pair in enumerate(merges)}


def clean(text: str) -> str:
    """The text as OpenAI's tokenizer cleans it: mended, HTML-unescaped twice, white space collapsed, in lower case."""
    return " ".join(html.unescape(html.unescape(ftfy.fix_text(text))).split()).lower()


def word_ids(word: str) -> tuple[int, ...]:
    """The ids of one word of `PATTERN`. Ids of long words are not cached: a cache of strangers' words must be bounded in
    bytes."""
    return remembered(word) if len(word) <= 64 else ids_of(word)


def ids_of(word: str) -> tuple[int, ...]:
    """The ids of one word of `PATTERN`, computed anew."""
    ids, ranks = vocabulary()
    if word in ("<start_of_text>", "<end_of_text>"):
        return (ids[word],)
    symbols = [byte_symbols()[byte] for byte in word.encode("utf-8")]
    symbols[-1] += "</w>"
    return tuple(ids[symbol] for symbol in merge(symbols, ranks))


remembered = lru_cache(maxsize=1 << 16)(ids_of)


def merge(symbols: Sequence[str], ranks: Mapping[tuple[str, str], int]) -> list[str]:
    """Joins the best-ranked pair of symbols wherever it stands, from the left, again and again until no pair has a rank. Pairs
    wait in a heap, and neighbours are linked: that takes n log n for n symbols, and at most six looks at `ranks` a symbol."""
    parts = [*symbols, ""]  # "": joined to the one before it, or the end
    after, before = list(range(1, len(parts) + 1)), list(range(-1, len(symbols)))
    heap: list[tuple[int, int]] = []  # (rank of a pair, place of its first symbol)

    def offer(i: int) -> None:
        rank = ranks.get((parts[i], parts[after[i]])) if i >= 0 else None
        if rank is not None:
            heappush(heap, (rank, i))

    for i in range(len(symbols)):
        offer(i)
    while heap:
        best = heap[0][0]
        for i in places(heap, best):
            if ranks.get((parts[i], parts[after[i]])) != best:
                continue  # one of the two has been joined with another
            parts[i], parts[after[i]] = parts[i] + parts[after[i]], ""
            after[i] = after[after[i]]
            before[after[i]] = i
            offer(before[i])
            offer(i)
    return [part for part in parts if part]


def places(heap: list[tuple[int, int]], rank: int) -> list[int]:
    """Takes all pairs of one rank out of the heap, before they give rise to new ones; returns their places, from the left."""
    positions = []
    while heap and heap[0][0] == rank:
        positions.append(heappop(heap)[1])
    return positions


def encode(text: str) -> Iterator[int]:
    """The ids of a text, without start and end, word by word: a word is encoded when its first id is asked for."""
    return (i for word in PATTERN.finditer(clean(text)) for i in word_ids(word.group()))


def tokenize(text: str, *, context_length: int = 77) -> npt.NDArray[np.int64]:
    """`[context_length]`: start, the text, end, then zeros; a longer text is cut and keeps its end token."""
    ids = [START, *islice(encode(text), context_length - 2), END]
    row = np.zeros(context_length, dtype=np.int64)
    row[: len(ids)] = ids
    return row
