from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wit.reasons import Reason
from wit.typed import Rest, dump, load, named, optional, rest, to_json


@dataclass(frozen=True)
class Mark:
    """A text in JSON."""

    letters: str

    @classmethod
    def parse(cls, text: str) -> Mark:
        return cls(text.removeprefix("mark-"))

    def __str__(self) -> str:
        return f"mark-{self.letters}"


@dataclass(frozen=True)
class Leaf:
    size: int
    digest: str = optional("")


@dataclass(frozen=True)
class Tree:
    into: int = named("in")
    leaves: Mapping[str, Leaf]
    marks: tuple[Mark, ...]
    weight: float
    names: list[str] = field(default_factory=list)
    height: int | None = optional(None, name="tall")
    others: Rest = rest()


TREE: dict[str, Any] = {"in": 3, "leaves": {"a": {"size": 1}}, "marks": ["mark-x"], "weight": 2}


def test_json_becomes_a_dataclass_and_back() -> None:
    tree = load(Tree, TREE | {"tall": 5, "odd": [1]})
    assert tree == Tree(3, {"a": Leaf(1)}, (Mark("x"),), 2, height=5, others=Rest({"odd": [1]}))
    assert dump(tree) == TREE | {"tall": 5, "odd": [1], "names": []}


@pytest.mark.parametrize(
    "changed, said",
    [
        ({"in": None}, "in: None is of another type"),
        ({"in": True}, "in: True is of another type"),
        ({"weight": "2"}, "weight: '2' is of another type"),
        ({"leaves": []}, "leaves: it is no JSON object"),
        ({"leaves": {"a": {}}}, "leaves: it lacks size"),
        ({"leaves": {"a": {"size": 1, "digest": 4}}}, "leaves: digest: 4 is of another type"),
        ({"marks": "mark-x"}, "marks: it is no list"),
        ({"marks": [7]}, "marks: 7 is of another type"),
        ({"names": [1]}, "names: 1 is of another type"),
        ({"tall": "x"}, "tall: 'x' is of another type"),
    ],
)
def test_the_first_field_that_is_wrong_is_named(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError) as raised:
        load(Tree, TREE | changed)
    assert str(raised.value) == said


@pytest.mark.parametrize("name", TREE)
def test_a_field_that_is_missing_is_named(name: str) -> None:
    with pytest.raises(ValueError, match=f"it lacks {name}"):
        load(Tree, {key: value for key, value in TREE.items() if key != name})


@pytest.mark.parametrize("value", [None, [], "x", 3])
def test_what_is_no_object_is_none(value: object) -> None:
    with pytest.raises(ValueError, match="it is no JSON object"):
        load(Tree, value)


@pytest.mark.parametrize("value", ["low", "high"])
def test_a_word_of_a_few_is_one_of_them(value: str) -> None:
    assert load(Literal["low", "high"], value) == value  # type: ignore[arg-type]
    for other in ("Low", 1, None, [], {}):
        with pytest.raises(ValueError, match="is none of 'low', 'high'"):
            load(Literal["low", "high"], other)  # type: ignore[arg-type]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(JSON)
def test_any_json_is_loaded_or_refused_with_a_sentence(value: object) -> None:
    for kind in (Tree, Leaf):
        try:
            found = load(kind, value)
        except ValueError:
            continue
        assert load(kind, json.loads(to_json(found))) == found


@given(st.dictionaries(st.text(), JSON))
def test_one_value_has_one_byte_string(value: dict[str, Any]) -> None:
    data = to_json(value)
    assert data == to_json(dict(reversed(value.items()))) and data.endswith(b"\n")
    assert json.loads(data) == json.loads(json.dumps(value))


def tree(leaves: dict[str, Leaf], weight: float, others: dict[str, Any]) -> Tree:
    return Tree(1, leaves, (), weight, others=Rest(others))


ODD = st.text() | st.sampled_from(["é", "\u2028", "\x00\x1f\x7f", '"\\/', "\U0001f600", "a\nb", "in", "weight"])
LEAVES = st.dictionaries(ODD, st.builds(Leaf, st.integers(), ODD))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ODD | st.builds(Mark, ODD) | st.sampled_from(Reason),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(ODD | st.integers(), inner)
        | st.builds(tree, LEAVES, st.floats(), st.dictionaries(ODD, inner))
    ),
)


@settings(max_examples=500)
@given(VALUES)
def test_it_is_what_the_json_library_writes(value: object) -> None:
    assert to_json(value) == json.dumps(dump(value), sort_keys=True, indent=2, ensure_ascii=False).encode() + b"\n"
