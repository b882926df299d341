"""WARC records out of a file that may be damaged: gzip members or zstd frames, one record each or many, or no compression at all.

The promise: a damaged member costs itself and nothing else. After it, reading goes on at the next gzip member that inflates to a
WARC record, or at the next zstd frame. The report counts each loss under its name. Memory is bounded by `max_record_bytes`,
whatever sizes the file claims.
"""

from __future__ import annotations

import contextlib
import re
import struct
import zlib
from collections.abc import Iterator
from typing import IO, Any, NamedTuple

import deflate
import zstandard

from wit.sources import zstd
from wit.sources.batch import SourceReport

BLOCK_BYTES = 256 << 10  # below malloc's mmap threshold: 4 MiB blocks cost 10 % more in page faults
PIECE_BYTES = 256 << 10  # compressed bytes that streaming inflates at a time
MAX_RECORD_BYTES = 32 << 20  # Common Crawl cuts payloads at 5 MiB (1 MiB before 2025); a WAT record stays far below
MAX_HEADER_BYTES = 64 << 10
MAX_EXPANSION = 1032  # the most that deflate can expand
MAGIC = b"\x1f\x8b\x08"
_LENGTH = re.compile(rb"\ncontent-length[ \t]*:[ \t]*(\d{1,18})[ \t]*\r?\n", re.IGNORECASE)
_HEADER_END = re.compile(rb"\n\r?\n")
_TRAILER = struct.Struct("<II").unpack_from  # CRC-32 and size of the content
_BLANK = re.compile(rb"[\r\n\0]*").match
_FIRST_LINE = re.compile(rb"WARC/\d\.\d+\r?\n")


class Record(NamedTuple):
    """One WARC record: its header is data[start:body], its block data[body:end]."""

    offset: int  # in the file: of the gzip member or zstd frame, or of the record if it is not compressed
    data: bytearray
    start: int
    body: int
    end: int


def read_records(
    stream: IO[bytes], report: SourceReport, *, max_record_bytes: int = MAX_RECORD_BYTES
) -> Iterator[Record]:
    """The readable records of a WARC or WAT file, in order; the rest is counted in `report`."""
    source = _Input(stream, report)
    source.more(0)
    if not source.window:
        report.error = "the file is empty"
    elif zstd.begins(source.window):
        yield from _FrameReader(source, report, max_record_bytes).records()
    elif source.window[:5] == b"WARC/" or MAGIC not in source.window:
        yield from _plain_records(source, report, max_record_bytes)
    else:
        yield from _MemberReader(source, report, max_record_bytes).records()
    if not report.records and not report.lost and not report.error:
        report.error = "holds no WARC record"


class _Input:
    """The file as a window that only moves forward, block by block."""

    def __init__(self, stream: IO[bytes], report: SourceReport) -> None:
        self._stream = stream
        self._report = report
        self.window = b""
        self.base = 0  # file offset of window[0]
        self.at_end = False

    def more(self, keep_from: int) -> None:
        """Drops what lies before `keep_from`, an index of the window, and reads one block."""
        block = self._stream.read(BLOCK_BYTES)
        self.at_end = not block
        self.window = self.window[keep_from:] + block
        self.base += keep_from
        self._report.bytes += len(block)


def _plain_records(source: _Input, report: SourceReport, limit: int) -> Iterator[Record]:
    splitter = _Splitter(report, limit, offset=0, moving=True)
    while source.window:
        yield from splitter.push(source.window)
        source.more(len(source.window))
    yield from splitter.finish("truncated_record")


class _MemberReader:
    """Cuts the window at gzip headers and inflates each piece in one call. A piece that does not fit its own trailer is read
    again by streaming: data held a header's bytes by chance, or the member is damaged, or too large for one call."""

    def __init__(self, source: _Input, report: SourceReport, limit: int) -> None:
        self.source, self.report, self.limit = source, report, limit
        self.position = 0  # in the window
        self.lost = False  # between damage and the next sound member

    def records(self) -> Iterator[Record]:
        source, report, limit = self.source, self.report, self.limit
        needle = source.window[:10] if source.window.startswith(MAGIC) else MAGIC  # a writer's headers are mostly alike
        while source.window:
            start = self.position
            following = source.window.find(needle, start + 18)
            if following < 0 and not source.at_end and len(source.window) - start < limit:
                source.more(start)
                self.position = 0
                continue
            end = following if following >= 0 else len(source.window)
            if start >= end:
                return
            data = _inflate(source.window[start:end], limit)
            if data is None:
                needle = MAGIC
                yield from self._stream_member()
                continue
            self.position, self.lost = end, False
            record = _only_record(source.base + start, data)
            if record is not None:
                report.records += 1
                yield record
            else:
                yield from _split(source.base + start, data, report, limit)

    def _stream_member(self) -> Iterator[Record]:
        """Reads the member at the position piece by piece, and moves behind it; if it is damaged, to the next bytes that look
        like a gzip header."""
        start = self.source.base + self.position
        if not self.source.window.startswith(MAGIC, self.position):
            self._resynchronise(start)
            return
        if self.lost and not self._looks_like_record():
            self._resynchronise(start + 1)
            return
        inflater = zlib.decompressobj(31)
        splitter = _Splitter(self.report, self.limit, offset=start, moving=False)
        at, defect = self.position, "corrupt_member"
        while not inflater.eof:
            if at >= len(self.source.window):
                if self.source.at_end:
                    defect = "truncated_member"
                    break
                at = self._read_on(at)
                continue
            piece = self.source.window[at : at + PIECE_BYTES]
            at += len(piece)
            before = inflater.copy()
            try:
                while piece and not inflater.eof:
                    yield from splitter.push(inflater.decompress(piece, 4 * PIECE_BYTES))
                    piece = inflater.unconsumed_tail
                    before = inflater.copy()
            except zlib.error:
                for content in _until_error(before, piece):
                    yield from splitter.push(content)
                break
        if inflater.eof:
            self.position, self.lost = at - len(inflater.unused_data), False
            yield from splitter.finish(None)
            return
        yield from splitter.finish(defect)
        self.lost = True
        self._resynchronise(start + 1)

    def _looks_like_record(self) -> bool:
        """Whether the member at the position inflates to the beginning of a record; a gzip header by chance does not."""
        if self.source.at_end is False and len(self.source.window) - self.position < 1024:
            self.source.more(self.position)
            self.position = 0
        try:
            return (
                zlib.decompressobj(31).decompress(self.source.window[self.position : self.position + 1024], 5)
                == b"WARC/"
            )
        except zlib.error:
            return False

    def _read_on(self, at: int) -> int:
        """Reads a block; returns where `at` lies now. The window keeps the member from its start, to search it for others should
        it turn out damaged, unless that is more than a record may have."""
        keep_from = self.position if at - self.position < self.limit else at
        self.source.more(keep_from)
        self.position -= keep_from
        if self.position < 0:
            self.position = 0
        return at - keep_from

    def _resynchronise(self, start: int) -> None:
        """Moves to the next gzip header at file offset `start` or later; counts a loss, unless only padding is skipped."""
        source = self.source
        self.position = max(start - source.base, 0)
        skipped = b""
        while (next_at := source.window.find(MAGIC, self.position)) < 0:
            keep_from = max(len(source.window) - len(MAGIC) + 1, self.position)
            skipped = skipped or source.window[self.position : keep_from].strip(b"\0")[:1]
            self.report.bytes_skipped += keep_from - self.position
            source.more(keep_from)
            self.position = 0
            if source.at_end:
                next_at = len(source.window)
                break
        skipped = skipped or source.window[self.position : next_at].strip(b"\0")[:1]
        self.report.bytes_skipped += next_at - self.position
        if skipped and not self.lost:
            self.report.lose("corrupt_member")
            self.lost = True
        self.position = next_at


class _FrameReader:
    """The records of a WARC file compressed by IIPC's draft (WARC-zstd 1.0): zstd frames, and perhaps a skippable frame before
    the first that holds a dictionary for all."""

    def __init__(self, source: _Input, report: SourceReport, limit: int) -> None:
        self.source, self.report, self.limit = source, report, limit
        self.position = 0  # in the window
        self.lost = False  # between damage and the next sound frame
        self.decompressor = zstandard.ZstdDecompressor()

    def records(self) -> Iterator[Record]:
        while self._has(1):
            if not self._has(4) or not zstd.begins(self.source.window[self.position : self.position + 4]):
                self._resynchronise(self.position)
            elif self.source.window.startswith(zstd.MAGIC, self.position):
                yield from self._frame()
            else:
                self._skippable()

    def _has(self, count: int) -> bool:
        """Whether `count` bytes are left; if so, they are in the window afterwards."""
        while len(self.source.window) - self.position < count and not self.source.at_end:
            self.source.more(self.position)
            self.position = 0
        return len(self.source.window) - self.position >= count

    def _skippable(self) -> None:
        """Passes over a skippable frame, which holds no data; the first of a file holds the dictionary of all frames."""
        first = self.source.base + self.position == 0
        size = (
            int.from_bytes(self.source.window[self.position + 4 : self.position + 8], "little") if self._has(8) else 0
        )
        if size > zstd.MAX_DICTIONARY_BYTES or not self._has(8 + size):
            self._resynchronise(self.position + 4)
            return
        content = self.source.window[self.position + 8 : self.position + 8 + size]
        if first:
            self.decompressor = zstd.with_dictionary(content)
        self.position += 8 + size

    def _frame(self) -> Iterator[Record]:
        """Reads the frame at the position; if it is damaged, moves to the next bytes that look like a frame."""
        start = self.source.base + self.position
        splitter = _Splitter(self.report, self.limit, offset=start, moving=False)
        frame = self.decompressor.decompressobj()
        defect: str | None = None
        while not frame.eof and defect is None:
            if not self._has(1):
                defect = "truncated_member"
                break
            piece = self.source.window[self.position : self.position + zstd.PIECE_BYTES]
            try:
                yield from splitter.push(frame.decompress(piece))
                self.position += len(piece) - len(frame.unused_data)
            except zstandard.ZstdError:
                defect = "corrupt_member"
        yield from splitter.finish(defect)
        self.lost = defect is not None
        if defect == "corrupt_member":
            self._resynchronise(max(start + 1 - self.source.base, self.position))

    def _resynchronise(self, position: int) -> None:
        """Moves to the next frame at this place of the window or later."""
        source, self.position = self.source, position
        if not self.lost and source.window[self.position : self.position + 4].strip(b"\0"):
            self.report.lose("corrupt_member")
            self.lost = True
        while (next_at := source.window.find(zstd.MAGIC, self.position)) < 0 and not source.at_end:
            keep_from = max(len(source.window) - len(zstd.MAGIC) + 1, self.position)
            self.report.bytes_skipped += keep_from - self.position
            source.more(keep_from)
            self.position = 0
        next_at = len(source.window) if next_at < 0 else next_at
        self.report.bytes_skipped += next_at - self.position
        self.position = next_at


def _inflate(member: bytes, limit: int) -> bytearray | None:
    """The content, if the bytes are exactly one plain gzip member; None if they are anything else."""
    trailer = len(member) - 8
    if not member.startswith(b"\x1f\x8b\x08\x00") or trailer < 12:
        return None
    crc, size = _TRAILER(member, trailer)
    if not 0 < size <= min(limit, MAX_EXPANSION * trailer):
        return None
    if member.startswith(member[trailer:], trailer // 2 - 4):  # the same member twice, the second without its header
        return None
    try:
        data: bytearray = deflate.deflate_decompress(memoryview(member)[10:-8], size)
    except (deflate.DeflateError, ValueError):
        return None
    return data if len(data) == size and deflate.crc32(data) == crc else None


def _until_error(inflater: Any, piece: bytes) -> Iterator[bytes]:
    """The content that can be inflated before the place of the error."""
    with contextlib.suppress(zlib.error):
        for start in range(0, len(piece), 32):
            yield inflater.decompress(piece[start : start + 32])


def _only_record(offset: int, data: bytearray) -> Record | None:
    """The one record of a gzip member, if it is written as Common Crawl does and as long as it says; None if not."""
    body = data.find(b"\r\n\r\n") + 4
    at = data.find(b"\r\nContent-Length: ", 0, body) + 18
    digits = data[at : data.find(b"\r", at)] if at >= 18 else b""
    if not data.startswith(b"WARC/1.") or not digits.isdigit() or len(data) != body + int(digits) + 4:
        return None
    return Record(offset, data, 0, body, len(data) - 4)


def _split(offset: int, data: bytearray, report: SourceReport, limit: int) -> Iterator[Record]:
    """The records of one whole gzip member."""
    splitter = _Splitter(report, limit, offset=offset, moving=False)
    yield from splitter.push(data)
    yield from splitter.finish(None)


def _record_start(buffer: bytearray, at: int) -> int | None:
    """The place of the next record's first line, behind a line break at `at` or later; None if there is none."""
    while (at := buffer.find(b"\nWARC/", at)) >= 0:
        if _FIRST_LINE.match(buffer, at + 1):
            return at + 1
        at += 1
    return None


class _Splitter:
    """Cuts a stream of bytes into WARC records by their lengths, and by the next record's first line where a length is wrong. A
    record comes out once the start of the next is seen; the last comes out at `finish`."""

    def __init__(self, report: SourceReport, limit: int, *, offset: int, moving: bool) -> None:
        self.report, self.limit, self.offset, self.moving = report, limit, offset, moving
        self.buffer = bytearray()
        self.searched = 0  # no further record starts in the buffer before this place
        self.skipping = False  # within bytes that are no record, and are counted already

    def push(self, data: bytes | bytearray) -> Iterator[Record]:
        self.buffer += data
        yield from self._complete(final=False)

    def finish(self, loss: str | None) -> Iterator[Record]:
        """Ends the stream. `loss` names why its last record cannot be trusted; None if it can. In an uncompressed file
        ("truncated_record") the last record still counts if it has the length it says."""
        if loss == "truncated_record":
            yield from self._complete(final=True)
        elif loss is None:
            yield from self._complete(final=True, verified=True)
        else:
            self.report.lose(loss)
        self.buffer.clear()

    def _complete(self, *, final: bool, verified: bool = False) -> Iterator[Record]:
        while self._at_record(final):
            span = self._span(final, verified)
            if span is None:
                return
            body, end, following = span
            self.report.records += 1
            yield Record(self.offset, self.buffer[:end], 0, body, end)
            self._drop(following)

    def _drop(self, count: int) -> None:
        del self.buffer[:count]
        self.searched = 0
        if self.moving:
            self.offset += count

    def _at_record(self, final: bool) -> bool:
        """Whether the buffer now begins with a record; bytes before it are dropped, and counted as one loss."""
        gap = _BLANK(self.buffer)
        blank = gap.end() if gap else 0
        if blank:
            self._drop(blank)
        if self.buffer.startswith(b"WARC/") and (blank or not self.skipping):
            self.skipping = False
            return True
        if len(self.buffer) < 5 and not final:
            return False
        if not self.skipping and self.buffer:
            self.report.lose("not_a_record")
            self.skipping = True
        start = _record_start(self.buffer, 0)
        if start is None:
            self._drop(max(len(self.buffer) - 16, 0))
            return False
        self._drop(start)
        self.skipping = False
        return True

    def _span(self, final: bool, verified: bool) -> tuple[int, int, int] | None:
        """(start of the block, end of the block, start of the next record) of the record that the buffer begins with;
        None if more must be read, or if it was given up."""
        header_end = _HEADER_END.search(self.buffer, 0, MAX_HEADER_BYTES)
        if header_end is None:
            self._wait_or_lose("bad_header", final, MAX_HEADER_BYTES)
            return None
        body = header_end.end()
        inner = self.buffer.rfind(b"\nWARC/", 0, body)
        if inner >= 0:  # a header without an end that ran into the next record's
            self.report.lose("bad_header")
            self._drop(inner + 1)
            return self._span(final, verified)
        length = _LENGTH.search(self.buffer, 0, body)
        end = body + int(length[1]) if length else self.limit + body + 1
        if end <= len(self.buffer):
            following = end
            while following < len(self.buffer) and self.buffer[following] in b"\r\n":
                following += 1
            if self.buffer.startswith(b"WARC/", following) or (final and following == len(self.buffer)):
                return body, end, following
            if (final or len(self.buffer) - following >= 5) and self.buffer.startswith((b"\r\n\r\n", b"\n\n"), end):
                return body, end, following  # as long as it says; no record follows
            if not final and len(self.buffer) - following < 5:
                return None
        return self._span_by_search(body, end, final, verified)

    def _span_by_search(self, body: int, end: int, final: bool, verified: bool) -> tuple[int, int, int] | None:
        """As `_span`, for a record whose length is wrong, or that is not yet in the buffer to its end."""
        if end > len(self.buffer) and not final and end - body <= self.limit:
            return None
        start = _record_start(self.buffer, max(body - 1, self.searched))
        if start is not None:
            self.report.repair("wrong_length")
            return body, len(self.buffer[:start].rstrip(b"\r\n")), start
        self.searched = max(len(self.buffer) - 16, 0)
        if final and (verified or end <= len(self.buffer)):
            self.report.repair("wrong_length")
            return body, len(self.buffer.rstrip(b"\r\n")), len(self.buffer)
        self._wait_or_lose("truncated_record" if final else "oversized_record", final, self.limit)
        return None

    def _wait_or_lose(self, loss: str, final: bool, limit: int) -> None:
        if final or len(self.buffer) > limit:
            self.report.lose(loss)
            self.skipping = True
            self._drop(5)
            if final:
                self.buffer.clear()
