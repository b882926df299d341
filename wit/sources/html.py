"""The images of an HTML page: the URL that a browser would show, or a lazy-loading script put in, and the text that goes with it.

One pair per `img`, in document order, and one for `og:image`. Its URL is the first of:
  1. the largest candidate of its own sets (SRCSETS) and those of the `source` elements in its `picture`,
  2. the first lazy-loading attribute (LAZY) that is not blank, if it names an address: `src` is a placeholder then,
  3. `src`.
Its text is the first of these that is not blank: `alt`, `title`, the `figcaption` of its `figure`; else `alt` as it is. A
page of plain `img` tags (src and alt only) gives exactly the pairs of its WAT record.
"""

from __future__ import annotations

import re
import zlib
from typing import NamedTuple

import charset_normalizer
from selectolax.lexbor import LexborHTMLParser, LexborNode

from wit.sources.complexity import check_complexity
from wit.sources.text import BOMS, codec_of
from wit.urls import base_url

LAZY = (
    "data-src",
    "data-original",
    "data-lazy-src",
    "data-lazy",
    "data-original-src",
    "data-actualsrc",
    "data-img-src",
    "data-image",
    "data-full-src",
    "data-large_image",
    "data-hi-res-src",
    "data-echo",
    "data-url",
    "data-ll-src",
    "data-defer-src",
)
SRCSETS = ("srcset", "data-srcset", "data-lazy-srcset")
_MORE = frozenset((*LAZY, *SRCSETS))
_DECLARED = re.compile(r"charset\s*+=\s*+[\"']?+\s*+([\w:.-]+)", re.IGNORECASE)
DETECT_BYTES = 16 << 10
META_BYTES = 4 << 10  # HTML 13.2.3.2 asks for 1,024, but some pages put the declaration later
_META_CHARSET = re.compile(rb"<meta[^>]{1,200}?charset\s*=\s*[\"']?\s*([A-Za-z0-9_:.-]+)", re.IGNORECASE)

# Encodings of the web beside UTF-8. A few rare ones are left out: they would be mistaken for these.
DETECTED = (
    *(
        "cp1252",
        "cp1251",
        "cp932",
        "euc_jp",
        "gb18030",
        "big5",
        "euc_kr",
        "cp1250",
        "cp1253",
        "cp1254",
        "cp1255",
        "cp1256",
    ),
    *("koi8_r", "cp874", "iso2022_jp"),
)

# Labels that the WHATWG Encoding standard reads as a larger set than their name says.
_WIDER = {
    **dict.fromkeys(("iso-8859-1", "latin1", "latin-1", "us-ascii", "ascii"), "cp1252"),
    **dict.fromkeys(("gb2312", "gbk", "gb_2312-80", "x-gbk"), "gb18030"),
    **dict.fromkeys(("shift_jis", "shift-jis", "sjis", "x-sjis", "windows-31j"), "cp932"),
    **dict.fromkeys(("euc-kr", "ks_c_5601-1987", "ksc5601"), "cp949"),
    **dict.fromkeys(("iso-8859-9", "latin5"), "cp1254"),
    **dict.fromkeys(("tis-620", "iso-8859-11"), "cp874"),
    "big5": "big5hkscs",
    "x-user-defined": "cp1252",
    "utf8": "utf-8",
}


class PageImages(NamedTuple):
    base: str  # the URL that `srcs` are relative to
    srcs: list[str | None]
    alts: list[str | None]


def page_images(html: str, page_url: str) -> PageImages:
    """The pairs of a page. Raises TooComplex for markup that would take the parser too long."""
    check_complexity(html)
    tree = LexborHTMLParser(html)
    lower = html.lower()
    pictures = _Pictures() if "<source" in lower else None
    captions = _Captions() if "<figcaption" in lower else None
    srcs: list[str | None] = []
    alts: list[str | None] = []
    for node in tree.css("img"):
        attributes = node.attributes
        best = pictures.best(node) if pictures else None
        srcs.append(
            _source(attributes, best) if best or not _MORE.isdisjoint(attributes) else _plain(attributes, "src")
        )
        alts.append(_text(attributes, node, captions))
    if "og:image" in lower:
        _add_open_graph(tree, srcs, alts)
    base = tree.css_first("base[href]") if "<base" in lower else None
    return PageImages(base_url(page_url, base.attributes.get("href")) if base else page_url, srcs, alts)


Attributes = dict[str, str | None]  # None: an attribute without a value, which means the empty string


def _plain(attributes: Attributes, name: str) -> str | None:
    return (attributes[name] or "") if name in attributes else None


def _source(attributes: Attributes, of_picture: Candidate | None) -> str | None:
    src = _plain(attributes, "src")
    best = _larger(_best_of(attributes), of_picture)
    if best:
        return best[1]
    lazy = next((value.strip() for name in LAZY if (value := attributes.get(name)) and value.strip()), None)
    return lazy if lazy and _is_address(lazy) else src


def _is_address(text: str) -> bool:
    """Whether a lazy-loading attribute names a picture; scripts keep JSON and switches under the same names."""
    return text[0] not in "{[#<" and text.lower() not in ("true", "false", "lazy", "auto") and not text.isdigit()


Candidate = tuple[tuple[int, float], str]  # (1, width) or (0, density), and the URL


def _best_of(attributes: Attributes) -> Candidate | None:
    """The largest candidate of an element's own sets."""
    return largest_candidate([value for name in SRCSETS if (value := attributes.get(name))])


def _larger(one: Candidate | None, other: Candidate | None) -> Candidate | None:
    """The larger of two, the first of equals."""
    return other if one is None or (other is not None and other[0] > one[0]) else one


def largest_candidate(srcsets: list[str]) -> Candidate | None:
    """The image candidate with the largest width, else the one with the largest density; the first of equal ones."""
    best = None
    for url, number, unit in (match for srcset in srcsets for match in split_srcset(srcset)):
        best = _larger(best, ((1 if unit == "w" else 0, number), url))
    return best


_URL = re.compile(r"[ \t\n\r\f,]*+([^ \t\n\r\f]++)")


def split_srcset(srcset: str) -> list[tuple[str, float, str]]:
    """(URL, number, unit) of each candidate (HTML 4.8.4.2.2): a URL may hold commas, but not begin or end with one."""
    candidates, at = [], 0
    while match := _URL.match(srcset, at):
        url, at = match[1], match.end()
        if url.endswith(","):
            candidates.append((url.rstrip(","), 1.0, "x"))
            continue
        comma = srcset.find(",", at)
        end = comma if comma >= 0 else len(srcset)
        candidates.append((url, *_descriptor(srcset[at:end])))
        at = end + 1
    return [candidate for candidate in candidates if candidate[0] and not candidate[0].lower().startswith("data:")]


def _descriptor(text: str) -> tuple[float, str]:
    for word in text.split():
        try:
            number = float(word[:-1])
        except ValueError:
            continue
        if word[-1] in "wx" and number == number:
            return number, word[-1]
    return 1.0, "x"


class _Pictures:
    """The largest candidate of each `picture` of a page, found once for each."""

    def __init__(self) -> None:
        self.known: dict[int, Candidate | None] = {}

    def best(self, image: LexborNode) -> Candidate | None:
        """The largest candidate of the `source` elements beside an image in its `picture`; None where it is in none."""
        picture = image.parent
        if picture is None or picture.tag != "picture":
            return None
        if picture.mem_id not in self.known:
            best = None
            for child in picture.iter():
                if child.tag == "source":
                    best = _larger(best, _best_of(child.attributes))
            self.known[picture.mem_id] = best
        return self.known[picture.mem_id]


class _Captions:
    """The captions of a page's figures, each read once: several figures may share one."""

    def __init__(self) -> None:
        self.of_figure: dict[int, str | None] = {}
        self.texts: dict[int, str | None] = {}

    def caption(self, image: LexborNode) -> str | None:
        parent = image.parent
        for _ in range(4):  # figure > a > picture > img is as deep as it gets
            if parent is None or parent.tag == "figure":
                break
            parent = parent.parent
        if parent is None or parent.tag != "figure":
            return None
        if parent.mem_id not in self.of_figure:
            caption = parent.css_first("figcaption")
            self.of_figure[parent.mem_id] = self._text(caption) if caption is not None else None
        return self.of_figure[parent.mem_id]

    def _text(self, caption: LexborNode) -> str | None:
        if caption.mem_id not in self.texts:
            self.texts[caption.mem_id] = " ".join(caption.text(separator=" ").split()) or None
        return self.texts[caption.mem_id]


def _text(attributes: Attributes, node: LexborNode, captions: _Captions | None) -> str | None:
    alt = _plain(attributes, "alt")
    if alt and alt.strip():
        return alt
    title = attributes.get("title")
    if title and title.strip():
        return title
    return (captions.caption(node) if captions else None) or alt


def _add_open_graph(tree: LexborHTMLParser, srcs: list[str | None], alts: list[str | None]) -> None:
    """Adds the picture that stands for the page elsewhere (og:image), with the page's og:title, or else its og:image:alt."""
    values: dict[str, str] = {}
    for node in tree.css("meta[property], meta[name]"):
        name = (node.attributes.get("property") or node.attributes.get("name") or "").lower()
        if name.startswith("og:") and (content := node.attributes.get("content")):
            values.setdefault(name, content)
    image = values.get("og:image") or values.get("og:image:url") or values.get("og:image:secure_url")
    if image:
        srcs.append(image)
        alts.append(values.get("og:title") or values.get("og:image:alt"))


def decode_html(body: bytes, content_type: str) -> str:
    """The text of a page, decoded by the first of: byte order mark, HTTP header, meta element, UTF-8 if valid, detection."""
    for mark, encoding in BOMS:
        if body.startswith(mark):
            return body[len(mark) :].decode(encoding, "replace")
    declared = _DECLARED.search(content_type)
    codec = _codec(declared[1]) if declared else None
    if codec is None and (meta := _META_CHARSET.search(body, 0, META_BYTES)):
        codec = _codec(meta[1].decode("ascii"))
        codec = "utf-8" if codec and codec.startswith("utf-16") else codec  # HTML 13.2.3.2: it was read as ASCII
    if codec is not None:
        return body.decode(codec, "replace")
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError:
        return body.decode(_detect(body), "replace")


def _codec(label: str) -> str | None:
    """Python's codec for a label of a page."""
    name = label.strip().lower()
    return codec_of(_WIDER.get(name, name))


def _detect(body: bytes) -> str:
    """The likeliest encoding of text that declares none and is not UTF-8; in doubt windows-1252, as in browsers."""
    text = re.sub(rb"<[^<>]*>", b" ", body[:DETECT_BYTES])
    best = charset_normalizer.from_bytes(text, cp_isolation=list(DETECTED)).best()
    return best.encoding if best is not None else "cp1252"


def decode_body(body: bytes, encoding: str, *, max_bytes: int) -> bytes | None:
    """An HTTP body without its content encoding; None where that cannot be undone, or the body would grow beyond the limit.
    Many archives undo the encoding but keep the header: a body that is markup already is returned as it is."""
    if encoding in ("", "identity") or body[:64].lstrip().startswith(b"<"):
        return body
    if encoding not in ("gzip", "x-gzip", "deflate"):
        return None
    for wbits in (47, -15):  # gzip or zlib, by their headers; then bare deflate, which many servers send as deflate
        inflater = zlib.decompressobj(wbits)
        try:
            content = inflater.decompress(body, max_bytes)
        except zlib.error:
            continue
        return content if not inflater.unconsumed_tail else None
    return None


def dechunk(body: bytes) -> bytes:
    """The body put together from its HTTP/1.1 chunks; unchanged if it has none (many archives keep only the header)."""
    parts: list[bytes] = []
    at = 0
    while (line_end := body.find(b"\r\n", at, at + 40)) >= 0:
        size_text = body[at:line_end].partition(b";")[0].strip()
        if not size_text or len(size_text) > 8 or size_text.strip(b"0123456789abcdefABCDEF"):
            break
        size = int(size_text, 16)
        if size == 0:
            return b"".join(parts)
        parts.append(body[line_end + 2 : line_end + 2 + size])
        at = line_end + 2 + size + 2
    return b"".join(parts) if parts else body
