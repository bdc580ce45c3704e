"""The calls of an executor, run by the workers of a master in this process."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from dq.core.records import Batch, Recorded
from dq.master.call_runner import RunnerOwner
from dq.master.master import Master
from dq.master.runtime import Runtime

# Python 3.12.0 and 3.12.1 start no thread once the main thread has ended (cpython#113964). So its
# workers, each of which needs one here, must be connected before.
THREADS_END_EARLY = (3, 12, 0) <= sys.version_info[:3] <= (3, 12, 1)
START_TIMEOUT_S = 10.0


class LocalCalls:
    """Runs calls as the tasks of a job; a `CallRunner`.

    Args:
        runtime: the master's.
        options: those of the calls that are not the master's.
    """

    def __init__(self, runtime: Runtime, options: Mapping[str, Any]) -> None:
        self._jobs = runtime.jobs
        self._dispatcher = runtime.dispatcher
        self._served = self._jobs.open_calls(options)

    def open(self, calls: RunnerOwner) -> None:
        served = self._served

        def resolve(record: Recorded) -> None:
            batch = record.batch
            calls.resolve(record, range(batch.start, batch.stop), served)

        def begin(batch: Batch) -> None:
            calls.begin(range(batch.start, batch.stop))

        served.sink, served.on_sent, served.called = resolve, begin, calls.functions.table
        self._jobs.watch_calls(served, calls)

    def encode(self, call: tuple[object, ...]) -> object:
        return call  # it is pickled when a worker gets it

    def push(self, index: int, item: object) -> None:
        self._dispatcher.feeding.push(self._served, item)

    def hand_out(self) -> None:
        self._dispatcher.feeding.hand_out()

    def cancel(self, index: int) -> None:
        self._dispatcher.cancellation.cancel_task(self._served.spec.id, index)

    def consumed(self, record: Recorded) -> None:
        self._dispatcher.delivery.consumed(self._served, [record])

    def check(self) -> None:
        self._jobs.check_workers(self._served)

    def stopped(self) -> tuple[str, bool]:
        job = self._served.job
        return job.stopped or "", job.finished and not job.unread

    def close(self) -> None:
        self._jobs.close_calls(self._served)


class LocalHost:
    """A master in this process; a `CallHost`.

    Args:
        make: makes a master of its own; None for one that was given, and that stays open.
        given: that one.
        options: those of the calls that are not the master's.
    """

    def __init__(
        self,
        make: Callable[[], Master] | None,
        given: Master | None = None,
        options: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self._make = make
        self._master = given
        self._options = options

    @property
    def closed(self) -> bool:
        return self._master is not None and self._master.closed

    def start(self) -> None:
        if self._make is not None:
            self._master = self._make()
            self._master.start()
            if THREADS_END_EARLY:
                _await_workers(self._master.runtime)

    def runner(self) -> LocalCalls:
        assert self._master is not None  # it has been started, or was given
        self._master.runtime.lifetime.check_process()
        return LocalCalls(self._master.runtime, self._options)

    def close(self) -> None:
        if self._make is not None and self._master is not None:
            self._master.close()

    def after_fork(self) -> None:
        """A master of its own belongs to the original process: the next call makes another. One
        that was given refuses to be used here."""
        if self._make is not None:
            self._master = None


def _await_workers(runtime: Runtime) -> None:
    """Wait until each local slot is connected, and their supervisor."""
    slots = runtime.workers.count * runtime.workers.threads
    runtime.dispatcher.connections.wait_for_workers(slots + 1 if slots else 0, START_TIMEOUT_S)
