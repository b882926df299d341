import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from wit.candidates.captions import (
    FILE_EXTENSIONS,
    RULES,
    CaptionRules,
    clean_caption,
    clean_captions,
    is_file_name,
    reject_caption,
)
from wit.candidates.config import EarlierCandidates
from wit.records import Reason


@pytest.mark.parametrize(
    "text, clean",
    [
        ("a red fox", "a red fox"),
        ("  a red\t\n fox\u00a0 ", "a red fox"),
        ("Tom &amp; Jerry", "Tom & Jerry"),
        ("Tom &amp;amp;amp; Jerry &#39;95", "Tom & Jerry '95"),
        ("&lt;b&gt; &nbsp;", "<b>"),
        ("AT&T", "AT&T"),
        ("cafe\u0301", "café"),
        ("cafÃ© Ã  la crÃ¨me", "café à la crème"),
        ("itâ€™s a fox", "it’s a fox"),
        ("Ãlvaro", "Ãlvaro"),  # no sequence of UTF-8: left as it is
        ("São Paulo", "São Paulo"),
        ("fox\u202egpj.exe\u202c", "foxgpj.exe"),
        ("a\x00 red\x07 f\u200box\ufeff", "a red fox"),
        ("half a pair \ud83d here", "half a pair here"),
        ("👩\u200d🚀 می\u200cخواهم", "👩\u200d🚀 می\u200cخواهم"),
        ("", ""),
        (" \u200b ", ""),
    ],
)
def test_cleaning(text, clean):
    assert clean_caption(text) == clean
    assert clean_captions([text, "fox"]) == [clean, "fox"]


@given(st.text() | st.text("&amp;#x39;lt Ã©\u0301\u200b\n\xa0"))
@example("&amp;" * 1000)
@settings(deadline=None)
def test_clean_captions_can_be_stored_and_stay_clean_of_controls(text):
    clean = clean_caption(text)
    clean.encode()
    assert unicodedata.is_normalized("NFC", clean) and clean == " ".join(clean.split())
    assert not any(unicodedata.category(char) in ("Cc", "Cs") for char in clean)


@pytest.mark.parametrize(
    "caption, reason",
    [
        ("a red fox in the snow", None),
        ("fox", None),
        ("狐狸", None),
        ("New York, New York", None),
        ("iPhone 15 Pro Max 256GB", None),
        ("हिन्दी भाषा", None),
        ("Version 2.0 of our app", None),
        ("www is not a URL", None),
        ("Photo of the year 2019", None),
        ("ab", Reason.CAPTION_TOO_SHORT),
        ("Then we saw the fox. " * 60, Reason.CAPTION_TOO_LONG),
        ("https://example.com/fox.jpg?w=1", Reason.CAPTION_IS_URL),
        ("www.example.com", Reason.CAPTION_IS_URL),
        ("red-fox.jpg", Reason.CAPTION_IS_FILE_NAME),
        ("My summer holiday.JPEG", Reason.CAPTION_IS_FILE_NAME),
        ("red-star_2.png", Reason.CAPTION_IS_FILE_NAME),
        ("DSC 0042.jpg", Reason.CAPTION_IS_FILE_NAME),
        ("Copy of image 2 (1).png", Reason.CAPTION_IS_FILE_NAME),
        ("WhatsApp Image 2021-05-01 at 10.22.33.jpeg", Reason.CAPTION_IS_FILE_NAME),
        ("a-red-star-that-is-damaged-cut.jpg", Reason.CAPTION_IS_FILE_NAME),
        ("a red star that is damaged cut.jpg", None),
        ("A page of the old site, saved as index.html", None),
        ("IMG_20190412_183012", Reason.CAPTION_IS_FILE_NAME),
        ("DSC00123", Reason.CAPTION_IS_FILE_NAME),
        ("Image 12", Reason.CAPTION_IS_FILE_NAME),
        ("a1b2c3d4e5f60718293a4b5c", Reason.CAPTION_IS_FILE_NAME),
        ("Logo", Reason.CAPTION_BOILERPLATE),
        ("Click to enlarge »", Reason.CAPTION_BOILERPLATE),
        ("Loading...", Reason.CAPTION_BOILERPLATE),
        ("ИЗОБРАЖЕНИЕ", Reason.CAPTION_BOILERPLATE),
        ("12 34 56 78", Reason.CAPTION_NOT_TEXT),
        ("$ 19.99 / 24.50 (-20 %)", Reason.CAPTION_NOT_TEXT),
        ("⭐⭐⭐⭐ 4.8", Reason.CAPTION_NOT_TEXT),
        ("sale sale sale sale sale today", Reason.CAPTION_REPETITIVE),
        ("Nooooooooooooooo way", Reason.CAPTION_REPETITIVE),
    ],
)
def test_rules(caption, reason):
    assert reject_caption(clean_caption(caption)) == reason


@pytest.mark.parametrize(
    "caption, rules, reason",
    [
        ("fox", {"min_caption_words": 2}, Reason.CAPTION_TOO_FEW_WORDS),
        ("狐狸", {"min_caption_words": 2}, None),
        ("red fox", {"min_caption_chars": 8}, Reason.CAPTION_TOO_SHORT),
        ("红色狐狸", {"min_caption_chars": 8}, None),
        ("a red fox", {"max_caption_chars": 8}, Reason.CAPTION_TOO_LONG),
        ("Route 66 1926", {"min_letter_share": 0.2}, None),
    ],
)
def test_rules_have_knobs(caption, rules, reason):
    assert reject_caption(caption, CaptionRules(**rules)) == reason


WORDS = st.lists(st.from_regex(r"[A-Za-z][a-z]{1,8}", fullmatch=True), min_size=1, max_size=12)
NUMBERS = st.lists(st.integers(0, 99_999).map(str), max_size=3)


@given(WORDS, NUMBERS, st.sampled_from(sorted(FILE_EXTENSIONS)))
def test_a_sentence_that_ends_in_a_file_name_is_none(words, numbers, extension):
    caption = f"{' '.join(words + numbers)}.{extension}"
    assert (is_file_name(caption, CaptionRules()) is None) is (len(words) > 3)
    assert is_file_name("-".join(words + numbers) + f".{extension.upper()}", CaptionRules())
    assert is_file_name(caption, EarlierCandidates())


@pytest.mark.parametrize(
    "caption",
    [
        *(
            "cat.jpg",
            "cat.jpg (1)",
            "cat.jpg(2)",
            "cat.jpg 2",
            "'cat.jpg'",
            "\u201ccat.jpg\u201d",
            "cat.jpg.",
            "cat.JPG...",
        ),
        *(
            "cat.jpg?w=300",
            "cat.jpg?",
            "cat.jpg - Copy",
            "cat.jpg-edited",
            "red cat (1).png",
            "狐狸.jpg",
            "My cat a.gif",
        ),
        *(
            "IMG_1234",
            "IMG_1234 - Copy",
            "IMG_1234-Copy (2)",
            "DSC01234-Edit",
            "DSC_0042_edited",
            "GOPR0123",
            "CIMG1234",
        ),
        *(
            "Image 12",
            "photo_51",
            "photo-0012",
            "pic00123",
            "WP_20131005_001",
            "file_13",
            "Screenshot 2021-05-01 10.22",
        ),
        *("a1b2c3d4e5f60718293a4b5c", "0a1b2c3d-0a1b-2c3d-4e5f-0a1b2c3d4e5f"),
    ],
)
def test_file_names(caption):
    assert is_file_name(caption, CaptionRules())


@pytest.mark.parametrize(
    "caption",
    [
        *(
            "How do I open a .pdf",
            "I saw a b.jpg",
            "A page of the old site, saved as index.html?x=1",
            "an owl in a tree.jpg 2",
        ),
        *("这是旧网站的一个页面，保存为index.html", "หน้าเว็บเก่าที่บันทึกเป็น index.html", "古いページ index.html"),
        *("978-3-16-148410-0", "ISBN 978-3-16-148410-0", "1914-1918_1939-1945", "2019-2020, 2021-2022"),
        *("Photo 51", "WP 8.1", "File 770", "PIC 16", "Photo 1984", "Image of the year 2019", "Is this a cat?"),
        *(
            "cat.jpg or dog",
            "Node.js 2",
            "Visit example.com.",
            "a cat (1)",
            "IMG_1234 by the sea",
            "Final - Copy",
            "Edit",
        ),
    ],
)
def test_captions_that_are_no_file_names(caption):
    assert is_file_name(caption, CaptionRules()) is None


@pytest.mark.parametrize(
    "caption, was", [("Photo 51", True), ("a b c d e.jpg", True), ("GOPR0123", False), ("cat.jpg 2", False)]
)
def test_earlier_sets_keep_their_rule_for_file_names(caption, was):
    assert bool(is_file_name(caption, EarlierCandidates())) is was


@given(st.text())
def test_every_caption_gets_an_answer_of_its_first_rule(text):
    answers = [rule(text, CaptionRules()) for rule in RULES]
    assert reject_caption(text) == next((answer for answer in answers if answer), None)
