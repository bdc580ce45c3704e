"""What a dispatcher relies on in a connection: the same of a socket's and of the fake."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from dq.transport.channel import Channel
from support import wait_until
from support.fakes import FakeChannel


@dataclass
class Ends:
    """A connection, and how its peer leaves."""

    ours: Channel | FakeChannel
    leave: Callable[[], None]


@pytest.fixture(params=["socket", "fake"])
def ends(request: pytest.FixtureRequest) -> Iterator[Ends]:
    if request.param == "fake":
        fake = FakeChannel()
        yield Ends(fake, fake.ended.set)
        return
    ours, theirs = socket.socketpair()
    with Channel(ours) as channel, theirs:
        yield Ends(channel, theirs.close)


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
