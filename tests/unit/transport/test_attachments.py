"""Attachments: bytes that travel behind a message and are never copied into it."""

from __future__ import annotations

import pickle
import socket
import struct

import pytest

from dq._support.arrays import LARGE_BYTES
from dq.transport import limits
from dq.transport.channel import Channel
from dq.transport.limits import ENVELOPE_BYTES
from dq.transport.reading import MessageTooLarge, Stalled
from support.in_threads import in_thread

SIZES = [
    [LARGE_BYTES],
    [8_500, 8_192],
    [70_000, 9_000, 70_000],
    [9_000, 5_000_000, 9_000],
    [100_000] * 40,
    [LARGE_BYTES] * 2500,
]


class Unscattered(socket.socket):
    """A socket that is none of the standard class, like an encrypted one."""


@pytest.mark.parametrize("sizes", SIZES, ids=lambda sizes: f"{len(sizes)}-{sum(sizes)}")
@pytest.mark.parametrize("kind", [socket.socket, Unscattered])
def test_buffers_arrive_with_their_message_and_before_the_next(
    sizes: list[int], kind: type[socket.socket]
) -> None:
    ours, theirs = (kind(fileno=end.detach()) for end in socket.socketpair())
    buffers = [bytes([n % 256]) * size for n, size in enumerate(sizes)]
    with Channel(theirs) as peer, Channel(ours) as channel:

        def send() -> None:
            peer.attach(list(map(memoryview, buffers)))
            peer.send("with")
            peer.send("without")

        sender = in_thread(send)
        assert channel.recv() == "with"
        attached = channel.take_attachment()
        assert [bytes(buffer) for buffer in attached] == buffers
        assert not any(buffer.readonly for buffer in attached)
        assert channel.take_attachment() == []
        assert channel.recv() == "without"
        assert channel.take_attachment() == []
        sender.join()


def test_each_buffer_has_memory_of_its_own() -> None:
    ours, theirs = socket.socketpair()
    with Channel(theirs) as peer, Channel(ours) as channel:
        sizes = [100_000, 9_000, 2_000_000, 9_000]
        peer.attach([memoryview(bytes(size)) for size in sizes])
        sender = in_thread(lambda: peer.send(1))
        channel.recv()
        sender.join()
        blocks = [memoryview(buffer.obj) for buffer in channel.take_attachment()]
        assert len({id(block.obj) for block in blocks}) == len(sizes)
        for block, size in zip(blocks, sizes, strict=True):
            assert block.nbytes <= 2 * size


def test_an_attachment_that_nobody_takes_is_dropped_with_the_next_message() -> None:
    ours, theirs = socket.socketpair()
    with Channel(theirs) as peer, Channel(ours) as channel:
        peer.attach([memoryview(bytes(LARGE_BYTES))])
        peer.send(1)
        peer.send(2)
        assert (channel.recv(), channel.recv()) == (1, 2)
        assert channel.take_attachment() == []


def test_an_attachment_counts_towards_the_limit_and_is_skipped() -> None:
    ours, theirs = socket.socketpair()
    with Channel(theirs) as peer, Channel(ours, max_message=100) as channel:

        def send() -> None:
            peer.attach([memoryview(bytes(60 + ENVELOPE_BYTES // 2))] * 2)
            peer.send("too large")
            peer.send("next")

        sender = in_thread(send)
        with pytest.raises(MessageTooLarge, match="the limit is 100 "):
            channel.recv()
        assert channel.recv() == "next"
        sender.join()


def test_no_attachment_is_taken_before_a_peer_has_the_key() -> None:
    ours, theirs = socket.socketpair()
    with theirs, Channel(ours) as channel:
        theirs.sendall(struct.pack("!iQQQ", -2, 1, 1, 1) + b"xy")
        with pytest.raises(MessageTooLarge):
            channel.recv_bytes(256)  # as the handshake reads


def test_an_attachment_that_is_cut_off_ends_the_connection() -> None:
    ours, theirs = socket.socketpair()
    message = pickle.dumps(1)
    with Channel(ours) as channel:
        theirs.sendall(struct.pack("!iQQQ", -2, len(message), 1, 9000) + message + b"x")
        theirs.close()
        with pytest.raises(OSError, match="cut off"):
            channel.recv()


def test_an_attachment_that_stops_arriving_ends_the_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "STALL_TIMEOUT_S", 0.05)
    ours, theirs = socket.socketpair()
    message = pickle.dumps(1)
    with theirs, Channel(ours) as channel:
        theirs.sendall(struct.pack("!iQQQ", -2, len(message), 1, 9000) + message + b"x")
        with pytest.raises(Stalled):
            channel.recv()


def test_more_buffers_than_fit_into_the_limit_end_the_connection() -> None:
    ours, theirs = socket.socketpair()
    with theirs, Channel(ours, max_message=100) as channel:
        theirs.sendall(struct.pack("!iQQ", -2, 1, 2**61))
        with pytest.raises(OSError, match="more buffers than a message may have"):
            channel.recv()
        with pytest.raises((OSError, EOFError)):
            channel.recv()


@pytest.mark.parametrize("sizes", [[0], [1] * 8000, [10_000, LARGE_BYTES - 1]], ids=len)
def test_buffers_that_take_more_memory_than_they_have_bytes_end_the_connection(
    sizes: list[int],
) -> None:
    ours, theirs = socket.socketpair()
    head = struct.pack(f"!iQQ{len(sizes)}Q", -2, 1, len(sizes), *sizes)
    with theirs, Channel(ours, max_message=2**26) as channel:
        sender = in_thread(lambda: theirs.sendall(head + bytes(1 + sum(sizes))))
        with pytest.raises(OSError, match="cost more than they have"):
            channel.recv()
        with pytest.raises((OSError, EOFError)):
            channel.recv()
        theirs.close()
        sender.join()


def test_an_attachment_that_nobody_takes_is_freed_once_the_message_is_answered() -> None:
    ours, theirs = socket.socketpair()
    with Channel(theirs) as peer, Channel(ours) as channel:
        for answer in (lambda: channel.send("yes"), lambda: channel.send_zeros(3)):
            peer.attach([memoryview(bytes(LARGE_BYTES))])
            peer.send("question")
            channel.recv()
            answer()
            assert channel.take_attachment() == []


def test_sizes_that_stop_arriving_end_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STALL_TIMEOUT_S", 0.05)
    ours, theirs = socket.socketpair()
    with theirs, Channel(ours) as channel:
        theirs.sendall(struct.pack("!iQQQ", -2, 1, 2, 9000))
        with pytest.raises(Stalled):
            channel.recv()
