"""CLIP's byte-pair tokenizer: the same ids as OpenAI's and open_clip's (vocabulary 49,408)."""

from __future__ import annotations

import gzip
import html
from functools import cache, lru_cache
from pathlib import Path

import ftfy
import numpy as np
import numpy.typing as npt
import regex

from wit import storage

START, END = 49406, 49407
VOCABULARY = 49408
MERGES = 49152 - 256 - 2  # the file holds more; CLIP uses the first 48,894
PATTERN = regex.compile(
    r"<start_of_text>|<end_of_text>|'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+", regex.IGNORECASE
)


@cache
def byte_symbols() -> dict[int, str]:
    """One printable character per byte, as GPT-2 wrote its merges: a byte that prints stands for itself."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}


@cache
def vocabulary() -> tuple[dict[str, int], dict[tuple[str, str], int]]:
    """Symbol -> id, and pair of symbols -> rank of its merge."""
    packed = storage.read_bytes(str(Path(__file__).parent / "bpe_simple_vocab_16e6.txt.gz"))
    lines = gzip.decompress(packed).decode("utf-8").split("\n")[1 : MERGES + 1]
    merges = [(first, second) for first, second in (line.split() for line in lines)]
    letters = list(byte_symbols().values())
    symbols = [*letters, *(letter + "</w>" for letter in letters), *(first + second for first, second in merges)]
    symbols += ["<start_of_text>", "<end_of_text>"]
    return {symbol: i for i, symbol in enumerate(symbols)}, {pair: rank for rank, pair in enumerate(merges)}


def clean(text: str) -> str:
    """Mended, HTML-unescaped twice, white space collapsed, lower case: what OpenAI's tokenizer does first."""
    return " ".join(html.unescape(html.unescape(ftfy.fix_text(text))).split()).lower()


@lru_cache(maxsize=1 << 16)
def word_ids(word: str) -> tuple[int, ...]:
    """The ids of one word of `PATTERN`, merging the best-ranked pair until none is left."""
    ids, ranks = vocabulary()
    if word in ("<start_of_text>", "<end_of_text>"):
        return (ids[word],)
    symbols = [byte_symbols()[byte] for byte in word.encode("utf-8")]
    symbols[-1] += "</w>"
    while len(symbols) > 1:
        best = min(zip(symbols, symbols[1:], strict=False), key=lambda pair: ranks.get(pair, MERGES))
        if best not in ranks:
            break
        symbols = merge(symbols, best)
    return tuple(ids[symbol] for symbol in symbols)


def merge(symbols: list[str], pair: tuple[str, str]) -> list[str]:
    """`symbols` with every occurrence of `pair` joined, from the left."""
    joined: list[str] = []
    i = 0
    while i < len(symbols):
        found = tuple(symbols[i : i + 2]) == pair
        joined.append(pair[0] + pair[1] if found else symbols[i])
        i += 2 if found else 1
    return joined


def encode(text: str) -> list[int]:
    """The ids of a text, without start and end."""
    return [i for word in PATTERN.findall(clean(text)) for i in word_ids(word)]


def tokenize(text: str, *, context_length: int = 77) -> npt.NDArray[np.int64]:
    """`[context_length]`: start, the text, end, then zeros; a longer text is cut and keeps its end token."""
    ids = [START, *encode(text)[: context_length - 2], END]
    row = np.zeros(context_length, dtype=np.int64)
    row[: len(ids)] = ids
    return row
