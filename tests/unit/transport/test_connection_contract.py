"""What a dispatcher relies on in a connection: the same of a socket's and of the fake."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from dq.transport.channel import Channel
from support import wait_until
from support.fakes import FakeChannel


@dataclass
class Ends:
    """A connection, how its peer leaves, and how to fill it with what the peer does not read."""

    ours: Channel | FakeChannel
    leave: Callable[[], None]
    fill: Callable[[], None]


@pytest.fixture(params=["socket", "fake"])
def ends(request: pytest.FixtureRequest) -> Iterator[Ends]:
    if request.param == "fake":
        fake = FakeChannel()
        yield Ends(fake, fake.ended.set, lambda: setattr(fake, "is_full", True))
        return
    ours, theirs = socket.socketpair()
    with Channel(ours) as channel, theirs:
        yield Ends(channel, theirs.close, lambda: fill(ours))


def fill(sock: socket.socket) -> None:
    sock.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            sock.send(bytes(4096))
    sock.setblocking(True)


def test_the_peer_is_there_until_it_leaves(ends: Ends) -> None:
    assert not ends.ours.peer_closed()
    ends.leave()
    wait_until(ends.ours.peer_closed)
    assert ends.ours.peer_closed()


def test_after_a_shutdown_the_peer_counts_as_closed(ends: Ends) -> None:
    ends.ours.shutdown()
    assert ends.ours.peer_closed()
    ends.ours.shutdown()  # a second time does no harm


def test_it_can_be_described_to_people_even_when_the_peer_has_left(ends: Ends) -> None:
    for leaves in (False, True):
        if leaves:
            ends.leave()
        assert ends.ours.peer()
        assert ends.ours.security()


def test_callbacks_are_there_to_be_called(ends: Ends) -> None:
    ends.ours.peer_sends_at_once()
    ends.ours.on_received()
    ends.ours.on_sent()


def test_a_message_may_be_sent_unless_earlier_ones_are_unread(ends: Ends) -> None:
    assert ends.ours.may_send()
    ends.fill()
    assert not ends.ours.may_send()
    ends.leave()
    wait_until(ends.ours.peer_closed)
