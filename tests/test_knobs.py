"""A knob that nobody reads promises what does not happen: every field of a configuration is read somewhere, and a number that
cannot be meant is refused."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import math
import re
import textwrap
import typing
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines import commandline
from trainer.config import TrainConfig
from trainer.data import StreamConfig
from trainer.evaluate import EvaluateConfig
from wit.config import BuildConfig
from wit.errors import InputError
from wit.querybuild.recipes import PackagesRecipe, WikipediaRecipe
from wit.select.filters import FILTERS

ROOT = Path(__file__).parents[1]


def sections(config: type) -> Iterator[type]:
    yield config
    for field in dataclasses.fields(config):
        if isinstance(field.default_factory, type) and dataclasses.is_dataclass(field.default_factory):
            yield field.default_factory


def read_names() -> set[str]:
    """Every name that code takes from an object."""
    found: set[str] = set()
    for path in [path for room in ("wit", "pipelines", "trainer") for path in (ROOT / room).rglob("*.py")]:
        found |= set(_reads(ast.parse(path.read_text("utf-8"))))
    return found


def _reads(tree: ast.AST) -> Iterator[str]:
    """The attributes that are read, but for those that a class checks when it is made."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef) and node.name == "__post_init__":
            continue
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            yield node.attr
        yield from _reads(node)


KNOBS = [
    (section, field.name)
    for config in (BuildConfig, TrainConfig, EvaluateConfig, StreamConfig)
    for section in sections(config)
    for field in dataclasses.fields(section)
]
READ = read_names() | {one.knob for one in FILTERS}  # which takes them by their names


@pytest.mark.parametrize("section, name", KNOBS, ids=[f"{section.__name__}.{name}" for section, name in KNOBS])
def test_every_knob_is_read(section: type, name: str) -> None:
    assert name in READ, f"--{name.replace('_', '-')} is a knob that nothing reads"


NUMBERS = [
    (section, name)
    for config in (BuildConfig, TrainConfig, EvaluateConfig, WikipediaRecipe, PackagesRecipe)
    for section in sections(config)
    for name, hint in typing.get_type_hints(section).items()
    if {int, float} & {hint, *typing.get_args(hint)}
]
BELOW_0 = {"seed", "min_clip_score", "min_pmi"}  # numbers of these mean something, and their help says so
NEEDED = {
    "shards": "s",
    "model": "demo",
    "output": "o",
    "checkpoint": "c",
    "dataset": "d",
    "dump": ("x",),
    "wordnet": "w",
}


def made(section: type, **knobs: object) -> object:
    """The configuration with these knobs, and no others but those that it cannot do without."""
    needed = [field.name for field in dataclasses.fields(section) if field.default is field.default_factory]
    return section(**{name: NEEDED[name] for name in needed} | knobs)


@pytest.mark.parametrize("section, name", NUMBERS, ids=[f"{section.__name__}.{name}" for section, name in NUMBERS])
@pytest.mark.parametrize("value", [-1, -(10**30), 10**30, math.nan, math.inf], ids=repr)
def test_a_number_that_cannot_be_meant_is_refused_with_the_range(section: type, name: str, value: float) -> None:
    if value == -1 and name in BELOW_0:
        made(section, **{name: value})
        return
    with pytest.raises(InputError, match=f"--{name.replace('_', '-')} is {re.escape(f'{value}')}: give a number from"):
        made(section, **{name: value})


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--language-min-score", "7"], "--language-min-score is 7.0: give a number from 0 to 1"),
        (["--min-letter-share", "7"], "--min-letter-share is 7.0: give a number from 0 to 1"),
        (["--limit", "0"], "--limit is 0: give a number from 1 to 1000000000000"),
        (["--encode-quality", "0"], "--encode-quality is 0: give a number from 1 to 100"),
        (["--encode-quality", "10", "--encode-format", "png"], "--encode-quality is 10: give a number from 0 to 9"),
        (["--min-caption-chars", "2000"], "--min-caption-chars is 2000 and --max-caption-chars 1000: no caption"),
    ],
)
def test_what_makes_no_sense_is_refused_on_the_command_line(arguments: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        commandline.parse(arguments)


def helps(section: type) -> dict[str, str]:
    """The line of --help of each knob that a class itself brings."""
    (cls,) = ast.parse(textwrap.dedent(inspect.getsource(section))).body
    assert isinstance(cls, ast.ClassDef)
    lines = {}
    for node, after in zip(cls.body, [*cls.body[1:], None], strict=True):
        if isinstance(node, ast.AnnAssign) and "ClassVar" not in ast.unparse(node.annotation):
            text = after.value if isinstance(after, ast.Expr) else None
            lines[ast.unparse(node.target)] = str(text.value) if isinstance(text, ast.Constant) else ""
    return lines


SECTIONS = {
    base: None
    for config in (BuildConfig, TrainConfig, EvaluateConfig, WikipediaRecipe, PackagesRecipe)
    for section in sections(config)
    for base in section.__mro__
    if dataclasses.is_dataclass(base)
}


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.__name__)
def test_every_knob_has_a_line_of_help_that_stands_alone_in_one_voice(section: type) -> None:
    sections = set(typing.get_type_hints(section)) if section is BuildConfig else set()
    for name, text in helps(section).items():
        if name in sections and dataclasses.is_dataclass(typing.get_type_hints(section)[name]):
            continue
        assert text, f"--{name.replace('_', '-')} has no line of help"
        first = text.split()[0].strip("(,")
        assert first[0].islower() or not first[1:].islower() or first == "TOML", f"{name}: begins as a sentence: {text}"
        assert not text.endswith("."), f"{name}: ends as a sentence: {text}"
        assert not text.startswith(("nor ", "likewise")), f"{name}: hangs on the line before it: {text}"
