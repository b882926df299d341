"""Which queries a caption contains, as whole words: two exact semantics over one index.

`words`, the default. Captions and entries are case-folded and cut into words: a word is a run of letters, marks and
digits; everything else separates. An entry matches where its words follow one another in the caption. In scripts
written without spaces (Han, kana, Thai, Lao, Khmer, Myanmar, Tibetan) every character is a word of its own, so that such
entries match as substrings.

    dog         in "(dog)", '"dog"', "dog-house", "Dog", "the dog's bowl"; not in "dogs", "bulldog"
    st. louis   in "Gateway Arch, St. Louis", "St Louis"; not in "St. and Louis"
    red fox     in "Red  Fox", "red-fox", "red, fox"; not in "red foxes", "fox red"
    狐狸        in "一只红狐狸"
    café        in "CAFÉ", composed or not; not in "cafe"
    c++         as "c": signs that are no letters do not count; an entry of such signs alone never matches

`metaclip` gives the results of MetaCLIP version 1, for comparison: the seven marks , . ; : ? ! ` get a space on either
side, tab and line ends become a space, and an entry matches where it stands between two spaces (or the ends of the
caption), case-sensitive. `(dog)`, `"dog"`, `Dog` do not contain `dog`, and `St. Louis` can never match.

How: both semantics are "the entry's words in a row", so the index is a trie over word numbers (`wit.candidates.words`). Each
level of the trie is one vectorised step over those places of a batch of captions that still match: a small bit table rejects
most of them, and a binary search decides.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from wit.arrays import Ids, Ints
from wit.candidates.captions import clean_captions
from wit.candidates.words import END, END_NUMBER, Vocabulary, WordKeys, cut_metaclip, cut_words, join_texts, word_keys
from wit.hashing import GOLDEN
from wit.querylist import QueryList

Mode = Literal["words", "metaclip"]
Offsets = Ints

BATCH_CAPTIONS = 8_192  # more is no faster, and the arrays of a batch stay below 10 MB
TABLE_BITS = 22  # bit table of the trie's edges, one byte each: 4 MB, about 6 % false positives at 250,000 edges
HAS_ENTRY, HAS_CHILDREN = 1, 2  # flags of a node


def _caption_words(captions: Sequence[str], mode: Mode) -> WordKeys:
    """The words of the captions, END after each."""
    if mode == "words":
        return word_keys(cut_words(join_texts(captions)))
    return word_keys(cut_metaclip(join_texts(captions)), empty_words=True)


def _entry_words(entries: Sequence[str], mode: Mode) -> WordKeys:
    """The words of the entries, END after each. In `words` entries are cleaned and cut as captions are. In `metaclip` they are
    cut at spaces alone, so an entry with one of the marks, a tab or a line end has a word that no caption has."""
    if mode == "words":
        starts = range(0, len(entries), BATCH_CAPTIONS)
        return _in_a_row([_caption_words(clean_captions(entries[s : s + BATCH_CAPTIONS]), mode) for s in starts])
    spaced = join_texts(entries).replace(END, f" {END} ")[:-1]
    return word_keys(spaced.encode("utf-8", "surrogatepass"), empty_words=True)


def _in_a_row(parts: Sequence[WordKeys]) -> WordKeys:
    if len(parts) == 1:
        return parts[0]
    none = np.zeros(0, np.uint64)
    return WordKeys(*map(np.concatenate, zip(WordKeys(none, none), *parts, strict=True)))


class Matcher:
    """The queries as a trie over word numbers; some 20 MB for 500,000 entries.

    A node stands for the first words of some entries. The node of one word has the number of the word; the child of `node` over
    `word` is node `len(words) + i`, where `edges[i] == node * len(words) + word`. `edges` is sorted.
    """

    def __init__(self, entries: Sequence[str], mode: Mode = "words") -> None:
        if mode not in get_args(Mode):
            raise ValueError(f"no such matching: {mode}; have {get_args(Mode)}")
        self._mode = mode
        words = _entry_words(entries, mode)
        self._vocabulary = Vocabulary(words)
        self._build(self._vocabulary.numbers(words))

    def _build(self, words: Ints) -> None:
        """Grows the trie level by level; `words` are the numbers of the entries' words, END after each entry."""
        vocabulary = len(self._vocabulary)
        ends = np.flatnonzero(words == END_NUMBER)
        starts = np.concatenate([[0], ends[:-1] + 1])[: len(ends)]
        nodes = words[starts]  # each entry's node so far: its first word; END_NUMBER for an entry without words
        edges: list[Ints] = []
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

    def _index_entries(self, nodes: Ints, node_count: int) -> None:
        """Lists the entries by node: several at one node where they are alike once folded; entries without words at none."""
        order = np.argsort(nodes, kind="stable")
        self._entries = order[nodes[order] != END_NUMBER].astype(np.int32)
        counts = np.bincount(nodes[nodes != END_NUMBER], minlength=node_count)
        self._first_entry = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
        self._flags = np.where(counts > 0, HAS_ENTRY, 0).astype(np.uint8)
        self._flags[np.unique(self._edges // len(self._vocabulary))] |= HAS_CHILDREN

    def match(self, captions: Sequence[str]) -> tuple[Offsets, Ids]:
        """(offsets `[n + 1]`, ids): caption i contains the entries ids[offsets[i]:offsets[i + 1]], distinct and ascending."""
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
        pieces: list[Ints] = []
        depth = 0
        while positions.size:
            pieces.append(self._entries_at(nodes, caption_of[positions]))
            depth += 1
            alive = np.flatnonzero(self._flags[nodes] & HAS_CHILDREN)
            positions, nodes = self._step(positions[alive], nodes[alive], words, depth)
        pairs = _distinct(np.concatenate([*pieces, np.zeros(0, np.int64)]))
        return np.bincount(pairs >> 32, minlength=len(captions)), (pairs & 0x7FFFFFFF).astype(np.int32)

    def _read(self, captions: Sequence[str]) -> tuple[Ints, Ints]:
        """(word numbers of the captions, END after each; number of the caption of each word).

        Captions in ASCII are read apart from the others, since their words are cut several times faster.
        """
        ascii_: list[int] = []
        other: list[int] = []
        for number, caption in enumerate(captions):
            (ascii_ if caption.isascii() else other).append(number)
        groups = [_caption_words([captions[n] for n in group], self._mode) for group in (ascii_, other) if group]
        numbers = self._vocabulary.numbers(_in_a_row(groups))
        ended = numbers == END_NUMBER
        return numbers, np.array([*ascii_, *other], np.int64)[np.cumsum(ended) - ended]

    def _step(self, positions: Ints, nodes: Ints, words: Ints, depth: int) -> tuple[Ints, Ints]:
        """(positions, nodes) of the places that go on matching with the word `depth` places after their first."""
        keys = nodes * len(self._vocabulary) + words[np.minimum(positions + depth, len(words) - 1)]
        likely = np.flatnonzero(self._edge_table[_slots(keys)])
        keys = keys[likely]
        edge = np.searchsorted(self._edges, keys)
        sure = np.flatnonzero(self._edges[np.minimum(edge, len(self._edges) - 1)] == keys)
        return positions[likely[sure]], edge[sure] + len(self._vocabulary)

    def _entries_at(self, nodes: Ints, captions: Ints) -> Ints:
        """caption << 32 | entry for every entry that ends at one of the nodes."""
        first = self._first_entry[nodes]
        counts = self._first_entry[nodes + 1] - first
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        entries: Ints = np.repeat(captions << 32, counts) | self._entries[np.repeat(first, counts) + within]
        return entries


@functools.lru_cache(maxsize=2)
def matcher_for(queries: QueryList, mode: Mode = "words") -> Matcher:
    """The matcher of a query list, built once per process."""
    return Matcher(queries.entries, mode)


def _slots(keys: Ints) -> npt.NDArray[np.uint64]:
    """The place of each edge in the bit table."""
    slots: npt.NDArray[np.uint64] = (keys.view(np.uint64) * GOLDEN) >> np.uint64(64 - TABLE_BITS)
    return slots


def _distinct(pairs: Ints) -> Ints:
    pairs.sort()
    first: npt.NDArray[np.bool_] = np.concatenate([[True], pairs[1:] != pairs[:-1]])[: len(pairs)]
    return pairs[first]
