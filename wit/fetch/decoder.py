"""The decode process: one picture at a time out of shared memory, its stored form appended to a spool file.

Native decoders meet hostile bytes here and nowhere else. If a picture crashes or hangs this process, the supervisor replaces it.
If the supervisor is gone or asleep, the process ends itself, by an alarm that native code cannot hold off.
"""

from __future__ import annotations

import importlib
import logging
import os
import resource
import select
import signal
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass

from wit.fetch.channel import Channel
from wit.fetch.ring import DECODED, map_segment, progress_of
from wit.images.blocklist import Blocklist, load_blocklist
from wit.images.config import ImageConfig
from wit.images.expected import compared
from wit.images.process import looks_at_pixels, process
from wit.images.results import Processed, Refused
from wit.reasons import Reason
from wit.store import fs

MEMORY_LIMIT = 900_000_000  # address space on top of the libraries'; `wit.images.limits` keeps pictures below it
STATM = "/proc/self/statm"
UNKNOWN_BYTES = 4 << 30  # address space assumed for libraries where nothing tells it (not Linux)

Work = Callable[[bytes, ImageConfig, Blocklist], Processed | Refused]


def silence_libraries() -> None:
    """Hides what native decoders and Pillow print about broken files: the web's files are not the user's problem. Our own
    errors still reach the terminal."""
    warnings.simplefilter("ignore")
    logging.getLogger("PIL").setLevel(logging.CRITICAL + 1)
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)


def limit_memory(more_bytes: int) -> None:
    """From here on this process may map at most `more_bytes` more; a decoder that asks for more gets an error."""
    mapped = UNKNOWN_BYTES
    if os.path.exists(STATM):
        with open(STATM, encoding="utf-8") as file:
            mapped = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + more_bytes, resource.getrlimit(resource.RLIMIT_AS)[1]))


@dataclass(slots=True)
class OpenSpool:
    """A spool (`wit.fetch.spool`) as this process writes it; `end` may be ahead of the supervisor's."""

    fd: int
    loan: int = -1
    end: int = 0


class Decoder:
    """Messages in: ("decode", id, expected hash, offset, length, spool, loan, end).
    Messages out: ("decoded", id, result, offset, size); ("unwritten", error number), and no more, where the disk refuses."""

    def __init__(self, channel: Channel, ring_fd: int, ring_size: int, work: Work = process) -> None:
        self.channel, self.work = channel, work
        self.memory = map_segment(ring_fd, ring_size)
        self.progress = progress_of(self.memory)
        self.spools: dict[str, OpenSpool] = {}

    def run(self, config: ImageConfig) -> None:
        """Decodes until the supervisor closes the channel."""
        blocked = load_blocklist(config.blocked_hashes)
        silence_libraries()
        if looks_at_pixels(config, blocked):
            importlib.import_module("wit.images.pixels")  # before the limit counts
        limit_memory(MEMORY_LIMIT)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        self.channel.send(("ready",))
        while not self.channel.closed:
            for _, id, expected, offset, length, *spool in self.channel.receive():
                self.progress[DECODED] += 1  # tells the supervisor which picture is at work, and since when
                signal.setitimer(signal.ITIMER_REAL, config.decode_timeout_s + 5)
                result = self.decode(self.memory[offset : offset + length], config, blocked, expected)
                try:
                    stored = self.stored(result, *spool)
                except OSError as error:  # no fault of the picture
                    self.channel.send(("unwritten", error.errno))
                    return
                self.channel.post(("decoded", id, *stored))
                if self.channel.ripe():
                    self.channel.flush()
            signal.setitimer(signal.ITIMER_REAL, 0)
            self.channel.flush()
            select.select([self.channel.fileno()], [self.channel.fileno()] if self.channel.blocked else [], [])

    def decode(self, data: bytes, config: ImageConfig, blocked: Blocklist, expected: str) -> Processed | Refused:
        """The result of `work`, or why there is none. Whatever `work` raises costs this picture alone: a MemoryError becomes
        IMAGE_NEEDS_MEMORY, anything else DECODER_CRASHED with the exception's name, so that a fault of ours shows in the tables.
        (A Rust panic is no Exception.)"""
        try:
            result = self.work(data, config, blocked)
            return compared(data, result, expected) if expected else result
        except MemoryError:
            return Refused(Reason.IMAGE_NEEDS_MEMORY)
        except BaseException as error:
            return Refused(Reason.DECODER_CRASHED, type(error).__name__)

    def stored(
        self, result: Processed | Refused, path: str, loan: int, end: int
    ) -> tuple[Processed | Refused, int, int]:
        """(the result without its bytes, their offset in the spool, their number)."""
        if isinstance(result, Refused):
            return result, 0, 0
        spool = self.spools.get(path)
        if spool is None:
            spool = self.spools[path] = OpenSpool(fs.open_spool(path))
        if spool.loan != loan:
            spool.loan, spool.end = loan, end
        offset, left = spool.end, memoryview(result.data)
        while left:
            written = os.pwrite(spool.fd, left, spool.end)
            spool.end, left = spool.end + written, left[written:]
        return result.without_data(), offset, len(result.data)
