"""Whether a file is a whole fastText model, before fastText reads it: of one that was cut off it takes all memory that there is,
or it takes zeros for the rest.

The format is that of fastText 0.9 (`FastText::saveModel`), little-endian, version 12:

    header      magic, version; 12 arguments of 4 bytes; one of 8
    dictionary  entries, words, labels (4 bytes each), tokens, pruned (8 each); for each entry its word, a zero, 9 bytes; for
                each pruned one 8 bytes
    input       whether it is quantised (1 byte), and the matrix
    output      the same
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Sequence
from typing import IO, Any

MAGIC, VERSION = 793712314, 12
ARGUMENTS = 12 * 4 + 8
CENTROIDS = 256  # of a product quantiser, for each dimension


def check_whole(stream: IO[bytes]) -> None:
    """Raises ValueError, with what is wrong, unless the file holds a whole model; bytes behind it do not matter."""
    try:
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            _walk(_Reader(data))
    except struct.error as error:
        raise ValueError("it was cut off") from error


class _Reader:
    """Walks over a file; raises struct.error at its end."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data, self.at = data, 0

    def skip(self, count: int) -> None:
        if count < 0 or self.at + count > len(self.data):
            raise struct.error
        self.at += count

    def numbers(self, form: str) -> Sequence[Any]:
        start = self.at
        self.skip(struct.calcsize("<" + form))
        return struct.unpack_from("<" + form, self.data, start)

    def word(self) -> None:
        end = self.data.find(b"\0", self.at)
        self.skip(end + 1 - self.at)


def _walk(file: _Reader) -> None:
    if tuple(file.numbers("ii")) != (MAGIC, VERSION):
        raise ValueError(f"it does not begin as a model of version {VERSION} does")
    file.skip(ARGUMENTS)
    entries, _, _, _, pruned = file.numbers("iiiqq")
    for _ in range(entries):
        file.word()
        file.skip(9)
    file.skip(8 * max(pruned, 0))  # -1 where nothing was pruned
    _skip_matrix(file)
    _skip_matrix(file)


def _skip_matrix(file: _Reader) -> None:
    (quantised,) = file.numbers("?")
    if quantised:
        _skip_quantised(file)
    else:
        _skip_dense(file)


def _skip_dense(file: _Reader) -> None:
    rows, columns = file.numbers("qq")
    file.skip(4 * rows * columns)


def _skip_quantised(file: _Reader) -> None:
    normed, rows, _, codes = file.numbers("?qqi")
    file.skip(codes)
    _skip_quantiser(file)
    if normed:
        file.skip(rows)
        _skip_quantiser(file)


def _skip_quantiser(file: _Reader) -> None:
    dimensions, *_ = file.numbers("iiii")
    file.skip(4 * CENTROIDS * dimensions)
