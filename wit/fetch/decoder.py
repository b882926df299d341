"""The decode process: one picture at a time out of shared memory, its stored form appended to a spool file.

Native decoders meet hostile bytes here and nowhere else. A picture may crash or hang this process: the supervisor replaces
it. It also ends itself, by an alarm that native code cannot hold off, where its supervisor is gone or asleep.
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

MEMORY_LIMIT = 900_000_000  # address space beyond what libraries take; `wit.images.limits` keeps pictures below it
STATM = "/proc/self/statm"
UNKNOWN_BYTES = 4 << 30  # of address space, where nothing says how much libraries take (not Linux)

Work = Callable[[bytes, ImageConfig, Blocklist], Processed | Refused]


def silence_libraries() -> None:
    """Native decoders and Pillow comment on every broken file: the web's files are not the user's problem. Errors of our
    own still reach the terminal."""
    warnings.simplefilter("ignore")
    logging.getLogger("PIL").setLevel(logging.CRITICAL + 1)
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)


def limit_memory(more_bytes: int) -> None:
    """From here on this process may map so much more than it has: a decoder that asks for more is told that there is none."""
    mapped = UNKNOWN_BYTES
    if os.path.exists(STATM):
        with open(STATM, encoding="utf-8") as file:
            mapped = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + more_bytes, resource.getrlimit(resource.RLIMIT_AS)[1]))


@dataclass(slots=True)
class OpenSpool:
    """A spool (`wit.fetch.spool`) as this process writes it: `end` is ahead of what the supervisor has heard of."""

    fd: int
    loan: int = -1
    end: int = 0


class Decoder:
    """Messages in: ("decode", id, expected hash, offset, length, spool, loan, end).
    Messages out: ("decoded", id, result, offset, size); ("unwritten", error number), the last, where the disk refuses."""

    def __init__(self, channel: Channel, ring_fd: int, ring_size: int, work: Work = process) -> None:
        self.channel, self.work = channel, work
        self.memory = map_segment(ring_fd, ring_size)
        self.progress = progress_of(self.memory)
        self.spools: dict[str, OpenSpool] = {}

    def run(self, config: ImageConfig) -> None:
        """Until the supervisor closes the channel."""
        blocked = load_blocklist(config.blocked_hashes)
        silence_libraries()
        if looks_at_pixels(config, blocked):
            importlib.import_module("wit.images.pixels")  # before the limit counts
        limit_memory(MEMORY_LIMIT)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        self.channel.send(("ready",))
        while not self.channel.closed:
            for _, id, expected, offset, length, *spool in self.channel.receive():
                self.progress[DECODED] += 1  # the supervisor's answer to who was at fault, and since when
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
        """Whatever a picture makes the work raise is that picture's: under its own Reason with the name of the exception, so
        that a fault of ours shows in the tables. What Rust panics with is no Exception."""
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
        """The result without its bytes, and where in the spool those are."""
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
