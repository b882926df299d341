"""JSON of ours as frozen dataclasses: one way in and one way out.

A field of a dataclass is a field of the JSON object; `named` gives it another name there. A field with a default may be missing
from the JSON; an `optional` one is not written while it has its default. A field of type `Rest` holds the fields that the class
does not know, unchanged: other versions may have written them. An object of a class with a `parse` is a text in JSON.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import attrgetter, itemgetter
from typing import Any, Literal, NamedTuple, NewType, TypeVar, Union, cast, get_args, get_origin, get_type_hints

T = TypeVar("T")
Rest = NewType("Rest", dict[str, Any])
Loader = Callable[[Any], Any]
quoted: Callable[[str], str] = json.encoder.encode_basestring  # in C, as it is in UTF-8


def named(name: str, **kind: Any) -> Any:
    """A field that has another name in JSON; `kind` as for dataclasses.field."""
    return dataclasses.field(metadata={"json": name}, **kind)


def optional(default: Any, name: str | None = None) -> Any:
    """A field that is left out of JSON where it has its default."""
    return dataclasses.field(default=default, metadata={"optional": True} | ({"json": name} if name else {}))


def rest() -> Any:
    """The field of type `Rest`, for fields of the JSON that the class does not know."""
    return dataclasses.field(default_factory=dict)


def load(kind: type[T], value: object) -> T:
    """A value parsed from JSON, as that type. Raises ValueError that names the first field that is missing or of another
    type."""
    loaded: T = _loader(cast(Any, kind))(value)
    return loaded


def dump(value: Any) -> Any:
    """The value as dicts, lists, texts and numbers, as `load` reads it."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return str(value) if hasattr(value, "parse") else {name: dump(one) for name, one in _held(value).items()}
    if isinstance(value, Mapping):
        return {str(name): dump(one) for name, one in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [dump(one) for one in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def json_digest(*parts: Any) -> str:
    """32 hex digits of the SHA-256 of these dataclasses and plain values, as JSON."""
    if not parts:
        return hashlib.sha256(to_json([])).hexdigest()[:32]
    line, hasher = "\n  ", hashlib.sha256(b"[")
    for number, part in enumerate(parts):  # as `to_json` of the list, which may be long
        hasher.update(f"{',' if number else ''}{line}{json_text(part, line)}".encode())
    hasher.update(b"\n]\n")
    return hasher.hexdigest()[:32]


def to_json(value: object) -> bytes:
    """One stable byte string for one value: sorted keys, two spaces, a newline at the end."""
    return json_text(value).encode() + b"\n"


GAP = "\ue000"  # stands for the items of a long list


def json_pieces(value: Any, name: str, items: Iterable[bytes]) -> Iterator[bytes]:
    """`to_json` of a dataclass, with one piece for each item of its field `name`, a list that may be long; `items` are the
    `to_json` of these."""
    if not getattr(value, name):
        yield to_json(value)
        return
    line = "\n    "
    head, tail = json_text(dataclasses.replace(value, **{name: (GAP,)})).split(quoted(GAP))
    yield head.encode()
    for number, text in enumerate(items):
        yield (f",{line}" if number else "").encode() + text.rstrip().replace(b"\n", line.encode())
    yield f"{tail}\n".encode()


def json_text(value: Any, line: str = "\n") -> str:
    """The value as `json.dumps` of its `dump` writes it, sorted and with two spaces; `line` begins each of its lines but the
    first. The library does that in plain Python, with a call for each token: this takes a quarter to four fifths of the time."""
    if (kind := type(value)) is str:
        return quoted(value)
    return (WRITERS.get(kind) or _writer(kind))(value, line)


Writer = Callable[[Any, str], str]
WRITERS: dict[type, Writer] = {}  # that were needed so far


def _writer(kind: type) -> Writer:
    """How values of a type are written; it is remembered."""
    return WRITERS.setdefault(kind, _new_writer(kind))


def _new_writer(kind: type) -> Writer:
    if issubclass(kind, str):
        return _write_text
    if kind is int:
        return _write_int
    if kind is type(None) or issubclass(kind, int | float):
        return _write_plain
    if issubclass(kind, Sequence):
        return _write_list
    if issubclass(kind, Mapping):
        return _write_mapping
    if dataclasses.is_dataclass(kind) and not hasattr(kind, "parse"):
        return functools.partial(_write_fields, *_written(kind))
    return _write_text


def _write_int(value: int, _: str) -> str:
    return repr(value)


def _write_plain(value: Any, _: str) -> str:
    return json.dumps(value)


def _write_text(value: Any, _: str) -> str:
    return quoted(value if isinstance(value, str) else str(value))


def _write_list(value: Any, line: str) -> str:
    inner = line + "  "
    return _bracketed("[]", [json_text(one, inner) for one in value], line)


def _write_mapping(value: Mapping[Any, Any], line: str) -> str:
    inner = line + "  "
    named = {str(name): one for name, one in value.items()}
    items = [f"{quoted(name)}: {json_text(named[name], inner)}" for name in sorted(named)]
    return _bracketed("{}", items, line)


def _write_fields(fields: tuple[_Field, ...], keeps: str | None, value: Any, line: str) -> str:
    inner = line + "  "
    items = []
    for field in fields:
        one = getattr(value, field.name)
        if not (field.optional and one == field.default):
            items.append((field.place, f"{field.quoted}: {json_text(one, inner)}"))
    if keeps is not None and (more := getattr(value, keeps)):
        if not more.keys().isdisjoint(field.place for field in fields):
            return _write_mapping(_held(value), line)
        items += [(name, f"{quoted(name)}: {json_text(one, inner)}") for name, one in more.items()]
        items.sort(key=PLACE)
    return _bracketed("{}", [text for _, text in items], line)


PLACE = itemgetter(0)


def _bracketed(ends: str, items: list[str], line: str) -> str:
    if not items:
        return ends
    inner = line + "  "
    return f"{ends[0]}{inner}{f',{inner}'.join(items)}{line}{ends[1]}"


def _written(kind: type) -> tuple[tuple[_Field, ...], str | None]:
    """(the fields in the order of their names in JSON; the one that holds further ones, which belong between them)."""
    fields = sorted((field for field in _fields(kind) if field.hint is not Rest), key=attrgetter("place"))
    return tuple(fields), next((field.name for field in _fields(kind) if field.hint is Rest), None)


def _held(value: Any) -> dict[str, Any]:
    """The fields of a dataclass by their names in JSON."""
    held: dict[str, Any] = {}
    for field in _fields(cast(Any, type(value))):
        one = getattr(value, field.name)
        if field.hint is Rest:
            held |= one
        elif not (field.optional and one == field.default):
            held[field.place] = one
    return held


class _Field(NamedTuple):
    name: str
    place: str
    """Its name in JSON."""
    quoted: str
    hint: Any
    needed: bool
    optional: bool
    default: Any


@functools.cache
def _fields(kind: type) -> tuple[_Field, ...]:
    hints, missing = get_type_hints(kind), dataclasses.MISSING
    return tuple(
        _Field(
            field.name,
            field.metadata.get("json", field.name),
            quoted(field.metadata.get("json", field.name)),
            hints[field.name],
            field.default is missing and field.default_factory is missing,
            field.metadata.get("optional", False),
            field.default,
        )
        for field in dataclasses.fields(kind)
    )


NONE: dict[str, Any] = {}  # all mappings without items that were loaded: nobody changes one


@functools.cache
def _loader(kind: Any) -> Loader:
    if hasattr(kind, "parse"):
        return functools.partial(_load_parsed, kind)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return functools.partial(_load_fields, kind)
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return functools.partial(_load_any_of, inner)
    if origin in (tuple, list, Sequence):
        return functools.partial(_load_list, list if origin is list else tuple, _loader(inner[0]))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return functools.partial(_load_mapping, _loader(inner[1]))
    if origin is Literal:
        return functools.partial(_load_one_of, inner)
    if kind is Any:
        return lambda value: value
    return functools.partial(_load_plain, _plain(kind))


class _Place(NamedTuple):
    """Where a field comes from."""

    name: str
    place: str
    plain: frozenset[type]
    load: Loader
    needed: bool


@functools.cache
def _places(kind: type) -> tuple[tuple[_Place, ...], str | None, frozenset[str]]:
    """(the fields that JSON names, the field for all that it names besides, the names that are known)."""
    named = [field for field in _fields(kind) if field.hint is not Rest]
    keeps = next((field.name for field in _fields(kind) if field.hint is Rest), None)
    places = tuple(
        _Place(field.name, field.place, _plain(field.hint), _loader(field.hint), field.needed) for field in named
    )
    return places, keeps, frozenset(field.place for field in named)


def _load_fields(kind: type, value: Any) -> Any:
    if type(value) is not dict and not isinstance(value, Mapping):  # asked in this order: it is a dict nearly always
        raise ValueError("it is no JSON object")
    places, keeps, known = _places(kind)
    given: dict[str, Any] = {}
    for name, place, plain, loader, needed in places:
        if place in value:
            one = value[place]
            try:
                given[name] = one if type(one) in plain else loader(one)
            except ValueError as error:
                raise ValueError(f"{place}: {error}") from None
        elif needed:
            raise ValueError(f"it lacks {place}")
    if keeps is not None:
        given[keeps] = (
            {name: one for name, one in value.items() if name not in known} if len(value) > len(given) else NONE
        )
    return kind(**given)


def _load_any_of(kinds: tuple[Any, ...], value: Any) -> Any:
    if value is None and type(None) in kinds:
        return None
    wrong: ValueError | None = None
    for kind in kinds:
        try:
            return _loader(kind)(value)
        except ValueError as error:
            wrong = wrong or error
    raise wrong or ValueError("it is nothing that belongs there")


def _load_list(kind: Callable[[Any], Any], one: Loader, value: Any) -> Any:
    if not isinstance(value, list | tuple):
        raise ValueError("it is no list")
    return kind(one(item) for item in value)


def _load_mapping(one: Loader, value: Any) -> dict[str, Any]:
    if type(value) is not dict and not isinstance(value, Mapping):
        raise ValueError("it is no JSON object")
    return {sys.intern(name): one(item) for name, item in value.items()} or NONE


def _load_one_of(values: tuple[Any, ...], value: Any) -> Any:
    if value not in values:
        raise ValueError(f"{value!r:.80} is none of {', '.join(map(repr, values))}")
    return value


def _load_parsed(kind: Any, value: Any) -> Any:
    if isinstance(value, kind):
        return value
    return kind.parse(_load_plain(TEXT, value))


TEXT = frozenset({str})


def _plain(kind: Any) -> frozenset[type]:
    """The types of JSON that are taken for a plain one; none for any other type."""
    return frozenset({int, float} if kind is float else {kind} if kind in (str, int, bool, type(None)) else ())


def _load_plain(kinds: frozenset[type], value: Any) -> Any:
    if type(value) not in kinds and (isinstance(value, bool) or not isinstance(value, tuple(kinds))):
        raise ValueError(f"{value!r:.80} is of another type")
    return value
