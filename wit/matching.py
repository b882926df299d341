"""Which queries a caption contains, as whole words: two exact semantics over one index.

`words`, the default. Captions and entries are case-folded and cut into words: a word is a run of letters, marks and
digits; everything else separates. An entry matches where its words stand in the caption one after the other. In scripts
written without spaces (Han, kana, Thai, Lao, Khmer, Myanmar, Tibetan) every character is a word of its own, so that such
entries match as substrings.

    dog         in "(dog)", '"dog"', "dog-house", "Dog", "the dog's bowl"; not in "dogs", "bulldog"
    st. louis   in "Gateway Arch, St. Louis", "St Louis"; not in "St. and Louis"
    red fox     in "Red  Fox", "red-fox", "red, fox"; not in "red foxes", "fox red"
    狐狸        in "一只红狐狸"
    café        in "CAFÉ", composed or not; not in "cafe"
    c++         as "c": signs that are no letters do not count; an entry of such signs alone never matches

`metaclip` gives the results of MetaCLIP version 1, for comparison: the seven marks , . ; : ? ! ` get a space on either
side, tab and line ends become a space, and an entry matches where it stands, case-sensitive, between two spaces (or the
ends of the caption). `(dog)`, `"dog"`, `Dog` do not contain `dog`, and `St. Louis` can never match.

How: both semantics are "the entry's words in a row", so the index is a trie over word numbers. A dictionary numbers the
words of a batch of captions, then each level of the trie is one vectorised step over all positions of the batch that are
still in the race: a small bit table rejects most of them and a binary search decides. Nothing is decided by a hash alone.
"""

from __future__ import annotations

import functools
import re
import sys
import unicodedata
from collections.abc import Sequence
from itertools import repeat
from typing import Literal

import numpy as np
import numpy.typing as npt

from wit.captions import clean_captions
from wit.querylist import QueryList

Mode = Literal["words", "metaclip"]
Ids = npt.NDArray[np.int32]
Offsets = npt.NDArray[np.int64]

END = "\0"  # stands between captions as a word of its own; a caption's own NUL is read as U+FFFD
BATCH_CAPTIONS = 2_048  # keeps the arrays of a batch in the processor's cache
TABLE_BITS = 22  # bit table of the trie's edges, one byte each: 4 MB, about 6 % false positives at 250,000 edges
MIX = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: spreads consecutive numbers over the high bits

NO_SPACE_SCRIPTS = (
    "\u0e00-\u0eff"  # Thai, Lao
    "\u0f00-\u0fff"  # Tibetan
    "\u1000-\u109f\ua9e0-\ua9ff\uaa60-\uaa7f"  # Myanmar
    "\u1780-\u17ff\u19e0-\u19ff"  # Khmer
    "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9f"  # kana
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Han
)


def _marks() -> str:
    """The combining marks outside the scripts above and the two joiners: inside a word they belong to it, though `\\w`
    leaves them out. Variation selectors are no part of a word: they follow emoji as well as letters."""
    kinds = ("Mn", "Mc", "Me")
    marks = [chr(code) for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code)) in kinds]
    return re.sub(f"[{NO_SPACE_SCRIPTS}\ufe00-\ufe0f\U000e0100-\U000e01ef]", "", "".join(marks)) + "\u200c\u200d"


@functools.cache
def _word_pattern() -> re.Pattern[str]:
    letters = f"[^\\W_{NO_SPACE_SCRIPTS}]"
    return re.compile(f"\\0|[{NO_SPACE_SCRIPTS}]|{letters}+(?:[{_marks()}]+{letters}*)*")


def _ascii_table() -> bytes:
    """Lower case for letters, a space for what is neither letter, digit nor END."""
    return bytes(c if chr(c).isalnum() or chr(c) == END else 32 for c in bytes(range(128)).lower()) + bytes(
        range(128, 256)
    )


ASCII_TABLE = _ascii_table()


def fold(text: str) -> str:
    """The text as `words` compares it: case-folded, in Unicode NFC; the dot that folding leaves on Turkish İ is dropped."""
    folded = unicodedata.normalize("NFC", text.casefold())
    return folded.replace("i\u0307", "i") if "\u0307" in folded else folded


def split_words(text: str) -> list[str]:
    """The words of a text in which END is a word of its own; `words` semantics."""
    if text.isascii():
        return text.encode().translate(ASCII_TABLE).decode().replace(END, f" {END} ").split()
    return _word_pattern().findall(fold(text))


def split_metaclip(text: str) -> list[str]:
    """The words of a text in which END is a word of its own; MetaCLIP's semantics: empty words count."""
    for mark in ",.;:?!`":
        text = text.replace(mark, f" {mark} ")
    return text.replace("\t", " ").replace("\r", " ").replace("\n", " ").replace(END, f" {END} ").split(" ")


SPLIT = {"words": split_words, "metaclip": split_metaclip}
END_NUMBER, UNKNOWN_NUMBER = 0, 1  # word numbers that no edge of the trie bears
HAS_ENTRY, HAS_CHILDREN = 1, 2  # what a node's flags say


class Matcher:
    """The queries as a trie over word numbers; about 50 MB over the strings for 500,000 entries.

    A node is a row of words that begins an entry. Nodes of one word are numbered as the word; the child of `node` over
    `word` is the node `len(words) + i` where `edges[i] == node * len(words) + word`, and `edges` is sorted.
    """

    def __init__(self, entries: Sequence[str], mode: Mode = "words") -> None:
        if mode not in SPLIT:
            raise ValueError(f"no such matching: {mode}; have {sorted(SPLIT)}")
        self._split = SPLIT[mode]
        words = _entry_words(entries, mode)
        self._numbers: dict[str | None, int] = {END: END_NUMBER, None: UNKNOWN_NUMBER}
        for word in words:
            self._numbers.setdefault(word, len(self._numbers))
        self._build(np.array([self._numbers[word] for word in words], np.int64))

    def _build(self, words: npt.NDArray[np.int64]) -> None:
        """Grows the trie level by level; `words` are the numbers of the entries' words, END after each entry."""
        vocabulary = len(self._numbers)
        ends = np.flatnonzero(words == END_NUMBER)
        starts = np.concatenate([[0], ends[:-1] + 1])[: len(ends)]
        nodes = words[starts]  # of the entries' first words; END_NUMBER where an entry has none
        edges: list[npt.NDArray[np.int64]] = []
        grown, depth = vocabulary, 1
        while (alive := np.flatnonzero(ends - starts > depth)).size:
            level, child = np.unique(nodes[alive] * vocabulary + words[starts[alive] + depth], return_inverse=True)
            nodes[alive] = grown + child
            edges.append(level)
            grown, depth = grown + len(level), depth + 1
        self._edges = np.concatenate([*edges, np.zeros(0, np.int64)])
        self._edge_table = np.zeros(1 << TABLE_BITS, np.bool_)
        self._edge_table[_slots(self._edges)] = True
        self._index_entries(nodes, grown)

    def _index_entries(self, nodes: npt.NDArray[np.int64], node_count: int) -> None:
        """Lists the entries by node: more than one where entries read alike once folded, none for entries of no words."""
        order = np.argsort(nodes, kind="stable")
        self._entries = order[nodes[order] != END_NUMBER].astype(np.int32)
        counts = np.bincount(nodes[nodes != END_NUMBER], minlength=node_count)
        self._first_entry = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
        self._flags = np.where(counts > 0, HAS_ENTRY, 0).astype(np.uint8)
        self._flags[np.unique(self._edges // len(self._numbers))] |= HAS_CHILDREN

    def match(self, captions: Sequence[str]) -> tuple[Offsets, Ids]:
        """(offsets `[n + 1]`, ids): ids[offsets[i]:offsets[i + 1]] are those of the entries in caption i, distinct, ascending."""
        counts, ids = [np.zeros(1, np.int64)], [np.zeros(0, np.int32)]
        for start in range(0, len(captions), BATCH_CAPTIONS):
            batch_counts, batch_ids = self._match_batch(captions[start : start + BATCH_CAPTIONS])
            counts.append(batch_counts)
            ids.append(batch_ids)
        return np.cumsum(np.concatenate(counts)), np.concatenate(ids)

    def _match_batch(self, captions: Sequence[str]) -> tuple[Offsets, Ids]:
        """(number of ids per caption, ids) of a few captions."""
        words, caption_of = self._read(captions)
        positions = np.flatnonzero(self._flags[words])
        nodes = words[positions]
        found: list[npt.NDArray[np.int64]] = []
        depth = 0
        while positions.size:
            found.append(self._entries_at(nodes, caption_of[positions]))
            depth += 1
            alive = np.flatnonzero(self._flags[nodes] & HAS_CHILDREN)
            positions, nodes = self._step(positions[alive], nodes[alive], words, depth)
        pairs = _distinct(np.concatenate([*found, np.zeros(0, np.int64)]))
        return np.bincount(pairs >> 32, minlength=len(captions)), (pairs & 0x7FFFFFFF).astype(np.int32)

    def _read(self, captions: Sequence[str]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The word numbers of the captions, END after each, and for each word the number of its caption.

        Captions in ASCII are read apart from the others, since their words are cut several times faster.
        """
        ascii_: list[int] = []
        other: list[int] = []
        for number, caption in enumerate(captions):
            (ascii_ if caption.isascii() else other).append(number)
        words: list[str] = []
        for group in (ascii_, other):
            if group:
                lines = [captions[number] for number in group]
                text = END.join(lines)
                if text.count(END) >= len(lines):
                    text = END.join([line.replace(END, "\ufffd") for line in lines])
                words += self._split(text)
                words.append(END)
        numbers = np.fromiter(map(self._numbers.get, words, repeat(UNKNOWN_NUMBER)), np.int64, len(words))
        ended = numbers == END_NUMBER
        line_of = np.cumsum(ended) - ended
        return numbers, np.array([*ascii_, *other, 0], np.int64)[line_of]

    def _step(
        self, positions: npt.NDArray[np.int64], nodes: npt.NDArray[np.int64], words: npt.NDArray[np.int64], depth: int
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The positions and nodes of those that continue with the word `depth` places after their first."""
        keys = nodes * len(self._numbers) + words[np.minimum(positions + depth, len(words) - 1)]
        likely = np.flatnonzero(self._edge_table[_slots(keys)])
        keys = keys[likely]
        edge = np.searchsorted(self._edges, keys)
        sure = np.flatnonzero(self._edges[np.minimum(edge, len(self._edges) - 1)] == keys)
        return positions[likely[sure]], edge[sure] + len(self._numbers)

    def _entries_at(self, nodes: npt.NDArray[np.int64], captions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """caption << 32 | entry for every entry that ends at one of the nodes."""
        first = self._first_entry[nodes]
        counts = self._first_entry[nodes + 1] - first
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        found: npt.NDArray[np.int64] = (
            np.repeat(captions << 32, counts) | self._entries[np.repeat(first, counts) + within]
        )
        return found


@functools.lru_cache(maxsize=2)
def matcher_for(queries: QueryList, mode: Mode = "words") -> Matcher:
    """The matcher of a query list, built once per process."""
    return Matcher(queries.entries, mode)


def _entry_words(entries: Sequence[str], mode: Mode) -> list[str]:
    """The words of the entries, END after each: in `words` cut as captions are; in `metaclip` cut at spaces alone, so that
    an entry which holds one of the marks, a tab or a line end keeps a word that no caption has."""
    if not entries:
        return []
    if mode == "words":
        return [*split_words(END.join(clean_captions(entries))), END]
    return f" {END} ".join([*(entry.replace(END, "\r") for entry in entries), ""]).split(" ")[:-1]


def _slots(keys: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    """The place of each edge in the bit table."""
    slots: npt.NDArray[np.uint64] = (keys.view(np.uint64) * MIX) >> np.uint64(64 - TABLE_BITS)
    return slots


def _distinct(pairs: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    pairs.sort()
    first: npt.NDArray[np.bool_] = np.concatenate([[True], pairs[1:] != pairs[:-1]])[: len(pairs)]
    return pairs[first]
