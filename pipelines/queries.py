"""python -m pipelines.queries: builds a query list, from Wikipedia as CLIP section 2.2 says, or from packages."""

from __future__ import annotations

if __name__ == "__main__":
    from wit import early

    early.listen()

import sys
from collections import Counter
from collections.abc import Sequence

import tyro

from pipelines import ending
from wit import flags
from wit.errors import InputError
from wit.querybuild.entries import write_entries
from wit.querybuild.recipes import PackagesRecipe, WikipediaRecipe, build_entries

RECIPES = {"wikipedia": WikipediaRecipe, "packages": PackagesRecipe}


def check(given: Sequence[str]) -> None:
    """Raises InputError for a recipe, a flag or a value that does not exist."""
    if given and not given[0].startswith("-"):
        if given[0] not in RECIPES:
            raise InputError(f"no such recipe: {given[0]}; {flags.instead(given[0], RECIPES)}")
        knobs = flags.knobs_of(RECIPES[given[0]])
        flags.check_names(given, knobs)
        flags.check_values(given, knobs)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 with the list written, 2 after one sentence where the input is bad."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    return ending.code_of(lambda: build_list(given))


def build_list(given: Sequence[str]) -> int:
    """Builds the list that the arguments ask for, and prints what became of its origins."""
    check(given)
    recipe = tyro.extras.subcommand_cli_from_dict(RECIPES, args=given, description=__doc__)
    entries, taken = build_entries(recipe)
    write_entries(entries, recipe.output)
    for (group, from_), count in sorted(taken.items()):
        print(f"{count:>9,}  {from_.value} refused: {group}")
    for origin, count in sorted(Counter(entry.origin.value for entry in entries).items()):
        print(f"{count:>9,}  {origin}")
    print(f"{len(entries):>9,}  {recipe.output}")
    return 0


if __name__ == "__main__":
    early.leave(main())
