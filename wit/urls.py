"""URLs by the WHATWG rules: the canonical form, which is compared, and the absolute form, which is fetched.

Two forms live side by side. The *absolute* URL is what the page means and what is fetched; the *canonical* URL is its
WHATWG serialisation without the fragment, and decides only whether two URLs are the same.
"""

from __future__ import annotations

import ipaddress
import re
import string
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any, Final

import ada_url
from ada_url import _ada_wrapper

from wit.reasons import Reason

_lib: Final[Any] = _ada_wrapper.lib  # the Python functions around it cost three times what the parse does
_ffi: Final[Any] = _ada_wrapper.ffi


def canonical_url(url: str) -> str | None:
    """The WHATWG form without fragment, and nothing else changed; None if it does not parse."""
    return _href(url)


def canonical_urls(urls: Sequence[str | None]) -> list[str | None]:
    """`canonical_url` of each; None stays None."""
    return [None if url is None else _href(url) for url in urls]


# What ada would return unchanged: one regular expression is cheaper than a call into the parser. Deliberately narrow (no
# upper case in the host, no percent sign or dot in a label that could be a number, no "/." that could be a dot segment).
_ALREADY_CANONICAL = re.compile(
    r"https?://(?:[a-z0-9](?:[a-z0-9]|-(?!-))*\.)+[a-z]{2,}"
    r"/(?:[\w~!$&()*+,;=:@-][\w~!$&()*+,;=:@.-]*/)*(?:[\w~!$&()*+,;=:@-][\w~!$&()*+,;=:@.-]*)?"
    r"(?:\?[\w~!$&()*+,;=:@./?%-]*)?",
    re.ASCII,
).fullmatch


def _href(url: str) -> str | None:
    if _ALREADY_CANONICAL(url):
        return url
    return _parsed_href(url)


def _parsed_href(url: str) -> str | None:
    try:
        data = url.encode()
    except UnicodeEncodeError:  # a lone surrogate is no text, hence no URL
        return None
    parsed = _lib.ada_parse(data, len(data))
    try:
        if not _lib.ada_is_valid(parsed):
            return None
        _lib.ada_clear_hash(parsed)
        href = _lib.ada_get_href(parsed)
        return _ffi.buffer(href.data, href.length)[:].decode()  # type: ignore[no-any-return]
    finally:
        _lib.ada_free(parsed)


def without_credentials(url: str) -> str:
    """The URL without name and password, in WHATWG form; a URL that has neither is returned unchanged. Whoever wrote credentials
    into a page meant them neither for us nor for readers of the set."""
    if "@" not in url:
        return url
    try:
        parsed = ada_url.URL(url)
    except ValueError:
        return url
    if not parsed.username and not parsed.password:
        return url
    parsed.username = parsed.password = ""
    return str(parsed.href)


def join_url(base: str, src: str) -> str | None:
    """`src` as seen from `base`, by the WHATWG URL parser; None if it does not parse."""
    try:
        return ada_url.join_url(base, src)
    except ValueError:  # UnicodeEncodeError included
        return None


def _absolute(src: str) -> str | None:
    """A URL that needs no base: a table has none, nor has a page whose own address does not parse."""
    try:
        return str(ada_url.URL(src).href)
    except ValueError:
        return None


def base_url(page_url: str, base: str | None) -> str:
    """The URL that a page's references are relative to, given its `<base href>`. A base that does not parse, or is a data: or
    javascript: URL, is ignored (HTML 4.2.3)."""
    joined = join_url(page_url, base) if base else None
    return joined if joined is not None and not joined.startswith(("data:", "javascript:")) else page_url


class Resolver:
    """Resolves the references of one page. The result has the same canonical form as the WHATWG join of base and reference; where
    plain concatenation gives that form, it concatenates (0.2 us against 3). An absolute reference stays as it is, whatever the
    base."""

    __slots__ = ("base", "_origin", "_folder", "_scheme")

    def __init__(self, base: str) -> None:
        self.base = base
        self._origin: str | None = None
        self._folder = ""
        self._scheme = ""

    def _prepare(self) -> None:
        href = _href(self.base)
        self._origin = ""
        if href is None or not href.startswith(("https://", "http://")):
            return
        path = href.partition("?")[0]
        # The canonical form has a path, and 8 lies behind the first character of any host.
        host_end = path.index("/", 8)
        self._origin, self._scheme = path[:host_end], path[: path.index("/")]
        self._folder = path[: path.rindex("/") + 1]

    def resolve(self, src: str) -> str | None:
        """The absolute http(s) URL, or None (`reason_for` says why). An empty reference is no picture (HTML 4.8.4.3)."""
        if src.startswith(("https://", "http://")):
            return src
        if self._origin is None:
            self._prepare()
        first, second = src[:1], src[1:2]
        if self._origin:
            if first == "/" and second in _ROOT_RELATIVE:
                return self._origin + src
            if first == "/" and second == "/":
                return self._scheme + src
            if first in _PLAIN and ":" not in src:
                return self._folder + src
        if not src.strip(_STRIPPED):
            return None
        joined = join_url(self.base, src) or _absolute(src)
        return joined if joined is not None and joined.startswith(("http://", "https://")) else None

    def resolve_all(self, srcs: Sequence[str | None]) -> list[str | None]:
        """`resolve` of each; None stays None. The commonest kinds are told apart here, without a call for each."""
        if self._origin is None:
            self._prepare()
        resolve, origin, scheme = self.resolve, self._origin, self._scheme
        urls: list[str | None] = []
        append = urls.append
        for src in srcs:
            if not src:
                append(None)
            elif src.startswith(("https://", "http://")):
                append(src)
            elif origin and src[0] == "/" and src[1:2] in _ROOT_RELATIVE:
                append(origin + src)
            elif origin and src[:2] == "//":
                append(scheme + src)
            else:
                append(resolve(src))
        return urls


_STRIPPED: Final = "".join(map(chr, range(0x21)))  # C0 controls and space: what the URL parser trims
_PLAIN: Final = frozenset(string.ascii_letters + string.digits + "_")
_ROOT_RELATIVE: Final = _PLAIN | frozenset(".~%-")  # "//" and "/\\" begin a host


def absolute_url(base: str, src: str) -> str | None:
    """The http(s) URL that `src` means on a page at `base`, or None. It has the same canonical form as the WHATWG join."""
    return Resolver(base).resolve(src)


def reason_for(src: str | None) -> Reason:
    """Why a reference has no http(s) URL."""
    text = (src or "").strip(_STRIPPED).lower()
    if not text:
        return Reason.URL_MISSING
    if text.startswith(("data:", "blob:")):
        return Reason.URL_INLINE
    scheme = re.match(r"([a-z][a-z0-9+.-]*):", text)
    return Reason.URL_SCHEME if scheme and scheme[1] not in ("http", "https") else Reason.URL_INVALID


def host_of(url: str) -> str:
    """The host of a canonical URL, without port and credentials; empty where there is none."""
    rest = url.partition("://")[2]
    authority = rest[: m.start()] if (m := _AUTHORITY_END(rest)) else rest
    host = authority.rpartition("@")[2]
    return host[: host.index("]") + 1] if host.startswith("[") and "]" in host else host.partition(":")[0]


_AUTHORITY_END: Final = re.compile(r"[/?#\\]").search


@cache
def _suffixes() -> Any:
    import tldextract  # not above: 0.1 s, and a fetch process needs it only for redirects to other hosts

    # The bundled list: never the network. Its private part is on, by which github.io is many owners, not one.
    return tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None, include_psl_private_domains=True)


@lru_cache(maxsize=200_000)
def registrable_domain(host: str) -> str:
    """The part of a host that somebody registered (`a.b.co.uk` -> `b.co.uk`, `me.github.io` as it is), by the public suffix list
    that tldextract bundles, its private part included. Under a suffix that is not on the list it is the last two labels, as the
    list's own rule says. IP addresses, single labels and bare suffixes are returned as they are."""
    name = host.rstrip(".")
    if not name or _is_address(name):
        return host
    parts = _suffixes()(name)
    if not parts.suffix:
        return ".".join(name.split(".")[-2:])
    domain: str = parts.top_domain_under_public_suffix
    return domain or name


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True
