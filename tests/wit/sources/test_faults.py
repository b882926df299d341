"""Faults injected at every step between a source file and its candidates: each costs its record, by name, and nothing else."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from wit import ledger
from wit.candidates import extract as extraction
from wit.candidates.config import CandidatesConfig
from wit.candidates.extract import CandidateGroup, extract_group
from wit.querylist import query_list
from wit.sources import SourceFile, pages, rows, tables, wat
from wit.sources import warc as warc_module

TEXTS = [f"a red fox number {n} walks in the snow" for n in range(9)]
TEXTS[4] = "a red fox named BOOM walks in the snow"


def url(n: int) -> str:
    return f"https://a.example/{n}{'BOOM' if n == 4 else ''}.jpg"


def warc_record(body: bytes, kind: str = "metadata") -> bytes:
    head = (
        f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Target-URI: https://a.example/\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return gzip.compress(head.encode() + body + b"\r\n\r\n", mtime=0)


def wat_page(link: dict[str, Any], more: str = "") -> bytes:
    html = json.dumps({"HTML-Metadata": {"Links": [link]}}, separators=(",", ":"))[1:-1]
    body = f'{{"Envelope":{{"WARC-Header-Metadata":{{}},"Payload-Metadata":{{"HTTP-Response-Metadata":{{{html}}}}}}}{more}}}'
    return warc_record(body.encode())


def wat_file() -> bytes:
    return b"".join(wat_page({"path": "IMG@/src", "url": url(n), "alt": text}) for n, text in enumerate(TEXTS))


def warc_file() -> bytes:
    http = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n"
    return b"".join(
        warc_record(http + f'<img src="{url(n)}" alt="{text}">'.encode(), "response") for n, text in enumerate(TEXTS)
    )


def table_file() -> bytes:
    return "".join(json.dumps({"url": url(n), "caption": text}) + "\n" for n, text in enumerate(TEXTS)).encode()


FILES = {"wat": ("a.wat.gz", wat_file()), "warc": ("a.warc.gz", warc_file()), "table": ("a.jsonl", table_file())}


def extract(folder: Path, kind: Any, name: str, data: bytes) -> CandidateGroup:
    (folder / name).write_bytes(data)
    files = [SourceFile(kind, str(folder / name))]
    return extract_group(files, queries=query_list(["fox"]), config=CandidatesConfig(languages=("any",)), seed=1)


def bursting(real: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, but it raises where its arguments tell of the record that is at fault."""

    def burst(*arguments: Any, **named: Any) -> Any:
        if "BOOM" in repr(arguments):
            raise ArithmeticError("nobody thought of this")
        return real(*arguments, **named)

    return burst


STEPS = [
    ("wat", wat, "page_images"),
    ("wat", wat, "_parse_slices"),
    ("warc", warc_module, "record_images"),
    ("warc", warc_module, "decode_html"),
    ("warc", warc_module, "page_images"),
    ("wat", pages.Resolver, "resolve_all"),
    ("warc", pages.Resolver, "resolve_all"),
    ("table", tables, "_pairs"),
    ("table", tables, "_texts"),
    *((kind, extraction, step) for kind in FILES for step in ("canonical_urls", "judge_pairs", "clean_caption")),
    *((kind, extraction, step) for kind in FILES for step in ("reject_caption", "_languages", "_rows", "pair_key")),
]


@pytest.mark.parametrize("kind, place, step", STEPS)
def test_a_fault_costs_its_record_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, place: Any, step: str
) -> None:
    monkeypatch.setattr(place, step, bursting(getattr(place, step)))
    group = extract(tmp_path, kind, *FILES[kind])
    assert group.sources[0].lost == {"extractor_error": 1}
    assert group.table["caption"].to_pylist() == TEXTS[:4] + TEXTS[5:]
    assert group.sources[0].pairs == group.pairs_in == 8
    (problem,) = ledger.source_problems([{"source": "x", **group.sources[0].facts()}])
    assert "could not be read as pairs (1 extractor_error); first " in problem


@pytest.mark.parametrize("kind, place, step", [("wat", wat, "read_records"), ("warc", warc_module, "read_records")])
@pytest.mark.parametrize("error", [ArithmeticError("odd"), OSError("disk"), MemoryError()])
def test_where_reading_fails_the_records_before_are_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, place: Any, step: str, error: Exception
) -> None:
    real = getattr(place, step)

    def failing(*arguments: Any) -> Any:
        for number, record in enumerate(real(*arguments)):
            if number == 5:
                raise error
            yield record

    monkeypatch.setattr(place, step, failing)
    group = extract(tmp_path, kind, *FILES[kind])
    assert len(group.table) == 5 and group.sources[0].error is not None
    assert group.sources[0].error.startswith("cannot be read")


def test_where_reading_a_table_fails_the_rows_before_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*arguments: Any) -> Any:
        yield from ({"url": url(n), "caption": text} for n, text in enumerate(TEXTS[:3]))
        raise ArithmeticError("odd")

    monkeypatch.setitem(rows.READERS, "jsonl", failing)
    group = extract(tmp_path, "table", *FILES["table"])
    assert len(group.table) == 3
    assert group.sources[0].error == "cannot be read: ArithmeticError: odd"


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "[" * 500 + "]" * 500, "1" * 5_000])
def test_numbers_that_json_does_not_have_end_nothing(tmp_path: Path, number: str) -> None:
    good = wat_page({"path": "IMG@/src", "url": url(0), "alt": TEXTS[0]})
    odd = wat_page({"path": "IMG@/src", "url": url(1), "alt": ["a red fox", 1]}, f',"Number":{number}')
    group = extract(tmp_path, "wat", "a.wat.gz", good + odd + good)
    assert group.pairs_in + sum(group.sources[0].lost.values()) == 3
    assert (number.isdigit() or group.pairs_in == 3) and not group.sources[0].error


def test_further_columns_are_json_whatever_they_hold(tmp_path: Path) -> None:
    line = f'{{"url": "{url(0)}", "caption": "{TEXTS[0]}", "score": NaN, "big": {2**70}, "text": "\\ud83d"}}\n'
    group = extract(tmp_path, "table", "a.jsonl", line.encode())

    def refuse(word: str) -> None:
        raise AssertionError(word)

    assert json.loads(group.table["extra"][0].as_py(), parse_constant=refuse) == {
        "score": None,
        "big": 2**70,
        "text": "?",
    }


def test_a_date_that_python_has_none_for_costs_its_row(tmp_path: Path) -> None:
    schema = pa.schema([("url", pa.string()), ("caption", pa.string()), ("time", pa.timestamp("us"))])
    times = pa.array([0, 2**62, 0], pa.int64()).cast(pa.timestamp("us"))
    out = io.BytesIO()
    pq.write_table(pa.table([[url(n) for n in range(3)], TEXTS[:3], times], schema=schema), out)
    group = extract(tmp_path, "table", "a.parquet", out.getvalue())
    assert group.table["caption"].to_pylist() == [TEXTS[0], TEXTS[2]]
    assert group.sources[0].lost == {"bad_row": 1}


def test_images_without_an_end_take_no_more_memory_than_their_record(tmp_path: Path) -> None:
    """Each was a slice up to the first `"}` behind it: 100,000 of them 100 GB."""
    links = ",".join('{"path":"IMG@/src","url":"/a","width":5}' for _ in range(100_000))
    one = wat_page({"path": "IMG@/src"})
    body = gzip.decompress(one).partition(b"\r\n\r\n")[2].rstrip().replace(b'{"path":"IMG@/src"}', links.encode())
    group = extract(tmp_path, "wat", "a.wat.gz", warc_record(body))
    assert group.pairs_in == 100_000


def test_a_page_of_many_images_and_a_long_base_is_lost_by_name(tmp_path: Path) -> None:
    html = f"<base href='https://a.example/{'x' * 50_000}/'>" + "<img src=a>" * 5_000
    block = f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n{html}".encode()
    group = extract(tmp_path, "warc", "a.warc.gz", warc_record(block, "response"))
    assert (group.pairs_in, group.sources[0].lost) == (0, {"too_many_images": 1})


def test_a_page_that_is_too_complex_is_lost_by_name(tmp_path: Path) -> None:
    block = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n" + b"<div>" * 300_000
    group = extract(tmp_path, "warc", "a.warc.gz", warc_record(block, "response") + FILES["warc"][1])
    assert (group.pairs_in, group.sources[0].lost) == (9, {"html_too_complex": 1})
