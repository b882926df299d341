"""JSON of ours as frozen dataclasses: one way in and one way out.

A field of a dataclass is a field of the JSON object; `named` gives it another name there. One with a default may be missing, and
is left out where it has that value. A field of type `Rest` holds, as they are, the fields that the class does not know: other
versions may have written them.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import types
from collections.abc import Callable, Mapping
from typing import Any, NewType, TypeVar, Union, cast, get_args, get_origin, get_type_hints

T = TypeVar("T")
Rest = NewType("Rest", dict[str, Any])
Loader = Callable[[Any], Any]


def named(name: str, **kind: Any) -> Any:
    """A field that has another name in JSON; `kind` as for dataclasses.field."""
    return dataclasses.field(metadata={"json": name}, **kind)


def rest() -> Any:
    """The field for what the class does not know."""
    return dataclasses.field(default_factory=dict)


def load(kind: type[T], value: object) -> T:
    """The value as JSON has it, as that type. Raises ValueError that names the first field that is missing or of another
    type."""
    loaded: T = _loader(cast(Any, kind))(value)
    return loaded


def dump(value: Any) -> Any:
    """What `load` reads: dicts, lists, texts, numbers."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _dump(value)
    if isinstance(value, Mapping):
        return {str(name): dump(one) for name, one in value.items()}
    if isinstance(value, tuple | list | frozenset):
        return [dump(one) for one in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def to_json(value: object) -> bytes:
    """One stable byte string for one value: sorted keys, two spaces, a newline at the end."""
    return json.dumps(dump(value), sort_keys=True, indent=2, ensure_ascii=False).encode() + b"\n"


@functools.cache
def _fields(kind: type) -> tuple[tuple[str, str, Any, bool], ...]:
    """(name, name in JSON, type, whether it may be missing) of each field."""
    hints = get_type_hints(kind)
    missing = dataclasses.MISSING
    return tuple(
        (
            field.name,
            field.metadata.get("json", field.name),
            hints[field.name],
            field.default is not missing or field.default_factory is not missing,
        )
        for field in dataclasses.fields(kind)
        if field.init
    )


def _dump(value: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    defaults = {field.name: field.default for field in dataclasses.fields(value)}
    for name, place, hint, _ in _fields(cast(Any, type(value))):
        held = getattr(value, name)
        if hint is Rest:
            found |= held
        elif held != defaults[name] and not (held == () and defaults[name] == ()):
            found[place] = dump(held)
    return found


@functools.cache
def _loader(kind: Any) -> Loader:
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return functools.partial(_load_fields, kind)
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return functools.partial(_load_any_of, inner)
    if origin is tuple:
        return functools.partial(_load_tuple, _loader(inner[0]))
    if origin is not None and issubclass(origin, Mapping):
        return functools.partial(_load_mapping, _loader(inner[1]))
    if kind is Any:
        return lambda value: value
    if hasattr(kind, "parse"):
        return functools.partial(_load_parsed, kind)
    return functools.partial(_load_plain, (int, float) if kind is float else kind)


def _load_fields(kind: type, value: Any) -> Any:
    if not isinstance(value, Mapping):
        raise ValueError("it is no JSON object")
    given: dict[str, Any] = {}
    left = dict(value)
    keeps = None
    for name, place, hint, optional in _fields(kind):
        if hint is Rest:
            keeps = name
        elif place in left:
            try:
                given[name] = _loader(hint)(left.pop(place))
            except ValueError as error:
                raise ValueError(f"{place}: {error}") from None
        elif not optional:
            raise ValueError(f"it lacks {place}")
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


def _load_tuple(one: Loader, value: Any) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise ValueError("it is no list")
    return tuple(one(item) for item in value)


def _load_mapping(one: Loader, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError("it is no JSON object")
    return {name: one(item) for name, item in value.items()}


def _load_parsed(kind: Any, value: Any) -> Any:
    if isinstance(value, kind):
        return value
    return kind.parse(_load_plain(str, value))


def _load_plain(kind: Any, value: Any) -> Any:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"{value!r:.80} is of another type")
    return value
