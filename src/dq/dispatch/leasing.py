"""Leases to plain clients, whose threads wait until there is something."""

from __future__ import annotations

from dq.core.leases import Lease
from dq.dispatch.batch_maker import BatchMaker, Chosen
from dq.dispatch.connections import Connection, Connections
from dq.dispatch.delivery import Delivery
from dq.dispatch.pending_requests import PendingRequests, WaitingThread
from dq.dispatch.state import DispatchState

LIVENESS_CHECK_S = 1.0  # seconds between a blocked call's checks of its caller's socket


class Leasing:
    """Leases batches to plain clients, and waits until there is one.

    A waiting thread holds no task. It takes one only after checking that its caller is still
    connected, so a client that is killed while blocked in `get()` loses nothing.

    Args:
        state: what the dispatcher's parts share.
        connections: joined by a caller before its first lease.
        pending: the requests that wait.
        batches: chooses and encodes the batches.
        delivery: calls the sinks of tasks that failed because they could not be encoded.
    """

    def __init__(
        self,
        state: DispatchState,
        connections: Connections,
        pending: PendingRequests,
        batches: BatchMaker,
        delivery: Delivery,
    ) -> None:
        self._state = state
        self._lock = state.lock
        self._board = state.board
        self._clock = state.clock
        self._connections = connections
        self._pending = pending
        self._batches = batches
        self._delivery = delivery

    def lease(
        self, connection: Connection, timeout: float | None, most: int | None = None
    ) -> Lease | None:
        """Wait for a lease, for a plain client that is still connected. Returns None on time-out.

        Args:
            connection: the caller's.
            timeout: seconds.
            most: how many tasks it may have at once.

        Raises:
            EOFError: the caller's connection has ended.
        """
        self._connections.join(connection)
        deadline = None if timeout is None else self._clock() + timeout
        while True:
            with self._state.turn:
                chosen, announced = self._choose(connection, most)
                lease = self._batches.lease(connection, chosen) if chosen is not None else None
            if lease is not None:
                return lease
            if chosen is not None:
                self._delivery.run_sinks()  # none of its inputs could be encoded
            elif not self._wait(connection, announced, deadline):
                return None

    def _choose(self, connection: Connection, most: int | None) -> tuple[Chosen | None, int]:
        """A batch or None, and how often something to lease had been announced by then. The caller
        is checked before the first try too, since with `redeliver` off its items would be lost."""
        with self._lock:
            if connection.channel.peer_closed():
                self._pending.wake_one()  # this thread was woken, so it passes the call on
                raise EOFError
            return self._batches.choose(connection, most), self._pending.announced

    def _wait(self, connection: Connection, announced: int, deadline: float | None) -> bool:
        """Wait until there may be something new to lease. Returns False on time-out."""
        request = WaitingThread(connection)
        with self._lock:
            left = self._seconds_to_wait(deadline)
            if left <= 0 or self._state.stopping:
                return False
            if announced != self._pending.announced:
                return True
            self._pending.add(request)
        self._pending.wait(request, left)
        return True

    def _seconds_to_wait(self, deadline: float | None) -> float:
        """Until the next check of the caller, the deadline, or the time of a delayed batch."""
        left = LIVENESS_CHECK_S
        if deadline is not None:
            left = min(left, deadline - self._clock())
        due = self._board.due()
        return left if due is None else min(left, max(due - self._clock(), 0.001))
