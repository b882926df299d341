"""URLs: the fast ways say what the WHATWG URL parser says."""

from __future__ import annotations

import ada_url
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wit.records import Reason
from wit.urls import (
    Resolver,
    absolute_url,
    base_url,
    canonical_url,
    canonical_urls,
    host_of,
    reason_for,
    registrable_domain,
    without_credentials,
)

# Pieces that matter to a URL parser, in any order: what a page may hold, and what an attacker would write.
WORDS = r"""
    http https HTTP ftp data javascript : / // \ ? # @ . .. ./ ../ %2e %2E %41 & = ; , + ' " < > ` { } | ^ [ ] ~ $ ! * ( )
    example.com EXAMPLE.com www.a-b.co.uk xn--bcher-kva.example 1.2.3.4 0x7f.1 256.1 [::1] localhost :80 :443 :8080 :99999
    a b.jpg image-1 00 Ü 狐 ß"""
PIECES = WORDS.split() + [" ", "\t", "\n", "\r", "\x00", "\x1f", "\x7f", "\xa0", "\u200b", "\ufeff"]
REFERENCES = st.lists(st.sampled_from(PIECES), max_size=8).map("".join) | st.text(max_size=20)
BASES = st.builds(
    str.__add__,
    st.sampled_from(
        [
            "http://example.com",
            "https://www.a.co.uk:8443",
            "https://u:p@h.example",
            "ftp://f.example",
            "about:blank",
            "",
        ]
    ),
    st.lists(
        st.sampled_from(["/", "a", "b.html", "?q=/x", "#f/g", "..", ".", "\\", " ", "%20", "ü", ":"]), max_size=6
    ).map("".join),
)


def whatwg(url: str, base: str | None = None) -> str | None:
    """The obvious twin: parse, drop the fragment, serialise."""
    try:
        parsed = ada_url.URL(url, base) if base is not None else ada_url.URL(url)
    except ValueError:
        return None
    parsed.hash = ""
    return parsed.href


@given(st.sampled_from(["http://", "https://", "HTTPS:/", ""]), REFERENCES)
@example("http://", "a.b/c.jpg?x=1#frag")
@example("https://", "a.example/x/./y/../z//.jpg")
@example("https://", "a.example/%2e%2e/x")
@example("https://", "a-.b--c.example/")
@example("https://", "xn--a.example/")
@example("http://", "a.com?x'y")
@example("http://", "a.com")
def test_canonical_url_is_the_whatwg_form_without_fragment(scheme: str, rest: str) -> None:
    assert canonical_url(scheme + rest) == whatwg(scheme + rest)


@given(st.text("abz09-._~!$&'()*+,;=:@/?%# \\|AZ", max_size=30))
def test_canonical_url_of_plain_paths_is_the_whatwg_form(rest: str) -> None:
    url = f"https://img.example.com/{rest}"
    assert canonical_url(url) == whatwg(url)


@given(BASES, REFERENCES)
@example("http://example.com/a/b", "c.jpg")
@example("http://example.com", "c.jpg")
@example("http://example.com?a/b", "c.jpg")
@example("http://example.com/a/b?q=/x#/y", "c.jpg")
@example("http://example.com/a\\b/c", "d.jpg")
@example("http://example.com/a/b", "/\t/evil.example/x")
@example("http://example.com/a/b", "/\\evil.example/x")
@example("http://example.com/a/b", "h\nttp://x.example/")
@example("http://example.com/a\n/b", "c")
@example("http://example.com//..", "c")
@example("http://example.com%20", "//c")
@example("http://a", "/c")
def test_absolute_url_means_what_the_whatwg_join_means(base: str, src: str) -> None:
    expected = whatwg(src, base)
    if whatwg(base) is None and src.startswith(("http://", "https://")):
        expected = whatwg(src)  # what is absolute needs no base, so a page without a URL keeps it
    if expected is not None and not expected.startswith(("http://", "https://")):
        expected = None
    if not src.strip("".join(map(chr, range(33)))):
        expected = None  # an empty source is no picture
    found = absolute_url(base, src)
    assert Resolver(base).resolve_all([src, None]) == [found, None]
    assert (canonical_url(found) if found is not None else None) == expected


@pytest.mark.parametrize(
    "src, url",
    [
        ("https://cdn.example/A.jpg", "https://cdn.example/A.jpg"),
        ("//cdn.example/a.jpg", "https://cdn.example/a.jpg"),
        ("/a.jpg", "https://www.page.example/a.jpg"),
        ("a.jpg?w=1", "https://www.page.example/blog/a.jpg?w=1"),
        ("../a.jpg", "https://www.page.example/a.jpg"),
        ("?a", "https://www.page.example/blog/post?a"),
        ("  /a.jpg\n", "https://www.page.example/a.jpg"),
        ("", None),
        (" ", None),
        ("data:image/gif;base64,R0", None),
        ("ftp://h.example/a.jpg", None),
    ],
)
def test_references_of_a_page(src: str, url: str | None) -> None:
    assert absolute_url("https://www.page.example/blog/post?p=1#top", src) == url
    assert Resolver("https://www.page.example/blog/post").resolve_all([None, src])[0] is None


@pytest.mark.parametrize(
    "base, result",
    [
        ("https://cdn.example/x/", "https://cdn.example/x/"),
        ("/x/", "https://page.example/x/"),
        ("//cdn.example", "https://cdn.example/"),
        ("data:text/html,x", "https://page.example/a/b"),
        ("javascript:0", "https://page.example/a/b"),
        ("https://[", "https://page.example/a/b"),
        ("", "https://page.example/a/b"),
        (None, "https://page.example/a/b"),
    ],
)
def test_base_of_a_page(base: str | None, result: str) -> None:
    assert base_url("https://page.example/a/b", base) == result


@pytest.mark.parametrize(
    "src, reason",
    [
        (None, Reason.URL_MISSING),
        ("", Reason.URL_MISSING),
        (" \n", Reason.URL_MISSING),
        ("data:image/png;base64,AA", Reason.URL_INLINE),
        (" DATA:,", Reason.URL_INLINE),
        ("blob:https://a.example/1", Reason.URL_INLINE),
        ("ftp://a.example/x.jpg", Reason.URL_SCHEME),
        ("javascript:void(0)", Reason.URL_SCHEME),
        ("https://[", Reason.URL_INVALID),
        ("//", Reason.URL_INVALID),
    ],
)
def test_reason_for_a_reference_without_url(src: str | None, reason: Reason) -> None:
    assert reason_for(src) is reason


def test_canonical_urls_are_those_of_each() -> None:
    urls = ["http://A.example/x#y", None, "https://[", "https://a.example/x.jpg", "http://a.example/\ud800"]
    assert canonical_urls(urls) == ["http://a.example/x", None, None, "https://a.example/x.jpg", None]


@pytest.mark.parametrize(
    "url, host",
    [
        ("https://a.example/x", "a.example"),
        ("https://u:p@a.example:8080/x?y@z", "a.example"),
        ("http://[::1]:80/x", "[::1]"),
        ("https://a.example?x", "a.example"),
        ("data:,", ""),
    ],
)
def test_host_of(url: str, host: str) -> None:
    assert host_of(url) == host


@pytest.mark.parametrize(
    "url, bare",
    [
        ("http://me:secret@a.example/x.jpg", "http://a.example/x.jpg"),
        ("HTTPS://me@a.example:8080/x@y?z@1#f", "https://a.example:8080/x@y?z@1#f"),
        ("http://a@b@c.example/", "http://c.example/"),
        ("HTTP://A.example/@me", "HTTP://A.example/@me"),
        ("ht\ttp:me:secret@a.example/x", "http://a.example/x"),
        ("http://a.example/@me/x.jpg", "http://a.example/@me/x.jpg"),
        ("http://a.example?x=me@b.example", "http://a.example?x=me@b.example"),
        ("http://@", "http://@"),
    ],
)
def test_names_and_passwords_leave_a_url(url: str, bare: str) -> None:
    assert without_credentials(url) == bare


@given(st.text(max_size=20), st.sampled_from(["http://", "https:/", "http:", "http:\\\\"]), st.text(max_size=10))
def test_what_is_left_has_no_credentials_and_the_same_host_and_path(user: str, scheme: str, path: str) -> None:
    url = f"{scheme}{user}@a.example/{path}"
    before, after = canonical_url(url), canonical_url(without_credentials(url))
    if before is None:
        return
    parsed = ada_url.URL(before)
    parsed.username = parsed.password = ""
    assert after == parsed.href


@pytest.mark.parametrize(
    "host, domain",
    [
        ("a.b.example.com", "example.com"),
        ("img.shop.co.uk", "shop.co.uk"),
        ("www.user.github.io", "user.github.io"),  # the list's private part: many owners, not one
        ("bucket.s3.amazonaws.com", "bucket.s3.amazonaws.com"),
        ("github.io", "github.io"),
        ("a.b.example", "b.example"),  # no suffix that the list knows: its rule is *
        ("1.2.3.4", "1.2.3.4"),
        ("[2001:db8::1]", "[2001:db8::1]"),
        ("localhost", "localhost"),
        ("co.uk", "co.uk"),
        ("", ""),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("www.xn--bcher-kva.de.", "xn--bcher-kva.de"),
    ],
)
def test_registrable_domain(host: str, domain: str) -> None:
    assert registrable_domain(host) == domain
