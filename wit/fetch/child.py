"""The start of the engine's child processes: `python -c "from wit.fetch.child import main; main()" ROLE FDS...`."""

from __future__ import annotations

import gc
import importlib
import select
import signal
import socket
import sys
from typing import Any

from wit.fetch.channel import Channel


def main() -> None:
    role, channel_fd, ring_fd, ring_size, *work = sys.argv[1:]
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the supervisor decides when to end
    sock = socket.socket(fileno=int(channel_fd))
    first = sock.recv(1, socket.MSG_PEEK)  # blocks until the configuration is under way
    if not first:
        return
    channel = Channel(sock)
    config = _first_message(channel, sock)
    if role == "fetch":
        from wit.fetch.fetcher import Fetcher

        gc.freeze()  # imported objects stay: no collection need walk them
        Fetcher(channel, int(ring_fd), int(ring_size)).run(*config)
    else:
        from wit.fetch.decoder import Decoder

        module, _, name = (work[0] if work else "wit.images.process:process").partition(":")
        work_on = getattr(importlib.import_module(module), name)
        gc.freeze()
        Decoder(channel, int(ring_fd), int(ring_size), work_on).run(*config)


def _first_message(channel: Channel, sock: socket.socket) -> tuple[Any, ...]:
    while True:
        messages = channel.receive()
        if messages:
            channel.put_back(messages[1:])
            config: tuple[Any, ...] = messages[0]
            return config
        if channel.closed:
            sys.exit(0)
        select.select([sock], [], [])
