"""Entries with their origin and score, and how groups of entries become one list of a given size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import pyarrow as pa
import pyarrow.parquet as pq

from wit.candidates.captions import clean_captions
from wit.querycheck import forms
from wit.querylist import MAX_ENTRY_CHARS
from wit.store import fs

ENTRIES = pa.schema([("entry", pa.string()), ("origin", pa.string()), ("score", pa.float64())])


class Origin(StrEnum):
    """Where an entry comes from. The order matters: an entry that several origins offer belongs to the first."""

    NUMBER = "number"  # 0 to 99, as MetaCLIP adds them
    WORD = "word"  # score: occurrences, or relative frequency
    BIGRAM = "bigram"  # score: pointwise mutual information in bits
    TITLE = "title"  # score: page views
    PLACE = "place"  # score: population
    SYNSET = "synset"  # score: number of synsets named so


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a query list, its origin, and its score there (see `Origin`)."""

    text: str
    origin: Origin
    score: float


Scores = Mapping[str, float]


def numbers() -> Scores:
    return {str(n): 1.0 for n in range(100)}


def assemble(groups: Mapping[Origin, Scores], *, size: int | None = None) -> list[Entry]:
    """The entries of all groups, cleaned as captions are, sorted; no two read alike to the default matching.

    Among entries that read alike, the first origin wins; within an origin, the highest score. If there are more than `size`, the
    bigrams of the lowest score are left out, since their threshold is the arbitrary one.
    """
    chosen: dict[bytes, Entry] = {}
    for origin in Origin:
        ranked = sorted(groups.get(origin, {}).items(), key=lambda item: (-item[1], item[0]))
        texts = clean_captions([text for text, _ in ranked])
        for form, text, (_, score) in zip(forms(texts, "words"), texts, ranked, strict=True):
            if form and form not in chosen and len(text) <= MAX_ENTRY_CHARS:
                chosen[form] = Entry(text, origin, score)
    entries = list(chosen.values())
    if size is not None and len(entries) > size:
        entries = _without_weakest_bigrams(entries, len(entries) - size)
    return sorted(entries, key=lambda entry: entry.text)


def _without_weakest_bigrams(entries: list[Entry], excess: int) -> list[Entry]:
    bigrams = sorted((e for e in entries if e.origin is Origin.BIGRAM), key=lambda e: (e.score, e.text))
    dropped = {entry.text for entry in bigrams[:excess]}
    return [entry for entry in entries if entry.text not in dropped]


def write_entries(entries: list[Entry], path: str) -> None:
    """Writes the list to `path`, one entry a line, and beside it PATH.parquet with each entry's origin and score."""
    columns = {
        "entry": [entry.text for entry in entries],
        "origin": [entry.origin.value for entry in entries],
        "score": [entry.score for entry in entries],
    }
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns, ENTRIES), sink, compression="zstd", compression_level=19)
    fs.write_bytes(path.removesuffix(".txt") + ".parquet", sink.getvalue().to_pybytes())
    fs.write_bytes(path, "".join(f"{entry.text}\n" for entry in entries).encode())
