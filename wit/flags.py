"""Refuses flags and values that do not exist, and guesses what was meant. Every command asks here before it does anything."""

from __future__ import annotations

import dataclasses
import difflib
import itertools
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from wit.errors import InputError

FEW = 15  # so many names are listed even if one of them is near
OF_ALL = ("help", "tyro-print-completion", "tyro-write-completion")


def instead(word: str, known: Iterable[str], *, prefix: str = "") -> str:
    """What to write in place of an unknown name: the nearest known one; all of them where they are few or none is near."""
    names = list(known)
    near = _nearest(word, names)
    guess = f"did you mean {prefix}{near}?" if near else ""
    have = f"have {', '.join(prefix + name for name in names)}" if names and (not near or len(names) <= FEW) else ""
    return "; ".join(filter(None, (have, guess)))


def _nearest(word: str, known: Iterable[str]) -> str | None:
    """The name that was meant, where one is near."""
    plain = {_plain(name): name for name in reversed(list(known))}
    near = difflib.get_close_matches(_plain(word), plain, n=1)
    return plain[near[0]] if near else None


def _plain(name: str) -> str:
    return name.casefold().replace("_", "-")


def knobs_of(config: type) -> dict[str, Any]:
    """{flag: type of its value} of a configuration and all its sections."""
    knobs: dict[str, Any] = {}
    for name, hint in typing.get_type_hints(config).items():
        if dataclasses.is_dataclass(hint):
            knobs |= knobs_of(typing.cast(type, hint))
        elif typing.get_origin(hint) is not typing.ClassVar:
            knobs[name.replace("_", "-")] = hint
    return knobs


def check_names(arguments: Sequence[str], knobs: Mapping[str, Any], beams: Sequence[str] | None = None) -> None:
    """Raises InputError for a flag that is none of the knobs. `beams` are Beam's flags, for a command that passes them on."""
    names = [*knobs, *(f"no-{name}" for name, hint in knobs.items() if hint is bool)]
    for flag, _ in _given(arguments):
        if flag in names or flag in OF_ALL:
            continue
        ours = _of_its_sense(flag, names)
        if beams is None:
            raise InputError("; ".join(filter(None, (f"unknown option --{flag}", instead(flag, ours, prefix="--")))))
        if near := _nearest(flag, ours) or _nearest(flag, _of_its_sense(flag, beams)):
            raise InputError(f"unknown option --{flag}; did you mean --{near}?")
        raise InputError(f"no option of wit or Beam: --{flag}; see --help")


def _of_its_sense(flag: str, names: Iterable[str]) -> list[str]:
    """The names that the flag may have been meant for: --no-x is never a slip for --x."""
    return [name for name in names if name.startswith("no") == flag.startswith("no")]


def check_values(arguments: Sequence[str], knobs: Mapping[str, Any]) -> None:
    """Raises InputError for a value that its knob cannot have."""
    for argument in arguments:
        flag, _, word = argument.removeprefix("--").replace("_", "-").partition("=")
        if word and argument.startswith("--") and knobs.get(flag.removeprefix("no-")) is bool:
            more = f", or write --no-{flag}" if word.casefold() == "false" and not flag.startswith("no-") else ""
            raise InputError(f'--{flag} takes no value: leave out "={word}"{more}')
    for flag, value in _given(arguments):
        choices = choices_of(knobs.get(flag))
        if choices and value is not None and value not in choices:
            raise InputError(f"--{flag} {value}: no such value; {instead(value, choices)}")


def choices_of(hint: Any) -> list[str]:
    """The values that a knob of this type can have; empty where they cannot be listed."""
    if typing.get_origin(hint) is Literal:
        return [str(value) for value in typing.get_args(hint)]
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return [choice for one in typing.get_args(hint) for choice in choices_of(one)]
    return []


def _given(arguments: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    """(flag as it is documented, its value where one follows)."""
    for argument, following in itertools.zip_longest(arguments, arguments[1:], fillvalue="--"):
        if argument.startswith("--") and argument != "--":
            name, equals, value = argument.removeprefix("--").partition("=")
            yield name.replace("_", "-"), value if equals else None if following.startswith("--") else following
