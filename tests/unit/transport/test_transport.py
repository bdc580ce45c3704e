"""Connections: framed as the standard library's, with deadlines and limits of their own."""

from __future__ import annotations

import errno
import gc
import itertools
import multiprocessing.connection as mpc
import os
import random
import socket
import struct
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from multiprocessing import AuthenticationError
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dq import errors
from dq.transport import dialing, handshake, limits
from dq.transport.addresses import Address
from dq.transport.channel import Channel
from dq.transport.limits import COALESCE_LIMIT, ENVELOPE_BYTES, GROW_STEP, RECV_CHUNK
from dq.transport.listener import Listener, explain_bind
from dq.transport.reading import MessageTooLarge

KEY = b"0123456789abcdef"
Pair = tuple[Channel, "mpc.Connection[object, object]"]


@pytest.fixture
def ends() -> Iterator[tuple[Channel, socket.socket]]:
    """A channel, and the bare socket on its other end."""
    ours, theirs = socket.socketpair()
    with Channel(ours) as channel, theirs:
        theirs.settimeout(10)
        yield channel, theirs


@pytest.fixture
def stdlib() -> Iterator[Pair]:
    """A channel, and the standard library's Connection on its other end."""
    ours, theirs = socket.socketpair()
    with Channel(ours) as channel, mpc.Connection(theirs.detach()) as connection:
        yield channel, connection


def in_thread(call: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    return thread


# --- framing ---

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


@pytest.mark.parametrize("size", [-5, -2, -(2**31)])
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
@pytest.mark.parametrize("then", ["silent", "gone"])
def test_who_does_not_send_the_rest_of_what_is_too_large_is_ended(
    monkeypatch: pytest.MonkeyPatch, sent: int, then: str
) -> None:
    monkeypatch.setattr(limits, "HANDSHAKE_TIMEOUT_S", 0.1)
    ours, theirs = socket.socketpair()
    with theirs, Channel(ours, loads=bytes, max_message=100) as channel:
        theirs.sendall(struct.pack("!iQ", -1, 2**60) + b"x" * sent)
        if then == "gone":
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


# --- deadlines, and ends ---


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


def test_without_a_deadline_a_channel_waits(ends: tuple[Channel, socket.socket]) -> None:
    channel, peer = ends
    channel.set_deadline(0.05)
    channel.set_deadline(None)
    threading.Timer(0.2, lambda: peer.sendall(struct.pack("!i", 2) + b"ok")).start()
    assert channel.recv_bytes() == b"ok"


def test_gone_says_whether_the_peer_has_closed(ends: tuple[Channel, socket.socket]) -> None:
    channel, peer = ends
    assert not channel.peer_closed()
    peer.sendall(b"x")
    assert not channel.peer_closed()
    assert channel.wire.sock.recv(1) == b"x"
    peer.close()
    assert channel.peer_closed()


def test_gone_takes_nothing_from_what_is_to_be_read(ends: tuple[Channel, socket.socket]) -> None:
    channel, peer = ends
    peer.sendall(struct.pack("!i", 2) + b"ok")
    assert not channel.peer_closed()
    assert channel.recv_bytes() == b"ok"


def test_a_closed_channel_is_gone(ends: tuple[Channel, socket.socket]) -> None:
    channel, _ = ends
    channel.close()
    assert channel.closed
    assert channel.peer_closed()


def test_hanging_up_wakes_who_is_blocked_in_recv(ends: tuple[Channel, socket.socket]) -> None:
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


# --- listening and connecting ---


def addresses(folder: Path) -> list[Address]:
    found: list[Address] = [("127.0.0.1", 0), ("", 0), ("localhost", 0)]
    if socket.has_ipv6 and _has_loopback6():
        found += [("::1", 0), ("::", 0)]
    return [*found, str(folder / "socket")]


def _has_loopback6() -> bool:
    with socket.socket(socket.AF_INET6) as sock:
        return sock.connect_ex(("::1", 1)) not in (errno.EADDRNOTAVAIL, errno.ENETUNREACH)


def reach(address: Address) -> Address:
    """An address to connect to, for one to listen on."""
    if isinstance(address, str):
        return address
    host, port = address
    return ({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port)


@pytest.mark.parametrize("which", range(6))
def test_a_listener_serves_every_family(tmp_path: Path, which: int) -> None:
    found = addresses(tmp_path)
    if which >= len(found):
        pytest.skip("no IPv6 here")
    listener = Listener(found[which])
    try:
        with dialing.dial(reach(listener.address)) as ours, listener.accept() as theirs:
            ours.send("hello")
            assert theirs.recv() == "hello"
    finally:
        listener.close()


def test_a_listener_on_all_ipv6_addresses_serves_ipv4_too() -> None:
    if not (socket.has_ipv6 and _has_loopback6()):
        pytest.skip("no IPv6 here")
    listener = Listener(("::", 0))
    try:
        port = listener.address[1]
        assert isinstance(port, int)
        dialing.dial(("127.0.0.1", port)).close()
    finally:
        listener.close()


def can_connect(host: str, port: object) -> bool:
    try:
        dialing.dial((host, int(str(port)))).close()
    except OSError:
        return False
    return True


def test_a_listener_on_no_host_in_particular_serves_both_families() -> None:
    if not (socket.has_ipv6 and _has_loopback6()):
        pytest.skip("no IPv6 here")
    listener = Listener(("", 0))
    try:
        host, port = listener.address
        assert host == "0.0.0.0"  # which a plain BaseManager can connect to
        assert str(listener) == f"0.0.0.0:{port} and [::]:{port}"
        assert can_connect("127.0.0.1", port)
        assert can_connect("::1", port)
    finally:
        listener.close()


def test_a_listener_on_all_ipv4_addresses_serves_no_others() -> None:
    listener = Listener(("0.0.0.0", 0))
    try:
        port = listener.address[1]
        assert str(listener) == f"0.0.0.0:{port}"
        assert can_connect("127.0.0.1", port)
        assert not can_connect("::1", port)
    finally:
        listener.close()


@pytest.mark.parametrize("fault", ["socket", "bind", "setsockopt"])
def test_a_listener_does_without_ipv6_where_there_is_none(
    monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    without(socket.AF_INET6, fault, monkeypatch)
    listener = Listener(("", 0))
    try:
        host, port = listener.address
        assert str(listener) == f"{host}:{port}" == f"0.0.0.0:{port}"
        assert can_connect("127.0.0.1", port)
    finally:
        listener.close()


def test_a_listener_does_without_ipv4_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    if not (socket.has_ipv6 and _has_loopback6()):
        pytest.skip("no IPv6 here")
    without(socket.AF_INET, "socket", monkeypatch)
    listener = Listener(("", 0))
    try:
        host, port = listener.address
        assert str(listener) == f"[{host}]:{port}" == f"[::]:{port}"
        assert can_connect("::1", port)
    finally:
        listener.close()


@pytest.fixture
def both(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a name that stands for an address of each family, as localhost does on many systems."""
    known = socket.getaddrinfo

    def resolve(host: str, *args: Any, **kw: Any) -> list[Any]:
        if host != "both":
            return known(host, *args, **kw)
        return known("::1", *args, **kw) + known("127.0.0.1", *args, **kw)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)


@pytest.mark.usefixtures("both")
@pytest.mark.parametrize(("fault", "host"), [("", "127.0.0.1"), ("socket", "::1"), ("bind", "::1")])
def test_a_listener_on_a_name_takes_its_ipv4_address_where_there_is_one(
    fault: str, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not (socket.has_ipv6 and _has_loopback6()):
        pytest.skip("no IPv6 here")
    without(socket.AF_INET, fault, monkeypatch)
    listener = Listener(("both", 0))
    try:
        assert listener.address[0] == host
        assert can_connect("both", listener.address[1])
    finally:
        listener.close()


@pytest.mark.usefixtures("both")
def test_a_port_in_use_on_a_names_ipv4_address_is_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError) as caught:
        Listener(("both", taken.getsockname()[1]))
    assert caught.value.errno == errno.EADDRINUSE


def without(family: int, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a kernel that lacks a family of addresses, or what is asked of it."""

    class Socket(socket.socket):
        def __init__(self, family_: int = socket.AF_INET, *args: Any, **kw: Any) -> None:
            if fault == "socket" and family_ == family:
                raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
            super().__init__(family_, *args, **kw)

        def bind(self, address: Any) -> None:
            if fault == "bind" and self.family == family:
                raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")
            super().bind(address)

        def setsockopt(self, *args: Any) -> None:
            if fault == "setsockopt" and args[:2] == V6ONLY:
                raise OSError(errno.EINVAL, "Invalid argument")
            super().setsockopt(*args)

    monkeypatch.setattr(socket, "socket", Socket)


V6ONLY = (socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)


def test_a_port_that_one_family_has_in_use_is_in_use() -> None:
    with socket.create_server(("0.0.0.0", 0)) as taken, pytest.raises(OSError) as caught:
        Listener(("", taken.getsockname()[1]))
    assert caught.value.errno == errno.EADDRINUSE


def test_an_ipv4_peer_is_called_by_its_ipv4_address() -> None:
    listener = Listener(("", 0))
    try:
        with dialing.dial(("", int(listener.address[1]))), listener.accept() as theirs:
            assert theirs.peer() == "127.0.0.1"
    finally:
        listener.close()


def test_a_listener_that_is_woken_accepts_no_more() -> None:
    listener = Listener(("127.0.0.1", 0))
    threading.Timer(0.05, listener.wake).start()
    for _ in range(2):
        with pytest.raises(OSError, match="listener is closed"):
            listener.accept()
    listener.close()


def test_a_closed_listener_leaves_no_socket_file(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    Listener(str(path)).close()
    assert not path.exists()


def shake_hands(ours: bytes, theirs: bytes) -> None:
    """Connect with one key to a listener with another."""
    listener = Listener(("127.0.0.1", 0))

    def serve() -> None:
        with listener.accept() as channel:
            channel.set_deadline(10)
            try:
                handshake.deliver_challenge(channel, theirs)
                handshake.answer_challenge(channel, theirs)
            except (AuthenticationError, EOFError, OSError):
                pass

    server = in_thread(serve)
    try:
        dialing.connect(listener.address, ours).close()
    finally:
        server.join()
        listener.close()


def test_the_same_key_on_both_ends_connects() -> None:
    shake_hands(KEY, KEY)


def test_another_key_is_an_authentication_failure_for_people() -> None:
    with pytest.raises(errors.AuthenticationFailed, match="another authkey"):
        shake_hands(KEY, b"else")


def test_a_server_that_is_silent_is_given_up_within_the_deadline() -> None:
    listener = Listener(("127.0.0.1", 0))
    with pytest.raises(errors.ConnectError, match="cannot connect"):
        dialing.connect(listener.address, KEY, timeout=0.2)
    listener.close()


@pytest.mark.parametrize("said", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0\0\0\4oops"])
def test_a_server_of_another_kind_is_said_to_be_none(said: bytes) -> None:
    listener = Listener(("127.0.0.1", 0))

    def serve() -> None:
        with listener.accept() as channel:
            channel.wire.sock.sendall(said)

    server = in_thread(serve)
    with pytest.raises(errors.ConnectError, match=r"127\.0\.0\.1:\d+"):
        dialing.connect(listener.address, KEY)
    server.join()
    listener.close()


def test_nobody_listening_is_said_with_the_address() -> None:
    listener = Listener(("127.0.0.1", 0))
    listener.close()
    with pytest.raises(errors.ConnectError, match=r"nobody listens at 127\.0\.0\.1:"):
        dialing.connect(listener.address, KEY)


# --- why an address cannot be listened on ---


def bind_error(address: Address) -> OSError:
    with pytest.raises(OSError) as caught:
        Listener(address).close()
    return caught.value


def test_a_port_in_use_is_said_with_a_way_out() -> None:
    listener = Listener(("127.0.0.1", 0))
    text = explain_bind(listener.address, bind_error(listener.address))
    listener.close()
    assert text.startswith(f"port {listener.address[1]} is in use, ")
    assert text.endswith("; port=0 takes a free one")


def test_a_foreign_address_is_said_to_be_none_of_this_machine() -> None:
    address = ("192.0.2.1", 0)
    text = explain_bind(address, bind_error(address))
    assert text == "cannot listen on 192.0.2.1:0: this machine has no such address"


def test_a_folder_that_is_missing_is_said_with_the_path(tmp_path: Path) -> None:
    address = str(tmp_path / "no" / "socket")
    text = explain_bind(address, bind_error(address))
    assert text == f"cannot listen on {address}: {os.strerror(errno.ENOENT)}"


def test_a_privileged_port_is_said_to_be_one() -> None:
    error = PermissionError(errno.EACCES, "Permission denied")
    text = explain_bind(("127.0.0.1", 80), error)
    assert text == "port 80 is privileged; take one from 1024 on"


def test_a_host_that_has_no_address_is_said_to_have_none() -> None:
    error = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    text = explain_bind(("nowhere.invalid", 5000), error)
    assert text == "cannot resolve the host in nowhere.invalid:5000: Name or service not known"
