"""What `--source` accepts, and what it says to what it does not."""

from __future__ import annotations

import gzip
import http.server
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.loopback import serving
from wit.errors import InputError
from wit.sources import (
    RequestBudget,
    SourceConfig,
    SourceFile,
    SourceReport,
    list_sources,
    listing,
    made_here,
    read_pairs,
    version_of,
)
from wit.sources.commoncrawl import evenly_spaced

FAST = RequestBudget(requests_per_s=1_000, backoff_s=0.001, attempts=4)
PATHS = [f"crawl-data/CC-MAIN-2026-43/segments/1/wat/{n:05d}.warc.wat.gz" for n in range(10)]
LINKS = b'{"Links":[{"path":"IMG@/src","url":"/a.jpg","alt":"a"}]}'
RECORD = b'{"Envelope":{"Payload-Metadata":{"HTTP-Response-Metadata":{"HTML-Metadata":%b}}}}' % LINKS
WAT = gzip.compress(
    b"WARC/1.0\r\nWARC-Target-URI: https://p.example/x\r\nContent-Length: %d\r\n\r\n%b\r\n\r\n" % (len(RECORD), RECORD)
)


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def test_a_glob_is_sorted(tmp_path: Path) -> None:
    touch(tmp_path, "b.wat.gz", "a.wat.gz", "c.txt")
    files = list_sources(f"wat:{tmp_path}/*.wat.gz")
    assert [Path(file.path).name for file in files] == ["a.wat.gz", "b.wat.gz"]
    assert {(file.kind, file.size) for file in files} == {("wat", 1)}


def test_tables_carry_their_columns(tmp_path: Path) -> None:
    touch(tmp_path, "t.csv")
    (file,) = list_sources(f"table:{tmp_path}/t.csv", SourceConfig(url_col="u", caption_col="c"))
    assert (file.kind, file.url_col, file.caption_col) == ("table", "u", "c")


@pytest.mark.parametrize(
    "name, spec", [("list.txt", "wat:{}"), ("wat.paths.gz", "wat:{}"), ("any", "warc:@{}"), ("x.txt", "table:@{}")]
)
def test_a_list_of_files_keeps_its_order(tmp_path: Path, name: str, spec: str) -> None:
    text = b"# comment\nz/b.csv\n\n a.csv \nz/b.csv\ncrawl-data/c.csv\n"
    (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith("gz") else text)
    files = list_sources(spec.format(tmp_path / name), SourceConfig(cc_base="https://mirror.example/"))
    assert [file.path for file in files] == ["z/b.csv", "a.csv", "https://mirror.example/crawl-data/c.csv"]


@pytest.mark.parametrize(
    "spec, word",
    [
        ("", "commoncrawl:CRAWL"),
        ("wat", "wat:GLOB"),
        ("wat:", "wat:GLOB"),
        ("parquet:x", "table:GLOB"),
        ("wat:{}/none.wat.gz", "no such file"),
        ("wat:{}/*.none", "no file matches"),
        ("wat:{}", "no wat file in the directory"),
        ("wat:@{}/none", "no such list"),
        ("table:{}/x.bin", "parquet"),
        ("wat:{}/empty.txt", "one path a line"),
        ("wat:{}/binary.txt", "UTF-8"),
        ("commoncrawl:", "commoncrawl:CRAWL"),
        ("commoncrawl:CC-MAIN-2026-43:files=0", "files=100"),
        ("commoncrawl:CC-MAIN-2026-43:100", "files=100"),
    ],
)
def test_bad_sources_are_refused_with_the_fix(tmp_path: Path, spec: str, word: str) -> None:
    touch(tmp_path, "x.bin")
    (tmp_path / "empty.txt").write_bytes(b"\n# nothing\n")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(InputError, match=word.replace("*", r"\*")) as error:
        list_sources(spec.format(tmp_path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("columns, word", [({"url_col": "u"}, "--url-col"), ({"caption_col": "c"}, "--caption-col")])
def test_a_column_that_is_not_there_is_refused_before_anything_is_read(
    tmp_path: Path, columns: dict[str, str], word: str
) -> None:
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(b"url,caption\nhttps://a.example/,x\n"))
    with pytest.raises(InputError, match=word):
        list_sources(f"table:{tmp_path}/t.csv.gz", SourceConfig(**columns))


def crawl(folder: Path) -> str:
    """A base with one crawl in it."""
    root = folder / "crawl-data/CC-MAIN-2026-43"
    root.mkdir(parents=True)
    (root / "wat.paths.gz").write_bytes(gzip.compress("\n".join([*PATHS, ""]).encode()))
    return str(folder)


@pytest.mark.parametrize(
    "spec, chosen", [("", range(10)), (":files=3", [0, 3, 6]), (":files=1", [0]), (":files=99", range(10))]
)
def test_a_crawl_is_its_wat_files_or_some_of_them_evenly_spaced(tmp_path: Path, spec: str, chosen: list[int]) -> None:
    files = list_sources(f"commoncrawl:CC-MAIN-2026-43{spec}", SourceConfig(cc_base=crawl(tmp_path)), budget=FAST)
    assert [file.path for file in files] == [f"{tmp_path}/{PATHS[place]}" for place in chosen]
    assert {file.kind for file in files} == {"wat"}


def test_evenly_spaced_items_are_distinct_and_in_order() -> None:
    for total in range(1, 40):
        for count in range(1, total + 1):
            chosen = evenly_spaced([f"{n:03d}" for n in range(total)], count)
            assert len(set(chosen)) == count and chosen == sorted(chosen)


def test_an_unknown_crawl_is_refused_with_the_fix(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such crawl: CC-MAIN-2099-01"):
        list_sources("commoncrawl:CC-MAIN-2099-01", SourceConfig(cc_base=crawl(tmp_path)), budget=FAST)


def test_a_listing_that_is_none_is_refused(tmp_path: Path) -> None:
    base = crawl(tmp_path)
    (tmp_path / "crawl-data/CC-MAIN-2026-43/wat.paths.gz").write_bytes(b"<html>sign in</html>")
    with pytest.raises(InputError, match="--cc-base"):
        list_sources("commoncrawl:CC-MAIN-2026-43", SourceConfig(cc_base=base), budget=FAST)


class Mirror(http.server.BaseHTTPRequestHandler):
    """Serves `files`; answers 503 to the first `failures` requests."""

    files: dict[str, bytes] = {}
    failures = 0
    requests: list[str] = []

    def do_GET(self) -> None:
        cls = type(self)
        cls.requests.append(self.path)
        body = cls.files.get(self.path)
        status = 503 if len(cls.requests) <= cls.failures else 200 if body is not None else 404
        self.send_response(status)
        self.send_header("Content-Length", str(len(body or b"") if status == 200 else 0))
        self.end_headers()
        self.wfile.write((body or b"") if status == 200 else b"")

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def mirror() -> Iterator[tuple[type[Mirror], str]]:
    handler = type("Handler", (Mirror,), {"files": {}, "requests": []})
    with serving(handler) as port:
        yield handler, f"http://127.0.0.1:{port}"


def test_a_crawl_is_read_over_http_one_request_a_file(mirror: tuple[type[Mirror], str]) -> None:
    handler, base = mirror
    handler.files = {
        "/crawl-data/C-1/wat.paths.gz": gzip.compress(b"crawl-data/C-1/a.wat.gz\n"),
        "/crawl-data/C-1/a.wat.gz": WAT,
    }
    (file,) = list_sources("commoncrawl:C-1", SourceConfig(cc_base=base), budget=FAST)
    report = SourceReport(file.path)
    (batch,) = read_pairs(file, report, FAST)
    assert (batch.url, batch.alt) == (["https://p.example/a.jpg"], ["a"])
    assert handler.requests == list(handler.files)
    assert report.error is None


def test_an_overloaded_server_is_asked_again(mirror: tuple[type[Mirror], str]) -> None:
    handler, base = mirror
    handler.files, handler.failures = {"/a.wat.gz": WAT}, 3
    report = SourceReport("x")
    assert sum(map(len, read_pairs(SourceFile("wat", f"{base}/a.wat.gz"), report, FAST))) == 1
    assert len(handler.requests) == 4
    assert report.error is None


def test_a_file_that_stays_away_is_reported_by_name(mirror: tuple[type[Mirror], str]) -> None:
    handler, base = mirror
    handler.failures = 99
    report = SourceReport("x")
    assert list(read_pairs(SourceFile("wat", f"{base}/a.wat.gz"), report, FAST)) == []
    assert report.error is not None and "503" in report.error and "a.wat.gz" in report.error
    assert len(handler.requests) == FAST.attempts


def test_a_file_that_does_not_exist_is_asked_for_once(mirror: tuple[type[Mirror], str]) -> None:
    handler, base = mirror
    report = SourceReport("x")
    assert list(read_pairs(SourceFile("wat", f"{base}/none.wat.gz"), report, FAST)) == []
    assert report.error is not None
    assert len(handler.requests) == 1


def test_a_small_file_is_known_by_its_digest_and_a_large_one_by_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "urls.tsv"
    path.write_text("url\tcaption\n")
    small = version_of(str(path))
    os.utime(path, ns=(1, 5_000_000_000))
    assert small is not None and small.startswith("sha256 ") and version_of(str(path)) == small
    path.write_text("url\tcaptioN\n")
    assert version_of(str(path)) != small
    monkeypatch.setattr(listing, "DIGESTED_BYTES", 1)
    os.utime(path, ns=(1, 5_000_000_000))
    assert version_of(str(path)) == "modified 5000000000"


class Tagged(http.server.BaseHTTPRequestHandler):
    tag = '"one"'

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("ETag", self.tag)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_HEAD

    def log_message(self, *_: object) -> None: ...


def test_a_file_elsewhere_is_known_by_what_its_store_calls_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(Tagged) as port:
        spec = f"table:http://127.0.0.1:{port}/urls.tsv"
        assert [file.version for file in list_sources(spec)] == ['ETag "one"']
        monkeypatch.setattr(Tagged, "tag", '"two"')
        assert [file.version for file in list_sources(spec)] == ['ETag "two"']


def test_files_of_a_list_elsewhere_are_not_asked_for(tmp_path: Path) -> None:
    (tmp_path / "urls.txt").write_text("http://127.0.0.1:9/a.tsv\n")  # nobody listens there
    assert [file.version for file in list_sources(f"table:@{tmp_path / 'urls.txt'}")] == [None]


def test_a_directory_means_its_tables(tmp_path: Path) -> None:
    table = b"url,caption\nhttps://a.example/1,x\n"
    for name in (
        "part-0.csv",
        "part-1.csv.gz",
        "lang=en/part-2.csv",
        "_SUCCESS",
        ".part-0.csv.crc",
        "_tmp.csv",
        "README.md",
    ):
        path = tmp_path / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(table) if name.endswith(".gz") else table)
    for spec in (f"table:{tmp_path}/set", f"table:{tmp_path}/set/"):
        names = [os.path.relpath(file.path, tmp_path / "set") for file in list_sources(spec)]
        assert names == ["lang=en/part-2.csv", "part-0.csv", "part-1.csv.gz"]


def test_what_only_says_something_of_others_is_no_table(tmp_path: Path) -> None:
    for name in ("_SUCCESS", "part-0.csv.crc", "part-0.csv"):
        (tmp_path / name).write_bytes(b"url,caption\nhttps://a.example/1,x\n")
    assert [os.path.basename(file.path) for file in list_sources(f"table:{tmp_path}/*")] == ["part-0.csv"]


@pytest.mark.parametrize("name", ["[2026] web.csv", "a*b.csv", "what?.csv"])
def test_a_path_may_have_marks_of_a_glob_in_it(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"url,caption\nhttps://a.example/1,x\n")
    (tmp_path / "aXb.csv").write_bytes(b"url,caption\nhttps://a.example/2,x\n")
    assert [os.path.basename(file.path) for file in list_sources(f"table:{tmp_path}/{name}")] == [name]
    assert [os.path.basename(file.path) for file in list_sources(f"table:{tmp_path}/aXb.csv")] == ["aXb.csv"]


def test_a_directory_may_have_brackets_and_hidden_folders(tmp_path: Path) -> None:
    for name in ("set[1]/a.csv", "set[1]/.ipynb_checkpoints/a.csv", "set[1]/_temporary/0/b.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"url,caption\nhttps://a.example/1,x\n")
    assert [file.path for file in list_sources(f"table:{tmp_path}/set[1]")] == [f"{tmp_path}/set[1]/a.csv"]


def test_more_than_the_first_table_is_looked_into(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"url,caption\nhttps://a.example/1,x\n")
    (tmp_path / "b.csv").write_bytes("url,caption\nhttps://a.example/1,красная\n".encode("cp1251"))
    with pytest.raises(InputError, match="b.csv is neither UTF-8 nor Western European"):
        list_sources(f"table:{tmp_path}/*.csv")


@pytest.mark.parametrize(
    "spec",
    ["demo:", "demo:x", "demo:files=1", "wat", "wat:", "table:", "commoncrawl", "commoncrawl:", "odd:x", "", ":", ":x"],
)
def test_what_is_no_source_is_refused_with_all_there_are(spec: str) -> None:
    with pytest.raises(InputError, match=r"not a source: '.*'; write demo, commoncrawl:CRAWL\[:files=N\], wat:GLOB, "):
        list_sources(spec)
    with pytest.raises(InputError):
        made_here([spec])


def test_what_is_made_here_has_no_files_yet_and_is_made_once() -> None:
    assert list_sources("demo") == []
    assert len(made_here(["demo", "table:x.csv", "demo"])) == 1 and made_here(["table:x.csv"]) == []
