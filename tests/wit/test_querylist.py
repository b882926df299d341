import bz2
import codecs
import gzip
import hashlib
import json
import os

import pytest

from wit.errors import InputError
from wit.querylist import load_queries, query_list


def write(tmp_path, data: bytes) -> str:
    path = tmp_path / "queries.txt"
    path.write_bytes(data)
    return str(path)


@pytest.mark.parametrize(
    "data, entries",
    [
        (b"fox\nred fox\n", ("fox", "red fox")),
        (b"fox\rred fox\r", ("fox", "red fox")),
        (b"\xef\xbb\xbffox\r\nred fox", ("fox", "red fox")),
        (b"\n  fox \n\n\tred fox\n", ("fox", "red fox")),
        (b"fox\ndog\nfox\n", ("fox", "dog")),
        (b"fox\nFox\n", ("fox", "Fox")),
        ("狐狸\ncafé\n".encode(), ("狐狸", "café")),
    ],
)
def test_entries_are_the_distinct_lines_in_order(tmp_path, data, entries):
    assert load_queries(write(tmp_path, data)).entries == entries


def test_digest_depends_on_the_entries_alone(tmp_path):
    unix, windows = write(tmp_path, b"fox\ndog\n"), query_list(["fox\r\n", "", "dog"])
    assert load_queries(unix).digest == windows.digest
    assert query_list(["dog", "fox"]).digest != windows.digest


@pytest.mark.parametrize(
    "data, says",
    [
        (b"", "is empty: write one query a line"),
        (b" \n\n", "is empty: write one query a line"),
        (b"fox\ncaf\xe9\n", "not UTF-8 at line 2: save it as UTF-8, for example with `iconv -f windows-1252"),
        (b"fox\n" + b"x" * 2000, "line 2, has 2000 characters"),
    ],
)
def test_a_bad_list_gets_one_sentence_that_names_the_fix(tmp_path, data, says):
    with pytest.raises(InputError, match=says):
        load_queries(write(tmp_path, data))


def test_a_missing_list_is_named(tmp_path):
    with pytest.raises(InputError, match="no query list at .*nothing.txt: give a text file"):
        load_queries(str(tmp_path / "nothing.txt"))
    with pytest.raises(InputError, match="no query list at"):
        load_queries(str(tmp_path))


# --- forms of a list --------------------------------------------------------------------------------------------------

FOXES = ("fox", "red fox", "café")
PLAIN = "\n".join(FOXES).encode()


@pytest.mark.parametrize(
    "data",
    [
        json.dumps(FOXES).encode(),  # MetaCLIP's metadata.json
        json.dumps(FOXES, ensure_ascii=False, indent=1).encode("utf-8-sig"),
        b"fox\t20000\nred fox\t17\ncaf\xc3\xa9\t3\n",
        b"entry\tcount\r\nfox\t20000\r\nred fox\t17\r\ncaf\xc3\xa9\t3\r\n",
        codecs.BOM_UTF16_LE + PLAIN.decode().encode("utf-16-le"),
        codecs.BOM_UTF16_BE + PLAIN.decode().encode("utf-16-be"),
        codecs.BOM_UTF32_LE + PLAIN.decode().encode("utf-32-le"),
        gzip.compress(PLAIN),
        gzip.compress(json.dumps(FOXES).encode()),
    ],
)
def test_every_form_of_a_list_reads_as_the_plain_one(tmp_path, data):
    queries = load_queries(write(tmp_path, data))
    assert queries.entries == FOXES and queries.digest == hashlib.sha256(PLAIN).hexdigest()


@pytest.mark.parametrize(
    "data, entries",
    [
        (b"[fox]\n{dog}\n", ("[fox]", "{dog}")),  # no JSON
        (b"fox\tdog\ncat\n", ("fox\tdog", "cat")),  # a TAB is no count
        (b"fox\nterminal 5\nred\t7\n", ("fox", "terminal 5", "red\t7")),  # one in three is not nearly all
        (b'["red\\nfox"]', ("red fox",)),  # an entry is one line
        (b"\t".join([b"a", b"1"]) + b"\n" + b"".join(b"w%d\t%d\n" % (n, n) for n in range(40)) + b"lost\n",
         ("a", *[f"w{n}" for n in range(40)], "lost")),  # nearly all
    ],
)  # fmt: skip
def test_what_only_looks_like_a_form_is_read_line_by_line(tmp_path, data, entries):
    assert load_queries(write(tmp_path, data)).entries == entries


@pytest.mark.parametrize(
    "data, says",
    [
        (b'{"fox": 3}', "is a JSON object: give an array of strings, as MetaCLIP's metadata.json is"),
        (b'{"entry": "fox"}\n{"entry": "dog"}\n', "begins as JSON and is none"),
        (b'["fox", "\\ud800 cat"]', "its item 2 is half a character"),
        (b'["fox", 3]', "is a JSON array, but its item 2 is no string"),
        (b'["fox", "dog"', "begins as JSON and is none"),
        (b"[" * 100_000, "begins as JSON and is none"),
        (b"[]", "is empty"),
        (b'["' + b"x" * 2000 + b'"]', "item 1, has 2000 characters"),
        (b"3\tfox\n20\tred fox\n", "has numbers before its queries: .* `cut -f2-`"),
        ("fox\ndog".encode("utf-16-le"), "holds a NUL character at line 1, .*iconv -f utf-16le"),
        (codecs.BOM_UTF16_LE + b"f", "is not UTF-16 at line 1"),
        (gzip.compress(b"fox")[:-6], "is damaged gzip"),
        (bz2.compress(b"fox"), "is compressed by bzip2: decompress it"),
        (b"PAR1", "is a Parquet table"),
    ],
)
def test_another_form_is_refused_by_name_with_the_fix(tmp_path, data, says):
    with pytest.raises(InputError, match=says):
        load_queries(write(tmp_path, data))


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "queries.txt")
    with pytest.raises(InputError, match="is no file, and every worker reads it"):
        load_queries(str(tmp_path / "queries.txt"))
