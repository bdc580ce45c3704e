"""Requests for something to lease that wait until there is something."""

from __future__ import annotations

import threading
from collections.abc import Callable

from dq.core.leases import Lease
from dq.dispatch.connections import Connection
from dq.dispatch.state import DispatchState


class PendingRequest:
    """A thread that waits for something to lease, for its connection. While it waits, the
    dispatcher's lock guards it. From when another thread takes it out of `PendingRequests` until
    that releases the bell, it is that thread's alone.

    Attributes:
        most: tasks that the connection may have at once; None for any number.
        send: sends it a lease; None where only its own thread may do that.
        bell: held until there may be something.
        lease: what it got from another thread.
        sent: whether that thread has sent it, too.
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
    """All requests that wait, the newest last. The dispatcher's lock guards everything here.

    Args:
        state: what the dispatcher's parts share.

    Attributes:
        announced: how often something to lease was announced. A thread that has found nothing
            compares it before it waits, so that it does not miss what came between the two.
        has_refusals: whether a worker has rejected a job, so that the one that is woken might be
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
        """Wake those that wait, if there may be something to lease: one, which announces the rest
        when it has taken its part; all, where that one might not be allowed to have it. No thread
        is woken for nothing: it takes the GIL from one that has work, for 20 µs each time."""
        if not self._board.has_more:
            return
        self.announced += 1
        if self.has_refusals or self._state.has_items_without_task():
            self.wake_all()
        else:
            self.wake_one()

    def wake_one(self) -> None:
        """Wake the newest: its process is the one that is still in the processor's caches."""
        if self._waiting:
            self._waiting.popitem()[0].bell.release()

    def wake_all(self) -> None:
        while self._waiting:
            self._waiting.popitem()[0].bell.release()

    def newest(self) -> PendingRequest | None:
        return next(reversed(self._waiting), None)

    def add(self, request: PendingRequest) -> None:
        """Let a request wait, as the newest."""
        self._waiting[request] = None

    def remove(self, request: PendingRequest) -> None:
        """Take a request out; whoever does that releases its bell."""
        del self._waiting[request]

    def wait(self, request: PendingRequest, seconds: float) -> None:
        """Wait, without the lock, until a request that was added is woken or time is up."""
        if request.bell.acquire(timeout=seconds):
            return
        with self._lock:
            taken = request not in self._waiting
            self._waiting.pop(request, None)
        if taken:  # by a thread that is about to hand something over
            request.bell.acquire()
