"""Wikitext to plain text: the running text that a reader of the article sees, near enough to count words."""

from __future__ import annotations

import html
import re

MAX_NESTING = 16  # levels of templates within templates; deeper ones stay in the text

COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
UNREAD = re.compile(
    r"<(ref|math|gallery|timeline|syntaxhighlight|source|code|pre|score|imagemap|hiero|chem|templatestyles)\b"
    r"(?:[^<>]*/>|[^<>]*>.*?</\1\s*>)",
    re.DOTALL | re.IGNORECASE,
)
TEMPLATE = re.compile(r"\{\{[^{}]*\}\}|\{\|(?:(?!\{\||\|\}).)*\|\}", re.DOTALL)  # the innermost: template or table
LINK = re.compile(r"\[\[(?:[^\[\]|]*\|)*([^\[\]|]*)\]\]")  # the innermost; readers see the last part
UNSEEN_LINK = re.compile(
    r"\[\[\s*:?\s*(?:file|image|media|category|[a-z]{2,3}|[a-z]{2,3}-[a-z-]+)\s*:(?:[^\[\]]|\[\[[^\[\]]*\]\]|\[[^\[\]]*\])*\]\]",
    re.IGNORECASE,
)
EXTERNAL = re.compile(r"\[(?:https?:|ftp:|mailto:)?//[^\s\[\]]+\s*([^\[\]]*)\]")
BARE_URL = re.compile(r"(?:https?|ftp)://[^\s<>\[\]|]+")
TAG = re.compile(r"</?[a-zA-Z][^<>]*>")
QUOTES = re.compile(r"'{2,5}")
HEADING = re.compile(r"^(={1,6})(.*?)\1\s*$", re.MULTILINE)
MARKERS = re.compile(r"^[*#:;]+\s*|^----+|__[A-Z]+__", re.MULTILINE)


def strip_wikitext(text: str) -> str:
    """The running text, without templates, tables, references, pictures, categories, targets of links, and markup."""
    text = UNREAD.sub(" ", COMMENT.sub("", text))
    text = _until_stable(TEMPLATE, " ", text)
    text = UNSEEN_LINK.sub(" ", text)
    text = _until_stable(LINK, r"\1", text)
    text = BARE_URL.sub(" ", EXTERNAL.sub(r"\1", text))
    text = QUOTES.sub("", HEADING.sub(r"\2", MARKERS.sub("", TAG.sub(" ", text))))
    return html.unescape(text)


def _until_stable(pattern: re.Pattern[str], replacement: str, text: str) -> str:
    for _ in range(MAX_NESTING):
        text, count = pattern.subn(replacement, text)
        if not count:
            break
    return text
