"""A knob that nobody reads promises what does not happen: every field of a configuration is read somewhere."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from trainer.config import TrainConfig
from trainer.data import StreamConfig
from trainer.evaluate import EvaluateConfig
from wit.config import BuildConfig

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
READ = read_names()


@pytest.mark.parametrize("section, name", KNOBS, ids=[f"{section.__name__}.{name}" for section, name in KNOBS])
def test_every_knob_is_read(section: type, name: str) -> None:
    assert name in READ, f"--{name.replace('_', '-')} is a knob that nothing reads"
