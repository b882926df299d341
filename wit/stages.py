"""The stages of a build: the one list that all others are made of."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StageKind:
    """A stage as others see it: its name, its place under OUT, and the stages that it depends on."""

    name: str
    schema: int
    """The version of its tables; older ones are read too. 1 is that of version 0.1.0, where all stages shared one number;
    wit/fingerprints.py says when to raise it."""
    hangs_on: tuple[str, ...]
    """The stages whose fingerprints are part of its own."""
    opens: tuple[str, ...]
    """Stages whose files it reads."""
    section: str = ""
    """Where its knobs stand in a configuration."""
    folder: str = ""
    """Its directory under OUT, where that has another name."""
    manifest: str = "_MANIFEST.json"
    product: bool = False
    """Whether a build exists for its files: these must be there, not only have been."""
    optional: bool = False
    """Runs only where it is asked for."""

    @property
    def directory(self) -> str:
        return self.folder or self.name


ALL = (
    StageKind("candidates", 3, (), (), section="candidates"),
    StageKind("plan", 2, ("candidates",), ("candidates",), section="plan"),
    StageKind("download", 3, ("plan",), ("plan",), section="image", folder="raw"),
    StageKind("score", 2, ("download",), ("download",), optional=True),
    StageKind("select", 3, ("download", "score"), ("plan", "download", "score"), section="select"),
    StageKind(
        "publish",
        2,
        ("select",),
        ("select", "download"),
        section="publish",
        folder="shards",
        manifest="MANIFEST.json",
        product=True,
    ),
    StageKind(
        "report",
        3,
        ("candidates", "plan", "download", "score", "select", "publish"),
        ("plan", "download", "select", "publish"),
        product=True,
    ),
)
KINDS = {kind.name: kind for kind in ALL}
STAGES = tuple(KINDS)
SCHEMAS = {kind.name: kind.schema for kind in ALL}
PRODUCTS = tuple(kind.name for kind in ALL if kind.product)
USUAL = tuple(kind.name for kind in ALL if not kind.optional)


def from_stage(name: str) -> tuple[str, ...]:
    """That stage and all behind it."""
    return STAGES[STAGES.index(name) :]


def before_stage(name: str) -> tuple[str, ...]:
    """All stages before it."""
    return STAGES[: STAGES.index(name)]
