"""Messages arrive whole and in order, however the socket cuts them."""

from __future__ import annotations

import socket

from wit.fetch.channel import Channel


def test_large_and_small_messages_arrive_in_order() -> None:
    left, right = map(Channel, socket.socketpair())
    sent = [("small", n) for n in range(100)] + [("large", "x" * 5_000_000), ("end",)]
    for message in sent:
        left.send(message)
    assert left.backlog
    received = []
    while len(received) < len(sent):
        received += right.receive()
        left.flush()
    assert received == sent
    left.close()
    right.close()


def test_the_end_of_the_stream_is_noticed() -> None:
    left, right = map(Channel, socket.socketpair())
    left.send("last words")
    left.close()
    assert right.receive() == ["last words"]
    assert right.closed
    right.send("into the void")
    assert right.closed
    right.close()
