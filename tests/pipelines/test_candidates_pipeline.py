"""candidates through worker processes: a record that kills the process that reads it costs itself."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipelines.build import main

DEADLY = """
import sys
if any("spawn_main" in argument for argument in sys.orig_argv):
    import os
    import wit.sources.warc
    real = wit.sources.warc.page_images
    def page_images(html, url):
        if "poison" in url:
            os.kill(os.getpid(), 11)
        return real(html, url)
    wit.sources.warc.page_images = page_images
"""


def write_warc(path: Path, pages: list[str]) -> None:
    records = []
    for number, page in enumerate(pages):
        html = f'<html><body><img src="/{number}.jpg" alt="a red dog number {number}"></body></html>'
        block = f"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n{html}"
        head = f"WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: {page}\r\nContent-Length: {len(block)}\r\n\r\n"
        records.append(gzip.compress(f"{head}{block}\r\n\r\n".encode()))
    path.write_bytes(b"".join(records))


def test_records_that_kill_their_reader_cost_themselves_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Four poisoned records in three files and two workers: their neighbours in the pool die with them and lose nothing."""
    (tmp_path / "sitecustomize.py").write_text(DEADLY)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path(__file__).parents[2]}")
    (tmp_path / "queries.txt").write_text("dog\n")
    for file, poisoned in enumerate([{3}, {0, 9}, {5}]):
        names = [f"http://{'poison' if n in poisoned else 'page'}{n}.example/" for n in range(10)]
        write_warc(tmp_path / f"{file}.warc.gz", names)
    out = tmp_path / "out"
    command = [
        "--queries",
        str(tmp_path / "queries.txt"),
        "--source",
        f"warc:{tmp_path}/*.warc.gz",
        "--output",
        str(out),
    ]
    assert main([*command, "--stages", "candidates", "--workers", "2", "--seed", "4"]) == 0
    manifest = json.loads((out / "candidates/_MANIFEST.json").read_bytes())
    reports = [report for part in manifest["parts"] for report in part["sources"]]
    assert [report["lost"].get("extractor_crashed", 0) for report in reports] == [1, 2, 1]
    assert [report["error"] for report in reports] == [None] * 3
    urls = [u for path in out.glob("candidates/part-*.parquet") for u in pq.ParquetFile(path).read()["url"].to_pylist()]
    assert len(urls) == 26 and not [url for url in urls if "poison" in url]
    assert "1 records could not be read as pairs (1 extractor_crashed); first source_offset " in capsys.readouterr().out
