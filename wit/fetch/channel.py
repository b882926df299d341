"""Small messages between a supervisor and its child: pickled frames over a socket pair that never blocks either side.

Both ends are our own processes. Image bytes never pass here, only their places in shared memory or in a spool.
"""

from __future__ import annotations

import pickle
import socket
import struct
import time
from typing import Any

READ_SIZE = 1 << 18
BATCH = 8  # messages that are sent together: they share a system call, and wake the other side once
PATIENCE_S = 0.02  # a message waits no longer than this for others


class Channel:
    """One end. `post` queues a message for the next `flush`; it is `ripe` for that after BATCH messages, or after PATIENCE_S.
    `send` posts and flushes. A flush sends only what the socket takes: if it is `blocked` then, flush again once the socket is
    writable."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.closed = False
        self.blocked = False
        self._posted = 0
        self._since = 0.0
        self._in = bytearray()
        self._out = bytearray()
        self._ahead: list[Any] = []

    def fileno(self) -> int:
        return self.sock.fileno()

    @property
    def backlog(self) -> int:
        """Bytes queued that the other side has not taken yet."""
        return len(self._out)

    def send(self, message: Any) -> None:
        self.post(message)
        self.flush()

    def post(self, message: Any) -> None:
        frame = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
        if not self._out:
            self._since = time.monotonic()
        self._posted += 1
        self._out += struct.pack("<I", len(frame)) + frame

    @property
    def due(self) -> float | None:
        """When posted messages must be flushed (monotonic seconds); None where there are none."""
        return self._since + PATIENCE_S if self._posted else None

    def ripe(self) -> bool:
        """Whether it is time to flush."""
        return self._posted >= BATCH or (self._posted > 0 and time.monotonic() >= self._since + PATIENCE_S)

    def flush(self) -> None:
        self.blocked, self._posted = False, 0
        try:
            while self._out:
                sent = self.sock.send(self._out)
                del self._out[:sent]
        except BlockingIOError:
            self.blocked = True
        except OSError:
            self.closed = True
            self._out.clear()

    def receive(self) -> list[Any]:
        """Every whole message that has arrived; sets `closed` at the end of the stream."""
        try:
            while chunk := self.sock.recv(READ_SIZE):
                self._in += chunk
            self.closed = True
        except BlockingIOError:
            pass
        except OSError:
            self.closed = True
        return self._frames()

    def put_back(self, messages: list[Any]) -> None:
        """The next `receive` returns these first."""
        self._ahead = messages + self._ahead

    def _frames(self) -> list[Any]:
        messages, at = self._ahead, 0
        self._ahead = []
        while len(self._in) - at >= 4:
            (length,) = struct.unpack_from("<I", self._in, at)
            if len(self._in) - at - 4 < length:
                break
            messages.append(pickle.loads(self._in[at + 4 : at + 4 + length]))
            at += 4 + length
        del self._in[:at]
        return messages

    def close(self) -> None:
        self.closed = True
        self.sock.close()
