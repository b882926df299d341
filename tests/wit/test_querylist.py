import gzip

import pytest

from wit.querylist import load_queries, query_list
from wit.records import InputError


def write(tmp_path, data: bytes) -> str:
    path = tmp_path / "queries.txt"
    path.write_bytes(data)
    return str(path)


@pytest.mark.parametrize(
    "data, entries",
    [
        (b"fox\nred fox\n", ("fox", "red fox")),
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
        (b"fox\ncaf\xe9\n", "not UTF-8 at line 2: save it as UTF-8"),
        (gzip.compress(b"fox"), "not UTF-8 at line 1"),
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
