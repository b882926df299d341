"""Text cut into words, and words numbered: the common ground of matching, caption rules and query lists.

Words are cut for many texts at once, END between them. A word is known by 128 bits: its first 8 bytes, and 64 bits for the
others. Up to 16 bytes of UTF-8 the 64 bits are one to one; beyond that they are a hash.
"""

from __future__ import annotations

import functools
import re
import sys
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from wit.arrays import Hashes, Ints
from wit.hashing import GOLDEN

END = "\x01"  # stands between texts as a word of its own
RESERVED = re.compile("[\0\x01]")  # a text may not hold these: they are read as U+FFFD
NO_SPACE_SCRIPTS = (
    "\u0e00-\u0eff"  # Thai, Lao
    "\u0f00-\u0fff"  # Tibetan
    "\u1000-\u109f\ua9e0-\ua9ff\uaa60-\uaa7f"  # Myanmar
    "\u1780-\u17ff\u19e0-\u19ff"  # Khmer
    "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9f"  # kana
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Han
)


# --- cutting ----------------------------------------------------------------------------------------------------------


SEPARATOR, LETTER, MARK, ALONE = range(4)


@functools.cache
def _kinds() -> npt.NDArray[np.uint8]:
    """The kind of every code point. Marks belong to the word before them; variation selectors separate, since they follow emoji
    as well as letters."""
    characters = "".join(map(chr, range(sys.maxunicode + 1)))
    kinds = np.zeros(len(characters), np.uint8)
    kinds[[code for code, char in enumerate(characters) if unicodedata.category(char)[0] == "M"]] = MARK
    for pattern, kind in (
        (r"[^\W_]+", LETTER),
        ("[\ufe00-\ufe0f\U000e0100-\U000e01ef]+", SEPARATOR),
        (f"[{NO_SPACE_SCRIPTS}{END}]+", ALONE),
    ):
        for run in re.finditer(pattern, characters):
            kinds[run.start() : run.end()] = kind
    return kinds


# Letters become lower case; everything but letters, digits and END becomes a space.
ASCII_TABLE = bytes(c if chr(c).isalnum() or chr(c) == END else 32 for c in bytes(range(128)).lower()).ljust(256)


def fold(text: str) -> str:
    """The text in the form in which words are compared: case-folded, in Unicode NFC, without the two joiners, which only some
    people write, and without the dot that folding leaves on Turkish İ."""
    folded = text.casefold().replace("\u200c", "").replace("\u200d", "")
    folded = unicodedata.normalize("NFC", folded)
    return folded.replace("i\u0307", "i") if "\u0307" in folded else folded


def join_texts(texts: Sequence[str]) -> str:
    """One text of them all, END after each; empty for no texts."""
    joined = END.join(texts) + END
    if "\0" in joined or joined.count(END) > len(texts):
        joined = "".join([RESERVED.sub("\ufffd", text) + END for text in texts])
    return joined if texts else ""


def cut_words(joined: str) -> bytes:
    """The folded words of joined texts in UTF-8, at least one space apart. A word is a run of letters, marks and digits, a single
    character of a script without spaces, or END."""
    if joined.isascii():
        return joined.encode().translate(ASCII_TABLE).replace(END.encode(), b" \x01 ")
    return _cut_unicode(fold(joined))


def _cut_unicode(folded: str) -> bytes:
    codes = np.frombuffer(folded.encode("utf-32-le", "surrogatepass"), "<u4")
    kinds = _kinds()[codes]
    marks = kinds == MARK
    if marks.any():
        before = np.maximum.accumulate(np.where(marks, 0, np.arange(len(codes))))[marks]
        kinds[marks] = np.where(kinds[before] == LETTER, LETTER, SEPARATOR)
    alone = kinds == ALONE
    # A character that stands alone gets a space on either side.
    places = np.cumsum(np.where(alone, 3, 1)) - np.where(alone, 2, 1)
    spaced = np.full(len(codes) + 2 * int(alone.sum()), ord(" "), "<u4")
    spaced[places] = np.where(kinds == SEPARATOR, ord(" "), codes)
    return spaced.tobytes().decode("utf-32-le").encode()


def cut_metaclip(joined: str) -> bytes:
    """The words of joined texts as MetaCLIP v1 sees them, exactly one space apart: between two spaces is an empty word."""
    for mark in ",.;:?!`":
        joined = joined.replace(mark, f" {mark} ")
    spaced = joined.replace("\t", " ").replace("\r", " ").replace("\n", " ").replace(END, f" {END} ")
    return spaced[:-1].encode("utf-8", "surrogatepass")


# --- numbering --------------------------------------------------------------------------------------------------------

HALF = np.uint64(32)
MASKS = np.array([(1 << (8 * n)) - 1 for n in range(9)], np.uint64)  # keeps the first n bytes of a little-endian word
MAX_HASHED_BYTES = 4_096  # of a longer word only its length counts on: no query has one
END_NUMBER, UNKNOWN_NUMBER = 0, 1


class WordKeys(NamedTuple):
    """Words, 128 bits each, in two columns."""

    first: Hashes
    rest: Hashes

    @property
    def ends(self) -> npt.NDArray[np.bool_]:
        """Which of the words are END."""
        ends: npt.NDArray[np.bool_] = self.first == np.uint64(ord(END))
        return ends


def word_keys(cut: bytes, *, empty_words: bool = False) -> WordKeys:
    """The words of a text that was cut at spaces, in order; empty words only if asked for."""
    padded = np.frombuffer(cut + bytes(16), np.uint8)
    spaces = np.flatnonzero(padded[: len(cut)] == 32)
    starts = np.concatenate([[0], spaces + 1])
    lengths = np.concatenate([spaces, [len(cut)]]) - starts
    if not empty_words:
        solid = np.flatnonzero(lengths)
        starts, lengths = starts[solid], lengths[solid]
    lanes: Hashes = np.ndarray(len(cut) + 9, "<u8", padded.data, strides=(1,))  # the 8 bytes at every place
    first = lanes[starts] & MASKS[np.minimum(lengths, 8)]
    rest = np.zeros(len(starts), np.uint64)
    long = np.flatnonzero(lengths > 8)
    rest[long] = lengths[long]
    for offset in range(8, MAX_HASHED_BYTES, 8):
        if not long.size:
            break
        lane = lanes[starts[long] + offset] & MASKS[np.minimum(lengths[long] - offset, 8)]
        mixed = (rest[long] ^ lane) * GOLDEN
        rest[long] = mixed ^ (mixed >> HALF)
        long = long[lengths[long] > offset + 8]
    return WordKeys(first, rest)


class Vocabulary:
    """Numbers for a fixed set of words, from 2 up; END is 0, and any other word is 1. It is an open hash table for looking up
    many words at a time; for 400,000 words it takes 4 MB and 16 bytes a word."""

    def __init__(self, words: WordKeys) -> None:
        order = np.lexsort(words[::-1])
        first, rest = words.first[order], words.rest[order]
        distinct = np.ones(len(order), np.bool_)
        distinct[1:] = (first[1:] != first[:-1]) | (rest[1:] != rest[:-1])
        none = np.zeros(2, np.uint64)
        self._words = WordKeys(np.concatenate([none, first[distinct]]), np.concatenate([none, rest[distinct]]))
        self._bits = max(8, int(len(self)).bit_length() + 1)
        self._table = np.full(1 << self._bits, UNKNOWN_NUMBER, np.int32)
        pending = np.arange(2, len(self), dtype=np.int32)
        slots = self._home(WordKeys(self._words.first[2:], self._words.rest[2:]))
        while pending.size:
            free = self._table[slots] == UNKNOWN_NUMBER
            self._table[slots[free]] = pending[free]  # of several that want one slot the last gets it
            homeless = self._table[slots] != pending
            pending, slots = pending[homeless], (slots[homeless] + 1) & (len(self._table) - 1)

    def __len__(self) -> int:
        """The number of numbers: all are below it."""
        return len(self._words.first)

    def _home(self, words: WordKeys) -> Ints:
        mixed = (words.first ^ (words.rest * GOLDEN)) * GOLDEN
        mixed = (mixed ^ (mixed >> HALF)) * GOLDEN
        slots: Ints = (mixed >> np.uint64(64 - self._bits)).astype(np.int64)
        return slots

    def numbers(self, words: WordKeys) -> Ints:
        """The number of each word."""
        slots = self._home(words)
        guessed = self._table[slots].astype(np.int64)
        wrong = self._collisions(guessed, words, np.arange(len(guessed)))
        while wrong.size:
            slots[wrong] = (slots[wrong] + 1) & (len(self._table) - 1)
            guessed[wrong] = self._table[slots[wrong]]
            wrong = self._collisions(guessed[wrong], words, wrong)
        guessed[words.ends] = END_NUMBER
        return guessed

    def _collisions(self, guessed: Ints, words: WordKeys, places: Ints) -> Ints:
        """The places whose slot holds another word."""
        other = (self._words.first[guessed] != words.first[places]) | (self._words.rest[guessed] != words.rest[places])
        collided: Ints = places[other & (guessed != UNKNOWN_NUMBER)]
        return collided
