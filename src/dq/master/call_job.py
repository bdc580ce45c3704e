"""The calls of an executor, each with its future: one job without an end."""

from __future__ import annotations

import concurrent.futures
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures._base import PENDING, RUNNING
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from typing import Any, TypeVar, cast

from dq.core.records import Batch, Recorded
from dq.errors import BadTask, ProtocolError, Stopped, TaskError, UsageError
from dq.master.call_functions import CallFunctions, Name
from dq.master.raising import Raised
from dq.master.runtime import Runtime
from dq.master.values import values_in

T = TypeVar("T")

Future = concurrent.futures.Future


class Call(Future[T]):
    """One call's future.

    Args:
        job: the call's.
        function: how the call names its function.
    """

    index: int

    def __init__(self, job: CallJob, function: Name) -> None:
        super().__init__()
        self.function = function
        self._job = job
        self._process = os.getpid()

    def result(self, timeout: float | None = None) -> T:
        self._check_process()
        return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        self._check_process()
        return super().exception(timeout)

    def _check_process(self) -> None:
        if os.getpid() != self._process and not self.done():
            raise UsageError(
                f"this call belongs to process {self._process}, from which this one was forked, and"
                " its result goes there"
            )

    def begin(self) -> None:
        """Note that a worker has the call. This may be done again."""
        with self._condition:
            if self._state == PENDING:
                self._state = RUNNING

    def cancel(self) -> bool:
        with self._condition:
            if self._state == RUNNING:
                self._state = PENDING  # which the base class can cancel
        return self.cancel_unless_running()

    def cancel_unless_running(self) -> bool:
        """Cancel it if no worker has it yet."""
        if not super().cancel():
            return False
        self._job.revoke(self.index)
        return True


class CallJob:
    """A job to which calls are added one by one.

    Args:
        runtime: the master's.
        options: those of the calls that are not the master's.

    Attributes:
        error: why no more calls can be made.
        on_check: called at intervals, in the master's thread of maintenance.
    """

    def __init__(self, runtime: Runtime, options: Mapping[str, Any]) -> None:
        self.functions = CallFunctions()
        self.error: BaseException | None = None
        self.on_check: Callable[[], None] = lambda: None
        self._jobs = runtime.jobs
        self._dispatcher = runtime.dispatcher
        # By index; of whatever the function returns. Who takes one from here completes it.
        self._futures: dict[int, Call[Any]] = {}
        self._incomplete: dict[int, Call[Any]] = {}  # these, and those that are being completed
        self._next = 0
        self._served = self._jobs.open_calls(self, options)
        self._served.sink = self.resolve
        self._served.on_sent = self._begin
        self._served.called = self.functions.table

    def add(self, future: Call[Any], call: tuple[object, ...]) -> None:
        """Add a call. The caller holds a lock, so that the order is the same everywhere, and calls
        `hand_out` without it."""
        future.index = self._next
        self._futures[self._next] = self._incomplete[self._next] = future
        self._next += 1
        self._dispatcher.feeding.push(self._served, call)

    def hand_out(self) -> None:
        """Send a call to a worker that waits for one."""
        self._dispatcher.feeding.hand_out()

    def revoke(self, index: int) -> None:
        """Forget a call that was cancelled. If a worker has it, its process is ended."""
        future = self._take(index)
        if future is not None:  # otherwise another thread completes it
            future.set_running_or_notify_cancel()  # wakes its waiters
            self._incomplete.pop(index)
            self._dispatcher.cancellation.cancel_task(self._served.spec.id, index)

    def cancel(self) -> None:
        """Cancel the calls that no worker has yet, the last ones first."""
        for future in reversed(list(self._futures.values())):
            future.cancel_unless_running()

    def wait(self) -> None:
        """Wait until each call has its result."""
        concurrent.futures.wait(list(self._incomplete.values()))

    def close(self) -> None:
        self._jobs.close_calls(self._served)

    def _take(self, index: int) -> Call[Any] | None:
        """The future of a call that has ended, for the one thread that may complete it."""
        future = self._futures.pop(index, None)
        if future is not None:
            self.functions.release(future.function)
        return future

    # Called by the dispatcher

    def _begin(self, batch: Batch) -> None:
        for index in range(batch.start, batch.stop):
            future = self._futures.get(index)
            if future is not None:
                future.begin()

    def resolve(self, record: Recorded) -> None:
        """Complete the futures of a record. If its values cannot be read, give the error to the
        futures, because nobody would see it in this thread, which serves a connection."""
        batch = record.batch
        values: Sequence[object]
        try:
            values, _ = values_in(self._served, record)
            if len(values) != batch.count:
                raise ProtocolError(f"{len(values)} results of {batch.count} calls")
        except BaseException as error:  # a result's own code may raise anything, SystemExit too
            values = [Raised(error)] * batch.count
        futures = [self._take(index) for index in range(batch.start, batch.stop)]
        # Before they are completed, since each wakes a thread that needs the GIL.
        self._dispatcher.delivery.consumed(self._served, [record])
        for future, value in zip(futures, values, strict=False):
            if future is not None:
                _complete_with(future, value)
                self._incomplete.pop(future.index)

    # Called by the master

    def check(self) -> None:
        """Fail the calls that will never be made: local workers cannot make any, and there are no
        others; or too many calls have failed."""
        try:
            self._jobs.check_workers(self._served)
        except BadTask as error:  # functions fail by themselves, so this is the initializer
            broken = BrokenProcessPool(f"the executor is broken: {error}")
            broken.__cause__ = error
            self.fail(broken)
        except BaseException as error:
            self.fail(error)
        self._check_stopped()
        self.functions.release_dropped()
        self.on_check()

    def _check_stopped(self) -> None:
        job = self._served.job
        if job.stopped is None:
            return
        error = Stopped(f"stopped before the end: {job.stopped}")
        self.error = self.error or error
        is_over = job.finished and not job.unread  # otherwise some have a result on its way
        for index, future in list(self._futures.items()):
            if is_over or not future.running():
                self._fail(index, error)

    def fail(self, error: BaseException) -> None:
        """Fail all futures that have no result yet, and take no more calls."""
        self.error = self.error or error
        for index in list(self._futures):
            self._fail(index, error)

    def _fail(self, index: int, error: BaseException) -> None:
        future = self._take(index)
        if future is not None:  # otherwise another thread completes it
            _complete(future, error=error)
            self._incomplete.pop(index)


def _complete_with(future: Call[object], value: object) -> None:
    if type(value) is Raised:
        error = value.error
        _complete(future, error=_error_of(error) if isinstance(error, TaskError) else error)
    else:
        _complete(future, value)


def _error_of(error: TaskError) -> BaseException:
    """The exception of a call that failed."""
    result = error.result
    failure = result.error
    if failure is not None and failure.type == "BadTask" and not failure.traceback:
        return BadTask(failure.message)
    if not isinstance(result.input, tuple):
        return error
    _, *args = cast("tuple[object, ...]", result.input)  # without the function
    return TaskError(replace(result, input=tuple(args)))


def _complete(
    future: Call[object], value: object = None, error: BaseException | None = None
) -> None:
    try:
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(value)
    except concurrent.futures.InvalidStateError:
        future.set_running_or_notify_cancel()  # the future was cancelled: wakes its waiters
