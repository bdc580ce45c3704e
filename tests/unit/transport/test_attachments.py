"""Attachments: bytes that travel behind a message and are never copied into it."""

from __future__ import annotations

import pickle
import socket
import struct

import pytest

from dq.transport import limits
from dq.transport.channel import Channel
from dq.transport.limits import ENVELOPE_BYTES
from dq.transport.reading import MessageTooLarge, Stalled
from support.in_threads import in_thread

SIZES = [1, 447, 448, 70_000, 5_000_000]


@pytest.mark.parametrize("size", SIZES)
def test_an_attachment_arrives_with_its_message_and_before_the_next(size: int) -> None:
    ours, theirs = socket.socketpair()
    with Channel(theirs) as peer, Channel(ours) as channel:

        def send() -> None:
            peer.attach([memoryview(b"a" * size), memoryview(b"bc")])
            peer.send("with")
            peer.send("without")

        sender = in_thread(send)
        assert channel.recv() == "with"
        attachment = channel.take_attachment()
        assert attachment is not None
        assert bytes(attachment) == b"a" * size + b"bc"
        assert not attachment.readonly
        assert channel.take_attachment() is None
        assert channel.recv() == "without"
        assert channel.take_attachment() is None
        sender.join()


def test_an_attachment_that_nobody_takes_is_dropped_with_the_next_message() -> None:
    ours, theirs = socket.socketpair()
    with Channel(theirs) as peer, Channel(ours) as channel:
        peer.attach([memoryview(b"abc")])
        peer.send(1)
        peer.send(2)
        assert (channel.recv(), channel.recv()) == (1, 2)
        assert channel.take_attachment() is None


def test_an_attachment_counts_towards_the_limit_and_is_skipped() -> None:
    ours, theirs = socket.socketpair()
    with Channel(theirs) as peer, Channel(ours, max_message=100) as channel:

        def send() -> None:
            peer.attach([memoryview(bytes(100 + ENVELOPE_BYTES))])
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
        theirs.sendall(struct.pack("!iQQ", -2, 1, 1) + b"xy")
        with pytest.raises(MessageTooLarge):
            channel.recv_bytes(256)  # as the handshake reads


def test_an_attachment_that_is_cut_off_ends_the_connection() -> None:
    ours, theirs = socket.socketpair()
    message = pickle.dumps(1)
    with Channel(ours) as channel:
        theirs.sendall(struct.pack("!iQQ", -2, len(message), 9) + message + b"x")
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
        theirs.sendall(struct.pack("!iQQ", -2, len(message), 9) + message + b"x")
        with pytest.raises(Stalled):
            channel.recv()
