"""The calls of one function through an executor, each with its future."""

from __future__ import annotations

import concurrent.futures
import os
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, TypeVar

from dq.core.records import Recorded
from dq.errors import UsageError
from dq.functions.reference import TaskRef
from dq.master.raising import Raised
from dq.master.runtime import Runtime
from dq.master.values import values_in

T = TypeVar("T")
Refs = tuple[TaskRef, TaskRef | None]  # a function and the initializer

Future = concurrent.futures.Future


class Call(Future[T]):
    """One call's future."""

    job: CallJob
    index: int

    def __init__(self) -> None:
        super().__init__()
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

    def cancel(self) -> bool:
        cancelled = super().cancel()
        if cancelled:
            self.job.revoke(self.index)
        return cancelled


class CallJob:
    """The calls of one function: a job without an end, to which inputs are added one by one."""

    def __init__(self, runtime: Runtime, refs: Refs) -> None:
        self._jobs = runtime.jobs
        self._dispatcher = runtime.dispatcher
        self._futures: dict[int, Future[Any]] = {}  # by index; of whatever the function returns
        self._next = 0
        self._served = self._jobs.open_calls(refs, self.resolve, self.fail)

    def add(self, future: Call[Any], call: object) -> None:
        future.job, future.index = self, self._next
        self._futures[self._next] = future
        self._next += 1
        self._dispatcher.feeding.push(self._served, call)

    @property
    def is_idle(self) -> bool:
        """Whether each call has its result."""
        return not self._futures

    def revoke(self, index: int) -> None:
        self._dispatcher.cancellation.cancel_task(self._served.spec.id, index)

    def cancel(self) -> None:
        for future in list(self._futures.values()):
            future.cancel()

    def wait(self) -> None:
        concurrent.futures.wait(list(self._futures.values()))

    def close(self) -> None:
        self._jobs.close_calls(self._served)

    def fail(self, error: BaseException) -> None:
        """Fail all futures that have no result yet."""
        while self._futures:
            with suppress(KeyError):  # another thread has removed it, to complete it
                _complete(self._futures.popitem()[1], error=error)

    def resolve(self, record: Recorded) -> None:
        """Complete the futures of a record. If its values cannot be read, give the error to the
        futures, because nobody would see it in this thread, which serves a connection."""
        batch = record.batch
        values: Sequence[object]
        try:
            values, _ = values_in(self._served, record)
        except BaseException as error:  # a result's own code may raise anything, SystemExit too
            values = [Raised(error)] * batch.count
        # First, since each future wakes a thread that needs the GIL.
        self._dispatcher.delivery.consumed(self._served, [record])
        for index, value in zip(range(batch.start, batch.stop), values, strict=False):
            future = self._futures.pop(index, None)
            if future is not None:
                _complete_with(future, value)


def _complete_with(future: Future[object], value: object) -> None:
    if type(value) is Raised:
        _complete(future, error=value.error)
    else:
        _complete(future, value)


def _complete(
    future: Future[object], value: object = None, error: BaseException | None = None
) -> None:
    try:
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(value)
    except concurrent.futures.InvalidStateError:
        future.set_running_or_notify_cancel()  # the future was cancelled: wakes its waiters
