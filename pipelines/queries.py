"""python -m pipelines.queries: builds a query list, from Wikipedia as CLIP section 2.2 says, or from packages."""

from __future__ import annotations

if __name__ == "__main__":
    from wit import early

    early.listen()

import sys
from collections import Counter
from collections.abc import Sequence

import tyro

from wit.querybuild.entries import write_entries
from wit.querybuild.recipes import PackagesRecipe, WikipediaRecipe, build_entries
from wit.records import InputError

RECIPES = {"wikipedia": WikipediaRecipe, "packages": PackagesRecipe}


def main(arguments: Sequence[str] | None = None) -> int:
    recipe = tyro.extras.subcommand_cli_from_dict(RECIPES, args=arguments, description=__doc__)
    try:
        entries, taken = build_entries(recipe)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    write_entries(entries, recipe.output)
    for (group, from_), count in sorted(taken.items()):
        print(f"{count:>9,}  {from_.value} refused: {group}")
    for origin, count in sorted(Counter(entry.origin.value for entry in entries).items()):
        print(f"{count:>9,}  {origin}")
    print(f"{len(entries):>9,}  {recipe.output}")
    return 0


if __name__ == "__main__":
    early.leave(main())
