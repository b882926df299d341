"""The house in figures: `make stats`.

    python tests/stats.py [DIRECTORY ...]

Prints a table of the source in each directory (wit, pipelines and trainer unless told), of all together, and of the tests
beside them: how long functions and files are, how much is typed, how much has a docstring.
"""

from __future__ import annotations

import ast
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
LONG = 40  # lines of a function
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass
class Stats:
    """What was counted: lines of each file and function; of functions how many say what they return; of public functions,
    classes and modules how many have a docstring."""

    files: list[int] = field(default_factory=list)
    functions: list[int] = field(default_factory=list)
    typed: int = 0
    public: int = 0
    documented: int = 0


def python_files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*.py")) if "/." not in str(path.relative_to(ROOT)))


def count(paths: Sequence[Path]) -> Stats:
    """The figures of these files."""
    found = Stats()
    for path in paths:
        text = path.read_text(encoding="utf-8")
        found.files.append(len(text.splitlines()))
        tree = ast.parse(text)
        for node in (
            tree,
            *tree.body,
            *(inner for one in tree.body if isinstance(one, ast.ClassDef) for inner in one.body),
        ):
            if isinstance(node, ast.Module | ast.ClassDef | Function) and not getattr(node, "name", "").startswith("_"):
                found.public += 1
                found.documented += ast.get_docstring(node) is not None
        for function in (node for node in ast.walk(tree) if isinstance(node, Function)):
            found.functions.append((function.end_lineno or 0) - function.lineno + 1)
            found.typed += function.returns is not None
    return found


def row(name: str, stats: Stats) -> list[str]:
    lengths, files = sorted(stats.functions) or [0], stats.files or [0]
    return [
        name,
        f"{sum(files):,}",
        f"{statistics.median(lengths):.0f} / {lengths[int(len(lengths) * 0.9)]} / {lengths[-1]}",
        f"{sum(length > LONG for length in lengths)} of {len(lengths):,}",
        f"{statistics.median(files):.0f} / {max(files)}",
        f"{stats.typed / max(len(stats.functions), 1):.0%}",
        f"{stats.documented / max(stats.public, 1):.0%}",
    ]


HEAD = [
    *("", "lines", "function median / p90 / longest", f"functions over {LONG}"),
    *("file median / longest", "returns typed", "public docstrings"),
]


def main(folders: Sequence[str]) -> int:
    named = {name: list(python_files(ROOT / name)) for name in folders or ("wit", "pipelines", "trainer")}
    source = [path for paths in named.values() for path in paths]
    tests = count(list(python_files(ROOT / "tests")))
    rows = [row(name, count(paths)) for name, paths in named.items()] + [row("all", count(source)), row("tests", tests)]
    print("| " + " | ".join(HEAD) + " |\n" + "|---" * len(HEAD) + "|")
    print("\n".join("| " + " | ".join(cells) + " |" for cells in rows))
    print(f"\ntests : source lines {sum(tests.files) / max(sum(count(source).files), 1):.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
