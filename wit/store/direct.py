"""Files written past the system's cache, and hashed on the way."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os

import xxhash

from wit.store.fs import Digest


class HashedFile:
    """A new local file for work in progress, with the XXH3-128 of its bytes, which takes a tenth of SHA-256's time.

    Where the file system allows (O_DIRECT) it goes to the disk past the system's cache, since nobody reads it again soon. That
    saves a copy, and the cache's fresh pages, which cost several copies (docs/log.md); the fsync of `publish` finds nothing left
    to do. One buffer is filled again and again for the same reason."""

    BUFFER_BYTES = 1 << 20
    ALIGNMENT = 4096  # of memory, length and offset of a direct write; 512 would do for most disks

    def __init__(self, path: str) -> None:
        self._fd, self._direct = _open_direct(path)
        self._pages = mmap.mmap(-1, self.BUFFER_BYTES)
        self._buffer = memoryview(self._pages)
        self._filled = 0
        self._digest = xxhash.xxh3_128()
        self.size = 0

    def write(self, data: bytes) -> None:
        """Appends the bytes; they reach the disk a full buffer at a time."""
        self.size += len(data)
        rest = memoryview(data)
        while rest:
            piece = rest[: len(self._room())]
            self._buffer[self._filled : self._filled + len(piece)] = piece
            self._filled, rest = self._filled + len(piece), rest[len(piece) :]

    def copy(self, fd: int, offset: int, size: int) -> None:
        """Appends `size` bytes of another file, from `offset` on; raises EOFError where it has fewer."""
        self.size += size
        while size:
            read = os.preadv(fd, [self._room()[:size]], offset)
            if not read:
                raise EOFError("a spool is shorter than what was written to it")
            self._filled, offset, size = self._filled + read, offset + read, size - read

    def _room(self) -> memoryview:
        """The free part of the buffer, never empty."""
        if self._filled == self.BUFFER_BYTES:
            self._flush()
        return self._buffer[self._filled :]

    def _flush(self) -> None:
        """Writes the buffer. A length that is no multiple of ALIGNMENT ends direct writing: it comes at the file's end only."""
        piece = self._buffer[: self._filled]
        self._digest.update(piece)
        self._filled = 0
        if len(piece) % self.ALIGNMENT:
            self._write_through_cache()
        while piece:
            try:
                piece = piece[os.write(self._fd, piece) :]
            except OSError as error:
                if error.errno != errno.EINVAL or not self._direct:
                    raise
                self._write_through_cache()  # a file system that promised more than it does

    def _write_through_cache(self) -> None:
        if self._direct:
            fcntl.fcntl(self._fd, fcntl.F_SETFL, 0)
            self._direct = False

    def abandon(self) -> None:
        """Ends the file without the bytes still in the buffer: after an error, or where nobody wants the file any more."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def close(self) -> Digest:
        """Ends the file; returns the digest of all of it."""
        self._flush()
        self.abandon()
        self._buffer.release()
        self._pages.close()
        return Digest("xxh3_128", self._digest.hexdigest())


def _open_direct(path: str) -> tuple[int, bool]:
    """The descriptor of a new file, and whether it is written past the system's cache."""
    how = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    with contextlib.suppress(AttributeError, OSError):  # macOS has no O_DIRECT, some file systems refuse it
        return os.open(path, how | os.O_DIRECT, 0o666), True
    return os.open(path, how, 0o666), False
