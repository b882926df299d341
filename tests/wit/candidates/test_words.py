import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wit.candidates.words import END, END_NUMBER, UNKNOWN_NUMBER, Vocabulary, cut_words, join_texts, word_keys

WORDS = st.text("abé狐", min_size=1, max_size=40) | st.sampled_from(
    ["a" * n for n in (7, 8, 9, 15, 16, 17, 24, 25, 5000)]
)


def keys(words: list[str]):
    return word_keys(" ".join(words).encode())


@settings(deadline=None)
@given(known=st.lists(WORDS, min_size=1, max_size=40), asked=st.lists(WORDS, min_size=1, max_size=40))
def test_two_words_have_one_number_where_they_are_one(known, asked):
    vocabulary = Vocabulary(keys([*known, END]))
    numbers = dict(zip(known, vocabulary.numbers(keys(known)).tolist(), strict=True))
    assert len(set(numbers.values())) == len(numbers) == len(vocabulary) - 3  # without END, unknown and the free number
    assert all(END_NUMBER != number != UNKNOWN_NUMBER for number in numbers.values())
    expected = [numbers.get(word, UNKNOWN_NUMBER) for word in asked]
    assert vocabulary.numbers(keys(asked)).tolist() == expected


@pytest.mark.parametrize(
    "texts, words",
    [
        (["Red-Fox"], "red fox \x01"),
        (["a", "", "b"], "a \x01 \x01 b \x01"),
        (["Füchse, 狐狸 x2"], "füchse 狐 狸 x2 \x01"),
        (["nul\0 and \x01 are separators"], "nul and are separators \x01"),
        ([], ""),
    ],
)
def test_texts_are_cut_into_words_with_an_end_after_each(texts, words):
    assert cut_words(join_texts(texts)).decode().split() == words.split()
