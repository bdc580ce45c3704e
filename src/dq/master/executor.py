"""`dq.Executor`: the interface of `concurrent.futures` over a master."""

from __future__ import annotations

import concurrent.futures
import os
import threading
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from dq._support import quantities
from dq.core.records import Recorded
from dq.errors import TaskError, UsageError
from dq.functions import tasks
from dq.functions.tasks import TaskRef
from dq.master.master import Master, Options, values_or_errors

if TYPE_CHECKING:
    from typing_extensions import ParamSpec, Unpack

    P = ParamSpec("P")

MOST_FUNCTIONS = 32  # that are kept, here and in the workers, though no call of theirs is left

T = TypeVar("T")
Refs = tuple[TaskRef, TaskRef | None]  # a function and the initializer

Future = concurrent.futures.Future


class Executor(concurrent.futures.Executor):
    """Calls in worker processes, each as a future.

    Args:
        max_workers: task processes to start here; None for one for each CPU.
        master: a started master whose workers run the calls; it stays open.
        options: as for `Master`, if none is given.

    >>> with Executor(max_workers=1) as pool:
    ...     pool.submit(pow, 2, 10).result()
    1024
    """

    _master: Master | None

    def __init__(
        self,
        max_workers: int | None = None,
        *,
        master: Master | None = None,
        **options: Unpack[Options],
    ) -> None:
        if "workers" in options:
            raise TypeError("an Executor's task processes are max_workers, not workers")
        self._workers = quantities.cpus() if max_workers is None else max_workers
        self._options = options
        self._owns = master is None
        self._shut = False
        self._begin(master or Master(workers=self._workers, **options))
        if not tasks.is_importing():
            self._start()
        _executors.add(self)

    def _begin(self, master: Master | None) -> None:
        """Have no calls yet, in this process."""
        self._master = master
        self._started = False
        self._lock = threading.Lock()  # guards this, the two below and `_shut`
        self._calls: dict[Refs, CallJob] = {}
        self._finishing = threading.Lock()  # held by who waits for the calls, and then closes

    def _start(self) -> Master:
        """Have a master that has started. A module that workers import may have an Executor too,
        which starts nothing there until it is called."""
        master = self._master or Master(workers=self._workers, **self._options)
        self._master = master
        if self._owns and not self._started:
            master.start()
        self._started = True
        return master

    def begin_anew(self) -> None:
        """In a process that was forked from this one: have workers of its own, once they are
        needed. Another's master is not to be had there."""
        self._begin(None if self._owns else self._master)

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Call `fn` in a worker process.

        Raises:
            BadTask: workers could not find the function.
            RuntimeError: after `shutdown`.

        The future's exception is a `TaskError`, with the remote traceback as its cause, or the
        reason why workers cannot run calls. It can be cancelled until it has its result: a call
        that no worker has yet is then not run; one that a worker has is run, and its result lost.
        """
        future: _Call[T] = _Call()
        with self._lock:
            if self._shut:
                raise RuntimeError("cannot schedule new futures after shutdown")
            master = self._start()
            master.check_process()
            if master.closed:
                raise RuntimeError("cannot schedule new futures after shutdown")
            self._calls_of(master, master.refer(fn)).add(future, (args, kwargs))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls.

        Args:
            wait: return when all calls have ended. They end in any case; the program does not end
                before them.
            cancel_futures: cancel the others, see `submit`.
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

    def _finish(self, calls: list[CallJob]) -> None:
        with self._finishing:
            for each in calls:
                each.wait()
                each.close()
            if self._owns and self._master is not None:
                self._master.close()

    def _calls_of(self, master: Master, refs: Refs) -> CallJob:
        calls = self._calls.get(refs)
        if calls is None:
            if len(self._calls) >= MOST_FUNCTIONS:
                self._drop_idle()
            calls = self._calls[refs] = CallJob(master, refs)
        return calls

    def _drop_idle(self) -> None:
        """Keep nothing of the functions that have no call left: a lambda is another one each time
        that it is made, and a script's function wherever what it refers to has changed."""
        for refs, calls in list(self._calls.items()):
            if calls.is_idle:
                del self._calls[refs]
                calls.close()


def _begin_all_anew() -> None:
    for executor in list(_executors):
        executor.begin_anew()


_executors: weakref.WeakSet[Executor] = weakref.WeakSet()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_all_anew)


class _Call(Future[T]):
    """One call's future."""

    calls: CallJob
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
            self.calls.revoke(self.index)
        return cancelled


class CallJob:
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
        self._master.dispatcher.push(self._line, call)

    @property
    def is_idle(self) -> bool:
        """Whether each call has its result."""
        return not self._futures

    def revoke(self, index: int) -> None:
        self._master.dispatcher.revoke(self._line, index)

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
        """Let the futures of a record have their results, or what keeps these from being read: the
        thread is a connection's, which has nobody else to tell."""
        batch = record.batch
        values: Sequence[object]
        try:
            values = values_or_errors(self._line, record)
        except BaseException as error:  # a result's own code may raise anything, SystemExit too
            values = [_Unread(error)] * batch.count
        for index, value in zip(range(batch.start, batch.stop), values, strict=False):
            future = self._futures.pop(index, None)
            if future is not None:
                _settle_with(future, value)
        self._master.dispatcher.consumed(self._line, [record])


class _Unread:
    """In place of a value: why it cannot be read."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


def _settle_with(future: Future[object], value: object) -> None:
    if isinstance(value, _Unread):
        _settle(future, error=value.error)
    else:
        _settle(future, value, value if isinstance(value, TaskError) else None)


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
