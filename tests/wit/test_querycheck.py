"""What is said of a query list before anything runs."""

from pathlib import Path

import pytest

from wit.candidates.matching import Matcher
from wit.errors import InputError
from wit.querycheck import forms, remarks

SHIPPED = Path(__file__).parents[2] / "queries" / "500k.txt"


def write(tmp_path, text):
    path = tmp_path / "list.txt"
    path.write_text(text)
    return str(path)


def said(path, mode="words"):
    return [line.removeprefix(path).removeprefix(": ") for line in remarks(path, mode)]


def test_entries_that_can_never_match_are_counted_and_named(tmp_path):
    path = write(tmp_path, "fox\n!!!\n\n💷\nfox!\n...\n¿?\n")
    never, alike = said(path)
    assert (
        never == "4 entries can never match under --matching words: '!!!' (line 2), '💷' (line 4), '...' (line 6), ..."
    )
    assert alike == (
        "1 entry the same as an earlier one under --matching words, each with a cap of its own: "
        "'fox!' (line 5) as 'fox' (line 1)"
    )


def test_five_spellings_of_the_are_four_too_many(tmp_path):
    path = write(tmp_path, "the\ncat\nThe\nTHE\nthe.\n(the)\n")
    (line,) = said(path)
    assert line.startswith("4 entries the same as an earlier one")
    assert (
        "'The' (line 3) as 'the' (line 1), 'THE' (line 4) as 'the' (line 1), 'the.' (line 5) as 'the' (line 1), ..."
        in line
    )
    assert "\n" not in line


def test_metaclip_tells_case_apart_and_loses_what_its_cutting_changes(tmp_path):
    path = write(tmp_path, "the\nThe\n!!!\n!\nSt. Louis\nSt . Louis\n")
    assert said(path, "metaclip") == [
        "2 entries can never match under --matching metaclip: '!!!' (line 3), 'St. Louis' (line 5)"
    ]


@pytest.mark.parametrize("text, mode", [("!!!\n💷\n", "words"), ("e.g.\n", "metaclip")])
def test_a_list_of_which_nothing_can_match_is_refused(tmp_path, text, mode):
    with pytest.raises(InputError, match="no entry of .* can match a caption under --matching"):
        remarks(write(tmp_path, text), mode)


def test_counts_that_are_not_used_are_said(tmp_path):
    assert said(write(tmp_path, "fox\t20000\nred fox\t17\n")) == ["2 counts after a TAB are not used"]
    assert said(write(tmp_path, "entry\tcount\nfox\t20000\nfox!\t17\n"))[1].endswith(
        "'fox!' (line 3) as 'fox' (line 2)"
    )


def test_items_of_a_json_array_are_named_by_their_place(tmp_path):
    assert "'Fox' (item 2) as 'fox' (item 1)" in said(write(tmp_path, '["fox", "Fox"]'))[0]


@pytest.mark.parametrize("mode", ["words", "metaclip"])
def test_equal_forms_are_those_that_the_matcher_finds_in_the_same_captions(mode):
    entries = [
        "fox",
        "Fox",
        "fox!",
        "red fox",
        "red-fox",
        "Café",
        "cafe\u0301",
        "!",
        "!!",
        "St. Louis",
        "狐狸",
        "c++",
        "a  b",
    ]
    captions = [*entries, "a red fox!", "Fox ! here", "CAFÉ", "一只红狐狸", "St . Louis"]
    offsets, ids = Matcher(entries, mode).match(captions)
    found: list[set[int]] = [set() for _ in entries]
    for caption in range(len(captions)):
        for entry in ids[offsets[caption] : offsets[caption + 1]]:
            found[entry].add(caption)
    read = forms(entries, mode)
    assert [form == b"" for form in read] == [not captions for captions in found]
    same = [(a, b) for a in range(len(entries)) for b in range(len(entries)) if read[a] and read[a] == read[b]]
    assert all(found[a] == found[b] for a, b in same)


def test_the_shipped_list_has_no_oddity():
    assert remarks(str(SHIPPED), "words") == []


def test_a_tab_in_an_entry_is_told(tmp_path):
    path = tmp_path / "q.txt"
    path.write_text("red\t10\nblue\tseven\n", encoding="utf-8")
    (line,) = [line for line in remarks(str(path), "words") if "TAB" in line]
    assert "stand in 2 entries" in line and "every line must have its count" in line
