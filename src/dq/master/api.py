"""The calls for scripts that start a master: `run` and `run_master`."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, TypeVar, overload

from dq._support.fields import picked
from dq._support.screen import forwarder_beside_bar
from dq.errors import MissingModule, UsageError
from dq.functions import loading
from dq.functions.constants import with_constants
from dq.functions.reference import Function
from dq.functions.task_check import check
from dq.functions.task_options import TaskOptions
from dq.manager.server_options import ServerOptions
from dq.master.job_reader import JobReader
from dq.master.master import Master
from dq.master.options import Options, StrPath, check_names
from dq.master.progress import Report
from dq.master.runtime import Runtime
from dq.master.values import values_of, values_or_exceptions
from dq.security.tls_options import TlsOptions
from dq.transport.server_address import DEFAULT_PORT
from dq.worker.process_options import ProcessOptions, process_count

if TYPE_CHECKING:
    from typing_extensions import Unpack

T = TypeVar("T")

log = logging.getLogger("dq")


def run(
    task: str | Callable[..., T],
    inputs: Iterable[object],
    *,
    workers: int | None = None,
    return_exceptions: bool = False,
    journal: StrPath | None = None,
    retry_failed: bool = False,
    progress: bool | Report = False,
    constants: Mapping[str, object] | None = None,
    **options: Unpack[Options],
) -> list[T]:
    """Call a function with each input in worker processes of this machine.

    Args:
        task: import path or function.
        inputs: any iterable; read in the calling thread, and ahead of the tasks, so do not change
            an input later. Inputs that refer to the same object may
            share it in the worker, as in a chunk of `multiprocessing.Pool`.
        workers: how many processes; None starts one for each CPU. 0 calls the function in this
            process and thread, for a debugger, a profiler or a coverage tool; then there can be no
            `timeout`, `threads`, `max_tasks`, `max_memory` and `preload`.
        return_exceptions: put the exception in the place of each failed task's value instead of
            raising the first one.
        journal, retry_failed: a file to continue from, as for `Master.map`.
        progress: show how far it is, or tell a function, as for `Master.map`.
        constants: keyword arguments of all tasks, such as a large table. They go to each process
            once.
        options: as for `Master`.

    Returns:
        The values, in the inputs' order.

    Raises:
        Exception: a task failed; what it raised, with the worker's traceback as its cause and a
            note that says which task it was.
        TaskError: a task failed, and that cannot be raised here.
        BadTask: the function cannot be loaded.
        BadJournal: the journal is damaged, in use, or of another call.

    >>> run("math:factorial", [3, 4, 5], workers=1)
    [6, 24, 120]
    >>> run(int, ["ff", "10"], workers=1, constants={"base": 16})
    [255, 16]
    >>> seen = []
    >>> run(seen.append, "abc", workers=0)
    [None, None, None]
    >>> seen
    ['a', 'b', 'c']
    """
    loading.refuse_while_importing()
    task = with_constants(task, constants)
    check_names("run", options, Options)
    _find(task, options.get("unpack", False))
    runtime = _runtime(workers, options)
    with _beside_bar(runtime, progress), runtime:
        job = runtime.jobs.open_call(
            task,
            inputs,
            output="values",
            journal=journal,
            retry_failed=retry_failed,
            reader_feeds=True,
            progress=progress,
        )
        return _collect(job, return_exceptions)


def _runtime(workers: int | None, options: Options) -> Runtime:
    """What runs the tasks: local workers, or this process."""
    if workers != 0:
        return Master(workers=process_count(workers=workers), **options).runtime
    return Runtime(
        tasks=picked(TaskOptions, options),
        processes=picked(ProcessOptions, options),
        server=picked(ServerOptions, options),
        tls=picked(TlsOptions, options),
        report=options.get("report"),
        in_process=True,
    )


@overload
def run_master(
    task: str | Callable[..., T],
    inputs: Iterable[object],
    *,
    host: str = ...,
    port: int = ...,
    authkey: bytes | str | None = ...,
    workers: int = ...,
    return_exceptions: bool = ...,
    journal: StrPath | None = ...,
    retry_failed: bool = ...,
    progress: bool | Report = ...,
    constants: Mapping[str, object] | None = ...,
    maxsize: int = ...,
    redeliver: bool = ...,
    pickle: str = ...,
    **options: Unpack[Options],
) -> list[T]: ...


@overload
def run_master(
    task: str | Function | None = None,
    inputs: None = None,
    *,
    host: str = ...,
    port: int = ...,
    authkey: bytes | str | None = ...,
    workers: int = ...,
    return_exceptions: bool = ...,
    journal: StrPath | None = ...,
    retry_failed: bool = ...,
    progress: bool | Report = ...,
    constants: Mapping[str, object] | None = ...,
    maxsize: int = ...,
    redeliver: bool = ...,
    pickle: str = ...,
    **options: Unpack[Options],
) -> None: ...


def run_master(
    task: str | Callable[..., T] | None = None,
    inputs: Iterable[object] | None = None,
    *,
    host: str = "",
    port: int = DEFAULT_PORT,
    authkey: bytes | str | None = None,
    workers: int = 0,
    return_exceptions: bool = False,
    journal: StrPath | None = None,
    retry_failed: bool = False,
    progress: bool | Report = False,
    constants: Mapping[str, object] | None = None,
    maxsize: int = 0,
    redeliver: bool = True,
    pickle: str = "safe",
    **options: Unpack[Options],
) -> list[T] | None:
    """Serve tasks to workers that connect; wait for all results.

    Args:
        task: import path or function. Without inputs, workers call it with the items that plain
            clients put on the task queue.
        inputs: any iterable, read in the calling thread; without it the two queues are served, and
            jobs that clients submit, until interrupted or a client has the master stop.
        host: address to listen on; '' for all of this machine's, of IPv4 and IPv6.
        port: TCP port; 0 for a free one, which is logged.
        authkey: the shared key; None to look where ``dq`` does.
        workers: task processes to start on this machine as well.
        journal: with inputs, a file to continue from, as for `run`; without, the file that keeps
            the jobs that clients submit with `connect` or ``dq submit``. None keeps these for as
            long as the master lives.
        return_exceptions, retry_failed, progress, constants, maxsize, redeliver, pickle, options:
            as for `run` and `Master`.

    Returns:
        The values, in the inputs' order; None without inputs.

    Raises:
        Exception: a task failed; what it raised, with the worker's traceback as its cause and a
            note that says which task it was.
        TaskError: a task failed, and that cannot be raised here.
        ConnectError: the port cannot be had.
    """
    loading.refuse_while_importing()
    if inputs is not None and task is None:
        raise UsageError("inputs without a task: give the function to call with them")
    if inputs is None and constants is not None:
        raise UsageError("constants without inputs: they are arguments of the inputs' tasks")
    if inputs is None and retry_failed:
        raise UsageError("retry_failed goes with inputs; a job's failures: SubmittedJob.retry")
    if task is not None:
        _find(task, options.get("unpack", False))
    check_names("run_master", options, Options)
    master = Master(
        task,
        host=host,
        port=port,
        authkey=authkey,
        workers=workers,
        maxsize=maxsize,
        redeliver=redeliver,
        pickle=pickle,
        **options,
    )
    if inputs is None:
        master.runtime.keep_jobs(None if journal is None else os.fspath(journal))
    with _beside_bar(master.runtime, progress), master:
        log.info("serving on %s", master.runtime.serving.shown)
        if inputs is None or task is None:
            master.wait()
            return None
        job = master.runtime.jobs.open_call(
            task,
            inputs,
            output="values",
            journal=journal,
            retry_failed=retry_failed,
            reader_feeds=True,
            progress=progress,
            constants=constants,
        )
        return _collect(job, return_exceptions)


def _find(task: str | Function, unpack: bool) -> None:
    """Import a task before the master exists, because the module may change this process in a way
    that a master has to refuse. The master itself reports a missing library."""
    if isinstance(task, str):
        with contextlib.suppress(MissingModule):
            check(task, unpack=unpack)


@contextlib.contextmanager
def _beside_bar(runtime: Runtime, progress: bool | Report) -> Iterator[None]:
    """Erase the progress bar, if there is one on the terminal, while local tasks print."""
    in_process = runtime.in_process is not None
    forwarder = forwarder_beside_bar(quiet=progress is not True or in_process)
    if forwarder is None:
        yield
        return
    runtime.workers.stderr = forwarder.open
    try:
        yield
    finally:
        forwarder.close()


def _collect(job: JobReader, return_exceptions: bool) -> list[T]:
    values: list[object] = []
    with job.progress_shown():
        parts = values_or_exceptions(job) if return_exceptions else values_of(job, ordered=True)
        for some in parts:
            values += some
    return values  # type: ignore[return-value]  # the function's
