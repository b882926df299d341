import pyarrow.parquet as pq

from wit.querybuild.entries import Entry, Origin, assemble, write_entries
from wit.querylist import load_queries


def texts(groups, **options):
    return [entry.text for entry in assemble(groups, **options)]


def test_an_entry_belongs_to_the_first_origin_that_offers_it():
    groups = {Origin.SYNSET: {"Red Fox": 1.0, "dog": 2.0}, Origin.WORD: {"dog": 900.0}, Origin.BIGRAM: {"red fox": 7.0}}
    assert assemble(groups) == [Entry("dog", Origin.WORD, 900.0), Entry("red fox", Origin.BIGRAM, 7.0)]


def test_no_two_entries_read_alike_and_none_is_empty():
    assert texts({Origin.WORD: {"Fox": 3.0, "fox": 2.0, "fox!": 9.0, "¿?": 1.0, "💷": 1.0}}) == ["fox!"]


def test_the_weakest_bigrams_make_room():
    groups = {Origin.WORD: {"a": 1.0}, Origin.BIGRAM: {"x y": 3.0, "p q": 2.0, "m n": 2.0}, Origin.SYNSET: {"z": 1.0}}
    assert texts(groups, size=4) == ["a", "p q", "x y", "z"]
    assert texts(groups, size=1) == ["a", "z"]
    assert texts(groups, size=None) == texts(groups, size=5) == ["a", "m n", "p q", "x y", "z"]


def test_what_is_written_can_be_read(tmp_path):
    entries = assemble({Origin.WORD: {"fox": 2.0}, Origin.PLACE: {"Žilina": 80_000.0}})
    path = str(tmp_path / "list.txt")
    write_entries(entries, path)
    assert load_queries(path).entries == ("fox", "Žilina")
    assert pq.read_table(tmp_path / "list.parquet").to_pylist() == [
        {"entry": "fox", "origin": "word", "score": 2.0},
        {"entry": "Žilina", "origin": "place", "score": 80_000.0},
    ]
