"""Small messages between a supervisor and its child: pickled frames over a socket pair that never blocks either side.

Both ends are our own processes; image bytes never pass here, only their place in shared memory or in a spool.
"""

from __future__ import annotations

import pickle
import socket
import struct
from typing import Any

READ_SIZE = 1 << 18


class Channel:
    """One end. `post` queues a message for the next `flush`, so that many share a system call and wake the other side once;
    `send` does both. `flush` again when the socket is writable: it takes no more than fits."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.closed = False
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
        self._out += struct.pack("<I", len(frame)) + frame

    def flush(self) -> None:
        try:
            while self._out:
                sent = self.sock.send(self._out)
                del self._out[:sent]
        except BlockingIOError:
            return
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
