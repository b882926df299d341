from __future__ import annotations

import random
from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import open_clip
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer import tokenizer

THEIRS = open_clip.tokenizer.SimpleTokenizer()


@pytest.mark.parametrize(
    "text",
    [
        "a photo of a fox",
        "",
        "  Spaces\t and\nlines ",
        "it's they'll we've I'd",
        "&amp;lt;b&amp;gt; caf&eacute; naïve",
        "日本語のテキスト, 한국어, العربية, हिन्दी",
        "🦊 👩‍🚀 flag: 🇫🇷",
        "1234 5th-avenue $3.99!!!",
        "<start_of_text> sly <end_of_text>",
        "schÃ¶n",  # mojibake, mended
        "supercalifragilisticexpialidocious " * 30,
    ],
)
def test_ids_are_open_clips(text: str) -> None:
    assert np.array_equal(tokenizer.tokenize(text), THEIRS(text)[0].numpy())


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=120), st.integers(3, 77))
def test_any_text_has_open_clips_ids(text: str, context_length: int) -> None:
    assert np.array_equal(
        tokenizer.tokenize(text, context_length=context_length), THEIRS(text, context_length)[0].numpy()
    )


def merge_plainly(symbols: list[str], ranks: Mapping[tuple[str, str], int]) -> list[str]:
    """As OpenAI's: all pairs are looked at again after every merge."""
    while len(symbols) > 1:
        best = min(pairwise(symbols), key=lambda pair: ranks.get(pair, len(ranks)))
        if best not in ranks:
            break
        joined: list[str] = []
        for symbol in symbols:  # "" was joined: it begins no other pair
            whole = bool(joined) and (joined[-1], symbol) == best
            joined[-1:] = ["".join(best), ""] if whole else [*joined[-1:], symbol]
        symbols = [symbol for symbol in joined if symbol]
    return symbols


@settings(max_examples=500, deadline=None)
@given(st.text("aehinot", min_size=1, max_size=60) | st.text(min_size=1, max_size=30))
def test_a_word_is_merged_as_if_all_pairs_were_looked_at_again_after_each_merge(word: str) -> None:
    symbols = [tokenizer.byte_symbols()[byte] for byte in word.encode()]
    ranks = tokenizer.vocabulary()[1]
    assert tokenizer.merge(symbols, ranks) == merge_plainly(symbols, ranks)


@settings(max_examples=500, deadline=None)
@given(st.text("abc", min_size=1, max_size=40), st.permutations([x + y for x in ("a", "b", "ab", "ba") for y in "abc"]))
def test_merges_in_an_order_that_no_training_gives_are_made_alike(word: str, order: list[str]) -> None:
    ranks = {(pair[:-1], pair[-1]): rank for rank, pair in enumerate(order)}
    assert tokenizer.merge(list(word), ranks) == merge_plainly(list(word), ranks)


class Counted(dict[tuple[str, str], int]):
    looks = 0

    def get(self, pair: tuple[str, str], otherwise: object = None) -> object:  # type: ignore[override]
        self.looks += 1
        return super().get(pair, otherwise)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "letters", ["a", "ab", "".join(random.Random(1).choices("abcdefghijklmnopqrstuvwxyz", k=100_000))]
)
def test_a_word_ten_times_as_long_takes_ten_times_the_work(letters: str) -> None:
    for length in (1_000, 10_000, 100_000):
        ranks = Counted(tokenizer.vocabulary()[1])
        tokenizer.merge(list((letters * length)[:length]), ranks)
        assert ranks.looks <= 6 * length


def test_a_word_of_100_000_letters_has_open_clips_ids_and_is_not_remembered() -> None:
    before = tokenizer.remembered.cache_info().currsize
    found = tokenizer.tokenize("ab" * 50_000)
    assert tokenizer.remembered.cache_info().currsize == before
    # open_clip takes minutes for such a word; far from its end the ids are those of a shorter one
    assert np.array_equal(found, THEIRS("ab" * 500)[0].numpy())


def test_words_beyond_the_context_are_not_looked_at() -> None:
    tokenizer.remembered.cache_clear()
    tokenizer.tokenize(" ".join(f"word{chr(97 + i % 26)}{chr(97 + i // 26)}" for i in range(500)), context_length=12)
    assert tokenizer.remembered.cache_info().misses <= 10
