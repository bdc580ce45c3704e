"""Requests that wait until there is something to lease."""

from __future__ import annotations

import threading
from collections.abc import Callable

from dq.core.leases import Lease
from dq.dispatch.connections import Connection
from dq.dispatch.state import DispatchState


class PendingRequest:
    """A thread that waits for something to lease to its connection. The dispatcher's lock guards it
    while it waits. When another thread removes it from `PendingRequests`, only that thread may use
    it until it releases the bell.

    Attributes:
        most: how many tasks the connection may have at once; None for any number.
        send: sends it a lease; None if only its own thread may do that.
        bell: a lock that is held until there may be something to lease.
        lease: the lease that another thread has made for it.
        sent: whether that thread has also sent it.
    """

    __slots__ = ("bell", "connection", "lease", "most", "send", "sent")

    def __init__(
        self, connection: Connection, most: int | None, send: Callable[[Lease], None] | None
    ) -> None:
        self.connection = connection
        self.most = most
        self.send = send
        self.bell = threading.Lock()
        self.bell.acquire()
        self.lease: Lease | None = None
        self.sent = False


class PendingRequests:
    """All pending requests, the newest last. The dispatcher's lock guards everything here.

    Args:
        state: what the dispatcher's parts share.

    Attributes:
        announced: how often something to lease was announced. A thread that has found nothing
            compares it before it waits, so that it misses nothing that came in the meantime.
        has_refusals: whether a worker has rejected a job. The request that is woken may then be
            one that must not have what there is.
    """

    def __init__(self, state: DispatchState) -> None:
        self._state = state
        self._board = state.board
        self._lock = state.lock
        self._waiting: dict[PendingRequest, None] = {}
        self.announced = 0
        self.has_refusals = False

    def __len__(self) -> int:
        return len(self._waiting)

    def announce(self) -> None:
        """Wake one pending request, because there may be something to lease. It announces again
        once it has its batch. If a worker has rejected a job, all are woken, because the one might
        not be allowed to have this. A thread that is woken for nothing takes the GIL for 20 µs
        from one that has work."""
        if not self._board.has_more:
            return
        self.announced += 1
        if self.has_refusals or self._state.has_items_without_task():
            self.wake_all()
        else:
            self.wake_one()

    def wake_one(self) -> None:
        """Wake the newest request, whose process is most likely still in the processor's caches."""
        if self._waiting:
            self._waiting.popitem()[0].bell.release()

    def wake_all(self) -> None:
        while self._waiting:
            self._waiting.popitem()[0].bell.release()

    def newest(self) -> PendingRequest | None:
        return next(reversed(self._waiting), None)

    def add(self, request: PendingRequest) -> None:
        """Add a request as the newest."""
        self._waiting[request] = None

    def remove(self, request: PendingRequest) -> None:
        """Remove a request. The caller has to release its bell."""
        del self._waiting[request]

    def wait(self, request: PendingRequest, seconds: float) -> None:
        """Wait, without the lock, until an added request is woken or time is up."""
        if request.bell.acquire(timeout=seconds):
            return
        with self._lock:
            taken = request not in self._waiting
            self._waiting.pop(request, None)
        if taken:  # by a thread that is about to hand over a lease
            request.bell.acquire()
