"""Requests that wait until there is something to lease.

A plain client's request is a thread that waits. A dq worker's request needs no thread: whoever has
a batch for it leases the batch and sends the answer, while the thread of the connection is already
waiting for the worker's report. That saves a single call two switches between threads.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from dq.core.leases import Lease
from dq.dispatch.connections import Connection
from dq.dispatch.state import DispatchState


class WaitingThread:
    """A thread that waits for something to lease to a plain client.

    Attributes:
        bell: a lock that is held until there may be something to lease.
    """

    __slots__ = ("bell", "connection")

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.bell = threading.Lock()
        self.bell.acquire()


class WorkerRequest:
    """A dq worker's request for a batch. The dispatcher's lock guards it while it is pending. The
    thread that removes it from `PendingRequests` has to answer it, or to add it again.

    Args:
        connection: the worker's.
        most: how many tasks it may have at once; None for any number.
        deadline: when it is answered in any case, in seconds of the dispatcher's clock.
        send: sends a lease, or that there is none.

    Attributes:
        open: a lock that is held until the request has been answered.
        is_cancelled: whether its connection has ended.
    """

    __slots__ = ("connection", "deadline", "is_cancelled", "most", "open", "send")

    def __init__(
        self,
        connection: Connection,
        most: int | None,
        deadline: float,
        send: Callable[[Lease | None], None],
    ) -> None:
        self.connection = connection
        self.most = most
        self.deadline = deadline
        self.send = send
        self.is_cancelled = False
        self.open = threading.Lock()
        self.open.acquire()

    def answer(self, lease: Lease | None) -> None:
        """Send the answer. If that fails, the connection ends, and its leases are requeued."""
        channel = self.connection.channel
        try:
            self.send(lease)
        except OSError:
            channel.shutdown()  # its own thread then handles the end of the connection
        except BaseException:  # such as KeyboardInterrupt: half of the answer may have been sent
            channel.shutdown()
            raise
        finally:
            self.open.release()


class PendingRequests:
    """All pending requests, the newest last. The dispatcher's lock guards everything here.

    Args:
        state: what the dispatcher's parts share.

    Attributes:
        announced: how often something to lease was announced. A thread that has found nothing
            compares it before it waits, so that it misses nothing that came in the meantime.
        has_refusals: whether a worker has rejected a job. The request that is woken may then be
            one that must not have what there is.
        exclusive: ids of the jobs that only one worker may have; likewise.
        for_workers: a condition: notified if there may be something for a dq worker's request.
        next_deadline: when the thread that waits for this condition looks at the requests anyway.
    """

    def __init__(self, state: DispatchState) -> None:
        self._state = state
        self._board = state.board
        self._lock = state.lock
        self._waiting: dict[WaitingThread | WorkerRequest, None] = {}
        self.for_workers = threading.Condition(state.lock)
        self.next_deadline = 0.0
        self.announced = 0
        self.has_refusals = False
        self.exclusive: set[str] = set()

    def __len__(self) -> int:
        return len(self._waiting)

    def announce(self) -> None:
        """Wake one pending request, because there may be something to lease. It announces again
        once it has its batch. If a worker has rejected a job, or a job needs some tags, all are
        woken, because the one might not be allowed to have this. A thread that is woken for nothing
        takes the GIL for 20 µs from one that has work."""
        if not self._board.has_more:
            return
        self.announced += 1
        if self.is_selective():
            self.wake_all()
        else:
            self.wake_one()

    def is_selective(self) -> bool:
        """Whether there may be something that only some requests must have."""
        if self.has_refusals or self.exclusive or self._board.is_selective:
            return True
        return self._state.has_items_without_task()

    def wake_one(self) -> None:
        """Wake the newest request, whose process is most likely still in the processor's caches."""
        if not self._waiting:
            return
        newest = next(reversed(self._waiting))
        if isinstance(newest, WorkerRequest):
            self.for_workers.notify()
        else:
            del self._waiting[newest]
            newest.bell.release()

    def wake_all(self) -> None:
        for request in list(self._waiting):
            if isinstance(request, WaitingThread):
                del self._waiting[request]
                request.bell.release()
        self.for_workers.notify()

    def add(self, request: WaitingThread | WorkerRequest) -> None:
        """Add a request as the newest."""
        self._waiting[request] = None
        if isinstance(request, WorkerRequest) and request.deadline < self.next_deadline:
            self.for_workers.notify()

    def discard(self, request: WaitingThread | WorkerRequest) -> bool:
        """Remove a request, and return whether it was still pending."""
        if request not in self._waiting:
            return False
        del self._waiting[request]
        return True

    def of_workers(self) -> list[WorkerRequest]:
        """The requests of dq workers, the newest first."""
        return [one for one in reversed(self._waiting) if isinstance(one, WorkerRequest)]

    def newest_of_worker(self) -> WorkerRequest | None:
        """The newest request, if that is a dq worker's."""
        newest = next(reversed(self._waiting), None)
        return newest if isinstance(newest, WorkerRequest) else None

    def wait(self, request: WaitingThread, seconds: float) -> None:
        """Wait, without the lock, until an added request is woken or time is up."""
        if not request.bell.acquire(timeout=seconds):
            with self._lock:
                self._waiting.pop(request, None)
