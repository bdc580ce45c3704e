"""Takes the outcomes of an executor's calls from a master elsewhere."""

from __future__ import annotations

import pickle
import time
from collections.abc import Sequence
from typing import cast

from dq.core.records import Batch, Failure
from dq.data import batches
from dq.data.decoding import Decoder
from dq.dispatch.served_job import UNOPENED
from dq.master.call_runner import RunnerOwner
from dq.master.pending_calls import PendingCalls
from dq.security.safe_pickle import safe_loads
from dq.service.call_wire import Answer, Begun, CallsState, from_wire
from dq.service.connection import JobsConnection
from dq.service.specs import PICKLED

WAIT_S = 1.0  # for one answer with outcomes; then the state of the calls is checked
CHECK_INTERVAL_S = 0.05  # between two such checks, while outcomes come
NO_WORKER_NOTICE_S = 5.0  # with calls and without a worker, after which there is a notice


class CallTaker:
    """Takes outcomes, in a thread of its own.

    Args:
        pending: the calls.
        connection: to the master.
        calls: get the outcomes.

    Attributes:
        state: what the master said last of the calls.
    """

    def __init__(
        self, pending: PendingCalls, connection: JobsConnection, calls: RunnerOwner
    ) -> None:
        self.state = CallsState(stopped="", is_over=False, refusal="", slots=1)
        self._pending = pending
        self._connection = connection
        self._calls = calls
        self._cursor = 0
        self._check_at = 0.0
        self._idle_since: float | None = None  # since when there is no worker for the calls
        self._has_warned = False

    def run(self) -> None:
        """Take outcomes, until no more calls come."""
        id = ""
        while True:
            with self._pending.changed:
                self._pending.changed.wait_for(
                    lambda: self._pending.is_open or self._pending.is_closing
                )
                if self._pending.is_closing:
                    return
                if self._pending.id != id:
                    id, self._cursor = self._pending.id, 0
            answer = self._connection.call_often("take_calls", id, self._cursor, WAIT_S)
            if answer is None:
                self._pending.begin_anew(id)
            elif id == self._pending.id:
                self._take(id, *cast("Answer", answer))

    def _take(
        self,
        id: str,
        events: list[tuple[object, ...]],
        cursor: int,
        state: tuple[str, bool, str, int] | None,
    ) -> None:
        for event in map(from_wire, events):
            found = self._pending.of_event(id, event)
            if found is None:
                return
            indices = [index for index, _ in found]
            if isinstance(event, Begun):
                self._calls.begin(indices)
            else:
                self._calls.resolve(event, indices, CallInputs([item for _, item in found]))
        self._cursor = cursor
        if state is not None:
            self.state = CallsState.from_wire(state)
            self._check_workers()
        now = time.monotonic()
        if state is not None or now > self._check_at:
            self._check_at = now + CHECK_INTERVAL_S
            self._calls.check()

    def _check_workers(self) -> None:
        """Say so if nobody runs the calls."""
        now = time.monotonic()
        if self.state.slots or not self._pending.queue.calls:
            self._idle_since = None
        elif self._idle_since is None:
            self._idle_since = now
        elif now - self._idle_since >= NO_WORKER_NOTICE_S and not self._has_warned:
            self._has_warned = True
            place = self._pending.place
            self._pending.report(
                f"no worker is connected to the master at {place}; the calls wait for one"
            )


class CallInputs:
    """What the calls of a record consisted of."""

    def __init__(self, items: Sequence[bytes | None]) -> None:
        self._items = items

    def values(self, batch: Batch) -> list[object]:
        return self._decoded(Decoder(PICKLED, pickle.loads))

    def input_of(self, batch: Batch, failure: Failure) -> object:
        may_kill = failure.type in UNOPENED and not failure.traceback
        [value] = self._decoded(Decoder(PICKLED, safe_loads if may_kill else pickle.loads))
        return value

    def _decoded(self, decoder: Decoder) -> list[object]:
        return decoder.decode(batches.dump(self._items), 0, len(self._items))
