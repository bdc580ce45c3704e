"""The calls of an executor, run by the workers of a master elsewhere.

One thread sends calls and another takes outcomes, each on a connection of its own. A connection
that is lost is opened again. If another master answers then, all calls without an outcome go to
that one. So a call may be made twice, and has one outcome.
"""

from __future__ import annotations

import pickle
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import cast

from dq.core.records import Batch, Failed, Failure, Recorded
from dq.data import batches
from dq.data.encoding import encode
from dq.errors import BadTask, DqError, MasterLost
from dq.functions.called import ByValue
from dq.functions.definitions import CurrentDefinitions
from dq.functions.job_specs import JobSpecs
from dq.functions.task_options import TaskOptions
from dq.master.call_runner import RunnerOwner
from dq.master.call_sender import CallSender
from dq.master.call_taker import CallInputs, CallTaker
from dq.master.pending_calls import PendingCalls
from dq.service.connection import JobsConnection
from dq.service.options import JobOptions
from dq.service.specs import CALL_OUTPUT, PICKLED, to_client
from dq.service.submission import ENVELOPE_BYTES, check_size
from dq.transport.addresses import show

CLOSE_TIMEOUT_S = 5.0  # to tell the master of the end

# What `push` takes: a pickled call and the digest of the function that it needs, or why there is no
# such pickle.
Item = tuple[bytes, bytes] | Failure


class RemoteCalls:
    """Runs calls on a master elsewhere; a `CallRunner`.

    Args:
        connection: to the master.
        tasks: options of the calls.
        report: called with each line that people should see.

    Raises:
        BadTask: the initializer cannot be sent to workers.
    """

    def __init__(
        self, connection: JobsConnection, tasks: TaskOptions, report: Callable[[str], None]
    ) -> None:
        self._pushing = connection
        self._taking = connection.another(pickle.loads)  # as what calls return
        specs = JobSpecs(tasks, has_workers=False, report=report)
        spec = replace(specs.spec(None, output=CALL_OUTPUT, reading=PICKLED), unpack="call")
        wire = to_client(spec)
        self._opening = (*wire, JobOptions(tasks=tasks).to_wire())
        self._limit = connection.max_message - ENVELOPE_BYTES
        check_size(spec, wire[1], self._limit)
        self._definitions = CurrentDefinitions()
        self._defining = threading.Lock()  # held while classes are added to `_definitions`
        self._failed: deque[tuple[int, Failure]] = deque()  # not to be sent; needs no lock
        self._pending = PendingCalls(show(connection.address), report)

    def open(self, calls: RunnerOwner) -> None:
        self._calls = calls
        self._sender = CallSender(
            self._pending, self._pushing, self._opening, self._definitions, calls.functions
        )
        self._taker = CallTaker(self._pending, self._taking, calls)
        self._sender.open()
        self._threads = [
            threading.Thread(target=self._run, args=(run,), name=name, daemon=True)
            for name, run in (("dq-push", self._sender.run), ("dq-take", self._taker.run))
        ]
        for thread in self._threads:
            thread.start()

    def encode(self, call: tuple[object, ...]) -> Item:
        function = call[0]
        digest = function.digest if isinstance(function, ByValue) else b""
        if digest and len(self._calls.functions.table[digest]) > self._limit:
            text = f"{function} is larger than the master's limit of {self._limit} bytes"
            return Failure("BadTask", text)
        [(_, blob)] = encode([call], self._limit, self._define, batches.NOTHING)
        return blob if isinstance(blob, Failure) else (batches.joined(blob), digest)

    def _define(self, found: dict[str, type]) -> None:
        with self._defining:
            self._definitions.add(found)

    def push(self, index: int, item: object) -> None:
        given = cast("Item", item)
        if isinstance(given, Failure):
            self._failed.append((index, given))
        else:
            self._pending.add(index, *given)

    def hand_out(self) -> None:
        with self._pending.changed:
            if not self._sender.post():
                self._pending.changed.notify_all()
        while self._failed:
            try:
                index, failure = self._failed.popleft()
            except IndexError:
                return  # another thread was faster
            batch = Batch(job="", start=index, count=1, blob=b"")
            failed = Failed(failure, retry=False)
            record = Recorded(batch=batch, outcome=failed, attempts=1, worker="")
            self._calls.resolve(record, [index], CallInputs([None]))

    def cancel(self, index: int) -> None:
        self._pending.cancel(index)

    def consumed(self, record: Recorded) -> None:
        """The next cursor acknowledges it."""

    def check(self) -> None:
        if self._taker.state.refusal:
            raise BadTask(self._taker.state.refusal)

    def stopped(self) -> tuple[str, bool]:
        return self._taker.state.stopped, self._taker.state.is_over

    def close(self) -> None:
        self._pending.close()
        pushing, taking = self._threads
        pushing.join(CLOSE_TIMEOUT_S)
        self._taking.close()
        if taking is not threading.current_thread():
            taking.join(CLOSE_TIMEOUT_S)

    def after_fork(self) -> None:
        """Close a fork's copies of the sockets."""
        self._taking.after_fork()

    def _run(self, run: Callable[[], None]) -> None:
        try:
            run()
        except BaseException as error:  # any error: nobody would complete the futures
            if self._pending.close():
                self._calls.fail(self._loss(error))

    def _loss(self, error: BaseException) -> BaseException:
        if isinstance(error, DqError):
            return MasterLost(f"the master at {self._pending.place} is lost: {error}")
        return error
