"""The decode process: one picture at a time out of shared memory, its stored form appended to a spool file.

Native decoders meet hostile bytes here and nowhere else. A picture may crash or hang this process: the supervisor replaces
it. It also ends itself, by an alarm that native code cannot hold off, where its supervisor is gone or asleep.
"""

from __future__ import annotations

import dataclasses
import os
import resource
import select
import signal
import sys
import warnings
from collections.abc import Callable
from typing import IO

from wit import storage
from wit.fetch.channel import Channel
from wit.fetch.ring import map_segment
from wit.images import Blocklist, ImageConfig, Processed, Refused, process
from wit.reasons import InputError, Reason

MEMORY_LIMIT = 4 << 30  # address space; the pixel cap keeps pictures far below it
OPEN_SPOOLS = 4

Work = Callable[[bytes, ImageConfig, Blocklist], Processed | Refused]


def silence_libraries() -> None:
    """Native decoders and Pillow comment on every broken file: the web's files are not the user's problem. Errors of our
    own still reach the terminal."""
    warnings.simplefilter("ignore")
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)


def load_blocklist(config: ImageConfig) -> Blocklist:
    """The hashes of the files named; raises InputError for a line that is no hash."""
    found: list[str] = []
    for path in config.blocked_hashes:
        for number, line in enumerate(storage.read_bytes(path).decode().splitlines(), 1):
            word = line.split("#")[0].strip().lower()
            if word and (len(word.removeprefix("pdq:")) != 64 or not _is_hex(word.removeprefix("pdq:"))):
                raise InputError(f"{path} line {number} is no hash: write 64 hexadecimal digits, pdq: before a PDQ")
            found += [word] if word else []
    return Blocklist(found)


def _is_hex(word: str) -> bool:
    return not word.strip("0123456789abcdef")


class Decoder:
    """Messages in: ("decode", id, offset, length, spool). Messages out: ("decoded", id, result, offset, size)."""

    def __init__(self, channel: Channel, ring_fd: int, ring_size: int, work: Work = process) -> None:
        self.channel, self.work = channel, work
        self.memory = map_segment(ring_fd, ring_size)
        self.spools: dict[str, IO[bytes]] = {}

    def run(self, config: ImageConfig) -> None:
        """Until the supervisor closes the channel."""
        blocked = load_blocklist(config)
        silence_libraries()
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, resource.getrlimit(resource.RLIMIT_AS)[1]))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        self.channel.send(("ready",))
        while not self.channel.closed:
            for message in self.channel.receive():
                _, id, offset, length, spool = message
                signal.setitimer(signal.ITIMER_REAL, config.decode_timeout_s + 5)
                result = self.decode(self.memory[offset : offset + length], config, blocked)
                signal.setitimer(signal.ITIMER_REAL, 0)
                self.channel.send(("decoded", id, *self.stored(result, spool)))
            select.select([self.channel.fileno()], [self.channel.fileno()] if self.channel.backlog else [], [])
            self.channel.flush()

    def decode(self, data: bytes, config: ImageConfig, blocked: Blocklist) -> Processed | Refused:
        try:
            return self.work(data, config, blocked)
        except MemoryError:
            return Refused(Reason.DECODER_CRASHED, "memory")

    def stored(self, result: Processed | Refused, spool: str) -> tuple[Processed | Refused, int, int]:
        """The result without its bytes, and where in the spool those are."""
        if isinstance(result, Refused):
            return result, 0, 0
        file = self.spools.get(spool)
        if file is None:
            while len(self.spools) >= OPEN_SPOOLS:
                self.spools.pop(next(iter(self.spools))).close()
            file = self.spools[spool] = storage.open_spool(spool)
        offset, left = file.seek(0, 2), memoryview(result.data)
        while left:
            left = left[file.write(left) :]
        return dataclasses.replace(result, data=b""), offset, len(result.data)
