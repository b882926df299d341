import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wit.candidates.captions import clean_caption
from wit.candidates.matching import BATCH_CAPTIONS, Matcher, matcher_for
from wit.querylist import query_list


def found(entries: list[str], captions: list[str], mode: str) -> list[list[str]]:
    offsets, ids = Matcher(entries, mode).match(captions)
    assert offsets.dtype == np.int64 and ids.dtype == np.int32 and len(offsets) == len(captions) + 1
    return [[entries[i] for i in ids[start:end]] for start, end in zip(offsets, offsets[1:], strict=False)]


# The obvious twins: one caption, one entry at a time.


def obvious_metaclip(entry: str, caption: str) -> bool:
    for mark in ",.;:?!`":
        caption = caption.replace(mark, f" {mark} ")
    for space in "\t\n\r":
        caption = caption.replace(space, " ")
    return f" {entry} " in f" {caption} "


def obvious_words_of(text: str) -> list[str]:
    words = [""]
    text = text.casefold().replace("\u200c", "").replace("\u200d", "")
    for char in unicodedata.normalize("NFC", text).replace("i\u0307", "i"):
        name = unicodedata.name(char, "")
        if name.startswith(("CJK UNIFIED", "HIRAGANA", "KATAKANA", "THAI")):
            words += [char, ""]
        elif char.isalnum() or (words[-1] and unicodedata.category(char) in ("Mn", "Mc")):
            words[-1] += char
        else:
            words.append("")
    return [word for word in words if word]


def obvious_words(entry: str, caption: str) -> bool:
    wanted, words = obvious_words_of(clean_caption(entry)), obvious_words_of(caption)
    return bool(wanted) and any(words[i : i + len(wanted)] == wanted for i in range(len(words)))


ALPHABET = "aabBcd  \t.,'`-_9éÉe\u0301ßİıЖж狐狸のกा\u093eक🦊\u00a0\u200d\n"
TEXT = st.text(ALPHABET, max_size=24) | st.lists(st.sampled_from(["a", "b", "ab", "狐", ",", "."])).map(" ".join)


@pytest.mark.parametrize("mode, obvious", [("words", obvious_words), ("metaclip", obvious_metaclip)])
@settings(deadline=None)  # the first call compiles a large pattern
@given(entries=st.lists(TEXT, max_size=12), captions=st.lists(TEXT, max_size=6))
def test_same_ids_as_the_obvious_twin(mode, obvious, entries, captions):
    expected = [[entry for entry in entries if obvious(entry, caption)] for caption in captions]
    assert found(entries, captions, mode) == expected


@pytest.mark.parametrize(
    "entry, matching, others",
    [
        ("dog", ["(dog)", '"dog"', "dog-house", "Dog", "the dog's bowl", "hot_dog"], ["dogs", "bulldog", "do g"]),
        ("St. Louis", ["Gateway Arch, St. Louis", "ST LOUIS"], ["St. and Louis", "St Louise"]),
        ("red fox", ["Red  Fox", "red-fox", "a red, fox", "red\u00a0fox"], ["red foxes", "fox red", "red the fox"]),
        ("狐狸", ["一只红狐狸", "狐狸 in snow"], ["狐", "狸狐"]),
        ("café", ["CAFÉ", "cafe\u0301 au lait"], ["cafe"]),
        ("Straße", ["STRASSE", "die straße"], ["strase"]),
        ("istanbul", ["İSTANBUL", "Istanbul"], []),
        ("हिन्दी", ["हिन्दी भाषा"], ["हिन्द", "हि"]),
        ("می\u200cخواهم", ["میخواهم", "می\u200cخواهم"], ["می خواهم"]),
        ("dog", ["🐕\u200d dog\ufe0f\u200d🦺"], []),
        ("it&#39;s", ["it's", "it’s"], ["its"]),
        ("!?", [], ["!?", ""]),
    ],
)
def test_words_are_whole_and_folded(entry, matching, others):
    assert found([entry], matching, "words") == [[entry]] * len(matching)
    assert found([entry], others, "words") == [[]] * len(others)


@pytest.mark.parametrize(
    "entry, matching, others",
    [
        ("dog", ["a dog", "dog, cat", "dog.", "a\tdog\n"], ["(dog)", '"dog"', "dog-house", "dog/cat", "dog's", "Dog"]),
        ("red fox", ["red fox", "red\nfox"], ["red  fox", "red, fox", "red\u00a0fox"]),
        ("St. Louis", [], ["St. Louis", "St Louis"]),
        ("café", ["café"], ["cafe\u0301"]),
        ("狐狸", ["一只 狐狸"], ["一只红狐狸"]),
    ],
)
def test_metaclip_sees_what_metaclip_saw(entry, matching, others):
    assert found([entry], matching, "metaclip") == [[entry]] * len(matching)
    assert found([entry], others, "metaclip") == [[]] * len(others)


@pytest.mark.parametrize("mode", ["words", "metaclip"])
def test_batches_are_joined_in_the_order_of_the_captions(mode):
    entries = ["fox", "red fox", "füchse"]
    captions = ["red fox", "nothing", "füchse and fox fox"] * BATCH_CAPTIONS
    assert found(entries, captions, mode) == [["fox", "red fox"], [], ["fox", "füchse"]] * BATCH_CAPTIONS


@pytest.mark.parametrize("mode", ["words", "metaclip"])
def test_nothing_matches_nothing(mode):
    assert found([], ["a fox"], mode) == [[]]
    assert found(["fox"], [], mode) == []


def test_entries_that_read_alike_match_alike():
    assert found(["Fox", "fox", "fox!"], ["FOX"], "words") == [["Fox", "fox", "fox!"]]


def test_an_entry_does_not_reach_into_the_next_caption():
    assert found(["red fox"], ["red", "fox", "réd", "red", "fox\0red", "red\0fox"], "words")[:5] == [[]] * 5


def test_a_matcher_is_built_once_per_list():
    assert matcher_for(query_list(["fox"])) is matcher_for(query_list(["fox", ""]))


def test_an_unknown_matching_is_named():
    with pytest.raises(ValueError, match="no such matching: fuzzy; have"):
        Matcher(["fox"], "fuzzy")
