import bz2
import gzip
import importlib.util
import math
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from wit.candidates.words import END
from wit.errors import InputError
from wit.querybuild.wikipedia import article_words, expand, read_articles, viewed_titles, words_and_bigrams

PAGE = "<page><title>T</title><ns>{ns}</ns>{more}<revision><text>{text}</text></revision></page>"


def dump(tmp_path, *articles: str, name: str = "dump.xml.bz2") -> str:
    pages = "".join(PAGE.format(ns=0, more="", text=article) for article in articles)
    path = tmp_path / name
    path.write_bytes(bz2.compress(f'<mediawiki xmlns="http://x/">{pages}</mediawiki>'.encode()))
    return str(path)


def counted(files, tmp_path, **thresholds):
    options = {"min_word_count": 1, "min_bigram_count": 1, "min_pmi": -99.0, **thresholds}
    return words_and_bigrams(files, scratch=str(tmp_path / "scratch"), **options)


def test_only_articles_are_read(tmp_path):
    pages = PAGE.format(ns=0, more="", text="fox") + PAGE.format(ns=1, more="", text="talk")
    pages += PAGE.format(ns=0, more='<redirect title="A"/>', text="#REDIRECT") + PAGE.format(ns=0, more="", text="")
    path = tmp_path / "dump.xml"
    path.write_text(f"<mediawiki>{pages}</mediawiki>")
    assert list(read_articles(str(path))) == ["fox", ""]


def test_several_bz2_streams_in_one_file_are_read(tmp_path):
    path = Path(dump(tmp_path, "fox", "dog"))
    plain = bz2.decompress(path.read_bytes())
    path.write_bytes(bz2.compress(plain[:90]) + bz2.compress(plain[90:]))
    assert list(read_articles(str(path))) == ["fox", "dog"]


@pytest.mark.parametrize("keep", [0.5, 0.9])
def test_a_dump_cut_short_is_named(tmp_path, keep):
    path = Path(dump(tmp_path, *("fox " * 1000,) * 50))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    with pytest.raises(InputError, match="dump.xml.bz2 is no whole Wikipedia dump .*: download"):
        list(read_articles(str(path)))


def test_words_and_bigrams_over_several_files(tmp_path):
    files = [
        dump(tmp_path, "The red fox. Red Fox, dog", name="a.bz2"),
        dump(tmp_path, "red ''fox''\n\ndog", name="b.bz2"),
    ]
    words, bigrams = counted(files, tmp_path)
    assert words == {"the": 1, "red": 3, "fox": 3, "dog": 2}
    assert bigrams == {
        "the red": pytest.approx(math.log2(1 * 9 / (1 * 3)), abs=1e-6),
        "red fox": pytest.approx(math.log2(3 * 9 / (3 * 3)), abs=1e-6),
    }


def test_thresholds(tmp_path):
    words, bigrams = counted([dump(tmp_path, "red fox. red fox. red dog. the fox")], tmp_path, min_word_count=2)
    assert words == {"red": 3, "fox": 3} and list(bigrams) == ["red fox"]
    assert counted([dump(tmp_path, "red fox. red dog")], tmp_path / "b", min_bigram_count=2)[1] == {}
    assert counted([dump(tmp_path, "red fox. red dog")], tmp_path / "c", min_pmi=2.0)[1] == {}


def test_the_same_on_any_number_of_processes(tmp_path):
    files = [dump(tmp_path, f"red fox {n} and dog {n}. " * 9, name=f"{n}.bz2") for n in range(3)]
    assert counted(files, tmp_path / "one") == counted(files, tmp_path / "two", processes=2)


def test_a_real_dump_is_counted_as_its_obvious_twin_does(tmp_path):
    """The excerpt of the English Wikipedia that the gensim wheel carries: 206 pages, 106 articles."""
    gensim = importlib.util.find_spec("gensim")
    if gensim is None:
        pytest.skip("needs the real dump excerpt of gensim: pip install gensim")
    data = Path(gensim.submodule_search_locations[0], "test", "test_data")
    (path,) = expand([str(data / "enwiki-latest-pages-articles1*.bz2")], option="--dump")
    articles = [[word.decode() for word in words] for words in article_words(path)]
    assert len(articles) == 106
    counts = Counter(word for words in articles for word in words if word != END)
    assert 400_000 < counts.total() < 600_000
    assert [word for word, _ in counts.most_common(5)] == ["the", "of", "and", "in", "to"]
    words, bigrams = counted([path], tmp_path, min_word_count=50, min_bigram_count=10, min_pmi=5.0)
    assert words == {word: count for word, count in counts.items() if count >= 50}
    pairs = Counter(pair for words in articles for pair in pairwise(words))
    assert bigrams == {
        f"{first} {second}": pytest.approx(information, abs=1e-5)
        for (first, second), count in pairs.items()
        if count >= 10
        and first in words
        and second in words
        and (information := math.log2(count * counts.total() / (counts[first] * counts[second]))) >= 5.0
    }
    assert "united states" in bigrams and len(bigrams) > 50


def test_titles_by_views(tmp_path):
    hours = [
        b"en Red_fox 60 1\nen Red_fox_(song) 55 1\nen Talk:Fox 900 1\nde Rotfuchs 900 1\nen Rare 49 1\nbroken\nen X\n",
        b"en Red_fox 10 1\nen.m Red_fox 80 1\nen Caf%C3%A9 99 1\nen \xff\xfe 99 1\nen Once 60 1\n",
    ]
    for number, hour in enumerate(hours):
        (tmp_path / f"pageviews-{number}.gz").write_bytes(gzip.compress(hour))
    files = expand([str(tmp_path / "pageviews-*.gz")], option="--pageviews")
    titles = viewed_titles(files, projects=("en", "en.m"), min_hour_views=50, min_views=70)
    assert titles == {"Red fox": 60 + 55 + 80, "Café": 99}


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match="no file at .*: check the path given with --dump"):
        expand([str(tmp_path / "*.bz2")], option="--dump")
