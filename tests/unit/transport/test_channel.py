"""Connections: their deadlines, and how they end."""

from __future__ import annotations

import gc
import socket
import struct
import threading
import time
import warnings

import pytest

from dq.transport.channel import Channel
from support.in_threads import in_thread


def test_a_peer_that_sends_byte_by_byte_gains_no_time(ends: tuple[Channel, socket.socket]) -> None:
    channel, peer = ends
    stop = threading.Event()

    def drip() -> None:
        peer.sendall(struct.pack("!i", 10_000))
        while not stop.wait(0.02):
            peer.sendall(b"x")

    dripper = in_thread(drip)
    channel.set_deadline(0.3)
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        channel.recv_bytes()
    assert time.monotonic() - started < 10
    stop.set()
    dripper.join()


def test_a_peer_that_does_not_read_cannot_hold_a_sender_beyond_its_deadline(
    ends: tuple[Channel, socket.socket],
) -> None:
    channel, _ = ends
    channel.set_deadline(0.2)
    with pytest.raises(TimeoutError):
        channel.send_bytes(b"x" * 50_000_000)


def test_without_a_deadline_a_channel_waits(ends: tuple[Channel, socket.socket]) -> None:
    channel, peer = ends
    channel.set_deadline(0.05)
    channel.set_deadline(None)
    threading.Timer(0.2, lambda: peer.sendall(struct.pack("!i", 2) + b"ok")).start()
    assert channel.recv_bytes() == b"ok"


def test_peer_closed_says_whether_the_peer_has_closed(ends: tuple[Channel, socket.socket]) -> None:
    channel, peer = ends
    assert not channel.peer_closed()
    peer.sendall(b"x")
    assert not channel.peer_closed()
    assert channel.wire.sock.recv(1) == b"x"
    peer.close()
    assert channel.peer_closed()


def test_peer_closed_takes_nothing_from_what_is_to_be_read(
    ends: tuple[Channel, socket.socket],
) -> None:
    channel, peer = ends
    peer.sendall(struct.pack("!i", 2) + b"ok")
    assert not channel.peer_closed()
    assert channel.recv_bytes() == b"ok"


def test_a_closed_channel_has_no_peer(ends: tuple[Channel, socket.socket]) -> None:
    channel, _ = ends
    channel.close()
    assert channel.closed
    assert channel.peer_closed()


def test_shutdown_wakes_who_is_blocked_in_recv(ends: tuple[Channel, socket.socket]) -> None:
    channel, _ = ends
    ended = threading.Event()

    def wait() -> None:
        with pytest.raises((EOFError, OSError)):
            channel.recv()
        ended.set()

    in_thread(wait)
    while not ended.wait(0.02):
        channel.shutdown()
    assert ended.is_set()


def test_poll_sees_a_message_and_the_end(ends: tuple[Channel, socket.socket]) -> None:
    channel, peer = ends
    assert not channel.poll()
    peer.close()
    assert channel.poll(10)


def test_a_channel_that_is_dropped_closes_as_the_standard_librarys_does() -> None:
    ours, theirs = socket.socketpair()
    with theirs, warnings.catch_warnings():
        warnings.simplefilter("error")
        channel = Channel(ours)
        del channel, ours
        gc.collect()
        assert theirs.recv(1) == b""
