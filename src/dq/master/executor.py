"""`dq.Executor`: the interface of `concurrent.futures` over a master."""

from __future__ import annotations

import concurrent.futures
import logging
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, SupportsIndex, TypeVar, cast

from dq._support import quantities
from dq._support.fields import names_of, picked
from dq.functions import loading, reference
from dq.functions.reference import Function
from dq.functions.task_options import TaskOptions
from dq.master.call_job import Call, Future
from dq.master.call_pool import CallPool
from dq.master.local_calls import LocalHost
from dq.master.master import Master
from dq.master.options import CallOptions, check_names
from dq.master.remote_host import RemoteHost
from dq.security import keys
from dq.security.tls_options import TlsOptions
from dq.service.connection import JobsConnection
from dq.transport.server_address import server_address

if TYPE_CHECKING:
    from multiprocessing.context import BaseContext

    from typing_extensions import ParamSpec, Unpack

    P = ParamSpec("P")

log = logging.getLogger("dq")

MAX_LOCAL_BYTES = 1 << 40  # of an argument or result of a process that was started here

T = TypeVar("T")


class Executor(concurrent.futures.Executor):
    """Calls in worker processes, each as a future, as `concurrent.futures.ProcessPoolExecutor` has
    them. It goes on where that one breaks: a call whose process dies is made again.

    Args:
        max_workers: task processes to start here; None for one for each CPU. It may be 0 with a
            `port`, to which workers of other machines connect.
        mp_context: without effect: task processes are started afresh, whatever the context.
        initializer: called in each process before its first call. If it fails, all calls do, with
            `concurrent.futures.process.BrokenProcessPool`. If it ends its process, all do soon; a
            call that was to be made in three such processes fails with a `TaskError`.
        initargs: its arguments.
        max_tasks_per_child: calls after which a process is replaced. (The name `max_tasks` will do
            as well.)
        master: a started master whose workers run the calls; it stays open. It has its own options,
            apart from those of tasks, such as `retries` and `timeout`.
        server: a master elsewhere whose workers run the calls: the host, or ``host:port``, of
            ``dq master`` or `run_master` without inputs. No process is started here.
        host, port, authkey: as for `Master`; with a `server`, its port and key.
        patience: seconds to look for a `server` that was lost. Then the calls fail with
            `MasterLost`. One that was started again is given the calls that have no result.
        options: as for `Master`. `retries` and `timeout` apply to each call. With a `server` only
            those of tasks and of TLS make sense, and `report`.

    Raises:
        ValueError: `max_workers` is not positive, and there is no `port`.
        ConnectError: there is no `server`, or it has another key, or keeps no jobs.

    >>> with Executor(max_workers=1) as pool:
    ...     pool.submit(pow, 2, 10).result()
    1024
    """

    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: BaseContext | None = None,
        initializer: str | Function | None = None,
        initargs: tuple[object, ...] = (),
        *,
        max_tasks_per_child: int | None = None,
        master: Master | None = None,
        server: str | None = None,
        host: str = "",
        port: int | None = None,
        authkey: bytes | str | None = None,
        patience: float = 60.0,
        **options: Unpack[CallOptions],
    ) -> None:
        if "workers" in options:
            raise TypeError("an Executor's task processes are max_workers, not workers")
        given = cast("dict[str, Any]", options)
        check_names("Executor", given, CallOptions)
        _check_counts(max_workers, max_tasks_per_child, is_remote=port is not None)
        if initializer is not None:
            given["initializer"] = _with_args(initializer, initargs)
        if max_tasks_per_child is not None:
            given["max_tasks"] = max_tasks_per_child
        count = quantities.cpus() if max_workers is None else max_workers
        self._max_workers = count  # some libraries ask the standard library's for it
        if server is not None:
            _check_remote(given, master=master, host=host, max_workers=max_workers)
            self._pool = CallPool(_remote_host(server, port, authkey, patience, given))
        elif master is None:
            given |= {"workers": count, "host": host, "port": port, "authkey": authkey}
            if port is None:
                given.setdefault("max_message", MAX_LOCAL_BYTES)
            self._pool = CallPool(LocalHost(partial(Master, **given)))
        else:
            _check_given(given, port=port, host=host, authkey=authkey, max_workers=max_workers)
            self._pool = CallPool(LocalHost(None, master, given))
        # If a module makes an Executor when it is imported, every worker makes one too, and that
        # must not start a master unless it is used.
        if not loading.is_importing():
            self._pool.start()
        weakref.finalize(self, self._pool.abandon).atexit = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Call `fn` in a worker process.

        Raises:
            BadTask: workers could not have the function.
            RuntimeError: after `shutdown`, or at the end of the program.
            BrokenProcessPool: the initializer has failed, or processes end as they start.
            Stopped: too many calls have failed (`max_failures`).

        The future's exception is what `fn` raised, with the remote traceback as its cause; a
        `TaskError`, if that cannot be raised here; or the reason why workers cannot run calls. It
        can be cancelled until it has its result: a call that no worker has yet is then not run; the
        process of one that runs is ended, first with SIGTERM, and after two seconds with SIGKILL.
        What else runs there runs again.
        """
        return self._pool.submit(fn, args, kwargs)

    def map(
        self,
        fn: Callable[..., T],
        /,
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[T]:
        """Call `fn` with an item of each iterable at a time. The values come in order.

        Args:
            fn: the function.
            iterables: read to their ends at once, unless there is a `buffersize`. So one of them
                has to end.
            timeout: seconds from now on, after which waiting for a value raises `TimeoutError`.
            chunksize: how many items make one call in a worker. With short calls a larger one saves
                time.
            buffersize: how many such calls may wait to be returned, before more of the iterables is
                read. (Only Python 3.14's pools have this.)
        """
        _check_map(chunksize, buffersize)
        end = None if timeout is None else time.monotonic() + timeout
        items = zip(*iterables, strict=False)
        chunks = iter(lambda: list(islice(items, chunksize)), [])
        calls = self._pool.submit_chunks(fn, chunks)
        waiting = deque(islice(calls, buffersize))
        # A generator keeps this executor while it may have more calls to make.
        more = (self, calls) if buffersize is not None else None
        return _single(_values(waiting, more, end))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls.

        Args:
            wait: return when all calls have ended. They end in any case; the program does not end
                before them.
            cancel_futures: cancel those that no worker has yet.
        """
        self._pool.shut(cancel=cancel_futures)
        if wait:
            self._pool.finish()
        else:
            self._pool.finish_soon()


def _single(chunks: Iterator[list[T]]) -> Iterator[T]:
    """The values of chunks, none of which is kept once it was passed on."""
    for chunk in chunks:
        chunk.reverse()
        while chunk:
            yield chunk.pop()


def _values(
    waiting: deque[Call[list[T]]],
    more: tuple[Executor, Iterator[Call[list[T]]]] | None,
    end: float | None,
) -> Iterator[list[T]]:
    """The values of calls in their order, each as soon as another call is made in its place."""
    try:
        while waiting:
            if more is not None:
                waiting.extend(islice(more[1], 1))
            yield _value(waiting.popleft(), end)
    finally:
        for call in reversed(waiting):
            call.cancel_unless_running()


def _value(call: Call[T], end: float | None) -> T:
    try:
        return call.result(None if end is None else end - time.monotonic())
    finally:
        call.cancel_unless_running()  # if its time is up


def _check_given(given: Mapping[str, object], **others: object) -> None:
    """Refuse options that a master has which was made before."""
    own = [name for name in given if name not in names_of(TaskOptions)]
    own += [name for name, value in others.items() if value]
    if own:
        raise TypeError(f"{own[0]} is for the master, which has been given")


def _check_remote(given: Mapping[str, object], **others: object) -> None:
    """Refuse options that make no sense for a master elsewhere."""
    possible = {*names_of(TaskOptions), *names_of(TlsOptions), "report"}
    own = [name for name in given if name not in possible]
    own += [name for name, value in others.items() if value not in (None, "")]
    if own:
        raise TypeError(
            f"{own[0]} is for processes or a master that are started here; with a server, its own"
            " workers run the calls"
        )


def _remote_host(
    server: str,
    port: int | None,
    authkey: bytes | str | None,
    patience: float,
    given: Mapping[str, Any],
) -> RemoteHost:
    quantities.text(server=server)
    quantities.whole(1, 65535, **quantities.given(port=port))
    quantities.seconds(patience=patience)
    encryption = picked(TlsOptions, given)
    tasks = picked(TaskOptions, given)
    report = given.get("report") or log.warning

    def connect() -> JobsConnection:
        address = server_address(server, port)
        key, tls = keys.find(authkey), encryption.settings()
        return JobsConnection(address, key, tls, patience, report).open()

    return RemoteHost(connect, tasks, report)


def _with_args(initializer: str | Function, initargs: tuple[object, ...]) -> str | Function:
    if not isinstance(initializer, str) and not callable(initializer):
        raise TypeError("initializer must be a callable")
    if not isinstance(initargs, Iterable):
        raise TypeError(f"initargs must be a tuple of arguments, not {type(initargs).__name__}")
    if not initargs:
        return initializer
    if isinstance(initializer, str):
        initializer = loading.load(reference.parse(initializer))
    return partial(initializer, *initargs)


def _check_counts(
    max_workers: int | None, max_tasks_per_child: int | None, *, is_remote: bool
) -> None:
    if not isinstance(max_workers, SupportsIndex | None):
        raise TypeError(f"max_workers must be an integer, not {type(max_workers).__name__}")
    if max_workers is not None and max_workers < (0 if is_remote else 1):
        raise ValueError("max_workers must be greater than 0")
    if max_tasks_per_child is None:
        return
    if not isinstance(max_tasks_per_child, int):
        raise TypeError("max_tasks_per_child must be an integer")
    if max_tasks_per_child < 1:
        raise ValueError("max_tasks_per_child must be >= 1")


def _check_map(chunksize: int, buffersize: int | None) -> None:
    if chunksize < 1:
        raise ValueError("chunksize must be >= 1.")
    if buffersize is None:
        return
    if not isinstance(buffersize, int):
        raise TypeError("buffersize must be an integer or None")
    if buffersize < 1:
        raise ValueError("buffersize must be None or > 0")
