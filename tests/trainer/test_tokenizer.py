from __future__ import annotations

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
