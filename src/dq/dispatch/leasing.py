"""Waits for something to lease, and hands it over."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress

from dq.core.leases import Lease
from dq.dispatch.batch_maker import BatchMaker, Chosen
from dq.dispatch.connections import Connection, Connections
from dq.dispatch.delivery import Delivery
from dq.dispatch.pending_requests import PendingRequest, PendingRequests
from dq.dispatch.state import DispatchState

LIVENESS_CHECK_S = 1.0  # seconds between a blocked call's checks of its caller's socket
SEND_AT_ONCE_BYTES = 16 * 1024  # bytes that a socket takes without blocking while its peer waits


class Answered(Exception):
    """Raised in a thread if another thread has sent the answer to its connection."""


class Leasing:
    """Leases batches to connections, and waits until there is one.

    A waiting thread holds no task. It takes one only after checking that its caller is still
    connected, so a client that is killed while blocked in `get()` loses nothing. A dq worker's
    lease is requeued when its connection closes, so any thread may send it a task without that
    check.

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
        # Held while inputs are taken and pickled; never acquired while `_lock` is held. The GIL
        # lets only one thread at a time pickle anyway. Without this lock a thousand threads could
        # each have a batch in memory.
        self._turn = threading.Lock()

    def lease(
        self,
        connection: Connection,
        timeout: float | None,
        most: int | None = None,
        send: Callable[[Lease], None] | None = None,
    ) -> Lease | None:
        """Wait for a lease, for a caller that is still connected. Returns None on time-out.

        Args:
            connection: the caller's.
            timeout: seconds.
            most: how many tasks it may have at once.
            send: sends it a lease; called in the thread that has one for it.

        Raises:
            Answered: another thread has sent the lease.
            EOFError: the caller's connection has ended.
        """
        self._connections.join(connection)
        deadline = None if timeout is None else self._clock() + timeout
        # A plain client is checked before the first try too, since with `redeliver` off its items
        # would be lost. A dq worker's are requeued, so it is not checked: that is a system call, in
        # which a thread can lose the GIL.
        looks = send is None
        while True:
            with self._turn:
                chosen, announced = self._choose(connection, most, looks)
                lease = self._batches.lease(connection, chosen) if chosen is not None else None
            if lease is not None:
                return lease
            if chosen is not None:
                self._delivery.run_sinks()  # none of its inputs could be encoded
                continue
            request = PendingRequest(connection, most, send)
            if not self._wait(request, announced, deadline):
                return None
            if request.sent:
                raise Answered
            if request.lease is not None:
                return request.lease
            self._delivery.run_sinks()  # the inputs for this caller may have failed to encode
            looks = True

    def _choose(
        self, connection: Connection, most: int | None, looks: bool
    ) -> tuple[Chosen | None, int]:
        """A batch or None, and how often something to lease had been announced by then."""
        with self._lock:
            if looks and connection.channel.peer_closed():
                self._pending.wake_one()  # this thread was woken, so it passes the call on
                raise EOFError
            return self._batches.choose(connection, most), self._pending.announced

    def _wait(self, request: PendingRequest, announced: int, deadline: float | None) -> bool:
        """Wait until there may be something new to lease. Returns False on time-out."""
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

    def hand_out(self) -> None:
        """Lease a new input to the newest pending request. If that is a dq worker's, this thread
        sends it, because waking the worker's own thread would take 20 µs of the 100 µs that a
        single call takes."""
        with self._lock:
            request = self._pending.newest()
            if request is None or request.send is None:
                self._pending.announce()
                return
            self._pending.remove(request)
            chosen = self._batches.choose(request.connection, request.most)
            if chosen is None:
                self._pending.add(request)
                self._pending.announce()
                return
        self._hand_over(request, chosen)

    def _hand_over(self, request: PendingRequest, chosen: Chosen) -> None:
        assert request.send is not None
        try:
            request.lease = lease = self._batches.lease(request.connection, chosen)
            if lease is not None and len(lease.batch.blob) <= SEND_AT_ONCE_BYTES:
                request.sent = True
                with suppress(OSError):  # its own thread will notice that the connection has ended
                    request.send(lease)
        finally:
            request.bell.release()
