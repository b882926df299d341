"""Files over real HTTP on loopback: whole, gone on with, changed meanwhile, refused, put off."""

from __future__ import annotations

import gzip
import http.server
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.loopback import serving
from wit.store import web
from wit.store.web import Download, Later, Refused

DATA = bytes(range(256)) * 4_096  # 1 MiB
Answer = Callable[["Handler"], None]


class Handler(http.server.BaseHTTPRequestHandler):
    answers: list[Answer]
    asked: list[dict[str, str]]

    def do_GET(self) -> None:
        self.asked.append(dict(self.headers))
        self.answers.pop(0)(self)

    def say(self, status: int, body: bytes = b"", length: int | None = None, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def server() -> Iterator[tuple[type[Handler], str]]:
    handler = type("One", (Handler,), {"answers": [], "asked": []})
    with serving(handler) as port:
        yield handler, f"http://127.0.0.1:{port}/a.wat.gz"


def broken(to: int, **headers: str) -> Answer:
    return lambda handler: handler.say(200, DATA[:to], len(DATA), **headers)


def rest(start: int, **headers: str) -> Answer:
    place = f"bytes {start}-{len(DATA) - 1}/{len(DATA)}"
    return lambda handler: handler.say(206, DATA[start:], Content_Range=place, **headers)


def whole(data: bytes = DATA, **headers: str) -> Answer:
    return lambda handler: handler.say(200, data, **headers)


def test_a_file_comes_in_one_request_as_it_is(server: tuple[type[Handler], str], tmp_path: Path) -> None:
    handler, url = server
    handler.answers += [whole(), whole()]
    assert web.read(url) == DATA
    Download(url, str(tmp_path / "f")).go_on()
    assert (tmp_path / "f").read_bytes() == DATA
    assert [one["Accept-Encoding"] for one in handler.asked] == ["identity"] * 2
    assert all(one["User-Agent"].startswith("wit/") and "Range" not in one for one in handler.asked)


@pytest.mark.parametrize(
    "validator", [{"ETag": '"v1"'}, {"Last_Modified": "Thu, 26 Nov 2026 10:00:00 GMT"}], ids=["tag", "time"]
)
def test_what_broke_off_is_gone_on_with(
    server: tuple[type[Handler], str], tmp_path: Path, validator: dict[str, str]
) -> None:
    handler, url = server
    handler.answers += [broken(300_000, **validator), rest(300_000, **validator)]
    download = Download(url, str(tmp_path / "f"))
    with pytest.raises(Later, match="broke off"):
        download.go_on()
    download.go_on()
    assert (tmp_path / "f").read_bytes() == DATA
    assert handler.asked[1]["Range"] == "bytes=300000-" and handler.asked[1]["If-Range"] == [*validator.values()][0]


def test_it_may_break_off_again_and_again(server: tuple[type[Handler], str], tmp_path: Path) -> None:
    handler, url = server
    tag = {"ETag": '"v1"'}
    place = f"bytes 1000-{len(DATA) - 1}/{len(DATA)}"
    cut = lambda one: one.say(206, DATA[1000:5000], len(DATA) - 1000, Content_Range=place, **tag)  # noqa: E731
    handler.answers += [broken(1_000, **tag), cut, rest(5_000, **tag)]
    download = Download(url, str(tmp_path / "f"))
    for _ in range(2):
        with pytest.raises(Later):
            download.go_on()
    download.go_on()
    assert (tmp_path / "f").read_bytes() == DATA


def test_a_file_that_was_changed_meanwhile_is_fetched_from_its_beginning(
    server: tuple[type[Handler], str], tmp_path: Path
) -> None:
    handler, url = server
    other = DATA[::-1]
    handler.answers += [broken(1_000, ETag='"v1"'), whole(other, ETag='"v2"')]
    download = Download(url, str(tmp_path / "f"))
    with pytest.raises(Later):
        download.go_on()
    download.go_on()
    assert (tmp_path / "f").read_bytes() == other


@pytest.mark.parametrize("headers", [{}, {"ETag": 'W/"weak"'}], ids=["nothing", "a weak tag"])
def test_where_nothing_tells_whether_it_is_the_same_it_is_fetched_from_its_beginning(
    server: tuple[type[Handler], str], tmp_path: Path, headers: dict[str, str]
) -> None:
    handler, url = server
    handler.answers += [broken(1_000, **headers), whole()]
    download = Download(url, str(tmp_path / "f"))
    with pytest.raises(Later):
        download.go_on()
    download.go_on()
    assert (tmp_path / "f").read_bytes() == DATA and "Range" not in handler.asked[1]


def test_other_bytes_than_were_asked_for_are_not_taken(server: tuple[type[Handler], str], tmp_path: Path) -> None:
    handler, url = server
    handler.answers += [broken(1_000, ETag='"v1"'), rest(500, ETag='"v1"'), whole()]
    download = Download(url, str(tmp_path / "f"))
    for words in ("broke off", "sends other bytes"):
        with pytest.raises(Later, match=words):
            download.go_on()
    download.go_on()
    assert (tmp_path / "f").read_bytes() == DATA


@pytest.mark.parametrize(
    "status, kind, after_s",
    [
        (404, FileNotFoundError, 0),
        (410, FileNotFoundError, 0),
        (401, Refused, 0),
        (403, Refused, 0),
        (400, Refused, 0),
        (204, Refused, 0),
        (408, Later, 7),
        (429, Later, 7),
        (500, Later, 7),
        (503, Later, 7),
    ],
)
def test_what_a_server_answers_says_whether_to_ask_again_and_when(
    server: tuple[type[Handler], str], status: int, kind: type[OSError], after_s: float
) -> None:
    handler, url = server
    handler.answers.append(lambda one: one.say(status, Retry_After="7"))
    with pytest.raises(kind, match=rf"a\.wat\.gz: HTTP {status}") as raised:
        web.read(url)
    assert getattr(raised.value, "after_s", 0) == after_s


@pytest.mark.parametrize("after", ["Thu, 26 Nov 2026 10:00:00 GMT", "-5", "soon", ""])
def test_a_time_that_is_no_number_of_seconds_is_none(server: tuple[type[Handler], str], after: str) -> None:
    handler, url = server
    handler.answers.append(lambda one: one.say(503, Retry_After=after))
    with pytest.raises(Later) as raised:
        web.read(url)
    assert raised.value.after_s == 0


def test_nobody_at_home_is_later_and_no_address_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Later, match="127.0.0.1"):
        web.read("http://127.0.0.1:9/a")
    with pytest.raises(Refused):
        web.read("http://")


def test_packed_files_stay_packed_and_others_are_unpacked(server: tuple[type[Handler], str]) -> None:
    handler, url = server
    packed = gzip.compress(b"url,caption\n")
    handler.answers += [whole(packed, Content_Encoding="gzip"), whole(packed, Content_Encoding="gzip")]
    assert web.read(url) == packed
    assert web.read(url.replace("a.wat.gz", "t.csv?x=.gz")) == b"url,caption\n"


def test_proxies_of_the_environment_are_not_asked(
    server: tuple[type[Handler], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    handler, url = server
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    handler.answers.append(whole(b"x"))
    assert web.read(url) == b"x"


@pytest.mark.parametrize(
    "path, here", [("http://a/b", True), ("https://a/b", True), ("s3://a/b", False), ("/a", False)]
)
def test_what_is_on_the_web(path: str, here: bool) -> None:
    assert web.is_web(path) is here
