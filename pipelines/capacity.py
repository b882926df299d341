"""What would a larger set take? `python -m pipelines.capacity OUT --target 400M` reckons it from a finished pilot build."""

from __future__ import annotations

if __name__ == "__main__":
    from wit import early

    early.listen()

import argparse
import sys
from collections.abc import Sequence

from pipelines import ending
from wit import flags
from wit.capacity import Wish
from wit.configfile import counted
from wit.errors import InputError
from wit.figures import Capacity, Line, capacity
from wit.pilot import read_pilot
from wit.typed import json_text

NUMBERS: dict[str, tuple[type, str]] = {
    "workers": (int, "processes at a time, one a core (default: 1,000)"),
    "max-per-query": (int, "cap on the samples of a query, 0 for none (default: the pilot's)"),
    "pilot-cores": (int, "cores of the machine that made the pilot (default: its --workers, or this machine's)"),
    "crawl-files": (int, "WAT files of a crawl (default: the crawl's own where the pilot read all of it, or 90,000)"),
    "months": (float, "months that the set lies in the store (default: 1)"),
    "price-core-hour": (float, "price of a core-hour; without a price there is no line of costs"),
    "price-gb-month": (float, "price of a gigabyte in the store for a month"),
    "price-gb-egress": (float, "price of a gigabyte that leaves the store: the published set, once"),
    "price-million-requests": (float, "price of a million requests to the store"),
    "price-accelerator-hour": (float, "price of an hour of an accelerator as fast as CLIP's V100"),
}
KNOBS = {"target": str, "json": bool} | {name: kind for name, (kind, _) in NUMBERS.items()}
EPILOG = "docs/scale.md says what is measured, what is modelled, by which formula, and which way it errs."


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0, or 2 after one sentence where OUT tells nothing of a larger build."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.capacity", description=__doc__, epilog=EPILOG, allow_abbrev=False
    )
    parser.add_argument("out", metavar="OUT", help="the --output directory of a finished pilot build")
    parser.add_argument("--target", required=True, help="samples that are to be published, for instance 400M")
    for name, (kind, text) in NUMBERS.items():
        parser.add_argument(f"--{name}", type=kind, metavar="N", help=text)
    parser.add_argument("--json", action="store_true", help="print JSON, for scripts")
    argv = sys.argv[1:] if arguments is None else list(arguments)

    def work() -> int:
        flags.check_names(argv, KNOBS)
        flags.check_values(argv, KNOBS)
        given = parser.parse_args(argv)
        wish = wish_of(given, samples_of(given.target))
        found = capacity(read_pilot(given.out), wish)
        print(json_text(found) if given.json else "\n".join(lines(found, given.out)))
        for note in () if given.json else found.notes:
            print(f"note: {note}", file=sys.stderr)
        return 0

    return ending.code_of(work)


def samples_of(text: str) -> int:
    """The number that `--target` means, as `pipelines.build` reads it."""
    if (count := counted("target", text)) is not None:
        return count
    try:
        return int(text)
    except ValueError as error:
        raise InputError(f"--target is {text!r}: give a number of samples, for instance 400M") from error


def wish_of(given: argparse.Namespace, target: int) -> Wish:
    """What was asked for; raises InputError for a number that cannot be meant."""
    named = {name.replace("-", "_") for name in NUMBERS}
    asked = {name: value for name, value in vars(given).items() if name in named and value is not None}
    return Wish(target=target, **asked)


def lines(found: Capacity, out: str) -> list[str]:
    """The table, a figure a line."""
    head = (
        f"{found.target:,} samples, from a pilot of {found.samples:,} in {out} "
        f"(x {figure(found.target / found.samples)}; yield known to {found.error:.1%}, one standard deviation)"
    )
    rows = [(line.what, *in_its_unit(line), line.basis, line.why) for line in found.lines]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return [head, *(_row(row, widths) for row in rows)]


def _row(row: tuple[str, str, str, str, str], widths: Sequence[int]) -> str:
    what, value, unit, basis, why = row
    return f"{what:<{widths[0]}} {value:>{widths[1]}} {unit:<{widths[2]}}  {basis:<{widths[3]}}  {why}"


def in_its_unit(line: Line) -> tuple[str, str]:
    """(number, unit) for people, who do not read 0.000012 TB."""
    value, unit = line.value, line.unit
    for smaller in ("GB", "MB") if unit == "TB" else ():
        if value < 0.1:
            value, unit = value * 1_000, smaller
    return figure(value), unit


def figure(value: float) -> str:
    """A number of four digits that count: more is not known."""
    if abs(value) >= 1_000:
        digits = len(str(int(abs(value)))) - 4
        return f"{round(value, -digits):,.0f}"
    return f"{value:.4g}"


if __name__ == "__main__":
    early.leave(main())
