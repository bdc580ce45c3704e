"""Requests of dq workers: answered at once, or kept until there is something to lease."""

from __future__ import annotations

import threading
from contextlib import suppress

from dq.core.leases import Lease
from dq.dispatch.batch_maker import BatchMaker, Chosen
from dq.dispatch.connections import Connection, Connections, Consumer
from dq.dispatch.delivery import Delivery
from dq.dispatch.leasing import LIVENESS_CHECK_S
from dq.dispatch.pending_requests import PendingRequests, WorkerRequest
from dq.dispatch.state import DispatchState

SEND_AT_ONCE_BYTES = 16 * 1024  # bytes that a socket takes without blocking while its peer waits


class WorkerRequests:
    """Leases batches to dq workers.

    A worker's lease is requeued when its connection closes, so any thread may send it a task
    without checking that it is still connected.

    Args:
        state: what the dispatcher's parts share.
        connections: joined by a worker before its first lease.
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

    # In the thread that serves the connection

    def answer(self, request: WorkerRequest) -> None:
        """Answer a dq worker's request in this thread, which serves its connection; or keep it
        until there is something to lease, or its time is up."""
        connection = request.connection
        self._connections.join(connection)
        if self._keep_at_once(request):
            return
        lease = None
        while lease is None:
            with self._state.turn:
                chosen, is_kept = self._choose_or_keep(request)
                if chosen is None:
                    break
                lease = self._batches.lease(connection, chosen)
            if lease is None:
                self._delivery.run_sinks()  # none of its inputs could be encoded
        if not is_kept:
            if lease is not None and len(lease.batch.blob) > SEND_AT_ONCE_BYTES:
                self._delivery.notify_readers()  # the link may be slow
            request.answer(lease)

    def _keep_at_once(self, request: WorkerRequest) -> bool:
        """Keep a request if there is nothing to lease at all, as between two calls of an executor.
        The thread that has just got the last result waits for the GIL meanwhile."""
        with self._lock:
            keep = request.deadline > self._clock() and not (
                self._board.has_more or self._state.stopping
            )
            if keep:
                self._keep(request)
        return keep

    def _keep(self, request: WorkerRequest) -> None:
        request.connection.request = request
        self._pending.add(request)

    def _choose_or_keep(self, request: WorkerRequest) -> tuple[Chosen | None, bool]:
        """A batch for a request, if there is one; else whether the request is kept."""
        with self._lock:
            chosen = self._batches.choose(request.connection, request.most)
            if chosen is not None or self._state.stopping or request.deadline <= self._clock():
                return chosen, False
            self._keep(request)
            if self._board.due() is not None:
                self._pending.announce()  # so that somebody watches the time
            return None, True

    def await_answer(self, request: WorkerRequest) -> None:
        """Wait until a request has been answered, in the thread that serves its connection. This is
        for connections on which the thread must not read while another one may send.

        Raises:
            EOFError: the connection has ended.
        """
        connection = request.connection
        while not request.open.acquire(timeout=LIVENESS_CHECK_S):
            if connection.channel.peer_closed():
                self.cancel(connection)
                raise EOFError
        connection.request = None

    def settle(self, connection: Connection) -> None:
        """Wait until the answer to a connection's last request has been sent. Its next request has
        arrived, so this is a matter of microseconds.

        Raises:
            EOFError: it has not been answered yet, so the other end is not a dq worker.
        """
        request = connection.request
        if request is None:
            return
        connection.request = None
        if not request.open.acquire(blocking=False):
            with self._lock:
                if self._pending.discard(request):
                    raise EOFError
            request.open.acquire()

    def cancel(self, connection: Connection) -> None:
        """Drop the request of a connection that has ended, or wait until another thread has tried
        to answer it."""
        request = connection.request
        if request is None:
            return
        connection.request = None
        with self._lock:
            request.is_cancelled = True
            if self._pending.discard(request):
                return
        connection.channel.shutdown()  # so that nobody waits to send
        request.open.acquire()

    # In the thread that will run it

    def lease_now(self, consumer: Consumer, most: int) -> Lease | None:
        """Lease a batch to this process itself; None if there is nothing to lease now."""
        self._connections.join(consumer)
        while True:
            with self._state.turn:
                with self._lock:
                    chosen = self._batches.choose(consumer, most)
                if chosen is None:
                    return None
                lease = self._batches.lease(consumer, chosen)
            if lease is not None:
                return lease
            self._delivery.run_sinks()  # none of its inputs could be encoded

    # In any thread

    def hand_out(self) -> None:
        """Lease a new input to the newest pending request. If that is a dq worker's, this thread
        sends it, because waking another thread would take 20 µs of the 100 µs that a single call
        takes."""
        with self._lock:
            request = self._pending.newest_of_worker()
            if request is None:
                self._pending.announce()
                return
            self._pending.discard(request)
            chosen = self._batches.choose(request.connection, request.most)
            if chosen is None:
                self._pending.add(request)
                self._pending.announce()
                return
        lease = self._lease_to(request, chosen)
        if lease is not None:
            self.send(request, lease)

    def hand_out_next(self) -> bool:
        """Lease something to a dq worker's pending request. Returns False if there is nothing for
        any of them."""
        with self._state.turn:
            found = self._choose_for_any()
            if found is None:
                return False
            request, chosen = found
            lease = self._lease_to(request, chosen)
        if lease is not None:
            self.send(request, lease)
        return True

    def _choose_for_any(self) -> tuple[WorkerRequest, Chosen] | None:
        tried = set()  # one request of each worker is enough
        with self._lock:
            for request in self._pending.of_workers():
                group = request.connection.holder.group
                if group in tried:
                    continue
                tried.add(group)
                chosen = self._batches.choose(request.connection, request.most)
                if chosen is not None:
                    self._pending.discard(request)
                    return request, chosen
                if not self._pending.is_selective():
                    break  # what this worker must not have, the others must not have either
        return None

    def _lease_to(self, request: WorkerRequest, chosen: Chosen) -> Lease | None:
        """Lease a batch to a request that is no longer pending. It is pending again if there is no
        lease, because the batch's job has ended or none of its inputs can be encoded."""
        lease = None
        try:
            lease = self._batches.lease(request.connection, chosen)
        finally:
            if lease is None:
                self._keep_again(request)
        return lease

    def _keep_again(self, request: WorkerRequest) -> None:
        with self._lock:
            stopping = self._state.stopping and not request.is_cancelled
            if request.is_cancelled:
                request.open.release()  # its connection has ended
            elif not stopping:
                self._pending.add(request)
                self._pending.announce()
        if stopping:
            self.send(request, None)
        # Not in this thread: a callback of a failed call may take any time, or make another call.
        with suppress(RuntimeError):  # too many threads: `run_maintenance` does it
            threading.Thread(target=self._delivery.run_sinks, daemon=True).start()

    def send(self, request: WorkerRequest, lease: Lease | None) -> None:
        """Answer a request that is no longer pending. If that might block, another thread does it:
        a slow link, or a peer that does not read, must hold up neither this thread nor others."""
        size = 0 if lease is None else len(lease.batch.blob)
        if size <= SEND_AT_ONCE_BYTES and request.connection.channel.may_send():
            request.answer(lease)
            return
        sender = threading.Thread(target=request.answer, args=(lease,), daemon=True)
        try:
            sender.start()
        except RuntimeError:  # there are too many threads
            request.answer(lease)
