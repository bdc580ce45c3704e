"""`dq.Executor`: the interface of `concurrent.futures` over a master."""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from dq import units
from dq.errors import TaskError
from dq.master import Master, Options, values_or_errors
from dq.records import Recorded
from dq.tasks import TaskRef

if TYPE_CHECKING:
    from typing_extensions import ParamSpec, Unpack

    P = ParamSpec("P")

T = TypeVar("T")
Refs = tuple[TaskRef, TaskRef | None]  # a function and the initializer

Future = concurrent.futures.Future


class Executor(concurrent.futures.Executor):
    """Calls in worker processes, each as a future.

    Args:
        max_workers: task processes to start here; None for one for each CPU.
        master: one that has started, whose workers do the calls; it is left open.
        options: as for `Master`, where none is given.

    >>> with Executor(max_workers=1) as pool:
    ...     pool.submit(pow, 2, 10).result()
    1024
    """

    def __init__(
        self,
        max_workers: int | None = None,
        *,
        master: Master | None = None,
        **options: Unpack[Options],
    ) -> None:
        self._owned = None
        if "workers" in options:
            raise TypeError("an Executor's task processes are max_workers, not workers")
        if master is None:
            workers = units.cpus() if max_workers is None else max_workers
            master = self._owned = Master(workers=workers, **options)
            master.start()
        self._master = master
        self._lock = threading.Lock()  # guards the two below
        self._calls: dict[Refs, _Calls] = {}
        self._shut = False
        self._finishing = threading.Lock()  # held by who waits for the calls, and then closes

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Call `fn` in a worker process.

        Raises:
            BadTask: workers could not find the function.
            RuntimeError: after `shutdown`.

        The future's exception is a `TaskError`, with the remote traceback as its cause, or what
        keeps workers from doing calls. To cancel it is possible until it has its result: a call
        that no worker has yet is not made then, one that a worker has is, for nothing.
        """
        future: _Call[T] = _Call()
        with self._lock:
            if self._shut or self._master.closed:
                raise RuntimeError("cannot schedule new futures after shutdown")
            self._calls_of(self._master.refer(fn)).add(future, (args, kwargs))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls.

        Args:
            wait: return when those that there are have ended. They end in any case, and the
                program does not before.
            cancel_futures: cancel those that have not, see `submit`.
        """
        with self._lock:
            self._shut = True
            calls = list(self._calls.values())
        if cancel_futures:
            for each in calls:
                each.cancel()
        if wait:
            self._finish(calls)
        else:
            threading.Thread(target=self._finish, args=(calls,)).start()

    def _finish(self, calls: list[_Calls]) -> None:
        with self._finishing:
            for each in calls:
                each.wait()
                each.close()
            if self._owned is not None:
                self._owned.close()

    def _calls_of(self, refs: Refs) -> _Calls:
        calls = self._calls.get(refs)
        if calls is None:
            calls = self._calls[refs] = _Calls(self._master, refs)
        return calls


class _Call(Future[T]):
    """One call's future."""

    calls: _Calls
    index: int

    def cancel(self) -> bool:
        cancelled = super().cancel()
        if cancelled:
            self.calls.revoke(self.index)
        return cancelled


class _Calls:
    """The calls of one function: a job whose inputs come one by one, for ever."""

    def __init__(self, master: Master, refs: Refs) -> None:
        self._master = master
        self._futures: dict[int, Future[Any]] = {}  # of whatever the function returns
        self._next = 0
        self._line = master.open_calls(refs, self.resolve, self.fail)

    def add(self, future: _Call[Any], call: object) -> None:
        future.calls, future.index = self, self._next
        self._futures[self._next] = future
        self._next += 1
        self._master.queues.push(self._line, call)

    def revoke(self, index: int) -> None:
        self._master.queues.revoke(self._line, index)

    def cancel(self) -> None:
        for future in list(self._futures.values()):
            future.cancel()

    def wait(self) -> None:
        concurrent.futures.wait(list(self._futures.values()))

    def close(self) -> None:
        self._master.close_calls(self._line)

    def fail(self, error: BaseException) -> None:
        """Let no future wait for what will not come."""
        while self._futures:
            with suppress(KeyError):  # another thread has it, with its result
                _settle(self._futures.popitem()[1], error=error)

    def resolve(self, record: Recorded) -> None:
        start = record.batch.start
        for place, value in enumerate(values_or_errors(self._line, record)):
            future = self._futures.pop(start + place, None)
            if future is not None:
                _settle(future, value, value if isinstance(value, TaskError) else None)
        self._master.queues.consumed(self._line, [record])


def _settle(
    future: Future[object], value: object = None, error: BaseException | None = None
) -> None:
    try:
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(value)
    except concurrent.futures.InvalidStateError:
        future.set_running_or_notify_cancel()  # tell who waits that it was cancelled
