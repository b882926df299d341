import json
from collections import Counter

import pytest

from wit.candidates.config import CandidatesConfig
from wit.candidates.extract import extract_group
from wit.errors import InputError
from wit.querylist import query_list
from wit.records import CANDIDATES, DROPPED, Reason, pair_key
from wit.sources import SourceFile

QUERIES = query_list(["fox", "red fox", "snow", "fuchs"])
ENGLISH = "a red fox walks in the snow"
FETCHED = "https://site.example/fox.jpg#top"


def table(tmp_path, pairs, name="pairs.jsonl") -> SourceFile:
    """A table source of (url, caption) pairs."""
    path = tmp_path / name
    path.write_text("".join(json.dumps({"url": url, "caption": caption}) + "\n" for url, caption in pairs))
    return SourceFile("table", str(path))


def extract(files, *, limit=None, one_in=1, **knobs):
    config = CandidatesConfig(**knobs)
    group = extract_group(files, queries=QUERIES, config=config, seed=7, limit=limit, dropped_one_in=one_in)
    assert group.table.schema.equals(CANDIDATES) and group.dropped.schema.equals(DROPPED)
    assert group.pairs_in == len(group.table) + sum(group.dropped_counts.values())
    return group


def test_a_candidate_says_what_it_is_and_where_it_was(tmp_path):
    file = table(tmp_path, [(FETCHED, f"  {ENGLISH} ")])
    row = extract([file]).table.to_pylist()[0]
    canonical = FETCHED.removesuffix("#top")
    assert row["key"] == pair_key(canonical, ENGLISH)
    assert (row["url"], row["canonical_url"], row["caption"]) == (FETCHED, canonical, ENGLISH)
    assert (row["source"], row["source_index"], row["copies"]) == (file.path, 0, 1)
    assert row["query_ids"] == [0, 1, 2]
    assert row["language"] == "en" and row["language_score"] > 0.5


def test_names_and_passwords_in_a_url_are_not_stored(tmp_path):
    file = table(
        tmp_path, [("https://me:secret@site.example/fox.jpg", ENGLISH), ("ftp://me:secret@site.example/x", ENGLISH)]
    )
    group = extract([file])
    assert (
        group.table["url"].to_pylist() == group.table["canonical_url"].to_pylist() == ["https://site.example/fox.jpg"]
    )
    assert "secret" not in str(group.table.to_pylist()) + str(group.dropped.to_pylist())


@pytest.mark.parametrize(
    "url, caption, reason",
    [
        (FETCHED, ENGLISH, None),
        (FETCHED, "red fox", None),
        ("", ENGLISH, Reason.URL_MISSING),
        ("data:image/gif;base64,R0lGOD", ENGLISH, Reason.URL_INLINE),
        ("ftp://site.example/fox.jpg", ENGLISH, Reason.URL_SCHEME),
        ("http://[::1/fox.jpg", ENGLISH, Reason.URL_INVALID),
        ("https://site.example/" + "x" * 3000, ENGLISH, Reason.URL_TOO_LONG),
        (FETCHED, None, Reason.CAPTION_MISSING),
        (FETCHED, " \u200b", Reason.CAPTION_EMPTY),
        (FETCHED, "fo", Reason.CAPTION_TOO_SHORT),
        (FETCHED, "fox " * 2_000_000, Reason.CAPTION_TOO_LONG),
        (FETCHED, "fox.jpg", Reason.CAPTION_IS_FILE_NAME),
        (FETCHED, "a blue whale in the deep sea", Reason.NO_QUERY),
        (FETCHED, "der rote Fuchs läuft durch den Wald", Reason.LANGUAGE),
        ("data:,", "fo", Reason.URL_INLINE),  # the URL is asked first
    ],
)
def test_every_pair_meets_its_fate(tmp_path, url, caption, reason):
    group = extract([table(tmp_path, [(url, caption)])])
    assert group.pairs_in == 1
    assert group.dropped_counts == ({reason: 1} if reason else {})
    assert group.dropped["reason"].to_pylist() == ([reason.value] if reason else [])
    assert len(group.table) == (reason is None)


@pytest.mark.parametrize(
    "knobs, kept",
    [
        ({}, ["en", None]),
        ({"languages": ("de",)}, ["de", None]),
        ({"languages": ("de", "en")}, ["en", "de", None]),
        ({"languages": ("any",)}, [None, None, None]),
        ({"language_min_score": 1.0}, [None]),
        ({"language_min_words": 1, "language_min_chars": 1, "languages": ("xx",)}, []),
    ],
)
def test_languages_are_chosen(tmp_path, knobs, kept):
    captions = [ENGLISH, "der rote Fuchs läuft durch den Schnee und den Wald", "red fox"]
    group = extract([table(tmp_path, [(FETCHED, caption) for caption in captions])], **knobs)
    assert group.table["language"].to_pylist() == kept


def test_the_detail_of_a_foreign_caption_names_its_language(tmp_path):
    group = extract([table(tmp_path, [(FETCHED, "der rote Fuchs läuft durch den Wald")])])
    assert group.dropped["detail"].to_pylist()[0].startswith("de ")


def test_equal_pairs_of_a_group_are_merged_into_the_first(tmp_path):
    first = table(
        tmp_path, [(FETCHED, ENGLISH), ("https://site.example/b.jpg", ENGLISH), (FETCHED, "red fox")], "a.jsonl"
    )
    second = table(tmp_path, [("https://SITE.example/fox.jpg", f"{ENGLISH} ")] * 2, "b.jsonl")
    group = extract([first, second])
    assert group.table["copies"].to_pylist() == [3, 1, 1]
    assert group.table["source"].to_pylist() == [first.path] * 3
    assert group.dropped["source"].to_pylist() == [second.path] * 2
    assert group.dropped_counts == {Reason.DUPLICATE_IN_GROUP: 2}
    counted = Counter(query for ids in group.table["query_ids"].to_pylist() for query in ids)
    assert [counted[query] for query in range(4)] == [3, 3, 2, 0]


def test_a_limit_takes_the_first_pairs(tmp_path):
    pairs = [(f"https://site.example/{n}.jpg", ENGLISH) for n in range(10)]
    files = [table(tmp_path, pairs[:6], "a.jsonl"), table(tmp_path, pairs[6:], "b.jsonl")]
    assert extract(files, limit=7).table["url"].to_pylist() == [url for url, _ in pairs[:7]]
    assert extract(files, limit=6).pairs_in == 6
    assert extract(files, limit=4).dropped_counts == {Reason.OVER_LIMIT: 2}


def test_rejects_are_thinned_by_a_draw_of_their_place(tmp_path):
    pairs = [(f"https://site.example/{n}.jpg", ("a blue whale", ENGLISH)[n % 2]) for n in range(400)] * 2
    files = [table(tmp_path, pairs)]
    full, thinned, none = extract(files), extract(files, one_in=8), extract(files, one_in=0)
    assert {json.dumps(row) for row in thinned.dropped.to_pylist()} < {
        json.dumps(row) for row in full.dropped.to_pylist()
    }
    assert set(thinned.dropped["reason"].to_pylist()) == {"no_query", "duplicate_in_group"}
    assert 30 < len(thinned.dropped) < 120 and len(none.dropped) == 0
    assert thinned.dropped_counts == full.dropped_counts == none.dropped_counts
    assert thinned.table.equals(full.table)


def test_a_file_that_cannot_be_read_is_reported_and_the_rest_is_used(tmp_path):
    group = extract([SourceFile("table", str(tmp_path / "nothing.jsonl")), table(tmp_path, [(FETCHED, ENGLISH)])])
    assert len(group.table) == 1
    assert group.sources[0].error and not group.sources[1].error


def test_lone_surrogates_reach_no_table(tmp_path):
    group = extract([table(tmp_path, [("https://site.example/\ud83d.jpg", f"{ENGLISH} \ud83d")])])
    assert group.pairs_in == 1
    group.table.validate(full=True)
    group.dropped.validate(full=True)


def test_metaclip_mode_tells_case_apart(tmp_path):
    files = [table(tmp_path, [(FETCHED, "A Red Fox walks in the snow")])]
    assert extract(files).table["query_ids"].to_pylist() == [[0, 1, 2]]
    assert extract(files, matching="metaclip").table["query_ids"].to_pylist() == [[2]]


def test_what_the_user_gave_wrong_is_no_fault_of_a_pair(tmp_path):
    with pytest.raises(InputError, match="no language model at"):
        extract([table(tmp_path, [(FETCHED, ENGLISH)])], language_model="/none.bin")
