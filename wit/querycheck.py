"""Oddities of a query list that can be told before a build runs: entries that can never match, entries that read alike."""

from __future__ import annotations

import re
from collections.abc import Sequence

from wit.candidates.captions import clean_captions
from wit.candidates.matching import Mode
from wit.candidates.words import END, cut_words, join_texts
from wit.errors import InputError
from wit.queryfile import QueryFile, read_queries
from wit.querylist import load_queries, read_file

SHOWN = 3  # entries named of each kind
# No caption has these after MetaCLIP's cutting, where marks stand alone.
UNCUT = re.compile(r"[\t\r\n]|[^ ][,.;:?!`]|[,.;:?!`][^ ]")


def forms(entries: Sequence[str], mode: Mode) -> list[bytes]:
    """The form of each entry that is matched: equal forms match the same captions, an empty one matches none."""
    if mode == "metaclip":
        return [b"" if UNCUT.search(entry) else entry.encode("utf-8", "surrogatepass") for entry in entries]
    read_as = [b""] * len(entries)
    ascii_: list[int] = []
    other: list[int] = []
    for place, entry in enumerate(entries):
        (ascii_ if entry.isascii() else other).append(place)
    for places in (ascii_, other):  # apart, since words of ASCII are cut several times faster
        cut = cut_words(join_texts(clean_captions([entries[place] for place in places]))).split(END.encode())
        for place, form in zip(places, cut, strict=False):
            read_as[place] = b" ".join(form.split())
    return read_as


def remarks(path: str, mode: Mode) -> list[str]:
    """One line for each oddity of a query list; raises InputError where none of its entries can match anything."""
    file, entries = read_queries(read_file(path), path), load_queries(path).entries
    never, alike = _odd(entries, mode)
    if len(never) == len(entries):
        raise InputError(
            f"no entry of {path} can match a caption under --matching {mode} ({entries[0]!r}, ...): write words"
        )
    places = _places({*never[:SHOWN], *[entry for pair in alike[:SHOWN] for entry in pair]}, file)
    lines = [file.note] if file.note else []
    if tabbed := [entry for entry in entries if "\t" in entry]:
        lines.append(
            f"{path}: TABs stand in {_count(tabbed)}, which no caption has ({tabbed[0]!r}, ...): of query<TAB>count every line "
            "must have its count, a whole number without commas"
        )
    if never:
        shown = [f"{entry!r} ({places[entry]})" for entry in never[:SHOWN]]
        lines.append(f"{path}: {_count(never)} can never match under --matching {mode}: {_listed(shown, never)}")
    if alike:
        shown = [f"{entry!r} ({places[entry]}) as {first!r} ({places[first]})" for entry, first in alike[:SHOWN]]
        same = f"{_count(alike)} the same as an earlier one under --matching {mode}, each with a cap of its own"
        lines.append(f"{path}: {same}: {_listed(shown, alike)}")
    return lines


def _odd(entries: Sequence[str], mode: Mode) -> tuple[list[str], list[tuple[str, str]]]:
    """(entries that can never match, pairs (entry, earlier entry) that read the same)."""
    first: dict[bytes, str] = {}
    never: list[str] = []
    alike: list[tuple[str, str]] = []
    for entry, form in zip(entries, forms(entries, mode), strict=True):
        if not form:
            never.append(entry)
        elif (before := first.setdefault(form, entry)) is not entry:
            alike.append((entry, before))
    return never, alike


def _places(wanted: set[str], file: QueryFile) -> dict[str, str]:
    """Where each of the entries stands first."""
    places: dict[str, str] = {}
    for number, text in enumerate(file.texts if wanted else [], 1):
        if (entry := text.strip()) in wanted:
            places.setdefault(entry, f"{file.unit} {number:,}")
    return places


def _count(entries: Sequence[object]) -> str:
    return f"{len(entries):,} {'entry' if len(entries) == 1 else 'entries'}"


def _listed(shown: list[str], every: Sequence[object]) -> str:
    return ", ".join(shown) + (", ..." if len(every) > len(shown) else "")
