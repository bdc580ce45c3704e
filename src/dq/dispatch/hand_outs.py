"""The thread that answers the pending requests of dq workers."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial

from dq.dispatch.leasing import LIVENESS_CHECK_S
from dq.dispatch.pending_requests import PendingRequests, WorkerRequest
from dq.dispatch.state import DispatchState
from dq.dispatch.worker_requests import WorkerRequests

log = logging.getLogger("dq")


class HandOuts:
    """Hands out what there is to the pending requests of dq workers, and answers those whose time
    is up, in a thread of its own.

    Most requests never get here: a request that comes while there is something to lease is answered
    by its own thread, and a call of `Executor.submit` is handed out by the thread that makes it.

    Args:
        state: what the dispatcher's parts share.
        pending: the requests.
        requests: leases batches to them.
    """

    def __init__(
        self, state: DispatchState, pending: PendingRequests, requests: WorkerRequests
    ) -> None:
        self._state = state
        self._lock = state.lock
        self._pending = pending
        self._requests = requests
        self._started = False  # guarded by the lock

    def start(self) -> None:
        """Start the thread, unless it runs. It ends when the master stops.

        Raises:
            OSError: there are too many threads.
        """
        with self._lock:
            if self._started or self._state.stopping:
                return
            try:
                threading.Thread(target=self._run, name="dq-hand-outs", daemon=True).start()
            except RuntimeError as error:
                raise OSError(str(error)) from None
            self._started = True

    def _run(self) -> None:
        announced = -1
        while True:
            with self._lock:
                if announced == self._pending.announced and not self._state.stopping:
                    self._wait()
                announced, stopping = self._pending.announced, self._state.stopping
                overdue = self._take_overdue()
            for request in overdue:
                self._attempt(partial(self._requests.send, request, None))
            while not stopping and self._attempt(self._requests.hand_out_next):
                pass
            if stopping:
                return

    def _attempt(self, action: Callable[[], bool | None]) -> bool | None:
        try:
            return action()
        except BaseException:  # of a user's code, which pickles an input
            log.exception("a batch could not be sent")
            return False

    def _wait(self) -> None:
        pending, now = self._pending, self._state.clock()
        times = [one.deadline for one in pending.of_workers()]
        due = self._state.board.due() if times else None  # without requests it concerns nobody
        if due is not None:
            times.append(max(due, now + 0.001))
        left = min([LIVENESS_CHECK_S, *(time - now for time in times)])
        pending.next_deadline = now + left
        if left > 0:
            pending.for_workers.wait(left)
        pending.next_deadline = 0.0

    def _take_overdue(self) -> list[WorkerRequest]:
        """Remove the requests whose time is up; all of them when the master stops."""
        now = self._state.clock()
        return [
            request
            for request in self._pending.of_workers()
            if (self._state.stopping or request.deadline <= now) and self._pending.discard(request)
        ]
