"""The captions of the demonstration web: in English, and the same in other languages."""

from __future__ import annotations

import re
from collections.abc import Sequence

from wit.candidates.language import detect
from wit.demo.tables import pick

# {} is the name, {a} the name with its article
ENGLISH = (
    "a drawing of {a}",
    "a simple picture of {a}",
    "cartoon of {a}",
    "{a} in bright colors",
    "{} emoji",
    "icon of {a}",
    "small picture showing {a}",
    "a colorful drawing of {a} on white",
    "sticker with {a}",
    "illustration of {a}",
    "clip art of {a}",
    "this is what {a} looks like",
    "{} icon",
    "free picture of {a} for your school project",
)
OTHER_ENGLISH = (
    "the picture that shows {a} best",
    "printed card with the picture of {a}",
    "we drew {a} for you",
    "one more time: {a}",
    "{a}, as drawn by our friends",
    "our favorite drawing of {a}",
)
# At least 6 words each, so that no filter takes them for too short to tell their language.
FOREIGN = {
    "ar": "رسم ملون جميل يظهر لنا {} على خلفية بيضاء",
    "de": "Eine schöne bunte Zeichnung zum Ausdrucken für Kinder: {}",
    "el": "Ένα όμορφο πολύχρωμο σχέδιο για παιδιά που δείχνει: {}",
    "es": "Un bonito dibujo de colores para los niños que muestra: {}",
    "fr": "Un joli dessin en couleurs pour les enfants qui montre : {}",
    "hi": "बच्चों के लिए एक सुंदर रंगीन चित्र जिसमें यह दिखाया गया है: {}",
    "it": "Un bel disegno colorato da stampare per i bambini che mostra: {}",
    "ja": "この絵は子供たちのために描かれた色鮮やかなイラストです：{}",
    "ko": "아이들을 위해 그린 예쁘고 알록달록한 그림입니다: {}",
    "nl": "Een mooie kleurrijke tekening voor kinderen waarop te zien is: {}",
    "pl": "Piękny kolorowy rysunek do wydrukowania dla dzieci przedstawiający: {}",
    "pt": "Um lindo desenho colorido para as crianças que mostra: {}",
    "ru": "Красивый цветной рисунок для детей, на котором изображено: {}",
    "tr": "Çocuklar için hazırlanmış güzel ve renkli bir çizim: {}",
    "uk": "Гарний кольоровий малюнок для дітей, на якому зображено: {}",
    "zh": "这是一张为孩子们画的漂亮的彩色图画，上面画的是：{}",
}
MIN_ENGLISH = 0.65  # a build only asks that English be the most probable, which it usually is from 0.3 on
SHORT_WORDS = 3  # a build does not judge the language of so short a caption


def with_article(name: str) -> str:
    """The name as it follows "a drawing of": with an article if English wants one."""
    if name.startswith("flag of "):
        return f"the {name}"
    noun = re.split(" (?:of|in|with|on|for|facing) ", name)[0]
    plural = noun.endswith("s") and not noun.endswith(("ss", "us", "is"))  # glasses, but a dress, a bus
    if plural or name[0].isupper() or name.startswith(("keycap ", "men ", "women ", "people ")):
        return name
    return f"{'an' if name[0] in 'aeio' else 'a'} {name}"


def english(name: str, item: str, templates: Sequence[str] = ENGLISH) -> str:
    """An English caption about `name`, chosen by `item`. If it is long enough to be judged, the language detector is sure of
    it."""
    start = pick("caption", item, len(templates))
    turned = [*templates[start:], *templates[:start]]
    captions = [template.format(name, a=with_article(name)) for template in turned]
    certain = certain_english(captions)
    if not any(certain):
        raise ValueError(f"no caption for {name} is certain to be English")
    return captions[certain.index(True)]


def certain_english(texts: Sequence[str]) -> list[bool]:
    """[texts] whether a build takes each for English, by a margin, or for too short to tell."""
    codes, scores = detect(texts)
    return [
        text.count(" ") < SHORT_WORDS or (code == "en" and score >= MIN_ENGLISH)
        for text, code, score in zip(texts, codes, scores, strict=True)
    ]


def foreign(language: str, name: str) -> str:
    return FOREIGN[language].format(name)
