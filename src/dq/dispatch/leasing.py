"""The waiting for something to lease, and the handing over of it."""

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

LIVENESS_CHECK_S = 1.0  # seconds after which a blocked call looks at its caller's socket
SEND_AT_ONCE_BYTES = 16 * 1024  # that any socket whose peer waits takes without blocking


class Answered(Exception):
    """Raised in a thread whose connection has had its answer from another one."""


class Leasing:
    """Gives connections something to do: tries, and else waits.

    A thread that waits holds no task: it takes one only after a look at whether its caller is
    still there, so that a client killed while blocked in `get()` loses nothing. What dq's own
    workers are given comes back when their connection ends; so whichever thread has a task for one
    of them sends it without such a look.

    Args:
        state: what the dispatcher's parts share.
        connections: where a caller is noted before it gets its first lease.
        pending: where those that find nothing wait.
        batches: what they get.
        delivery: of records that come about where nothing could be leased.
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
        # Held while inputs are taken and pickled, outside `_lock` and never within it: the GIL
        # lets one thread at a time do that anyway, and a thousand that have taken theirs and wait
        # would have a thousand batches in memory.
        self._turn = threading.Lock()

    def lease(
        self,
        connection: Connection,
        timeout: float | None,
        most: int | None = None,
        send: Callable[[Lease], None] | None = None,
    ) -> Lease | None:
        """Wait for something to do, for a caller that is still there; None when time is up.

        Args:
            connection: the caller's.
            timeout: seconds.
            most: tasks that it may have at once.
            send: sends it a lease, from whatever thread has one for it.

        Raises:
            Answered: that has been done.
            EOFError: the caller's connection has ended.
        """
        self._connections.join(connection)
        deadline = None if timeout is None else self._clock() + timeout
        # A plain client is looked at before the first try too: with `redeliver` off nothing would
        # come back from it. What a dq worker gets does come back; and to look is a system call, at
        # which a thread can lose the GIL.
        looks = send is None
        while True:
            with self._turn:
                chosen, announced = self._choose(connection, most, looks)
                lease = self._batches.lease(connection, chosen) if chosen is not None else None
            if lease is not None:
                return lease
            if chosen is not None:
                self._delivery.run_sinks()  # nothing of it could be sent
                continue
            request = PendingRequest(connection, most, send)
            if not self._wait(request, announced, deadline):
                return None
            if request.sent:
                raise Answered
            if request.lease is not None:
                return request.lease
            self._delivery.run_sinks()  # what came for this one may have been nothing to be sent
            looks = True

    def _choose(
        self, connection: Connection, most: int | None, looks: bool
    ) -> tuple[Chosen | None, int]:
        """Something to do or None, and how often such had been announced then."""
        with self._lock:
            if looks and connection.channel.peer_closed():
                self._pending.wake_one()  # the call that woke this thread is for another one
                raise EOFError
            return self._batches.choose(connection, most), self._pending.announced

    def _wait(self, request: PendingRequest, announced: int, deadline: float | None) -> bool:
        """Wait until there may be something new to lease; False when it is time to give up."""
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
        """Until the next look at the caller, the deadline, or when a delayed batch is due."""
        left = LIVENESS_CHECK_S
        if deadline is not None:
            left = min(left, deadline - self._clock())
        due = self._board.due()
        return left if due is None else min(left, max(due - self._clock(), 0.001))

    def hand_out(self) -> None:
        """Give what has just come to the newest request that waits. Where that is a dq worker's,
        this thread sends it: to wake the worker's own thread first would take 20 µs of the 100
        that a single call takes."""
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
                with suppress(OSError):  # its own thread will see that the connection has ended
                    request.send(lease)
        finally:
            request.bell.release()
