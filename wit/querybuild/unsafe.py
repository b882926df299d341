"""Keeps pornography, the sexualisation of minors and slurs out of query lists, by a table of stems, `stems.toml`."""

from __future__ import annotations

import importlib.resources
import re
import tomllib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from wit.errors import InputError
from wit.querybuild.entries import Origin, Scores
from wit.querycheck import forms
from wit.store import fs

SHIPPED, NONE = "shipped", "none"  # a recipe's `stems` may have these in place of a path
KEYS = {"name", "why", "origins", "recipe", "takes", "beside", "keeps"}
Taken = Counter[tuple[str, Origin]]  # {(group, origin): entries taken out}

WORD = re.compile(r"[\w*]+")
NOTHING = re.compile(r"(?!)")


class Terms:
    """Words and runs of words, separated by commas; `*` at an end of a word stands for any letters, or none."""

    def __init__(self, text: str) -> None:
        runs = [tuple(WORD.findall(term.casefold())) for term in re.split(r"[,\n]", text)]
        single = [run[0] for run in runs if len(run) == 1]
        self._plain = {word for word in single if "*" not in word}
        self._wild = _pattern([word for word in single if "*" in word])
        self._known: dict[str, bool] = {}  # a cache: words come again and again, and a pattern is slower
        self._runs: defaultdict[str, list[tuple[re.Pattern[str], ...]]] = defaultdict(list)
        for first, *rest in (run for run in runs if len(run) > 1):
            if "*" in first:
                raise ValueError(f"{first} {' '.join(rest)}: a run of words begins with a whole word")
            self._runs[first].append(tuple(_pattern([word]) for word in rest))

    def begins(self, word: str) -> bool:
        """Whether a term begins with the word."""
        return self._has(word) or word in self._runs

    def places(self, words: Sequence[str]) -> set[int]:
        """The places of the words that belong to a term."""
        named = {place for place, word in enumerate(words) if self._has(word)}
        for place, word in enumerate(words[:-1]):
            for rest in self._runs.get(word, ()):
                after = words[place + 1 : place + 1 + len(rest)]
                if len(after) == len(rest) and all(p.fullmatch(w) for p, w in zip(rest, after, strict=True)):
                    named.update(range(place, place + 1 + len(rest)))
        return named

    def _has(self, word: str) -> bool:
        if word not in self._known:
            self._known[word] = word in self._plain or self._wild.fullmatch(word) is not None
        return self._known[word]


def _pattern(words: Sequence[str]) -> re.Pattern[str]:
    return re.compile("|".join(re.escape(word).replace(r"\*", ".*") for word in words)) if words else NOTHING


@dataclass(frozen=True, slots=True)
class Group:
    """A rule that takes entries out for one reason: those of `origins` with a term of `takes` in them and, if `beside` is
    given, a term of `beside` in another word. Words within a term of `keeps` do not count."""

    name: str
    why: str
    takes: Terms
    beside: Terms | None = None
    keeps: Terms = field(default_factory=lambda: Terms(""))
    origins: frozenset[Origin] = frozenset(Origin)

    def holds(self, words: Sequence[str], origin: Origin) -> bool:
        """Whether the group takes an entry of these words out."""
        if origin not in self.origins or not (taken := self.takes.places(words)):
            return False
        kept = self.keeps.places(words)
        taken -= kept
        beside = taken if self.beside is None else self.beside.places(words) - kept
        return bool(taken) and bool(beside) and (self.beside is None or len(taken | beside) > 1)


class Stems:
    """The groups, in their order."""

    def __init__(self, groups: Sequence[Group]) -> None:
        self.groups = tuple(groups)
        self._asked: dict[
            str, bool
        ] = {}  # nearly every word begins no term at all, and its entries need no closer look

    def group_of(self, form: str, origin: Origin) -> str | None:
        """The first group that takes an entry out; None for one that stays. `form` is the entry as the default matching reads
        it."""
        words = form.split()
        if not any([self._begins(word) for word in words]):
            return None
        return next((group.name for group in self.groups if group.holds(words, origin)), None)

    def _begins(self, word: str) -> bool:
        if word not in self._asked:
            self._asked[word] = any(group.takes.begins(word) for group in self.groups)
        return self._asked[word]


def load_stems(path: str, *, recipe: str = "packages") -> Stems:
    """The groups for a recipe: from a TOML file, from the table that ships (`shipped`), or none (`none`). Raises InputError for a
    file that is no such table."""
    if path == NONE:
        return Stems(())
    if path == SHIPPED:
        data = (importlib.resources.files("wit.querybuild") / "stems.toml").read_bytes()
    elif fs.exists(path):
        data = fs.read_bytes(path)
    else:
        raise InputError(f"no stems at {path}: give a TOML file with --stems, or leave it out for those that ship")
    try:
        rows = tomllib.loads(data.decode())["group"]
        return Stems([_group(row) for row in rows if row.get("recipe", recipe) == recipe])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is no table of stems ({error}): see wit/querybuild/stems.toml") from None


def _group(row: Mapping[str, Any]) -> Group:
    if unknown := set(row) - KEYS:
        raise ValueError(f"no such key: {', '.join(sorted(unknown))}")
    return Group(
        row["name"],
        row["why"],
        Terms(row["takes"]),
        Terms(row["beside"]) if "beside" in row else None,
        Terms(row.get("keeps", "")),
        frozenset(Origin(name) for name in row.get("origins", Origin)),
    )


def without_unsafe(groups: Mapping[Origin, Scores], stems: Stems) -> tuple[dict[Origin, Scores], Taken]:
    """(each origin's entries that stay, how many each group took out)."""
    kept: dict[Origin, Scores] = {}
    taken: Taken = Counter()
    for origin, scores in groups.items():
        reasons = [stems.group_of(form.decode(), origin) for form in forms(list(scores), "words")]
        kept[origin] = {text: scores[text] for text, reason in zip(scores, reasons, strict=True) if reason is None}
        taken.update((reason, origin) for reason in reasons if reason is not None)
    return kept, taken
