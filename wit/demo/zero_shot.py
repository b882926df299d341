"""The zero-shot test set: every base emoji in the drawing style that no page of the demonstration web shows.

python -m wit.demo.zero_shot DIRECTORY
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from wit import flags
from wit.demo.tables import KEPT_OUT, load
from wit.errors import InputError
from wit.store import fs, refusals

TEMPLATES = ("{} emoji", "{} icon", "a drawing of {}", "illustration of {}", "clip art of {}", "cartoon of {}")
WRITERS = 16  # each file waits for the disk: one after the other takes 8 s


def zero_shot_set(directory: str) -> None:
    """Writes `classnames.txt` (one name a line), `groups.txt` (the group of each), `templates.txt` (with {} for the name) and
    `images/CLASS_0.webp`, where CLASS is the zero-padded line number of the name, from 0."""
    table = load("pictures")
    rows = [row for row in table.select(["style", "subject", "format", "data"]).to_pylist() if row["style"] == KEPT_OUT]
    rows.sort(key=lambda row: str(row["subject"]))
    width = len(str(len(rows) - 1))
    paths = [fs.join(directory, "images", f"{number:0{width}}_0.{row['format']}") for number, row in enumerate(rows)]
    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(fs.write_bytes, paths, [row["data"] for row in rows]))
    fs.write_bytes(fs.join(directory, "classnames.txt"), lines(row["subject"] for row in rows))
    fs.write_bytes(fs.join(directory, "groups.txt"), lines(group_of(row["subject"]) for row in rows))
    fs.write_bytes(fs.join(directory, "templates.txt"), lines(TEMPLATES))


def group_of(name: str) -> str:
    """The group of a class. Flags are a group of their own: all styles draw them alike, so they are easy to find, even by
    pixels."""
    return "flags" if name.startswith("flag of ") else "all but flags"


def lines(texts: Iterable[str]) -> bytes:
    return "".join(f"{text}\n" for text in texts).encode()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m wit.demo.zero_shot", description=f"{__doc__}".partition("\n")[0])
    parser.add_argument("directory", metavar="DIRECTORY", help="where it is written")
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        flags.check_names(given, {})
        directory = parser.parse_args(given).directory
        zero_shot_set(directory)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if (refused := refusals.refusal(error)) is None:
            raise
        print(f"error: {refused}", file=sys.stderr)
        return 2
    print(f"{directory}: one picture of every base emoji, in a drawing style that the demonstration web does not show")
    return 0


if __name__ == "__main__":
    sys.exit(main())
