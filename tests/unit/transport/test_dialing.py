"""Connecting: the handshake, and errors for people."""

from __future__ import annotations

from multiprocessing import AuthenticationError

import pytest

from dq import errors
from dq.transport import dialing, handshake
from dq.transport.listener import Listener
from support.in_threads import in_thread

KEY = b"0123456789abcdef"


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
