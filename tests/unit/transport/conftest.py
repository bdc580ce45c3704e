"""Channels with something else on their other end."""

from __future__ import annotations

import multiprocessing.connection as mpc
import socket
from collections.abc import Iterator

import pytest

from dq.transport.channel import Channel

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
