"""Finds pages whose markup would take the parser seconds or hours, before the parser sees them. The rules read only the page.

The parser (lexbor) is quadratic in open elements and in the attributes of one element, and nothing can interrupt it: 500 kB of
`<div>` take it 30 s. A page of at most 20,000 tags never takes it many seconds, and passes unchecked. In a larger page the open
elements are followed as in HTML 13.2.6, and in doubt stay open.
"""

from __future__ import annotations

import re

SIMPLE_TAGS = 20_000  # all nested in one another, these take 1 to 2 s
MAX_NESTING = SIMPLE_TAGS**2 // 4  # open elements, summed over all tags: as of 100,000 tags, each 1,000 deep
SIMPLE_CHARS = 150_000  # in a shorter page attributes need not be counted: all in one tag, they take a second
MAX_ATTRIBUTES = 2_000  # of a tag, in larger pages
MAX_ROOTS = 20  # html and body tags, likewise: each adds its attributes to one and the same element

_ATTRIBUTE = r"""[\s/]*+[^\s/>][^\s/>=]*+(?:\s*+=\s*+(?:"[^"]*+"|'[^']*+'|[^\s>]*+))?+"""
# A page up to its first tag with too many attributes. A match reads each tag once; a search for such a tag would not.
_SHORT_TAGS = re.compile(
    rf"(?:[^<]++|<(?![a-zA-Z])|<[a-zA-Z][^\s/>]*+(?:{_ATTRIBUTE}){{0,{MAX_ATTRIBUTES}}}+(?!{_ATTRIBUTE}))*+"
)
_ROOT = re.compile(r"<(?:html|body)[\s/]", re.IGNORECASE)
_TAG = re.compile(rf"<!--|<(/?)([a-zA-Z][^\s/>]*+)(?:{_ATTRIBUTE})*+[\s/]*+>?")
_COMMENT_END = re.compile(r"(?<=<!--)-?>|--!?>")
_TEXT = ("script", "style", "textarea", "title", "iframe", "xmp", "noembed", "noframes")  # hold no elements
_TEXT_END = {name: re.compile(rf"</{name}[\s/>]", re.IGNORECASE) for name in _TEXT}
# Elements that are empty, or stand once, or nest no deeper than the elements around them, as their end tags may be left out.
_UNNESTED = frozenset(
    "area base br col embed hr img input link meta param source track wbr html head body p li dt dd option optgroup tr td th "
    "tbody thead tfoot colgroup rt rp".split()
)
# Elements that are opened again after the one around them has ended (13.2.4.3); and the form, which ends alone.
_LASTING = frozenset("a b big code em font i nobr s small strike strong tt u form".split())
_SCOPES = frozenset(  # no end tag reaches out of these
    "applet caption table marquee object template select svg math foreignobject desc annotation-xml mi mo mn ms mtext".split()
)
_SPECIAL = _SCOPES | frozenset(  # only an end tag of this set reaches out of these
    "address article aside blockquote button center details dir div dl fieldset figcaption figure footer form frameset h1 h2 "
    "h3 h4 h5 h6 header hgroup listing main menu nav noscript ol plaintext pre search section summary ul".split()
)
_TAGS_ARE_TAGS = frozenset(("svg", "math", "select"))  # within these a script or style may hold elements
_DRAWING = frozenset(  # these may close themselves within an svg, and do not end it
    "g path rect circle ellipse line polyline polygon use defs symbol stop lineargradient radialgradient clippath mask "
    "pattern filter image text tspan animate animatetransform fegaussianblur feoffset femerge femergenode".split()
)


class TooComplex(ValueError):
    """Markup that would take the parser seconds or more."""


def check_complexity(html: str) -> None:
    """Raises TooComplex for a page nested too deeply for its size, or with too many attributes in one element. Takes time in
    proportion to the page's length."""
    if html.count("<") > SIMPLE_TAGS and nesting(html) > MAX_NESTING:
        raise TooComplex("nesting")
    if len(html) > SIMPLE_CHARS and (_has_long_tag(html) or len(_ROOT.findall(html)) > MAX_ROOTS):
        raise TooComplex("attributes")


def _has_long_tag(html: str) -> bool:
    short = _SHORT_TAGS.match(html)
    return short is not None and short.end() < len(html)


def nesting(html: str) -> int:
    """The open elements, summed over the tags of a page; never fewer than the parser has. Counting stops above MAX_NESTING."""
    total, at = 0, 0
    opened: list[str] = []
    drawing = False  # whether the innermost element certainly belongs to an svg
    while total <= MAX_NESTING and (tag := _TAG.search(html, at)):
        at = tag.end()
        if tag[2] is None:
            at = _end(_COMMENT_END, html, at)
            continue
        name = tag[2].lower()
        if tag[1]:
            _close(name, opened)
            drawing = drawing and name in _DRAWING
        else:
            drawing = name == "svg" or (drawing and name in _DRAWING)
            if name in _TEXT and _TAGS_ARE_TAGS.isdisjoint(opened):
                at = _end(_TEXT_END[name], html, at)
            elif name not in _UNNESTED and not (drawing and tag[0].endswith("/>")):
                opened.append(name)
        total += len(opened) + 1
    return total


def _end(pattern: re.Pattern[str], html: str, at: int) -> int:
    """The place behind the next match, or the end of the page."""
    match = pattern.search(html, at)
    return match.end() if match else len(html)


def _close(name: str, opened: list[str]) -> None:
    """Closes the element of this name and those within it, if the parser surely does."""
    if opened and opened[-1] == name:
        opened.pop()
    elif name not in _LASTING and name in opened:
        walls = _SCOPES if name in _SPECIAL else _SPECIAL
        for place in range(len(opened) - 1, -1, -1):
            if opened[place] == name:
                opened[place:] = [inner for inner in opened[place + 1 :] if inner in _LASTING]
                return
            if opened[place] in walls:
                return
