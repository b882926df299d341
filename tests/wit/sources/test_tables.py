"""Tables: the files that img2dataset, LAION and DataComp use, as they are."""

from __future__ import annotations

import csv
import datetime
import gzip
import hashlib
import io
import json
import re
import zlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wit import ledger
from wit.errors import InputError
from wit.sources import SourceFile, SourceReport, read_pairs
from wit.sources.rows import FORMATS, distinct
from wit.sources.tables import check_hashes, check_table, format_of
from wit.sources.text import check_encoding
from wit.urls import canonical_url

Found = list[tuple[str | None, str | None]]


def read(path: Path, data: bytes, **columns: Any) -> tuple[Found, list[Any], SourceReport]:
    """(URL, caption) of every row, the further columns, and the report."""
    path.write_bytes(data)
    report = SourceReport(str(path))
    batches = list(read_pairs(SourceFile("table", str(path), **columns), report))
    pairs = [pair for batch in batches for pair in zip(batch.url, batch.alt, strict=True)]
    assert report.pairs == len(pairs)
    assert report.records <= len(pairs) + sum(report.lost.values())
    extra = [json.loads(extra) if extra else None for batch in batches for extra in batch.extra]
    return pairs, extra, report


def parquet(rows: list[dict[str, Any]], **knobs: Any) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), out, **knobs)
    return out.getvalue()


ROWS = [
    {"url": "https://a.example/1.jpg", "caption": 'a "red", fox', "width": 300},
    {"url": "https://a.example/2.jpg", "caption": "naïve 狐", "width": 400},
]
CSV = 'url,caption,width\nhttps://a.example/1.jpg,"a ""red"", fox",300\nhttps://a.example/2.jpg,naïve 狐,400\n'.encode()
TSV = (
    'url\tcaption\twidth\nhttps://a.example/1.jpg\ta "red", fox\t300\nhttps://a.example/2.jpg\tnaïve 狐\t400\n'.encode()
)
JSONL = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()
COLUMNS = {name: {str(place): row[name] for place, row in enumerate(ROWS)} for name in ROWS[0]}
CASES = {
    "t.parquet": parquet(ROWS),
    "t.csv": CSV,
    "t.CSV": b"\xef\xbb\xbf" + CSV.replace(b"\n", b"\r\n"),
    "t.tsv": TSV,
    "t.jsonl": JSONL,
    "t.ndjson": JSONL,
    "rows.json": json.dumps(ROWS).encode(),
    "columns.json": json.dumps(COLUMNS).encode(),
    "lists.json": json.dumps({name: list(column.values()) for name, column in COLUMNS.items()}).encode(),
    "lines.json": JSONL,
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("compression", ["", ".gz", ".zst"])
def test_every_format_gives_the_same_pairs(tmp_path: Path, name: str, compression: str) -> None:
    compress = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.ZstdCompressor().compress}[compression]
    pairs, extra, report = read(tmp_path / (name + compression), compress(CASES[name]))
    assert pairs == [(row["url"], row["caption"]) for row in ROWS]
    assert [str(row["width"]) for row in extra] == ["300", "400"]
    assert (report.lost, report.error) == ({}, None)


def test_txt_holds_a_url_a_line(tmp_path: Path) -> None:
    pairs, extra, _ = read(tmp_path / "t.txt", b"https://a.example/1,2.jpg\r\n\n https://a.example/2.jpg \nftp://x\n")
    assert pairs == [("https://a.example/1,2.jpg", None), ("https://a.example/2.jpg", None), (None, None)]
    assert extra == [None] * 3


LAION = {
    "SAMPLE_ID": 1,
    "URL": "https://a.example/1.jpg",
    "TEXT": "a fox",
    "HEIGHT": 3,
    "LICENSE": "?",
    "NSFW": "UNLIKELY",
}
DATACOMP = {"uid": "ab" * 16, "url": "https://a.example/1.jpg", "text": "a fox", "face_bboxes": [[0.1, 0.2, 0.3, 0.4]]}
IMG2DATASET = {
    "url": "https://a.example/1.jpg",
    "caption": "a fox",
    "key": "000000000",
    "status": "success",
    "exif": "{}",
}
CC2DATASET = {"uid": "0", "url": "https://a.example/1.jpg", "alt": "a fox", "page_url": "https://p.example/"}


@pytest.mark.parametrize("row", [LAION, DATACOMP, IMG2DATASET, CC2DATASET])
def test_known_tables_work_as_they_are(tmp_path: Path, row: dict[str, Any]) -> None:
    pairs, (extra,), _ = read(tmp_path / "t.parquet", parquet([row]), url_col="url")
    assert pairs == [("https://a.example/1.jpg", "a fox")]
    assert extra == {name: value for name, value in row.items() if value not in pairs[0]}


def test_columns_may_be_named(tmp_path: Path) -> None:
    row = {"url": "https://no.example/", "best": "https://a.example/1.jpg", "caption": "no", "words": "a fox"}
    pairs, extra, _ = read(tmp_path / "t.parquet", parquet([row]), url_col="best", caption_col="words")
    assert pairs == [("https://a.example/1.jpg", "a fox")]
    assert extra == [{"url": "https://no.example/", "caption": "no"}]


@pytest.mark.parametrize(
    "columns, word",
    [({"url_col": "link"}, "--url-col"), ({"caption_col": "words"}, "--caption-col"), ({}, "--url-col")],
)
def test_a_missing_column_is_reported_with_the_fix(tmp_path: Path, columns: dict[str, str], word: str) -> None:
    table = parquet([{"address" if not columns else "url": "https://a.example/", "caption": "x"}])
    pairs, _, report = read(tmp_path / "t.parquet", table, **columns)
    assert pairs == []
    assert report.error is not None and word in report.error and "caption" in report.error


@pytest.mark.parametrize(
    "name, line",
    [
        ("t.tsv", b"a red fox\thttps://a.example/1.jpg\n"),
        ("t.tsv", b"https://a.example/1.jpg\ta red fox\n"),
        ("t.csv", b"https://a.example/1.jpg,a red fox\n"),
    ],
)
def test_tables_without_a_header_are_read_by_what_is_in_them(tmp_path: Path, name: str, line: bytes) -> None:
    assert read(tmp_path / name, line * 2)[0] == [("https://a.example/1.jpg", "a red fox")] * 2


@pytest.mark.parametrize(
    "data, captions",
    [
        ('url\tcaption\nu\t"unbalanced\nu\tplain\n', ['"unbalanced', "plain"]),
        ('url\tcaption\nu\t"quoted ""x"""\n', ['quoted "x"']),
        ('url\tcaption\tw\nu\t"two\nlines"\t5\nu\tx\t6\n', ["two\nlines", "x"]),
        ('url\tcaption\nu\t5" nail\nu\t"\n', ['5" nail', '"']),
    ],
)
def test_quotes_in_tsv(tmp_path: Path, data: str, captions: list[str]) -> None:
    assert [alt for _, alt in read(tmp_path / "t.tsv", data.encode())[0]] == captions


def test_line_breaks_in_quoted_csv_cells(tmp_path: Path) -> None:
    data = b'url,caption\nhttps://a.example/1.jpg,"two\nlines, one cell"\nhttps://a.example/2.jpg,x\n'
    assert [alt for _, alt in read(tmp_path / "t.csv", data)[0]] == ["two\nlines, one cell", "x"]


@pytest.mark.parametrize(
    "name, data, lost",
    [
        (
            "t.csv",
            b"url,caption\nhttps://a.example/1,a,b\nhttps://a.example/2,x\nhttps://a.example/3\n",
            {"bad_row": 2},
        ),
        ("t.tsv", b"url\tcaption\nhttps://a.example/1\ta\tb\nhttps://a.example/2\tx\n", {"bad_row": 1}),
        ("t.jsonl", b'{"url":\n[1]\n{"url":"https://a.example/2","caption":"x"}\nnull\n', {"bad_json": 3}),
        ("t.json", b'[1,{"url":"https://a.example/2","caption":"x"}]', {"bad_row": 1}),
    ],
)
def test_bad_rows_are_counted_and_keep_their_number(
    tmp_path: Path, name: str, data: bytes, lost: dict[str, int]
) -> None:
    pairs, _, report = read(tmp_path / name, data)
    assert pairs == [("https://a.example/2", "x")]
    assert report.lost == lost


def test_offsets_are_row_numbers(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_bytes(b'{"url":"a"}\n{"url":\n' + b'{"url":"b"}\n' * 9_000)
    batches = list(read_pairs(SourceFile("table", str(tmp_path / "t.jsonl")), SourceReport("t")))
    assert [row for batch in batches for row in batch.offset] == [0, *range(2, 9_002)]
    assert len(batches) == 2


@pytest.mark.parametrize(
    "text, read_as, repaired",
    [
        (b"caf\xe9", "café", "read_as_windows_1252"),
        (b"\x93caf\xe9\x94 \x96 5\x80", "“café” – 5€", "read_as_windows_1252"),
        ("naïve".encode() + b" \xe9", "naïve \ufffd", "bad_encoding"),  # pasted together
        ("кот на крыше".encode("cp1251"), "\ufffd" * 3 + " " + "\ufffd" * 2 + " " + "\ufffd" * 5, "bad_encoding"),
        ("赤い狐".encode("shift_jis"), None, "bad_encoding"),
    ],
)
def test_what_is_not_utf8_is_read_as_windows_wrote_it_and_counted(
    tmp_path: Path, text: bytes, read_as: str | None, repaired: str
) -> None:
    pairs, _, report = read(
        tmp_path / "t.csv", b"url,caption\nhttps://a.example/1," + text + b"\nhttps://a.example/2,x\n"
    )
    assert read_as is None or pairs[0] == ("https://a.example/1", read_as)
    assert pairs[1] == ("https://a.example/2", "x")
    assert report.repaired == {repaired: 1}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-8-sig"])
@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.jsonl", "rows.json"])
def test_encodings_that_show_are_told(tmp_path: Path, name: str, encoding: str) -> None:
    pairs, _, report = read(tmp_path / name, CASES[name].decode().encode(encoding))
    assert pairs == [(row["url"], row["caption"]) for row in ROWS]
    assert (report.lost, report.repaired, report.error) == ({}, {}, None)


@pytest.mark.parametrize(
    "encoding, text", [("cp1251", "кот"), ("shift_jis", "赤い狐"), ("gb18030", "红狐狸"), ("cp1252", "Ü")]
)
def test_an_encoding_may_be_named(tmp_path: Path, encoding: str, text: str) -> None:
    data = f"url,caption\nhttps://a.example/1,{text}\n".encode(encoding)
    pairs, _, report = read(tmp_path / "t.csv", data, encoding=encoding)
    assert pairs == [("https://a.example/1", text)]
    assert report.repaired == {}


@pytest.mark.parametrize("encoding", ["ascii", "utf-8", "shift_jis", "utf-16-le"])
@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.jsonl", "lines.json", "list.json", "urls.txt"])
def test_rows_with_bytes_that_the_named_encoding_lacks_are_bad_and_told(
    tmp_path: Path, name: str, encoding: str
) -> None:
    bad = b"\x00\xdc" if encoding == "utf-16-le" else b"\xff"
    urls = [f"https://a.example/{number}" for number in range(20)]
    if name == "urls.txt":
        lines, captions, place = urls, [None] * 20, "line 8: "
    elif name.endswith(("sv",)):
        comma = "\t" if name == "t.tsv" else ","
        lines, captions, place = (
            [f"url{comma}caption", *(f"{url}{comma}a fox" for url in urls)],
            ["a fox"] * 20,
            "line 9: ",
        )
    else:
        lines = [json.dumps({"url": url, "caption": "a fox"}) for url in urls]
        captions, place = ["a fox"] * 20, "row 8: " if name == "list.json" else "line 8: "
    text = f"[{','.join(lines)}]" if name == "list.json" else "\n".join(lines) + "\n"
    data = text.encode(encoding).replace(mark := "example/7".encode(encoding), mark + bad)
    pairs, _, report = read(tmp_path / name, data, encoding=encoding)
    kept = [pair for pair in zip(urls, captions, strict=True) if not str(pair[0]).endswith("/7")]
    assert pairs == kept and report.lost == {"bad_row": 1} and report.repaired == {}
    assert report.first_bad == [f"{place}bytes that {encoding} does not have"]


@pytest.mark.parametrize(
    "named, really, seems",
    [
        ("ascii", "cp1252", "it seems to be windows-1252"),
        ("ascii", "utf-8", "it seems to be utf-8"),
        ("utf-8", "cp1252", "it seems to be windows-1252"),
        ("ascii", "utf-16", "it seems to be utf-16-le"),
        ("ascii", "shift_jis", "say what it is"),
    ],
)
def test_another_encoding_than_the_one_named_is_refused_with_what_it_seems_to_be(
    tmp_path: Path, named: str, really: str, seems: str
) -> None:
    rows = [f"https://a.example/{n},{'赤い狐' if really == 'shift_jis' else 'un café là-bas'}" for n in range(9)]
    (tmp_path / "t.csv").write_bytes("\n".join(["url,caption", *rows, ""]).encode(really))
    with pytest.raises(InputError, match=f"is not {named}, which lacks bytes in .*{seems}"):
        check_table(SourceFile("table", str(tmp_path / "t.csv"), encoding=named))


@pytest.mark.parametrize("encoding", ["cp1251", "shift_jis", "gb18030", "big5", "euc_kr"])
def test_text_in_another_encoding_is_refused_before_anything_starts(tmp_path: Path, encoding: str) -> None:
    words = {
        "cp1251": "красная лиса",
        "shift_jis": "赤い狐",
        "gb18030": "红色的狐狸",
        "big5": "紅色的狐狸",
        "euc_kr": "붉은 여우",
    }
    (tmp_path / "t.csv").write_bytes(f"url,caption\nhttps://a.example/1,{words[encoding]}\n".encode(encoding))
    with pytest.raises(InputError, match="--encoding"):
        check_table(SourceFile("table", str(tmp_path / "t.csv")))
    check_table(SourceFile("table", str(tmp_path / "t.csv"), encoding=encoding))


def test_missing_values_are_no_text(tmp_path: Path) -> None:
    rows = [{"url": None, "caption": "x"}, {"url": "https://a.example/1", "caption": None}]
    assert read(tmp_path / "t.parquet", parquet(rows))[0] == [(None, "x"), ("https://a.example/1", None)]


def test_further_columns_of_any_type_are_carried(tmp_path: Path) -> None:
    row = {
        "url": "https://a.example/1",
        "caption": "x",
        "day": datetime.date(2026, 1, 2),
        "bytes": b"\x00\xff",
        "nan": float("nan"),
        "nested": {"a": [1, 2]},
    }
    (extra,) = read(tmp_path / "t.parquet", parquet([row]))[1]
    assert extra == {"day": "2026-01-02", "bytes": "00ff", "nan": None, "nested": {"a": [1, 2]}}


@pytest.mark.parametrize("name", ["t.csv.gz", "t.jsonl.gz", "t.csv.zst"])
def test_a_truncated_compressed_file_keeps_what_came_before(tmp_path: Path, name: str) -> None:
    lines = b"url,caption\n" + b"".join(b"https://a.example/%d,caption %d\n" % (n, n * n) for n in range(30_000))
    if "jsonl" in name:
        lines = b"".join(b'{"url":"https://a.example/%d","caption":"%d"}\n' % (n, n * n) for n in range(30_000))
    data = gzip.compress(lines) if name.endswith("gz") else zstandard.ZstdCompressor().compress(lines)
    pairs, _, report = read(tmp_path / name, data[: len(data) * 3 // 4])
    assert 8_000 < len(pairs) < 30_000
    assert report.error is not None


@pytest.mark.parametrize("name", ["t.csv.gz", "t.csv.zst", "t.txt.gz", "t.jsonl.gz", "t.json.gz", "t.tsv.zst"])
@pytest.mark.parametrize("count", [100, 2_000])
def test_all_that_can_be_unpacked_of_a_file_that_was_cut_is_given_out(tmp_path: Path, name: str, count: int) -> None:
    sep = "\t" if "tsv" in name else ","
    line = (
        '{{"url":"https://a.example/{0}","caption":"{1}"}}\n'
        if "json" in name
        else f"https://a.example/{{0}}{sep}{{1}}\n"
    )
    line = "https://a.example/{0}\n" if "txt" in name else line
    text = "".join(line.format(n, hashlib.sha256(b"%d" % n).hexdigest()) for n in range(count)).encode()
    data = (
        gzip.compress(text)
        if name.endswith("gz")
        else b"".join(zstandard.ZstdCompressor().compress(text[at : at + 1_000]) for at in range(0, len(text), 1_000))
    )
    data = data[: len(data) * 3 // 5]
    whole = zlib.decompressobj(31).decompress(data) if name.endswith("gz") else unpacked(data)
    pairs, _, report = read(tmp_path / name, data)
    assert len(pairs) == whole.count(b"\n") > count // 3
    assert f"after {len(pairs):,} rows" in str(report.error)


def unpacked(data: bytes) -> bytes:
    frames, found = data, b""
    while frames:
        one = zstandard.ZstdDecompressor().decompressobj()
        found, frames = found + one.decompress(frames), one.unused_data
    return found


def test_a_carriage_return_in_a_cell_is_part_of_it(tmp_path: Path) -> None:
    rows = 'https://a.example/1,one\rtwo,x\nhttps://a.example/2,"a, \r""b""\r\nc",y\r\nhttps://a.example/3,plain,z\n'
    pairs, _, report = read(tmp_path / "t.csv", f"url,caption,n\n{rows}".encode())
    assert [alt for _, alt in pairs] == ["one\rtwo", 'a, \r"b"\nc', "plain"]
    assert report.lost == {}


@pytest.mark.parametrize("header", ['url,"caption', '"url,caption', 'url;"caption', 'https://a.example/0,"first'])
@pytest.mark.parametrize("row", ["https://a.example/{},plain\n", 'https://a.example/{},"plain"\n'])
def test_an_open_quote_in_the_first_line_costs_no_row(tmp_path: Path, header: str, row: str) -> None:
    rows = "".join(row.format(n) for n in range(1, 100)).replace(",", ";" if ";" in header else ",")
    pairs, _, report = read(tmp_path / "t.csv", f"{header}\n{rows}".encode())
    assert [alt for _, alt in pairs][-99:] == ["plain"] * 99
    assert len(pairs) == 99 + header.startswith("http") and report.lost == {}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_line_that_is_too_long_is_one_line(tmp_path: Path, encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wit.sources.text.MAX_LINE_BYTES", 50)
    for name, bad, why in (("t.csv", "x", "1 cell, not 2"), ("t.jsonl", "", "no JSON object")):
        good = '{"url":"https://a.example/1","caption":"a"}' if "json" in name else "https://a.example/1,a"
        first = [] if "json" in name else ["url,caption"]
        text = "\n".join([*first, good, f"https://a.example/2,{'b' * 500}", good, bad or "[]", good]) + "\n"
        pairs, _, report = read(tmp_path / name, text.encode(encoding))
        assert report.first_bad[-1] == f"line {len(first) + 4}: {why}" and report.repaired["line_cut_off"] == 1
        assert len(pairs) == 3 + (name == "t.csv")


def test_a_damaged_row_group_is_counted_and_the_others_are_read(tmp_path: Path) -> None:
    rows = [{"url": f"https://a.example/{n}", "caption": f"caption {n}"} for n in range(300)]
    data = bytearray(parquet(rows, row_group_size=100, compression="gzip", use_dictionary=False))
    start = pq.ParquetFile(io.BytesIO(bytes(data))).metadata.row_group(1).column(0).data_page_offset
    data[start : start + 40] = b"\xff" * 40
    pairs, _, report = read(tmp_path / "t.parquet", bytes(data))
    assert pairs == [(row["url"], row["caption"]) for row in rows[:100] + rows[200:]]
    assert report.lost == {"corrupt_row_group": 100}
    assert report.error is not None


@pytest.mark.parametrize("data", [b"", b"PAR1", b"not parquet at all" * 10])
def test_what_is_no_parquet_is_reported(tmp_path: Path, data: bytes) -> None:
    pairs, _, report = read(tmp_path / "t.parquet", data)
    assert pairs == []
    assert report.error is not None


@pytest.mark.parametrize("name", ["t.xlsx", "t", "t.gz", "t.parquet.bz2"])
def test_unknown_formats_are_refused_with_the_fix(name: str) -> None:
    with pytest.raises(InputError, match="parquet"):
        format_of(name)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([*(form for form in FORMATS if form != "parquet"), "csv.gz", "json.zst"]),
    st.sampled_from([b"", CSV, TSV, JSONL, json.dumps(ROWS).encode()]),
    st.binary(max_size=60),
)
def test_any_bytes_are_survived(
    tmp_path_factory: pytest.TempPathFactory, form: str, start: bytes, noise: bytes
) -> None:
    read(tmp_path_factory.getbasetemp() / f"t.{form}", start + noise)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5_000), st.integers(1, 255)), min_size=1, max_size=3))
def test_random_damage_of_parquet_is_survived(
    tmp_path_factory: pytest.TempPathFactory, flips: list[tuple[int, int]]
) -> None:
    data = bytearray(parquet(ROWS * 20, row_group_size=10))
    for at, bits in flips:
        data[at % len(data)] ^= bits
    read(tmp_path_factory.getbasetemp() / "t.parquet", bytes(data))


@pytest.mark.parametrize(
    "column, said",
    [
        ("sha256", None),
        ("empty", None),
        ("spoilt", None),  # its first cells are none, which leave as hash_mismatch
        ("width", "300 is no md5"),
        ("md5", "no table has such a column; have caption, empty, sha256, spoilt, url, width"),
    ],
)
def test_a_column_of_hashes_is_looked_for_before_anything_starts(tmp_path: Path, column: str, said: str | None) -> None:
    rows = [row | {"sha256": "ab" * 32, "empty": None} for row in ROWS * 100]
    rows = [
        row | {"spoilt": ("?", None, "no hash", "ab" * 32)[n % 4 if n > 99 else n % 3]} for n, row in enumerate(rows)
    ]
    (tmp_path / "t.parquet").write_bytes(parquet(rows))
    files = [SourceFile("table", str(tmp_path / "t.parquet"))]
    if said is None:
        check_hashes(files, column)
        return
    with pytest.raises(InputError, match=said):
        check_hashes(files, column)
    with pytest.raises(InputError, match="no table"):
        check_hashes([SourceFile("wat", "a.wat.gz")], column)


GIVEN = Path(__file__).parents[2] / "cases/tables"  # small files of users' that went wrong once
HOST = "http://h0.example/"


@pytest.mark.parametrize(
    "name, columns, expected, lost",
    [
        (
            "strayquote.csv",
            {},
            [(f"{HOST}sq{n}.png", f"a dog {n}") for n in range(200) if n != 19],
            {"bad_row": 1},
        ),
        (
            "spaces.csv",
            {},
            [
                (f"{HOST}lead.png", "a dog leading space"),
                ("HTTP://h0.example/upper.png", "a dog upper"),
                ("Https://h0.example/mixed.png", "a dog mixed"),
                (f"{HOST}tab.png", "a dog tab"),
                (f"{HOST}trail.png", "a dog trailing"),
            ],
            {},
        ),
        (
            "listcap.parquet",
            {},
            [(f"{HOST}l1.png", text) for text in ("a dog one", "a dog two", "a cat three")]
            + [(f"{HOST}l2.png", "a cat")],
            {},
        ),
        ("struct2.parquet", {}, [], {"bad_row": 2}),
        (
            "struct2.parquet",
            {"caption_col": "caption.en"},
            [(f"{HOST}st1.png", "a big brown dog in the garden of the house"), (f"{HOST}st2.png", "a dog")],
            {},
        ),
        ("cp1252.csv", {}, [(f"{HOST}w1.png", "a dog at the café")], {}),
        ("ragged.csv", {}, [(f"{HOST}r1.png", "a dog"), (f"{HOST}r5.png", "a dog")], {"bad_row": 3}),
    ],
)
def test_tables_that_went_wrong(
    name: str, columns: dict[str, str], expected: Found, lost: dict[str, int], tmp_path: Path
) -> None:
    pairs, _, report = read(tmp_path / name, (GIVEN / name).read_bytes(), **columns)
    canonical = [(url and canonical_url(url), alt) for url, alt in pairs]
    assert canonical == [(url and canonical_url(url), alt) for url, alt in expected]
    assert (report.lost, report.error) == (lost, None)


STRAY = 'https://a.example/{},"an open quote\n'
PLAIN = "https://a.example/{},plain\n"


@pytest.mark.parametrize(
    "lines, captions, bad",
    [
        ([STRAY, PLAIN, PLAIN], ["plain"] * 2, 1),
        ([STRAY, STRAY, PLAIN], ["plain"], 2),
        (
            [STRAY, *[PLAIN] * 9, 'https://a.example/{},closed here"\n', PLAIN],
            [*["plain"] * 9, 'closed here"', "plain"],
            1,
        ),
        ([STRAY, 'https://a.example/{},"a, b"\n', PLAIN], ["a, b", "plain"], 1),
        (['https://a.example/{},"a ""b""\nand c"\n', PLAIN], ['a "b"\nand c', "plain"], 0),
        (['https://a.example/{},"a 12" screen"\n', PLAIN], ['a 12 screen"', "plain"], 0),
        (['https://a.example/{},5" nail\n', PLAIN], ['5" nail', "plain"], 0),
        (['https://a.example/{},"' + "line\n" * 200 + '"\n', PLAIN], ["plain"], 201),
        (['"https://a.example/{},open at the start\n', PLAIN, PLAIN], ["plain"] * 2, 1),
    ],
)
def test_an_open_quote_costs_its_own_line(tmp_path: Path, lines: list[str], captions: list[str], bad: int) -> None:
    for name, header, sep in (("t.csv", "url,caption\n", ","), ("semicolons.csv", "url;caption\n", ";")):
        text = header + "".join(line.replace(",", sep, 1).format(n) for n, line in enumerate(lines))
        pairs, _, report = read(tmp_path / name, text.encode())
        assert [alt for _, alt in pairs] == captions
        assert report.lost.get("bad_row", 0) == bad


def test_an_open_quote_in_a_tsv_swallows_no_row(tmp_path: Path) -> None:
    rows = "".join(f"https://a.example/{n}\tplain\t{n}\n" for n in range(100))
    data = 'url\tcaption\tn\nhttps://a.example/x\t"open and short\n' + rows
    pairs, _, report = read(tmp_path / "t.tsv", data.encode())
    assert len(pairs) == 100
    assert report.lost == {"bad_row": 1}


@pytest.mark.parametrize(
    "data",
    [
        "url;caption\nhttps://a.example/1.jpg;a dog, a cat\n",
        "caption;url;x\na dog, a cat;https://a.example/1.jpg;3\n",
        "url\tcaption\nhttps://a.example/1.jpg\ta dog, a cat\n",
        "url|caption\nhttps://a.example/1.jpg|a dog, a cat\n",
        "sep=;\r\nurl;caption\r\nhttps://a.example/1.jpg;a dog, a cat\r\n",
        '"url", "caption"\nhttps://a.example/1.jpg,"a dog, a cat"\n',
    ],
)
def test_a_csv_may_be_cut_by_something_else(tmp_path: Path, data: str) -> None:
    pairs, _, report = read(tmp_path / "t.csv", data.encode())
    assert pairs == [("https://a.example/1.jpg", "a dog, a cat")]
    assert (report.lost, report.error) == ({}, None)


@pytest.mark.parametrize("word", ["nan", "NaN", "None", "null", "NULL", "N/A", "<NA>", ""])
def test_a_word_for_nothing_is_no_caption(tmp_path: Path, word: str) -> None:
    assert read(tmp_path / "t.csv", f"url,caption\nhttps://a.example/1,{word}\n".encode())[0] == [
        ("https://a.example/1", None)
    ]


def test_of_two_columns_of_one_name_the_first_counts(tmp_path: Path) -> None:
    columns = [pa.array(["https://a.example/1"]), pa.array(["a fox"]), pa.array(["https://b.example/2"])]
    out = io.BytesIO()
    pq.write_table(pa.Table.from_arrays(columns, names=["url", "caption", "url"]), out)
    pairs, extra, _ = read(tmp_path / "t.parquet", out.getvalue())
    assert pairs == [("https://a.example/1", "a fox")]
    assert extra == [{"url_2": "https://b.example/2"}]


@pytest.mark.parametrize("name, found", [("url", False), ("URL", False), ("picture", True), ("Picture", True)])
def test_a_column_that_is_named_is_meant(tmp_path: Path, name: str, found: bool) -> None:
    table = parquet([{"image": "https://a.example/1", "picture": "https://a.example/2", "caption": "x"}])
    pairs, _, report = read(tmp_path / "t.parquet", table, url_col=name)
    assert pairs == ([("https://a.example/2", "x")] if found else [])
    assert (report.error is None) == found


def test_fields_of_objects_may_be_named(tmp_path: Path) -> None:
    row = {"image": {"url": "https://a.example/1"}, "sentences": [{"raw": "a fox"}, {"raw": "a dog"}]}
    pairs, extra, _ = read(tmp_path / "t.parquet", parquet([row]), url_col="image.url", caption_col="sentences.raw")
    assert pairs == [("https://a.example/1", "a fox"), ("https://a.example/1", "a dog")]
    assert extra == [row, row]


def test_several_urls_and_captions_in_a_row_are_pairs_with_places_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text(json.dumps({"url": ["u:1", "u:2"], "caption": ["a", "b", None]}) + "\n")
    (batch,) = read_pairs(SourceFile("table", str(tmp_path / "t.jsonl")), SourceReport("t"))
    assert list(zip(batch.offset, batch.index, batch.src, batch.alt, strict=True)) == [
        (0, 0, "u:1", "a"),
        (0, 1, "u:1", "b"),
        (0, 2, "u:2", "a"),
        (0, 3, "u:2", "b"),
    ]


def test_a_row_of_more_pairs_than_anybody_means_is_a_bad_one(tmp_path: Path) -> None:
    row = {"url": [f"https://a.example/{n}" for n in range(40)], "caption": [f"caption {n}" for n in range(40)]}
    pairs, _, report = read(tmp_path / "t.jsonl", json.dumps(row).encode())
    assert (pairs, report.lost) == ([], {"bad_row": 1})


def test_a_semicolon_file_without_names_is_read(tmp_path: Path) -> None:
    assert read(tmp_path / "t.csv", b"https://a.example/1.jpg;a dog\n")[0] == [("https://a.example/1.jpg", "a dog")]


def test_urls_without_captions_are_refused_before_anything_starts() -> None:
    with pytest.raises(InputError, match="has no captions, and a pair needs one: .*--caption-col"):
        check_table(SourceFile("table", str(GIVEN / "urls.txt")))


@pytest.mark.parametrize(
    "data, captions",
    [
        ('caption,url\n"line one\nline two",http://a.org/1.jpg\nz,http://a.org/2.jpg\n', ["line one\nline two", "z"]),
        ('id,caption,url\n1,"one\ntwo, three",http://a.org/1.jpg\n2,z,http://a.org/2.jpg\n', ["one\ntwo, three", "z"]),
        ('url,caption\nhttp://a.org/1.jpg,"see\nhttp://b.org/x,the source"\n', ["see\nhttp://b.org/x,the source"]),
    ],
)
def test_a_cell_of_several_lines_is_one_whatever_stands_behind_it(
    tmp_path: Path, data: str, captions: list[str]
) -> None:
    # There only a row that lacks cells goes on.
    tsv = {"t.tsv": re.sub(r",(?! )", "\t", data)} if "b.org" not in data else {}
    for name, text in {"t.csv": data, **tsv}.items():
        pairs, _, report = read(tmp_path / name, text.encode())
        assert [alt for _, alt in pairs] == captions
        assert report.lost == {}


@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
@pytest.mark.parametrize("order", [("url", "caption", "w"), ("caption", "url", "w"), ("w", "caption", "url")])
def test_what_csv_writers_write_comes_back(tmp_path: Path, quoting: int, order: tuple[str, ...]) -> None:
    texts = ["plain", "a, b", 'say "hi"', "two\nlines", '"all"\nof, it', "", " lead", "x\n\ny", 'end"']
    rows = [{"url": f"http://a.org/{n}", "caption": texts[n % len(texts)], "w": str(n)} for n in range(90)]
    out = io.StringIO()
    writer = csv.DictWriter(out, order, quoting=quoting)  # type: ignore[arg-type]
    writer.writeheader()
    writer.writerows(rows)
    pairs, _, report = read(tmp_path / "t.csv", out.getvalue().encode())
    assert [(url, (alt or "").strip()) for url, alt in pairs] == [(row["url"], row["caption"].strip()) for row in rows]
    assert report.lost == {}


@pytest.mark.parametrize("name", ["t.csv.gz", "t.jsonl.gz", "t.txt.gz", "t.csv.zst", "t.jsonl.zst"])
@pytest.mark.parametrize("damage", ["cut", "nuls"])
def test_a_small_packed_file_that_is_damaged_is_reported(tmp_path: Path, name: str, damage: str) -> None:
    compress = gzip.compress if name.endswith("gz") else zstandard.ZstdCompressor().compress
    data = compress(JSONL if "jsonl" in name else CSV if "csv" in name else b"https://a.example/1.jpg\n")
    _, _, report = read(tmp_path / name, data[:-3] if damage == "cut" else data + bytes(50))
    assert report.error is not None or (damage == "nuls" and name.endswith("gz"))  # gzip allows padding


def test_a_row_without_the_url_costs_itself(tmp_path: Path) -> None:
    lines = [{"url": "https://a.example/1", "caption": "a"}, {}, {"caption": "b"}, {"url": "https://a.example/2"}]
    lines += [{"url": "https://a.example/3", "caption": "c"}]
    for name, data in (("t.jsonl", "\n".join(map(json.dumps, lines))), ("t.json", json.dumps(lines))):
        pairs, _, report = read(tmp_path / name, data.encode())
        assert pairs == [(f"https://a.example/{n}", text) for n, text in ((1, "a"), (2, None), (3, "c"))]
        assert (report.lost, report.error) == ({"bad_row": 2}, None)


def test_rows_that_leave_out_what_is_null_keep_the_captions_of_the_others(tmp_path: Path) -> None:
    lines = [{"url": "https://a.example/1"}, {"url": "https://a.example/2", "caption": "b"}]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    check_table(SourceFile("table", str(tmp_path / "t.jsonl")))
    pairs, _, _ = read(tmp_path / "t.jsonl", (tmp_path / "t.jsonl").read_bytes())
    assert [alt for _, alt in pairs] == [None, "b"]


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.jsonl"])
def test_lines_may_end_as_on_an_old_macintosh(tmp_path: Path, name: str) -> None:
    pairs, _, report = read(tmp_path / name, CASES[name].replace(b"\n", b"\r"))
    assert pairs == [(row["url"], row["caption"]) for row in ROWS]
    assert (report.lost, report.error) == ({}, None)


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl"])
def test_nuls_at_the_end_cost_one_row(tmp_path: Path, name: str) -> None:
    pairs, _, report = read(tmp_path / name, CASES[name] + bytes(1_000))
    assert pairs == [(row["url"], row["caption"]) for row in ROWS]
    assert sum(report.lost.values()) == 1


def test_utf_16_of_few_latin_letters_is_told(tmp_path: Path) -> None:
    rows = "".join(f"http://a.org/{n},{'红色的狐狸在雪地里' * 10}\n" for n in range(5))
    for encoding in ("utf-16-le", "utf-16-be"):
        assert len(read(tmp_path / "t.csv", f"url,caption\n{rows}".encode(encoding))[0]) == 5
    named, _, report = read(tmp_path / "t.csv", f"url,caption\n{rows}".encode("utf-16-le"), encoding="utf-16")
    assert (len(named), report.repaired) == (5, {})


@pytest.mark.parametrize("encoding", ["idna", "undefined", "punycode", "utf-8\0", "rot13", "hex", "no-such"])
def test_what_is_no_encoding_of_files_is_refused(encoding: str) -> None:
    with pytest.raises(InputError, match="no such encoding"):
        check_encoding(encoding)


def test_many_columns_of_one_name_take_no_time() -> None:
    calls = 0

    class Name(str):
        def __hash__(self) -> int:
            nonlocal calls
            calls += 1
            return super().__hash__()

    assert len(set(distinct([Name("a")] * 2_000 + ["a_7"]))) == 2_001
    assert calls < 20_000


def test_an_open_quote_is_told_by_the_column_that_is_read(tmp_path: Path) -> None:
    lines = ["image,url,caption", *(f"{n}.jpg,http://a.org/{n}.jpg,c{n}" for n in range(10))]
    lines[3] = '2.jpg,http://a.org/2.jpg,"open'
    lines[6] = '5.jpg,http://a.org/5.jpg,close it"'
    pairs, _, report = read(tmp_path / "t.csv", "\n".join(lines).encode(), url_col="url")
    assert len(pairs) == 9 and report.lost == {"bad_row": 1}


@pytest.mark.parametrize(
    "kind",
    [
        pa.string(),
        pa.large_string(),
        pa.list_(pa.string()),
        pa.struct([("a", pa.string())]),
    ],
    ids=str,
)
def test_text_that_is_no_utf8_costs_no_other_row_whatever_its_column(tmp_path: Path, kind: pa.DataType) -> None:
    values = [f"caption {n}" if n != 15 else "caption QQ" for n in range(30)]
    shaped = [[v] if pa.types.is_list(kind) else {"a": v} if pa.types.is_struct(kind) else v for v in values]
    table = pa.table(
        {"url": [f"https://a.example/{n}" for n in range(30)], "caption": values, "x": pa.array(shaped, kind)}
    )
    out = io.BytesIO()
    pq.write_table(table, out, compression="none", use_dictionary=False, store_schema=True)
    pairs, _, report = read(tmp_path / "t.parquet", out.getvalue().replace(b"QQ", b"\xff\xff"))
    assert len(pairs) >= 29 and report.error is None
    assert len(pairs) + sum(report.lost.values()) == 30


def test_fields_of_the_same_objects_belong_together(tmp_path: Path) -> None:
    objects = [{"u": f"https://a.example/{n}", "c": f"caption {n}"} for n in range(3)]
    pairs, _, _ = read(tmp_path / "t.jsonl", json.dumps({"d": objects}).encode(), url_col="d.u", caption_col="d.c")
    assert pairs == [(one["u"], one["c"]) for one in objects]


def test_columns_with_gaps_are_joined_by_the_number_of_the_row(tmp_path: Path) -> None:
    data = {"url": {"0": "https://a.example/0", "1": "https://a.example/1"}, "caption": {"1": "one"}}
    pairs, _, _ = read(tmp_path / "t.json", json.dumps(data).encode())
    assert pairs == [("https://a.example/0", None), ("https://a.example/1", "one")]


def test_a_map_is_an_object_too(tmp_path: Path) -> None:
    kind = pa.map_(pa.string(), pa.string())
    table = pa.table({"url": ["https://a.example/0"], "caption": pa.array([[("en", "hi"), ("de", "hallo")]], kind)})
    out = io.BytesIO()
    pq.write_table(table, out)
    assert read(tmp_path / "t.parquet", out.getvalue())[2].lost == {"bad_row": 1}
    assert read(tmp_path / "t.parquet", out.getvalue(), caption_col="caption.de")[0] == [
        ("https://a.example/0", "hallo")
    ]


@pytest.mark.parametrize(
    "name, data, places",
    [
        (
            "t.csv",
            'url,caption\nhttps://a.example/1,one\nhttps://a.example/2\n\nhttps://a.example/3,"two\nlines"\na,b,c\n',
            ["line 3: 1 cell, not 2", "line 7: 3 cells, not 2"],
        ),
        ("t.csv", '\nsep=;\nurl;caption\nx;"open\nhttps://a.example/1;one\n', ["line 4: a quote is left open"]),
        ("t.csv", 'url,caption\nhttps://a.example/1,"open\nhttps://a.example/2,"too\n', ["line 2", "line 3"]),
        (
            "t.csv",
            'url,caption\nhttps://a.example/1,"open\nplain\nalso\n',
            ["line 2", "line 3: 1 cell", "line 4: 1 cell"],
        ),
        ("t.tsv", 'url\tcaption\tn\nx\t"open\nplain\n', ["line 2", "line 3: 1 cell, not 3"]),
        ("t.tsv", 'url\tcaption\tn\nx\t"open\nhttps://a.example/1\tone\t1\nx\n', ["line 2", "line 4: 1 cell, not 3"]),
        (
            "t.jsonl",
            '{"url": "https://a.example/1", "caption": "a"}\n\n{"url\n3\n{"url": "https://a.example/2", "caption": {}}\n',
            ["line 3: no JSON object", "line 4: no JSON object", "line 5: an object where a text should be"],
        ),
        ("t.jsonl", '{"x": 1}\n{"url": "https://a.example/1", "caption": "a"}\n', ["line 1: no column url"]),
        ("t.json", '[{"url": "https://a.example/1", "caption": "a"}, 7]', ["row 2: no JSON object"]),
    ],
)
def test_the_places_of_bad_rows_are_told(tmp_path: Path, name: str, data: str, places: list[str]) -> None:
    for end in ("\n", "\r\n"):
        _, _, report = read(tmp_path / name, data.replace("\n", end).encode())
        assert len(report.first_bad) == len(places) == sum(report.lost.values())
        assert all(found.startswith(place) for found, place in zip(report.first_bad, places, strict=True))


def test_bad_rows_of_a_parquet_file_are_told_by_their_numbers(tmp_path: Path) -> None:
    days = pa.array([0, 10**15, 0, 10**15], pa.timestamp("s"))
    table = pa.table({"url": [f"https://a.example/{n}" for n in range(4)], "caption": list("abcd"), "taken": days})
    out = io.BytesIO()
    pq.write_table(table, out)
    _, _, report = read(tmp_path / "t.parquet", out.getvalue())
    assert report.first_bad == ["row 2: a value that cannot be had", "row 4: a value that cannot be had"]


@given(st.lists(st.booleans(), max_size=60))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_first_bad_rows_are_those_whatever_lies_between(tmp_path: Path, good: list[bool]) -> None:
    lines = [f"https://a.example/{n},a dog" if ok else f"https://a.example/{n}" for n, ok in enumerate(good)]
    _, _, report = read(tmp_path / "t.csv", "\n".join(["url,caption", *lines]).encode())
    bad = [n for n, ok in enumerate(good, 2) if not ok]
    assert report.first_bad == [f"line {n}: 1 cell, not 2" for n in bad[:20]]
    (problem,) = ledger.source_problems([{"source": "t.csv", **report.facts()}]) or [""]
    told = f"t.csv: {len(bad)} of {len(good)} rows could not be read as pairs ({len(bad)} bad_row); first line "
    assert problem.startswith(told) if bad else not problem


def test_places_of_bad_rows_are_bounded_in_characters() -> None:
    report = SourceReport("t.jsonl")
    for _ in range(9):
        report.lose_row("bad_row", "x" * 400)
    assert len(report.first_bad) == 2 and report.lost == {"bad_row": 9}


@pytest.mark.parametrize(
    "name, header, found",
    [
        ("t.csv", "address;caption", "cut by ';' it has address, caption:"),
        ("t.csv", "address,caption", "cut by ',' it has address, caption:"),
        ("t.tsv", "address\tcaption", r"cut by '\\t' it has address, caption:"),
        ("t.jsonl", '{"address": 1, "caption": "a"}', "it has address, caption:"),
    ],
)
def test_a_missing_column_is_told_beside_the_delimiter_and_the_columns_found(
    tmp_path: Path, name: str, header: str, found: str
) -> None:
    (tmp_path / name).write_text(header + "\n" + header + "\n")
    for column in ({"url_col": "link"}, {"url_col": "address", "caption_col": "link"}):
        with pytest.raises(InputError, match=f"{name} has no column link; {found} say which holds the"):
            check_table(SourceFile("table", str(tmp_path / name), **column))
