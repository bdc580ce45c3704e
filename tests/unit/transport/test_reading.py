"""Messages: framed as the standard library's, in time, and no larger than they may be."""

from __future__ import annotations

import itertools
import multiprocessing.connection as mpc
import random
import socket
import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dq.transport import limits
from dq.transport.channel import Channel
from dq.transport.limits import COALESCE_LIMIT, ENVELOPE_BYTES, GROW_STEP, RECV_CHUNK
from dq.transport.reading import MessageTooLarge
from support.in_threads import in_thread

Pair = tuple[Channel, "mpc.Connection[object, object]"]

SIZES = [0, 1, 16_384, 16_385, 65_536, 65_537, 1_000_000]


@pytest.mark.parametrize("size", SIZES)
def test_the_standard_library_reads_what_a_channel_sends(stdlib: Pair, size: int) -> None:
    channel, connection = stdlib
    sender = in_thread(lambda: channel.send_bytes(b"x" * size))
    assert connection.recv_bytes() == b"x" * size
    sender.join()


@pytest.mark.parametrize("size", SIZES)
def test_a_channel_reads_what_the_standard_library_sends(stdlib: Pair, size: int) -> None:
    channel, connection = stdlib
    sender = in_thread(lambda: connection.send_bytes(b"x" * size))
    assert channel.recv_bytes() == b"x" * size
    sender.join()


@pytest.mark.parametrize("size", SIZES)
def test_both_put_the_same_bytes_on_the_wire(size: int) -> None:
    def wire(send: Callable[[socket.socket], None]) -> bytes:
        ours, theirs = socket.socketpair()
        sender = in_thread(lambda: send(ours))
        with theirs, theirs.makefile("rb") as stream:
            received = stream.read()
        sender.join()
        return received

    def by_channel(sock: socket.socket) -> None:
        with Channel(sock) as channel:
            channel.send_bytes(b"x" * size)

    def by_stdlib(sock: socket.socket) -> None:
        with mpc.Connection(sock.detach()) as connection:
            connection.send_bytes(b"x" * size)

    assert wire(by_channel) == wire(by_stdlib)


def test_objects_pass_in_both_directions(stdlib: Pair) -> None:
    channel, connection = stdlib
    channel.send({"a": [1, 2.5, None]})
    assert connection.recv() == {"a": [1, 2.5, None]}
    connection.send(("#RETURN", b"x"))
    assert channel.recv() == ("#RETURN", b"x")


@given(
    st.lists(st.integers(0, 2 * RECV_CHUNK), min_size=1, max_size=6),
    st.lists(st.integers(1, 3 * RECV_CHUNK), min_size=1, max_size=6),
    st.booleans(),
)
def test_messages_come_whole_and_one_by_one_however_they_are_cut(
    sizes: list[int], cuts: list[int], long: bool
) -> None:
    messages = [bytes([n]) * size for n, size in enumerate(sizes)]
    headers = [struct.pack("!iQ", -1, n) if long else struct.pack("!i", n) for n in sizes]
    stream = b"".join(head + body for head, body in zip(headers, messages, strict=True))
    ours, theirs = socket.socketpair()
    with Channel(ours) as channel:

        def send() -> None:
            with theirs:
                rest = memoryview(stream)
                for cut in itertools.cycle(cuts):
                    theirs.sendall(rest[:cut])
                    rest = rest[cut:]
                    if not rest:
                        break

        sender = in_thread(send)
        for message in messages:
            assert channel.poll(10)
            assert not channel.peer_closed()
            assert channel.recv_bytes() == message
        with pytest.raises(EOFError):
            channel.recv_bytes()
        sender.join()


def test_a_long_header_is_read(ends: tuple[Channel, socket.socket]) -> None:
    channel, peer = ends
    peer.sendall(struct.pack("!iQ", -1, 5) + b"hello")
    assert channel.recv_bytes() == b"hello"


@pytest.mark.parametrize("size", [2**31, 2**40, 2**60])
def test_a_long_header_over_the_limit_is_refused_before_anything_is_allocated(
    ends: tuple[Channel, socket.socket], size: int
) -> None:
    channel, peer = ends
    peer.sendall(struct.pack("!iQ", -1, size))
    with pytest.raises(MessageTooLarge, match=f"a message of {size} bytes"):
        channel.recv_bytes(2**26)


def test_a_message_beyond_2_gib_has_the_standard_librarys_long_header() -> None:
    class Wire:
        sent: list[object] = []  # noqa: RUF012  # of one test

        def sendall(self, data: object) -> None:
            self.sent.append(data)

    class Huge(bytes):
        def __len__(self) -> int:
            return 0x80000000

    ours, theirs = socket.socketpair()
    with theirs, Channel(ours) as channel:
        channel.wire.sock, wire = Wire(), channel.wire.sock  # type: ignore[assignment]  # 2 GiB need not flow
        channel.send_bytes(Huge())
        channel.wire.sock = wire
    assert Wire.sent[0] == struct.pack("!iQ", -1, 0x80000000)


@pytest.mark.parametrize("size", [-5, -3, -(2**31)])
def test_a_negative_length_is_refused(ends: tuple[Channel, socket.socket], size: int) -> None:
    channel, peer = ends
    peer.sendall(struct.pack("!i", size))
    with pytest.raises(MessageTooLarge):
        channel.recv()


def test_a_message_at_the_limit_is_taken_and_one_byte_more_is_not() -> None:
    ours, theirs = socket.socketpair()
    with Channel(theirs) as peer, Channel(ours, loads=bytes, max_message=100) as channel:
        most = 100 + ENVELOPE_BYTES
        sender = in_thread(lambda: [peer.send_bytes(b"x" * size) for size in (most, most + 1, 3)])
        assert channel.recv() == b"x" * most
        with pytest.raises(MessageTooLarge, match=f"{most + 1} bytes; the limit is 100 "):
            channel.recv()
        assert channel.recv() == b"xxx"  # what follows is read as the next
        sender.join()


@pytest.mark.parametrize("sent", [0, 3, 100_000])
@pytest.mark.parametrize("then", ["silent", "closed"])
def test_who_does_not_send_the_rest_of_what_is_too_large_is_ended(
    monkeypatch: pytest.MonkeyPatch, sent: int, then: str
) -> None:
    monkeypatch.setattr(limits, "HANDSHAKE_TIMEOUT_S", 0.1)
    ours, theirs = socket.socketpair()
    with theirs, Channel(ours, loads=bytes, max_message=100) as channel:
        theirs.sendall(struct.pack("!iQ", -1, 2**60) + b"x" * sent)
        if then == "closed":
            theirs.shutdown(socket.SHUT_WR)
        with pytest.raises(MessageTooLarge):
            channel.recv()
        with pytest.raises((EOFError, OSError)):
            channel.recv()


def test_an_end_between_messages_is_an_eof_and_one_within_a_message_is_not(
    ends: tuple[Channel, socket.socket],
) -> None:
    channel, peer = ends
    peer.sendall(struct.pack("!i", 0))
    assert channel.recv_bytes() == b""
    peer.sendall(struct.pack("!i", 9) + b"half")
    peer.close()
    with pytest.raises(OSError, match="cut off"):
        channel.recv_bytes()
    with pytest.raises(EOFError):
        channel.recv_bytes()


def test_who_stops_within_a_long_message_is_ended(
    ends: tuple[Channel, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    channel, theirs = ends
    monkeypatch.setattr(limits, "STALL_TIMEOUT_S", 0.2)
    theirs.sendall(struct.pack("!i", 2**26) + b"x" * 500)
    with pytest.raises(TimeoutError, match=r"nothing more of a message came for 0\.2 s"):
        channel.recv()
    assert theirs.recv(1) == b""


def test_a_deadline_counts_within_a_long_message_as_ever(
    ends: tuple[Channel, socket.socket],
) -> None:
    channel, theirs = ends
    channel.set_deadline(0.2)
    theirs.sendall(struct.pack("!i", 2**26) + b"x" * 500)
    with pytest.raises(TimeoutError):
        channel.recv()


@pytest.mark.parametrize(
    "size", [COALESCE_LIMIT + 1, GROW_STEP, GROW_STEP + 1, 4 * GROW_STEP, 9 * GROW_STEP + 5]
)
def test_a_long_message_comes_whole_and_the_next_is_waited_for(stdlib: Pair, size: int) -> None:
    channel, connection = stdlib
    data = random.Random(1).randbytes(size)
    sender = in_thread(lambda: connection.send_bytes(data))
    assert channel.recv_bytes() == data
    sender.join()
    assert channel.wire.sock.gettimeout() is None
