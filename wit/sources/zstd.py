"""Zstandard streams that notice a file cut off in its last frame; zstandard's own reader does not."""

from __future__ import annotations

import io
from typing import IO, Any

import zstandard

MAGIC = b"\x28\xb5\x2f\xfd"
_SKIPPABLE = b"\x2a\x4d\x18"  # behind a byte from 0x50 to 0x5f (RFC 8878 section 3.1.2)
MAX_DICTIONARY_BYTES = 16 << 20
PIECE_BYTES = 4 << 10  # small, since content may be a thousand times larger


def begins(data: bytes) -> bool:
    """Whether these bytes begin a frame."""
    return data.startswith(MAGIC) or (data[1:4] == _SKIPPABLE and 0x50 <= data[0] <= 0x5F)


def with_dictionary(content: bytes) -> zstandard.ZstdDecompressor:
    """A decompressor for frames made with this dictionary, which may itself be compressed; a plain one if it is no dictionary."""
    try:
        if content.startswith(MAGIC):
            content = zstandard.ZstdDecompressor().decompress(content, max_output_size=MAX_DICTIONARY_BYTES)
        return zstandard.ZstdDecompressor(dict_data=zstandard.ZstdCompressionDict(content))
    except (zstandard.ZstdError, ValueError):
        return zstandard.ZstdDecompressor()


class ZstdStream(io.RawIOBase):
    """The content of all frames; raises EOFError where the last is cut off, zstandard.ZstdError where one is damaged."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._frame: zstandard.ZstdDecompressionObj | None = None
        self._pending = b""  # input behind the end of a frame
        self._content = b""
        self._at = 0  # in the content

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while self._at >= len(self._content):
            piece = self._pending or self._stream.read(PIECE_BYTES)
            if not piece:
                if self._frame is not None:
                    raise EOFError("the last zstd frame is cut off")
                return 0
            self._frame = self._frame or zstandard.ZstdDecompressor().decompressobj()
            self._content, self._pending, self._at = self._frame.decompress(piece), b"", 0
            if self._frame.eof:
                self._pending, self._frame = self._frame.unused_data, None
        size = min(len(buffer), len(self._content) - self._at)
        buffer[:size] = memoryview(self._content)[self._at : self._at + size]
        self._at += size
        return size
