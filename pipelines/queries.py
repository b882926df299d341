"""python -m pipelines.queries: builds a query list, from Wikipedia as CLIP section 2.2 says, or from packages."""

from __future__ import annotations

import sys
from collections import Counter

import tyro

from wit.querybuild.entries import write_entries
from wit.querybuild.recipes import PackagesRecipe, from_packages
from wit.records import InputError


def main() -> int:
    recipe = tyro.cli(PackagesRecipe, description=__doc__)
    try:
        entries = from_packages(recipe)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    write_entries(entries, recipe.output)
    for origin, count in sorted(Counter(entry.origin.value for entry in entries).items()):
        print(f"{count:>9,}  {origin}")
    print(f"{len(entries):>9,}  {recipe.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
