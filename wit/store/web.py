"""Files that are read for ourselves over http:// and https://: crawl files, lists of them, tables. One request a call.

Who is asked too often says so (429, 503), connections break, and a WAT file takes a minute: so a download goes on where it broke
off, and what a server says about when to come back is handed on. How often it is asked is the caller's business
(`wit.sources.reading`). Proxy variables and .netrc are ignored, as everywhere.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import wit
from wit.store.patience import status_may_pass

if TYPE_CHECKING:
    import requests

CONNECT_S, SILENT_S = 30, 60  # a whole file may take as long as it takes
BLOCK_BYTES = 1 << 20
PACKED = (".gz", ".zst")  # whose bytes are wanted as they are, whatever Content-Encoding calls them


class Refused(OSError):
    """The server will not give the file, however often it is asked."""


class Later(OSError):
    """The server may give the file another time; `after_s` is how long it asks to be left alone, 0 where it does not say."""

    def __init__(self, words: str, after_s: float = 0.0) -> None:
        super().__init__(words)
        self.after_s = after_s


class _Here(threading.local):
    session: requests.Session | None = None


_here = _Here()


def is_web(path: str) -> bool:
    """Whether a path is an address of the web."""
    return path.startswith(("http://", "https://"))


def read(url: str) -> bytes:
    """The whole file. Raises FileNotFoundError, Refused and Later."""
    with _get(url, {}) as answer:
        return b"".join(_blocks(answer, url))


class Download:
    """A file on its way to a local path. `go_on` sends one request: for the whole file, or for what is missing of it since
    the last one broke off, unless the file has changed meanwhile."""

    def __init__(self, url: str, local: str) -> None:
        self.url, self.local = url, local
        self._validator = ""  # of what has arrived: a strong ETag, or the time of the last change

    def go_on(self) -> None:
        """Returns when the file is whole. Raises FileNotFoundError, Refused, and Later, after which it may be called again."""
        there = os.path.getsize(self.local) if self._validator and os.path.exists(self.local) else 0
        asked = {"Range": f"bytes={there}-", "If-Range": self._validator} if there else {}
        with _get(self.url, asked) as answer:
            goes_on = answer.status_code == 206 and answer.headers.get("Content-Range", "").startswith(
                f"bytes {there}-"
            )
            if answer.status_code == 206 and not goes_on:
                self._validator = ""
                raise Later(f"{self.url}: it was asked for byte {there} on and sends other bytes")
            self._validator = "" if _is_packed(answer, self.url) else _validator(answer)
            with open(self.local, "ab" if goes_on else "wb") as out:
                for block in _blocks(answer, self.url):
                    out.write(block)


def _validator(answer: requests.Response) -> str:
    """What tells that the file is still the same (RFC 9110 section 13.1.5); empty where nothing does."""
    tag = answer.headers.get("ETag", "")
    return tag if tag.startswith('"') else "" if tag else answer.headers.get("Last-Modified", "")


def _is_packed(answer: requests.Response, url: str) -> bool:
    """Whether the server packed the file for the way, though it was not asked to: its bytes cannot be counted then."""
    return bool(answer.headers.get("Content-Encoding")) and not url.partition("?")[0].endswith(PACKED)


@contextlib.contextmanager
def _get(url: str, headers: dict[str, str]) -> Iterator[requests.Response]:
    import requests  # here, since builds from local files need none of it

    if _here.session is None:
        _here.session = requests.Session()
        _here.session.trust_env = False
        _here.session.headers.update({"User-Agent": f"wit/{wit.__version__}", "Accept-Encoding": "identity"})
    try:
        with _here.session.get(url, headers=headers, stream=True, timeout=(CONNECT_S, SILENT_S)) as answer:
            _check(answer, url)
            yield answer
    except (requests.exceptions.InvalidURL, requests.exceptions.TooManyRedirects) as error:
        raise Refused(f"{url}: {error}") from error
    except requests.RequestException as error:
        raise Later(f"{url}: {type(error).__name__}: {error}") from error


def _check(answer: requests.Response, url: str) -> None:
    status = answer.status_code
    words = f"{url}: HTTP {status} {answer.reason or ''}".rstrip()
    if status in (200, 206):
        return
    if status in (404, 410):
        raise FileNotFoundError(words)
    if status_may_pass(status):
        after = answer.headers.get("Retry-After", "")
        raise Later(words, float(after) if after.isdecimal() else 0.0)
    raise Refused(words)


def _blocks(answer: requests.Response, url: str) -> Iterator[bytes]:
    """The body, of as many bytes as the server said it has; raises Later where it ends before."""
    import urllib3

    raw: Any = answer.raw
    try:
        yield from raw.stream(BLOCK_BYTES, decode_content=_is_packed(answer, url))
    except urllib3.exceptions.HTTPError as error:
        raise Later(f"{url}: it broke off: {error}") from error
