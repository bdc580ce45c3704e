"""The connections, and what each holds."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from dq.core.leases import Lease, LeaseHolder
from dq.dispatch.state import DispatchState
from dq.transport.channel import Channel

if TYPE_CHECKING:
    from dq.dispatch.commands import Mailbox
    from dq.dispatch.pending_requests import WorkerRequest  # which knows its connection


class Consumer(Protocol):
    """Whoever can have leases: a connection, or the master's own process.

    Attributes:
        has_default: whether it has a function for the items of plain clients.
        joined: whether it is on the board.
    """

    holder: LeaseHolder
    has_default: bool
    joined: bool


@dataclass(slots=True, eq=False)
class Connection:
    """One connection. The thread that serves it changes this or, while a dq worker's request waits,
    the one thread that answers it; so no lock guards it.

    Attributes:
        specs: jobs whose spec was sent to it, and how many of their definitions were.
        has_default: whether it has a function for the items of plain clients.
        inputs_held: leases of the master's own inputs that a plain client has, oldest first.
        items_held: what a plain client's last request got from the task queue.
        result_held: what it got from the result queue, until that is sent.
        joined: whether it is on the board.
        gets_tasks: whether it is a plain client that has asked for a task.
        request: its last request that was kept until there is something to lease.
        mailbox: the commands for its worker, if it is the connection for beats.
    """

    channel: Channel
    holder: LeaseHolder
    specs: dict[str, int] = field(default_factory=dict)
    has_default: bool = False
    inputs_held: deque[Lease] = field(default_factory=deque)
    items_held: list[Lease] = field(default_factory=list)
    result_held: list[object] = field(default_factory=list)
    joined: bool = False
    gets_tasks: bool = False
    request: WorkerRequest | None = None
    mailbox: Mailbox | None = None


class Connections:
    """All connections that have sent a request.

    Args:
        state: what the dispatcher's parts share.

    Attributes:
        changed: a condition of the dispatcher's lock: notified when a connection has joined or
            left, or a supervisor has reported a death.
    """

    def __init__(self, state: DispatchState) -> None:
        self._state = state
        self._board = state.board
        self.changed = threading.Condition(state.lock)
        self._holder_ids = iter(range(1, 2**63))  # `next` is atomic, so it needs no lock
        self._here = threading.local()  # .connection: the one that this thread serves

    @property
    def current(self) -> Connection:
        """The connection that this thread serves."""
        connection: Connection = self._here.connection
        return connection

    def open(self, channel: Channel) -> Connection:
        """Make this thread serve a new connection."""
        holder = LeaseHolder(next(self._holder_ids), is_slot=False)
        self._here.connection = connection = Connection(channel=channel, holder=holder)
        return connection

    def join(self, consumer: Consumer) -> None:
        """Let a connection, or this process, have leases from now on."""
        if not consumer.joined:
            with self._state.lock:
                self._board.join(consumer.holder)
                consumer.joined = True
                self.changed.notify_all()

    def wait_for_workers(self, count: int, timeout: float) -> bool:
        """Wait until dq's own workers have so many connections. Returns False on time-out."""
        with self._state.lock:
            return self.changed.wait_for(
                lambda: sum(bool(h.group) for h in self._board.holders.values()) >= count, timeout
            )

    def wait_until_no_workers(self, timeout: float) -> bool:
        """Wait until none of dq's own workers is connected. Returns False on time-out."""
        with self._state.lock:
            return self.changed.wait_for(
                lambda: not any(h.group for h in self._board.holders.values()), timeout
            )

    def wait_until_none(self, timeout: float) -> bool:
        """The same, and that no plain client is connected that gets tasks.

        Each connects once more when it ends. If the listening socket is closed at that moment,
        Linux leaves some (with 6.18 one in some hundred) connected to nobody, and the standard
        library waits for ever for the answer.
        """
        with self._state.lock:
            return self.changed.wait_for(lambda: not self._board.holders, timeout)
