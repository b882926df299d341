"""The truth table covers every tag, is consistent in itself, and its comparison finds what is wrong."""

from collections import Counter, defaultdict
from urllib.parse import urljoin

import pytest

from wit import demo
from wit.demo import tables
from wit.demo.fates import settled_early
from wit.demo.making import noise
from wit.records import Reason
from wit.urls import absolute_url, canonical_url


@pytest.fixture(scope="module")
def tags():
    return demo.truth().to_pylist()


def fulfilled(tags):
    """Fates that meet the table: of each group its first tag stands for all."""
    fates, seen = {}, set()
    for row in tags:
        tag, allowed = (row["page_url"], row["index"]), row["fates"]
        groups = [("pair", row["url"], row["alt"]), ("url", row["url"]), ("cluster", row["cluster"])]
        first = next((number for number, group in enumerate(groups) if group in seen and group[1]), None)
        if settled_early(row) or first is None:
            fates[tag] = allowed[0]
        elif first == 2:
            fates[tag] = next(fate for fate in allowed if fate in ("duplicate_bytes", "duplicate_picture"))
        else:
            fates[tag] = ("duplicate_pair", "same_url")[first]
        if not settled_early(row):
            seen |= set(groups)
    return fates


def test_fates_are_kept_or_reasons_and_each_tag_has_one(tags):
    assert all(row["fates"] and len(set(row["fates"])) == len(row["fates"]) for row in tags)
    assert {fate for row in tags for fate in row["fates"]} <= {tables.KEPT, *Reason}


CASES = """
url_missing url_inline url_invalid url_scheme url_too_long caption_missing caption_empty caption_too_short
caption_too_long caption_not_text caption_repetitive caption_boilerplate caption_is_url caption_is_file_name no_query
language duplicate_in_group duplicate_pair same_url too_many_captions dns_not_found timeout http_not_found http_gone
http_forbidden http_client_error http_server_error too_many_redirects address_refused scheme_refused body_too_large
body_incomplete body_empty robots_disallowed opt_out_header tdm_reserved not_an_image svg_refused image_truncated
image_too_many_pixels image_too_small aspect_ratio duplicate_bytes duplicate_picture
"""


def test_the_web_has_a_case_of_every_reason_that_it_can_cause(tags):
    assert set(CASES.split()) <= {fate for row in tags for fate in row["fates"]}


def test_urls_are_what_src_means_on_its_page(tags):
    bases = {page["page_url"]: page["base"] for page in tables.load("pages").to_pylist()}
    for row in tags:
        found = absolute_url(urljoin(row["page_url"], bases[row["page_url"]] or ""), row["src"])
        canonical = canonical_url(found) if found else None
        assert row["url"] in (canonical, None), row
        early = Reason[row["fates"][0].upper()] if row["fates"][0] != tables.KEPT else None
        assert row["url"] is not None or early in (
            Reason.URL_MISSING,
            Reason.URL_INLINE,
            Reason.URL_SCHEME,
            Reason.URL_INVALID,
            Reason.URL_TOO_LONG,
        )


def test_src_is_written_in_every_way(tags):
    bases = {page["page_url"]: page["base"] for page in tables.load("pages").to_pylist()}
    forms = Counter()
    for row in tags:
        src = row["src"]
        forms["base"] += bases[row["page_url"]] is not None and "//" not in src
        forms["protocol-relative"] += src.startswith("//")
        forms["root"] += src.startswith("/") and not src.startswith("//")
        forms["relative"] += src.startswith("../")
        forms["fragment"] += "#" in src
        forms["space"] += " " in src
        forms["unicode"] += not src.isascii()
        forms["capitals"] += src.startswith("HTTP://")
    assert min(forms.values()) >= 20, forms


def test_troubles_are_few_enough_for_a_short_build():
    kinds = Counter(tables.load("resources")["kind"].to_pylist())
    assert kinds["drip"] <= 4 and kinds["endless"] <= 4 and kinds["busy"] <= 4


def test_the_bomb_declares_400_million_pixels_in_few_bytes():
    assert len(noise.bomb()) < 10_000
    assert noise.bomb()[16:24] == (20_000).to_bytes(4, "big") * 2


def test_clusters_hold_several_urls_of_which_one_is_kept(tags):
    urls = defaultdict(set)
    for row in tags:
        if row["cluster"]:
            assert tables.KEPT in row["fates"]
            urls[row["cluster"]].add(row["url"])
    assert len(urls) > 200 and all(len(found) > 1 for found in urls.values())


def test_fates_that_meet_the_table_give_no_mismatch(tags):
    assert demo.mismatches(fulfilled(tags)) == []


def test_each_kind_of_wrong_fate_is_found(tags):
    right = fulfilled(tags)
    kept = next(tag for tag, fate in right.items() if fate == tables.KEPT)
    copy = next(tag for tag, fate in right.items() if fate == "duplicate_pair")
    other = next(tag for tag, fate in right.items() if fate == "same_url")
    twin = next(tag for tag, fate in right.items() if fate == "duplicate_picture")
    assert len(demo.mismatches({**right, kept: "timeout"})) >= 1
    for tag in (copy, other, twin):
        assert any("survive" in line for line in demo.mismatches({**right, tag: tables.KEPT}))
    assert any("no such tag" in line for line in demo.mismatches({**right, ("http://pictures.example/", 0): "kept"}))
    assert any("no fate" in line for line in demo.mismatches({tag: fate for tag, fate in right.items() if tag != kept}))
