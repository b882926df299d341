"""A build's configuration out of a TOML file: any flag by its name, values of the knob's own type."""

from __future__ import annotations

import dataclasses
import re
import tomllib
import typing
from typing import Any, Literal

from wit.config import SECTIONS, BuildConfig
from wit.errors import InputError
from wit.fingerprints import check_gone
from wit.flags import choices_of, instead
from wit.store import fs

COUNTED = ("target", "limit", "max_per_query")  # knobs that may be written as 400M
COUNT = re.compile(r"(\d+(?:\.\d+)?)([kKmMgGbB])")
SUFFIX = {"K": 10**3, "M": 10**6, "G": 10**9, "B": 10**9}


def counted(name: str, value: str) -> int | None:
    """The number that `400M` or `20k` means; None for any other text, or for a knob that does not count."""
    number = COUNT.fullmatch(value) if name.replace("-", "_") in COUNTED else None
    return round(float(number[1]) * SUFFIX[number[2].upper()]) if number else None


def from_toml(path: str, default: BuildConfig) -> BuildConfig:
    """`default` with the settings of a TOML file: any flag by its name, with `-` or `_`, at the top or in the table of its
    section ([fetch], [plan], ...). Raises InputError for an unknown one, and for a value of another type."""
    if not fs.exists(path):
        raise InputError(f"no such configuration file: {path}")
    try:
        values = tomllib.loads(fs.read_bytes(path).decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not TOML: {error}") from error
    changed: BuildConfig = _replace(default, _by_section(values, path), path)
    return changed


def _by_section(values: dict[str, Any], path: str) -> dict[str, Any]:
    """The settings, those at the top moved into the table of their section."""
    own = {field.name for field in dataclasses.fields(BuildConfig)}
    home = {knob.name: name for name, section in SECTIONS.items() for knob in dataclasses.fields(section)}
    settings: dict[str, Any] = {}
    placed = [pair for name, value in values.items() for pair in _placed(name, value, own, home)]
    for section, written, value in placed:
        name = written.replace("-", "_")
        if section is None and name not in own:
            check_gone(written, f"{path}: ")
            raise InputError(f"{path}: no such setting: {written}; {instead(written, sorted(own | set(home)))}")
        place = settings if section is None else settings.setdefault(section, {})
        if name in place:
            raise InputError(f"{path}: {written} stands there twice")
        place[name] = value
    return settings


def _placed(written: str, value: Any, own: set[str], home: dict[str, str]) -> list[tuple[str | None, str, Any]]:
    """(section or None, name, value) of each setting in one entry at the top."""
    name = written.replace("-", "_")
    if name in SECTIONS and isinstance(value, dict):
        return [(name, key, item) for key, item in value.items()]
    return [(None if name in own else home.get(name), written, value)]


def _replace(config: Any, values: dict[str, Any], path: str) -> Any:
    every = typing.get_type_hints(type(config))
    hints = {field.name: every[field.name] for field in dataclasses.fields(config)}
    changed = {}
    for name, value in values.items():
        if name not in hints:
            check_gone(name, f"{path}: ")
            raise InputError(f"{path}: no such setting: {name}; {instead(name, sorted(hints))}")
        section = dataclasses.is_dataclass(hints[name])
        if section != isinstance(value, dict):
            raise InputError(f"{path}: {name} {'is a table: write [' + name + ']' if section else 'is no table'}")
        changed[name] = (
            _replace(getattr(config, name), value, path) if section else _typed(name, value, hints[name], path)
        )
    try:
        return dataclasses.replace(config, **changed)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _typed(name: str, value: Any, hint: Any, path: str) -> Any:
    """The value as the knob's type; raises InputError for a value of another type."""
    if isinstance(value, str) and (count := counted(name, value)) is not None:
        return count
    frozen = _frozen(value)
    if isinstance(value, str) and (choices := choices_of(hint)) and value not in choices:
        raise InputError(f"{path}: {name.replace('_', '-')} is {value!r}: no such value; {instead(value, choices)}")
    if not _is_a(frozen, hint):
        raise InputError(f"{path}: {name.replace('_', '-')} is {value!r}: give {_in_words(hint)}")
    return float(frozen) if float in (hint, *typing.get_args(hint)) and isinstance(frozen, int) else frozen


def _is_a(value: Any, hint: Any) -> bool:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return value in arguments and not isinstance(value, bool)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        kinds = [arguments[0]] * len(value) if arguments[-1] is ... else list(arguments)
        return len(kinds) == len(value) and all(map(_is_a, value, kinds))
    if arguments:  # a union
        return any(_is_a(value, one) for one in arguments)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, hint) and isinstance(value, bool) == (hint is bool)


def _in_words(hint: Any) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if origin is tuple and arguments[-1] is ...:
        return f"a list, each {_in_words(arguments[0])}"
    if origin is tuple:
        return f"a list of {', '.join(map(_in_words, arguments))}"
    if arguments:
        return " or ".join(_in_words(one) for one in arguments if one is not type(None))
    return {str: "a text in quotes", int: "a whole number", float: "a number", bool: "true or false"}[hint]


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value
