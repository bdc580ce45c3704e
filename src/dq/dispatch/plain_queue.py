"""The task queue and the result queue of plain clients."""

from __future__ import annotations

import threading
from collections import deque

from dq.core.records import Failed, Failure, Loads, Recorded, as_error
from dq.data import batches
from dq.data.pieces import BadValue
from dq.dispatch.connections import Connection
from dq.dispatch.served_job import PLAIN
from dq.dispatch.state import DispatchState


class Unfinished:
    """How many items of a queue are not done, as `queue.Queue` counts them.

    Args:
        lock: guards it.
    """

    def __init__(self, lock: threading.RLock) -> None:
        self.count = 0
        self.none_left = threading.Condition(lock)

    def add(self, count: int) -> None:
        """Note that `count` items were put."""
        self.count += count

    def done(self, count: int) -> None:
        """Note that `count` items are done."""
        self.count = max(self.count - count, 0)
        if not self.count:
            self.none_left.notify_all()


class PlainQueue:
    """The result queue and the limits of plain clients' queues. The items of their task queue are
    the inputs of a job.

    Everything here is guarded by the dispatcher's lock, and the conditions belong to that lock. All
    methods except `ack` are called with it held.

    Args:
        state: what the dispatcher's parts share.
        loads: unpickles the results that plain clients get.
        maxsize: how many items may wait in the task queue; 0 for any number.
        redeliver: requeue what a plain client got if its connection ends.

    Attributes:
        room: notified when the task queue has become shorter.
        arrived: notified when there is another result.
        results: the values in the result queue.
    """

    def __init__(
        self, state: DispatchState, *, loads: Loads, maxsize: int, redeliver: bool
    ) -> None:
        self.maxsize = maxsize
        self.redeliver = redeliver
        self._loads = loads
        self._lock = state.lock
        self._board = state.board
        self._clock = state.clock
        self.room = threading.Condition(state.lock)
        self.arrived = threading.Condition(state.lock)
        self.unfinished_tasks = Unfinished(state.lock)
        self.unfinished_results = Unfinished(state.lock)
        self.results: deque[object] = deque()

    def put_results(self, values: list[object]) -> None:
        """Put values on the result queue. It has no limit, because workers would otherwise wait for
        a client that puts all of its tasks before it gets the first result."""
        self.results.extend(values)
        self.unfinished_results.add(len(values))
        self.arrived.notify(len(values))

    def put_record(self, record: Recorded) -> None:
        """Put the outcomes of plain clients' items on the result queue as bare values. A failure is
        a RuntimeError, which any Python can unpickle."""
        values = self._values(record)
        self.put_results([as_error(v.failure) if isinstance(v, BadValue) else v for v in values])
        self._board.consumed(PLAIN, 1, record.nbytes)
        self.unfinished_tasks.done(record.batch.count)

    def _values(self, record: Recorded) -> list[object]:
        outcome = record.outcome
        if isinstance(outcome, Failed):
            return [as_error(outcome.failure)]
        try:
            values = batches.load(outcome.blob, self._loads)
            if len(values) != outcome.count:
                raise ValueError("there is not one result for each task")
            return values
        except Exception as error:
            return [as_error(Failure(type(error).__name__, str(error)))] * outcome.count

    def ack(self, connection: Connection) -> None:
        """Acknowledge what a plain client got before, since it has sent another request."""
        if connection.items_held:
            with self._lock:
                for lease in connection.items_held:
                    self._board.ack(lease.id, self._clock())
                connection.items_held.clear()

    def put_back(self, connection: Connection) -> None:
        """Requeue the result that was not sent, since the client's connection has ended."""
        self.results.extendleft(reversed(connection.result_held))
        if connection.result_held:
            self.arrived.notify()

    def stop(self) -> None:
        """Wake all waiting calls: nothing more will come."""
        joins = self.unfinished_tasks.none_left, self.unfinished_results.none_left
        for condition in (self.room, self.arrived, *joins):
            condition.notify_all()
