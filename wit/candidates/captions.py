"""Captions: cleaned, then judged by rules that answer "why drop it?"."""

from __future__ import annotations

import functools
import html
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import ftfy

from wit.candidates.words import NO_SPACE_SCRIPTS
from wit.errors import InputError
from wit.knobs import Range, check_ranges
from wit.reasons import Reason

# --- cleaning ---------------------------------------------------------------------------------------------------------

ENTITY_PASSES = 3  # alt texts escaped two and three times are common; more is an attack

# Characters that carry no text: controls, bidi overrides and marks, zero-width space and word joiner, soft hyphen, byte
# order mark, interlinear marks, tags, lone surrogates, noncharacters. The joiners U+200C and U+200D stay: Persian and emoji.
INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff\U000e0000-\U000e007f]"
)
# UTF-8 read as Latin-1 or Windows-1252: a lead byte read as a letter, then a continuation byte read as a sign.
MOJIBAKE = re.compile(
    "[\xc2-\xf4\u0152\u0160\u0161\u0178][\x80-\xbf\u0152\u0153\u0160\u0161\u0178\u017d\u017e\u0192\u02c6\u02dc"
    "\u2013\u2014\u2018-\u201a\u201c-\u201e\u2020-\u2022\u2026\u2030\u2039\u203a\u20ac\u2122]"
)
AMPERSANDS = re.compile(r"&(?:amp;)+")


def clean_caption(text: str) -> str:
    """The caption as it is kept: entities resolved, encoding errors repaired, Unicode NFC, no invisible characters, words
    one space apart."""
    if text.isascii() and text.isprintable() and "&" not in text:
        return " ".join(text.split()) if "  " in text or text[:1] == " " or text[-1:] == " " else text
    return _clean_unusual(text)


def _clean_unusual(text: str) -> str:
    text = _resolve_entities(text) if "&" in text else text
    if MOJIBAKE.search(text):
        text = ftfy.fix_encoding(text)
    text = unicodedata.normalize("NFC", INVISIBLE.sub("", text))
    return " ".join(text.split())


def _resolve_entities(text: str) -> str:
    for _ in range(ENTITY_PASSES):
        resolved = html.unescape(AMPERSANDS.sub("&", text))
        if resolved == text:
            return text
        text = resolved
    return text


def clean_captions(texts: Sequence[str]) -> list[str]:
    """`clean_caption` of each."""
    return [clean_caption(text) for text in texts]


# --- rules ------------------------------------------------------------------------------------------------------------


RANGES = {
    "min_caption_chars": Range(0, 1_000_000),
    "max_caption_chars": Range(1, 1_000_000),
    "min_caption_words": Range(0, 100_000),
    **dict.fromkeys(("min_letter_share", "max_word_share"), Range(0, 1)),
    "max_char_run": Range(1, 1_000_000),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionRules:
    """What a caption must be. Lengths count characters after cleaning; a character of a script without spaces counts double
    and is a word."""

    # whether the last word alone decides that a caption is a file name, as in sets up to schema 2 of candidates
    file_name_by_last_word: ClassVar[bool] = False

    min_caption_chars: int = 3
    """captions shorter than this are dropped"""
    max_caption_chars: int = 1_000
    """captions longer than this are dropped"""
    min_caption_words: int = 1
    """captions of fewer words are dropped"""
    min_letter_share: float = 0.5
    """smallest share of letters among the characters that are no spaces"""
    max_word_share: float = 0.5
    """largest share of one word among the words of a caption of at least 6 words"""
    max_char_run: int = 8
    """longest run of one character"""

    def __post_init__(self) -> None:
        check_ranges(self, RANGES)
        if self.min_caption_chars > self.max_caption_chars:
            raise InputError(
                f"--min-caption-chars is {self.min_caption_chars} and --max-caption-chars {self.max_caption_chars}: no caption "
                "has as many and as few, give a smaller one or a larger one"
            )


LETTERS = bytes(c for c in range(128) if chr(c).isalpha())
WIDE = re.compile(f"[{NO_SPACE_SCRIPTS}]")
URL = re.compile(r"(?:https?://|www\.)\S+", re.IGNORECASE)
FILE_EXTENSIONS = frozenset(
    "jpg|jpeg|jfif|png|gif|webp|avif|heic|svg|bmp|tif|tiff|ico|psd|eps|pdf|mp4|mov|php|asp|aspx|htm|html".split("|")
)
# What programs put behind the name of a copy; browsers, behind that of a second download; pages, behind an address.
_OF_A_COPY = r"(?: ?- ?|_)(?:copy|edit(?:ed)?)(?: ?\(\d+\))?"
NAMED = re.compile(
    rf"\.(?:{'|'.join(sorted(FILE_EXTENSIONS))})(?:{_OF_A_COPY}| ?\(\d+\)| \d+|\?[^\s?]*|\.{{1,3}})?\Z", re.IGNORECASE
)
FILE_STEM = re.compile(  # what cameras, phones and uploads call a file
    r"(?:(?:img|image|dsc[nf]?|pxl|mvi|gopr|cimg|screen ?shot|whatsapp image|foto|bild)[ _-]*\d[\d _.()x-]*"
    r"|(?:photo|pic|file|wp)(?:[_-]+|(?=\d{4}))\d[\d _.()x-]*"  # "Photo 51" and "WP 8.1" are names of other things
    r"|(?=[0-9a-f_-]*\d)(?=[0-9_-]*[a-f])[0-9a-f_-]{16,}"  # hex digits with a letter among them: without, they are ISBNs or years
    rf")(?:{_OF_A_COPY})?",
    re.IGNORECASE,
)
EARLIER_STEM = re.compile(  # in sets up to schema 2 of candidates
    r"(?:img|image|photo|pic|dsc[nf]?|pxl|mvi|wp|screen ?shot|whatsapp image|file|foto|bild)[ _-]*\d[\d _.()x-]*"
    r"|(?=[0-9a-f_-]*\d)[0-9a-f_-]{16,}",
    re.IGNORECASE,
)
MOST_WORDS_OF_FILE_NAME = 3  # "My summer holiday.JPEG"; more words before the extension are a sentence
QUOTES = "\"'`\u2018\u2019\u201a\u201c\u201d\u201e\u00ab\u00bb"
WORD = re.compile(r"[^\W\d_]")  # a word has a letter; numbers and signs have none
MIN_WORDS_TO_REPEAT = 6  # with fewer words a repeated word is normal: "New York, New York"

# Captions that say nothing about the picture, case-folded: templates, galleries and shops write them into every page.
BOILERPLATE = frozenset(
    """
    image|images|img|photo|photos|picture|pictures|pic|photograph|thumbnail|thumb|thumbnails|icon|logo|site logo|
    our logo|company logo|header logo|footer logo|website logo|avatar|user avatar|profile picture|profile photo|
    profile image|user profile|author|author image|author photo|banner|header|header image|footer|background|
    background image|spacer|pixel|blank|loading|loader|loading image|placeholder|placeholder image|
    image placeholder|no image|no photo|no image available|image not available|image not found|no picture|
    coming soon|image coming soon|photo coming soon|untitled|untitled image|no title|no description|default|
    default image|featured image|main image|hero image|cover|cover image|cover photo|product|product image|
    product photo|product thumbnail|gallery|gallery image|gallery photo|image gallery|photo gallery|slide|slider|
    slideshow|carousel|carousel image|preview|image preview|previous|next|close|open|menu|search|home|homepage|back|
    back to top|scroll to top|read more|more|learn more|click here|click to enlarge|click to zoom|
    click for larger image|click image to enlarge|enlarge|enlarge image|zoom|view full size|view larger image|
    view image|view larger|expand|download|print|share|share this|facebook|twitter|instagram|youtube|linkedin|
    pinterest|whatsapp|rss|email|e-mail|mail|facebook icon|twitter icon|instagram icon|youtube icon|linkedin icon|
    share on facebook|share on twitter|tweet|follow us|follow us on facebook|subscribe|sign up|log in|login|sign in|
    register|cart|add to cart|shopping cart|buy now|wishlist|ad|ads|advertisement|advertising|advert|sponsored|
    sponsor|sponsored content|credit cards|payment methods|visa|mastercard|paypal|rating|arrow|arrow left|
    arrow right|left arrow|right arrow|arrow down|arrow up|play|play button|play video|video|video thumbnail|
    tracking pixel|captcha|captcha image|alt|alt text|alt tag|image alt|image description|image title|
    insert alt text here|img alt|null|undefined|none|n/a|test|description|title|caption|bild|bilder|foto|fotos|
    logotipo|imagen|imágenes|imagem|immagine|image de couverture|afbeelding|obrázek|zdjęcie|изображение|фото|
    картинка|логотип|写真|画像|图片|圖片|이미지|사진
    """.replace("\n    ", "")
    .strip()
    .split("|")
)

MAX_BOILERPLATE_CHARS = max(map(len, BOILERPLATE)) + 8  # and some signs around it


def too_short(caption: str, rules: CaptionRules) -> Reason | None:
    missing = rules.min_caption_chars - len(caption)
    return Reason.CAPTION_TOO_SHORT if missing > 0 and _wide(caption) < missing else None


def too_long(caption: str, rules: CaptionRules) -> Reason | None:
    return Reason.CAPTION_TOO_LONG if len(caption) > rules.max_caption_chars else None


def is_url(caption: str, rules: CaptionRules) -> Reason | None:
    return Reason.CAPTION_IS_URL if caption[:1] in "hHwW" and URL.fullmatch(caption) else None


def is_file_name(caption: str, rules: CaptionRules) -> Reason | None:
    """Only a caption that is a file name as a whole, quoted or not: a sentence may end in one. In doubt it stays."""
    if rules.file_name_by_last_word:
        _, dot, extension = caption.rpartition(".")
        named = bool(dot and extension.lower() in FILE_EXTENSIONS or EARLIER_STEM.fullmatch(caption))
    else:
        name = caption.strip(QUOTES)
        named = bool(FILE_STEM.fullmatch(name)) or _is_name(name)
    return Reason.CAPTION_IS_FILE_NAME if named else None


def _is_name(caption: str) -> bool:
    named = NAMED.search(caption) if "." in caption else None
    if named is None:
        return False
    words = [word for word in caption[: named.start()].split(" ") if WORD.search(word)]
    return sum(max(_wide(word), 1) for word in words) <= MOST_WORDS_OF_FILE_NAME


def is_boilerplate(caption: str, rules: CaptionRules) -> Reason | None:
    if len(caption) > MAX_BOILERPLATE_CHARS:
        return None
    return Reason.CAPTION_BOILERPLATE if caption.casefold().strip(" .:!*-»«>|[]()") in BOILERPLATE else None


def too_few_words(caption: str, rules: CaptionRules) -> Reason | None:
    if rules.min_caption_words <= 1:
        return None
    missing = rules.min_caption_words - caption.count(" ") - 1
    return Reason.CAPTION_TOO_FEW_WORDS if missing > 0 and _wide(caption) < missing else None


def not_text(caption: str, rules: CaptionRules) -> Reason | None:
    """Combining marks count as letters: half of a Hindi text is marks."""
    encoded = caption.encode()
    letters = len(encoded) - len(encoded.translate(None, LETTERS))
    if letters >= rules.min_letter_share * len(caption):
        return None  # most captions, without looking closer
    if not caption.isascii():
        letters = sum(char.isalpha() or unicodedata.category(char)[0] == "M" for char in caption)
    solid = len(caption) - caption.count(" ")
    return Reason.CAPTION_NOT_TEXT if letters < rules.min_letter_share * solid else None


@functools.cache
def _long_run(max_char_run: int) -> re.Pattern[str]:
    return re.compile("(.)" + r"\1" * max_char_run)  # \1 written out takes less than half the time of \1{n}


def repetitive(caption: str, rules: CaptionRules) -> Reason | None:
    if _long_run(rules.max_char_run).search(caption):
        return Reason.CAPTION_REPETITIVE
    count = caption.count(" ") + 1
    if count < MIN_WORDS_TO_REPEAT:
        return None
    words = caption.casefold().split(" ")
    if len(set(words)) > count * (1 - rules.max_word_share) + 1:
        return None  # enough distinct words: none of them can hold more than its share
    commonest = Counter(words).most_common(1)[0][1]
    return Reason.CAPTION_REPETITIVE if commonest > rules.max_word_share * count else None


RULES: tuple[Callable[[str, CaptionRules], Reason | None], ...] = (
    too_short,
    too_long,
    is_url,
    is_file_name,
    is_boilerplate,
    too_few_words,
    not_text,
    repetitive,
)


def reject_caption(caption: str, rules: CaptionRules = CaptionRules()) -> Reason | None:
    """Why a clean caption is dropped, by the first rule that objects; None where none does."""
    for rule in RULES:
        if reason := rule(caption, rules):
            return reason
    return None


def _wide(caption: str) -> int:
    return 0 if caption.isascii() else len(WIDE.findall(caption))
