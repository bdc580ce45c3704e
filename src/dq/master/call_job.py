"""The calls of an executor, each with its future: one job without an end."""

from __future__ import annotations

import concurrent.futures
import os
from collections.abc import Callable, Sequence
from concurrent.futures._base import PENDING, RUNNING
from dataclasses import replace
from typing import Any, TypeVar, cast

from dq.core.records import Recorded
from dq.dispatch.results import Inputs
from dq.errors import BadTask, DqError, ProtocolError, Stopped, TaskError, UsageError
from dq.master.call_functions import CallFunctions, Name
from dq.master.call_runner import CallRunner
from dq.master.raising import Raised
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
        runner: runs them.

    Attributes:
        error: why no more calls can be made.
        on_check: called at intervals, in a thread of whatever runs the calls.
    """

    def __init__(self, runner: CallRunner) -> None:
        self.functions = CallFunctions()
        self.error: BaseException | None = None
        self.on_check: Callable[[], None] = lambda: None
        self._runner = runner
        # By index; of whatever the function returns. Who takes one from here completes it.
        self._futures: dict[int, Call[Any]] = {}
        self._incomplete: dict[int, Call[Any]] = {}  # these, and those that are being completed
        self._next = 0
        runner.open(self)

    def encode(self, call: tuple[object, ...]) -> object:
        """What `add` takes for a call."""
        return self._runner.encode(call)

    def add(self, future: Call[Any], item: object) -> None:
        """Add a call. The caller holds a lock, so that the order is the same everywhere, and calls
        `hand_out` without it."""
        future.index = self._next
        self._futures[self._next] = self._incomplete[self._next] = future
        self._next += 1
        self._runner.push(future.index, item)

    def hand_out(self) -> None:
        """Send a call to a worker that waits for one."""
        self._runner.hand_out()

    def revoke(self, index: int) -> None:
        """Forget a call that was cancelled. If a worker has it, its process is ended."""
        future = self._take(index)
        if future is not None:  # otherwise another thread completes it
            future.set_running_or_notify_cancel()  # wakes its waiters
            self._incomplete.pop(index)
            self._runner.cancel(index)

    def cancel(self) -> None:
        """Cancel the calls that no worker has yet, the last ones first."""
        for future in reversed(list(self._futures.values())):
            future.cancel_unless_running()

    def wait(self) -> None:
        """Wait until each call has its result."""
        concurrent.futures.wait(list(self._incomplete.values()))

    def close(self) -> None:
        self._runner.close()

    def _take(self, index: int) -> Call[Any] | None:
        """The future of a call that has ended, for the one thread that may complete it."""
        future = self._futures.pop(index, None)
        if future is not None:
            self.functions.release(future.function)
        return future

    # Called by what runs them

    def begin(self, indices: Sequence[int]) -> None:
        for index in indices:
            future = self._futures.get(index)
            if future is not None:
                future.begin()

    def resolve(self, record: Recorded, indices: Sequence[int], inputs: Inputs) -> None:
        """Complete the futures of a record. If its values cannot be read, give the error to the
        futures, because nobody would see it in this thread, which serves a connection."""
        values: Sequence[object]
        try:
            values, _ = values_in(inputs, record)
            if len(values) != len(indices):
                raise ProtocolError(f"{len(values)} results of {len(indices)} calls")
        except BaseException as error:  # a result's own code may raise anything, SystemExit too
            values = [Raised(error)] * len(indices)
        futures = [self._take(index) for index in indices]
        # Before they are completed, since each wakes a thread that needs the GIL.
        self._runner.consumed(record)
        for future, value in zip(futures, values, strict=False):
            if future is not None:
                _complete_with(future, value)
                self._incomplete.pop(future.index)

    def check(self) -> None:
        """Fail the calls that will never be made: no worker can make any, or too many calls have
        failed."""
        try:
            self._runner.check()
        except DqError as error:  # functions fail by themselves; this is the initializer, or worse
            self.fail(_broken(error))
        except BaseException as error:
            self.fail(error)
        self._check_stopped()
        self.functions.release_dropped()
        self.on_check()

    def _check_stopped(self) -> None:
        reason, is_over = self._runner.stopped()
        if not reason:
            return
        error = Stopped(f"stopped before the end: {reason}")
        self.error = self.error or error
        # Unless it is over, some have a result on its way.
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


def _broken(cause: DqError) -> DqError:
    from dq.master.broken import BrokenExecutor  # here, since few executors break

    error = BrokenExecutor(f"the executor is broken: {cause}")
    error.__cause__ = cause
    return error


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
