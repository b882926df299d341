"""What a build came to: `python -m pipelines.show OUT [ZERO_SHOT.json ...]` prints the funnel, accuracies and paths."""

from __future__ import annotations

if __name__ == "__main__":
    from wit import early

    early.listen()

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table

from pipelines import ending
from wit import flags, layout, ledger
from wit.errors import InputError
from wit.store import fs
from wit.store.manifests import read_json, read_object
from wit.tally import Tally
from wit.typed import load

PATHS = ("shards", "ledger.json", "report/index.html", "README.md", "run.json", "model")


def funnel(stages: Mapping[str, Tally]) -> Table:
    """What went into every stage, what was lost where and why, what came out."""
    table = Table(title=None, box=None, pad_edge=False)
    for column, side in (("stage", "left"), ("", "left"), ("pairs", "right"), ("share", "right")):
        table.add_column(column, justify=side)  # type: ignore[arg-type]
    for stage, what, pairs, share in ledger.funnel_rows(stages):
        style = "bold" if what in ("in", "out") else "dim"
        table.add_row(stage if what == "in" else "", what, f"{pairs:,}", f"{share:.1%}", style=style)
    return table


@dataclass(frozen=True, slots=True)
class Part:
    """The accuracy over the pictures of a group."""

    images: int
    top1: float
    top1_interval: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Nearest:
    """How often the nearest training picture by raw pixels has the right class."""

    training_images: int
    top1: float
    top1_interval: tuple[float, ...]
    groups: Mapping[str, Part] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ZeroShot:
    """The fields of a trainer.evaluate result that are shown."""

    model: str
    dataset: str
    classes: int
    chance: float
    top1: float
    top1_interval: tuple[float, ...]
    shuffled_captions: bool = False
    groups: Mapping[str, Part] = field(default_factory=dict)
    nearest: Nearest | None = None


def accuracy(result: ZeroShot) -> str:
    """A zero-shot evaluation, in words, beside chance. Where they were measured, also beside the nearest training picture by raw
    pixels, and group by group."""
    control = "control run, trained on shuffled captions: " if result.shuffled_captions else ""
    lines = [
        f"{control}zero-shot top-1 of {result.model} on {result.dataset}: {share(result)} "
        f"over {result.classes:,} classes, chance {result.chance:.4f}"
    ]
    nearest = result.nearest
    if nearest:
        lines.append(f"  nearest of {nearest.training_images:,} training pictures by raw pixels: {share(nearest)}")
    for group, part in result.groups.items():
        beside = nearest.groups.get(group) if nearest else None
        by_pixels = f", by raw pixels {share(beside)}" if beside else ""
        lines.append(f"  {group} ({part.images:,} images): {share(part)}{by_pixels}")
    return "\n".join(lines)


def share(part: ZeroShot | Nearest | Part) -> str:
    """An accuracy with its 95 % interval, as text."""
    low, high = part.top1_interval
    return f"{part.top1:.4f} (95 % {low:.4f} to {high:.4f})"


def read_result(path: str) -> ZeroShot:
    """A result of trainer.evaluate; raises InputError where the file does not hold one."""
    try:
        result = load(ZeroShot, read_object(path, how=MADE_BY))
        accuracy(result)
    except ValueError as error:
        raise InputError(f"{path} is no result of trainer.evaluate ({error}): give the JSON that it writes") from error
    return result


def paths(out: str) -> list[str]:
    """The paths under OUT that a person looks for, as far as they exist."""
    return [path for name in PATHS if fs.exists(path := fs.join(out, name))]


MADE_BY = "run the build, or trainer.evaluate, again"


@dataclass(frozen=True, slots=True)
class Peak:
    """The fields of run.json that are shown."""

    peak_memory_mb: float = 0


def show(console: Console, out: str, results: Sequence[str]) -> None:
    """Prints funnel, memory, accuracies and paths; raises InputError where OUT or a result is not there."""
    ledger_path = fs.join(out, layout.LEDGER_FILE)
    for path in (ledger_path, *results):
        if not fs.exists(path):
            raise InputError(
                f"no such file: {path}; give the --output of a finished build, and results of trainer.evaluate"
            )
    measured = [read_result(path) for path in results]
    totals = read_json(ledger_path, ledger.LedgerFile, how=MADE_BY)
    console.print(funnel(ledger.stage_totals(totals.stages if totals else {})))
    peak = read_json(layout.run_path(out), Peak, how=MADE_BY)
    if peak and peak.peak_memory_mb:
        console.print(f"peak memory of all processes of the build: {peak.peak_memory_mb:,.0f} MB", highlight=False)
    for result in measured:
        console.print(accuracy(result), style="bold", highlight=False, soft_wrap=True)
    for path in [*paths(out), *results]:
        console.print(path, highlight=False, soft_wrap=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0, or 2 after one sentence where there is nothing to show."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.show", description=__doc__)
    parser.add_argument("out", metavar="OUT", help="the --output directory of a build")
    parser.add_argument("results", metavar="ZERO_SHOT.json", nargs="*", help="results that trainer.evaluate wrote")
    argv = sys.argv[1:] if arguments is None else list(arguments)

    def work() -> int:
        flags.check_names(argv, {})
        given = parser.parse_args(argv)
        show(Console(), given.out, given.results)
        return 0

    return ending.code_of(work)


if __name__ == "__main__":
    early.leave(main())
