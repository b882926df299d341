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
import types
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, NewType, TypeVar, Union, cast, get_args, get_origin, get_type_hints

T = TypeVar("T")
Rest = NewType("Rest", dict[str, Any])
Loader = Callable[[Any], Any]


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
        return str(value) if hasattr(value, "parse") else _dump(value)
    if isinstance(value, Mapping):
        return {str(name): dump(one) for name, one in value.items()}
    if isinstance(value, tuple | list):
        return [dump(one) for one in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def json_digest(*parts: Any) -> str:
    """32 hex digits of the SHA-256 of these dataclasses and plain values, as JSON."""
    return hashlib.sha256(to_json(list(parts))).hexdigest()[:32]


def to_json(value: object) -> bytes:
    """One stable byte string for one value: sorted keys, two spaces, a newline at the end."""
    return json.dumps(dump(value), sort_keys=True, indent=2, ensure_ascii=False).encode() + b"\n"


class _Field(NamedTuple):
    name: str
    place: str
    """Its name in JSON."""
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
            hints[field.name],
            field.default is missing and field.default_factory is missing,
            field.metadata.get("optional", False),
            field.default,
        )
        for field in dataclasses.fields(kind)
    )


def _dump(value: Any) -> dict[str, Any]:
    dumped: dict[str, Any] = {}
    for field in _fields(cast(Any, type(value))):
        held = getattr(value, field.name)
        if field.hint is Rest:
            dumped |= held
        elif not (field.optional and held == field.default):
            dumped[field.place] = dump(held)
    return dumped


@functools.cache
def _loader(kind: Any) -> Loader:
    if hasattr(kind, "parse"):
        return functools.partial(_load_parsed, kind)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return functools.partial(_load_fields, kind)
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return functools.partial(_load_any_of, inner)
    if origin in (tuple, list):
        return functools.partial(_load_list, origin, _loader(inner[0]))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return functools.partial(_load_mapping, _loader(inner[1]))
    if origin is Literal:
        return functools.partial(_load_one_of, inner)
    if kind is Any:
        return lambda value: value
    return functools.partial(_load_plain, (int, float) if kind is float else kind)


def _load_fields(kind: type, value: Any) -> Any:
    if not isinstance(value, Mapping):
        raise ValueError("it is no JSON object")
    given: dict[str, Any] = {}
    left = dict(value)
    keeps = None
    for field in _fields(kind):
        if field.hint is Rest:
            keeps = field.name
        elif field.place in left:
            try:
                given[field.name] = _loader(field.hint)(left.pop(field.place))
            except ValueError as error:
                raise ValueError(f"{field.place}: {error}") from None
        elif field.needed:
            raise ValueError(f"it lacks {field.place}")
    if keeps is not None:
        given[keeps] = left
    return kind(**given)


def _load_any_of(kinds: tuple[Any, ...], value: Any) -> Any:
    if value is None and type(None) in kinds:
        return None
    wrong: ValueError | None = None
    for kind in kinds:
        try:
            return _loader(kind)(value) if kind is not type(None) else _load_plain(type(None), value)
        except ValueError as error:
            wrong = wrong or error
    raise wrong or ValueError("it is nothing that belongs there")


def _load_list(kind: Callable[[Any], Any], one: Loader, value: Any) -> Any:
    if not isinstance(value, list | tuple):
        raise ValueError("it is no list")
    return kind(one(item) for item in value)


def _load_mapping(one: Loader, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError("it is no JSON object")
    return {name: one(item) for name, item in value.items()}


def _load_one_of(values: tuple[Any, ...], value: Any) -> Any:
    if value not in values:
        raise ValueError(f"{value!r:.80} is none of {', '.join(map(repr, values))}")
    return value


def _load_parsed(kind: Any, value: Any) -> Any:
    if isinstance(value, kind):
        return value
    return kind.parse(_load_plain(str, value))


def _load_plain(kind: Any, value: Any) -> Any:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"{value!r:.80} is of another type")
    return value
