"""The two queues of the recipe, which are views of the dispatcher."""

from __future__ import annotations

import queue
import threading

from dq.data.pieces import BadValue
from dq.dispatch.dispatcher import Dispatcher
from dq.dispatch.leasing import LIVENESS_CHECK_S
from dq.dispatch.plain_queue import Unfinished
from dq.dispatch.served_job import PLAIN


class TaskQueue:
    """The task queue of plain clients, with the methods of `queue.Queue`."""

    EXPOSED = (
        "put",
        "put_nowait",
        "get",
        "get_nowait",
        "qsize",
        "empty",
        "full",
        "task_done",
        "join",
    )

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._q = dispatcher

    def put(self, item: object, block: bool = True, timeout: float | None = None) -> None:
        q = self._q
        served = q.served_jobs[PLAIN]
        deadline = _deadline(q, block, timeout)
        with q.lock:
            _check_not_stopping(q)
            while q.plain.maxsize and len(served.source.buffer) >= q.plain.maxsize:
                if not _wait(q, q.plain.room, deadline):
                    raise queue.Full
            served.source.buffer.append(item)
            q.plain.unfinished_tasks.add(1)
            q.board.supply(PLAIN, 1)
        q.requests.hand_out()

    def put_nowait(self, item: object) -> None:
        self.put(item, block=False)

    def get(self, block: bool = True, timeout: float | None = None) -> object:
        q = self._q
        connection = q.connections.current
        if not connection.gets_tasks:
            q.presence.add_plain_client(connection)
        deadline = _deadline(q, block, timeout)
        while True:
            lease = q.leasing.lease(
                connection, None if deadline is None else deadline - q.clock(), most=1
            )
            if lease is None:
                raise EOFError if q.stopping else queue.Empty
            served = q.served_jobs.get(lease.batch.job)
            if served is None:
                continue  # its job has been closed in the meantime
            [value] = served.values(lease.batch)
            if not isinstance(value, BadValue):
                break
            q.plain_answers.fail(lease, value.failure)  # for example a line that is not JSON
        if lease.batch.job != PLAIN:
            connection.inputs_held.append(lease)
        elif q.plain.redeliver:
            connection.items_held.append(lease)
        else:
            with q.lock:
                q.board.ack(lease.id, q.clock())
        return value

    def get_nowait(self) -> object:
        return self.get(block=False)

    def qsize(self) -> int:
        """How many items wait, including requeued ones."""
        with self._q.lock:
            return sum(job.unbatched + job.waiting.count for job in self._q.board.jobs.values())

    def empty(self) -> bool:
        return not self.qsize()

    def full(self) -> bool:
        with self._q.lock:
            waiting = len(self._q.served_jobs[PLAIN].source.buffer)
            return 0 < self._q.plain.maxsize <= waiting

    def task_done(self) -> None:
        """Acknowledge what this connection got last, without a result."""
        q = self._q
        with q.lock:
            connection = q.connections.current
            if connection.inputs_held:
                q.plain_answers.answer(connection.inputs_held.popleft(), None)
                return
            _done(q.plain.unfinished_tasks)

    def join(self) -> None:
        """Wait until each item was finished by a dq worker or acknowledged by `task_done()`."""
        _join(self._q, self._q.plain.unfinished_tasks)


class ResultQueue:
    """The result queue of plain clients, with the methods of `queue.Queue`."""

    EXPOSED = TaskQueue.EXPOSED

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._q = dispatcher

    def put(self, item: object, block: bool = True, timeout: float | None = None) -> None:
        """Answer the oldest of the master's inputs that this connection holds. If it holds none,
        put a plain item."""
        q = self._q
        with q.lock:
            connection = q.connections.current
            if connection.inputs_held:
                q.plain_answers.answer(connection.inputs_held.popleft(), item)
                return
            _check_not_stopping(q)
            q.plain.put_results([item])

    def put_nowait(self, item: object) -> None:
        self.put(item)

    def get(self, block: bool = True, timeout: float | None = None) -> object:
        q = self._q
        deadline = _deadline(q, block, timeout)
        with q.lock:
            connection = q.connections.current
            while not q.plain.results:
                if not _wait(q, q.plain.arrived, deadline):
                    raise queue.Empty
            item = q.plain.results.popleft()
            connection.result_held.append(item)
        return item

    def get_nowait(self) -> object:
        return self.get(block=False)

    def qsize(self) -> int:
        return len(self._q.plain.results)

    def empty(self) -> bool:
        return not self._q.plain.results

    def full(self) -> bool:
        """Always False, since `maxsize` is for the task queue only."""
        return False

    def task_done(self) -> None:
        """Note that an item from this queue has been processed."""
        with self._q.lock:
            _done(self._q.plain.unfinished_results)

    def join(self) -> None:
        """Wait until `task_done()` has been called for each result."""
        _join(self._q, self._q.plain.unfinished_results)


def _deadline(q: Dispatcher, block: bool, timeout: float | None) -> float | None:
    if not block:
        return q.clock()
    if timeout is not None and timeout < 0:
        raise ValueError("'timeout' must be a non-negative number")
    return None if timeout is None else q.clock() + timeout


def _wait(q: Dispatcher, condition: threading.Condition, deadline: float | None) -> bool:
    """Wait on a condition in slices, while the caller is connected. Returns False on time-out."""
    left = LIVENESS_CHECK_S if deadline is None else min(LIVENESS_CHECK_S, deadline - q.clock())
    if left <= 0:
        return False
    condition.wait(left)
    if q.stopping or q.connections.current.channel.peer_closed():
        condition.notify()
        raise EOFError
    return True


def _check_not_stopping(q: Dispatcher) -> None:
    """Refuse what nobody would get any more, rather than have it lost."""
    if q.stopping:
        raise EOFError


def _done(unfinished: Unfinished) -> None:
    if not unfinished.count:
        raise ValueError("task_done() called too many times")
    unfinished.done(1)


def _join(q: Dispatcher, unfinished: Unfinished) -> None:
    with q.lock:
        while unfinished.count:
            _wait(q, unfinished.none_left, None)
