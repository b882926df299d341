"""Lines of text out of bytes of unknown encoding: UTF-8, UTF-16, or Windows-1252, in which Windows programs write by default.

Each line that is not UTF-8 is judged by itself, so that a file pasted together from several comes out right. If none of its
characters of several bytes is whole UTF-8, and its bytes read as Western European text, it is Windows-1252, as for browsers
(Encoding standard, section 8). In any other line bytes that make no sense are replaced. Both are counted. If the user names the
encoding, bytes that it does not have are read as UNDECODED, which marks their row.
"""

from __future__ import annotations

import codecs
import io
import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from typing import IO, AnyStr

from wit.errors import InputError
from wit.sources.batch import SourceReport

MAX_LINE_BYTES = 32 << 20
LOOKED_AT_BYTES = 64 << 10  # of a file, to tell its encoding
BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
BOMS_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
BOMS_32 = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)
CP1252 = "windows-1252"
NOT_OF_FILES = ("idna", "punycode", "undefined", "unicode-escape", "raw-unicode-escape")

# Half a character, which no encoding has: it stands for bytes that are not in the encoding named by the user.
UNDECODED = "\udcff"


def _mark(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return UNDECODED, error.end


MARKED = "wit.marked"  # as `errors` of a decoder
codecs.register_error(MARKED, _mark)

# Bytes that Windows-1252 does not have; four letters beyond ASCII in a row, as in other scripts only.
_FOREIGN = re.compile(rb"[\x81\x8d\x8f\x90\x9d]|[\x80-\xff]{4}")
_WHOLE_UTF8 = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")


def lines(stream: IO[bytes], report: SourceReport, encoding: str | None = None) -> Iterator[str]:
    """The lines of a file without their ends, in the encoding that the user names, or in one guessed from the bytes."""
    rest = pieces(stream)
    head, failed = read_up_to(rest, LOOKED_AT_BYTES)
    read_as = _with_order(encoding, head) if encoding else encoding_of(head)
    rest = itertools.chain([head], _raising(failed) if failed else rest)
    if read_as is None:
        old = b"\r" in head and b"\n" not in head  # as on a Macintosh of the last century
        yield from _guessed_lines((piece.replace(b"\r", b"\n") for piece in rest) if old else rest, report)
    else:
        yield from _decoded_lines(
            io.BufferedReader(_Chained(rest)), read_as, head, report, MARKED if encoding else "replace"
        )


def pieces(stream: IO[bytes]) -> Iterator[bytes]:
    """The stream in pieces. If reading fails, all pieces before come out first."""
    return iter(lambda: stream.read1(LOOKED_AT_BYTES), b"")  # type: ignore[attr-defined]


def read_up_to(chunks: Iterator[bytes], size: int) -> tuple[bytes, Exception | None]:
    """(the first bytes, at least `size` of them unless there are fewer; the error that ended reading, or None)."""
    taken, had = list[bytes](), 0
    try:
        while had < size and (piece := next(chunks, b"")):
            taken.append(piece)
            had += len(piece)
    except Exception as error:  # returned: whoever reads on raises it
        return b"".join(taken), error
    return b"".join(taken), None


def _raising(error: Exception) -> Iterator[bytes]:
    raise error
    yield b""


def _with_order(encoding: str, head: bytes) -> str:
    """The encoding, little-endian for UTF-16 and UTF-32 without a byte order mark, as Windows writes them."""
    name = codecs.lookup(encoding).name
    marks = {"utf-16": BOMS_16, "utf-32": BOMS_32}.get(name)
    return f"{name}-le" if marks and not head.startswith(marks) else name


def encoding_of(head: bytes) -> str | None:
    """UTF-16 if the first bytes of a file show it, by a byte order mark, or by NULs at every second byte only. None otherwise:
    the file is UTF-8 as a rule."""
    marked = next((name for bom, name in BOMS if head.startswith(bom)), None)
    if marked is not None:
        return None if marked == "utf-8" else marked
    even, odd = head[0::2].count(0), head[1::2].count(0)
    if max(even, odd) * 20 > len(head) > 1 and min(even, odd) * 10 < max(even, odd):  # NULs at both are padding
        return "utf-16-le" if odd > even else "utf-16-be"
    return None


def codec_of(label: str) -> str | None:
    """Python's codec for the name of an encoding; None for a name that is unknown, or of no encoding of files and pages."""
    try:
        info = codecs.lookup(label)
    except (LookupError, ValueError):
        return None
    return info.name if info._is_text_encoding and info.name not in NOT_OF_FILES else None


def check_encoding(encoding: str | None) -> None:
    """Raises InputError for an encoding that Python does not know."""
    if encoding is not None and codec_of(encoding) is None:
        raise InputError(
            f"--encoding {encoding}: no such encoding; for instance utf-8, windows-1252, shift_jis, gb18030"
        )


def check_readable(head: bytes, path: str) -> None:
    """Raises InputError where text is neither UTF-8, UTF-16 nor Western European: its encoding must be named."""
    if encoding_of(head) is not None:
        return
    doubtful = [line for line in head.split(b"\n")[:-1] or [head] if not _is_utf8(line)]
    foreign = [line for line in doubtful if not _is_western(line)]
    if len(foreign) * 2 > len(doubtful):
        raise InputError(
            f"{path} is neither UTF-8 nor Western European text (first seen in {foreign[0][:60]!r}): say what it is with "
            "--encoding, for instance windows-1251, shift_jis, gb18030 or big5"
        )


MOST_UNDECODED = 0.1  # of the first lines: with more, the file is not in the encoding that was named


def check_named(encoding: str, head: bytes, path: str) -> None:
    """Raises InputError where too many of the first lines of a text hold bytes that are not in the encoding named by the user."""
    text = head.decode(_with_order(encoding, head), MARKED)
    text_lines = text.splitlines()[: -1 if len(head) == LOOKED_AT_BYTES else None]
    bad = [number for number, line in enumerate(text_lines, 1) if UNDECODED in line]
    if len(bad) <= MOST_UNDECODED * len(text_lines):
        return
    seems = encoding_of(head) or ("utf-8" if _is_utf8(head[: head.rfind(b"\n") + 1] or head) else None)
    if seems is None and all(_is_utf8(line) or _is_western(line) for line in head.split(b"\n")[:-1]):
        seems = CP1252
    fix = (
        f"it seems to be {seems}: give that, or leave --encoding out"
        if seems
        else "say what it is, or leave --encoding out"
    )
    raise InputError(
        f"{path} is not {encoding}, which lacks bytes in {len(bad):,} of its first {len(text_lines):,} lines (the first of "
        f"them is line {bad[0]:,}); {fix}"
    )


class _Chained(io.RawIOBase):
    """Pieces of bytes as one stream."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._left = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._left:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._left = piece
        size = min(len(buffer), len(self._left))
        buffer[:size] = self._left[:size]
        self._left = self._left[size:]
        return size


def _guessed_lines(pieces: Iterable[bytes], report: SourceReport) -> Iterator[str]:
    stream = io.BufferedReader(_Chained(pieces))
    for number, line in enumerate(_first_of_long(stream.readline, b"\n", report)):
        if number == 0:
            line = line.removeprefix(codecs.BOM_UTF8)
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError:
            western = _is_western(line)
            report.repair("read_as_windows_1252" if western else "bad_encoding")
            text = line.decode(CP1252 if western else "utf-8", "replace")
        yield text.rstrip("\r\n")


def _first_of_long(read: Callable[[int], AnyStr], end: AnyStr, report: SourceReport) -> Iterator[AnyStr]:
    """Every line; of a line that is too long only the beginning, so that one line stays one row."""
    while line := read(MAX_LINE_BYTES):
        if len(line) >= MAX_LINE_BYTES and not line.endswith(end):
            report.repair("line_cut_off")
            while (more := read(MAX_LINE_BYTES)) and not more.endswith(end):
                pass
        yield line


def _decoded_lines(
    stream: io.BufferedReader, encoding: str, head: bytes, report: SourceReport, errors: str
) -> Iterator[str]:
    newline = "\n" if "\n" in head.decode(encoding, "replace") else None
    text = io.TextIOWrapper(stream, encoding, errors=errors, newline=newline)
    for number, line in enumerate(_first_of_long(text.readline, "\n", report)):
        if errors == "replace" and "\ufffd" in line:
            report.repair("bad_encoding")
        yield (line.removeprefix("\ufeff") if number == 0 else line).rstrip("\r\n")


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _is_western(line: bytes) -> bool:
    """Whether bytes that are not UTF-8 read as Windows-1252."""
    return not (_FOREIGN.search(line) or _WHOLE_UTF8.search(line))
