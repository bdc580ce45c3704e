"""The calls for scripts: `run`, `run_master`, `run_worker`."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar, overload

from dq._support import quantities
from dq._support.screen import forwarder_beside_bar
from dq.errors import MissingModule, UsageError
from dq.functions import tasks
from dq.functions.tasks import Function
from dq.master.master import Master
from dq.master.options import Options, StrPath
from dq.master.progress import Report
from dq.master.task_check import check, checked
from dq.master.values import values_of, values_or_errors
from dq.security import keys
from dq.security.tls_options import TlsOptions
from dq.worker import allow as patterns
from dq.worker.config import ProcessOptions
from dq.worker.processes import GRACE
from dq.worker.supervisor import Plan, Supervisor

if TYPE_CHECKING:
    from typing_extensions import Unpack

T = TypeVar("T")

log = logging.getLogger("dq")

PORT = 5000


def run(
    task: str | Callable[..., T],
    inputs: Iterable[object],
    *,
    workers: int | None = None,
    return_exceptions: bool = False,
    journal: StrPath | None = None,
    retry_failed: bool = False,
    progress: bool | Report = False,
    **options: Unpack[Options],
) -> list[T]:
    """Call a function with each input in worker processes of this machine.

    Args:
        task: import path or function.
        inputs: any iterable; read in the calling thread.
        workers: how many processes; None starts one for each CPU.
        return_exceptions: put a `TaskError` in the place of each failed task's value instead of
            raising the first one.
        journal, retry_failed: a file to continue from, as for `Master.map`.
        progress: show how far it is, or tell a function, as for `Master.map`.
        options: as for `Master`.

    Returns:
        The values, in the inputs' order.

    Raises:
        TaskError: a task failed.
        BadTask: the function cannot be loaded.
        BadJournal: the journal is damaged, in use, or of another call.

    >>> run("math:factorial", [3, 4, 5], workers=1)
    [6, 24, 120]
    """
    tasks.refuse_while_importing()
    _find(task, options.get("unpack", False))
    master = Master(workers=_count(workers=workers), **options)
    with _beside_bar(master, progress), master:
        return _collect(master, task, inputs, return_exceptions, journal, retry_failed, progress)


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
    port: int = PORT,
    authkey: bytes | str | None = None,
    workers: int = 0,
    return_exceptions: bool = False,
    journal: StrPath | None = None,
    retry_failed: bool = False,
    progress: bool | Report = False,
    maxsize: int = 0,
    redeliver: bool = True,
    pickle: str = "safe",
    **options: Unpack[Options],
) -> list[T] | None:
    """Serve tasks to workers that connect; wait for all results.

    Args:
        task: import path or function. Without inputs, workers call it with the items that plain
            clients put on the task queue.
        inputs: any iterable, read in the calling thread; without it the two queues are served
            until interrupted.
        host: address to listen on; '' for all of this machine's, of IPv4 and IPv6.
        port: TCP port; 0 for a free one, which is logged.
        authkey: the shared key; None to look where ``dq`` does.
        workers: task processes to start on this machine as well.
        return_exceptions, journal, retry_failed, progress, maxsize, redeliver, pickle, options: as
            for `run` and `Master`.

    Returns:
        The values, in the inputs' order; None without inputs.

    Raises:
        TaskError: a task failed.
        ConnectError: the port cannot be had.
    """
    tasks.refuse_while_importing()
    if inputs is not None and task is None:
        raise UsageError("inputs without a task: give the function to call with them")
    if inputs is None and journal is not None:
        raise UsageError("a journal without inputs: it keeps the outcomes of inputs")
    if task is not None:
        _find(task, options.get("unpack", False))
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
    with _beside_bar(master, progress), master:
        log.info("serving on %s", master.runtime.serving.shown)
        if inputs is None or task is None:
            master.wait()
            return None
        return _collect(master, task, inputs, return_exceptions, journal, retry_failed, progress)


def run_worker(
    server: str = "127.0.0.1",
    port: int | None = None,
    *,
    authkey: bytes | str | None = None,
    processes: int | None = None,
    threads: int = 1,
    task: str | Function | None = None,
    allow: Iterable[str] = (),
    reconnect: float = 60.0,
    max_tasks: int | None = None,
    max_memory: int | None = None,
    grace: float = GRACE,
    tls: str = "auto",
    tls_cert: str | os.PathLike[str] | None = None,
    tls_key: str | os.PathLike[str] | None = None,
    tls_ca: str | os.PathLike[str] | None = None,
    report: Callable[[str], None] | None = None,
) -> None:
    """Work for a master until it has finished.

    Args:
        server: its host, or ``host:port``.
        port: its TCP port; None for the one in `server`, else 5000.
        authkey: the shared key; None to look where ``dq`` does.
        processes: task processes; None for one for each CPU.
        threads: task slots in each.
        task: what to call with the items of plain clients, and of a plain `BaseManager`.
        allow: run only functions that match one of these patterns ("app:*", "jobs.*:run"), and take
            only standard data types as inputs; empty to run anything.
        reconnect: seconds to look for a master that cannot be reached.
        max_tasks: tasks after which a process is replaced.
        max_memory: bytes of resident memory beyond which a process is ended.
        grace: seconds that a process has to leave at its end, for threads that tasks have left,
            what is registered with atexit, and files to be flushed.
        tls: how the connection is encrypted. "auto": with certificates if they are given, else from
            the key if both ends have Python 3.13 or newer, else not at all. "require": the same,
            but never without encryption. "psk": from the key. "certs": with certificates. "off":
            not at all.
        tls_cert, tls_key, tls_ca: PEM files: this end's certificate, its key, and the CA that
            signed the master's certificate.
        report: called with each line that people should see; None for the log.

    Raises:
        ConnectError: no master there, or another key.
        TlsError: the connection cannot be encrypted as it has to be.
        MasterLost: the master was lost and did not come back.
    """
    tasks.refuse_while_importing()
    quantities.text(server=server)
    quantities.whole(1, 65535, **quantities.given(port=port))
    quantities.seconds(reconnect=reconnect)
    encryption = TlsOptions(tls=tls, tls_cert=tls_cert, tls_key=tls_key, tls_ca=tls_ca)
    plan = Plan(
        address=address(server, port),
        authkey=keys.find(authkey),
        processes=ProcessOptions(
            count=_count(processes=processes),
            threads=threads,
            max_tasks=max_tasks,
            max_memory=max_memory,
            grace=grace,
        ),
        task=checked(task) if task is not None else None,
        reconnect=reconnect,
        tls=encryption.settings(),
        allow=tuple(map(patterns.check, allow)),
    )
    supervisor = Supervisor(plan, report or log.warning)
    supervisor.connect(reconnect)
    supervisor.run()


def address(server: str, port: int | None = None) -> tuple[str, int]:
    """Read ``HOST``, ``HOST:PORT``, ``[IPv6]:PORT``, ``[IPv6]`` or ``IPv6``.

    Raises:
        UsageError: it is none of them.

    >>> address("10.0.0.2"), address("here:81"), address("[::1]:81")
    (('10.0.0.2', 5000), ('here', 81), ('::1', 81))
    >>> address("::1"), address("[::1]")
    (('::1', 5000), ('::1', 5000))
    """
    host, colon, number = server.rpartition(":")
    if not colon or server.endswith("]") or (":" in host and not host.startswith("[")):
        host, number = server, ""
    elif not number.isdecimal():
        raise UsageError(f"{server!r} is not HOST or HOST:PORT")
    host = host.removeprefix("[").removesuffix("]")
    chosen = port if port is not None else int(number or PORT)
    if not host or not 0 < chosen < 65536:
        raise UsageError(f"{server!r} is not HOST or HOST:PORT, with a port from 1 to 65535")
    return host, chosen


def _find(task: str | Function, unpack: bool) -> None:
    """Import a task before there is a master, for which it would be too late to be refused what
    the module does to this process. Other libraries are for the master to miss."""
    if isinstance(task, str):
        with contextlib.suppress(MissingModule):
            check(task, unpack=unpack)


def _count(**given: int | None) -> int:
    """A number of processes, under its argument's name; None for one for each CPU."""
    [(name, number)] = given.items()
    if number is None:
        return quantities.cpus()
    quantities.whole(1, quantities.MOST_PROCESSES, **{name: number})
    return number


@contextlib.contextmanager
def _beside_bar(master: Master, progress: bool | Report) -> Iterator[None]:
    """Have what local tasks print make room for a bar, where one is shown on a terminal."""
    forwarder = forwarder_beside_bar(quiet=progress is not True)
    if forwarder is None:
        yield
        return
    master.runtime.workers.stderr = forwarder.open
    try:
        yield
    finally:
        forwarder.close()


def _collect(
    master: Master,
    task: str | Callable[..., T],
    inputs: Iterable[object],
    return_exceptions: bool,
    journal: StrPath | None,
    retry_failed: bool,
    progress: bool | Report,
) -> list[T]:
    job = master.runtime.jobs.open_call(
        task, inputs, "values", journal, retry_failed, reader_feeds=True, progress=progress
    )
    values: list[object] = []
    with job.progress_shown():
        if not return_exceptions:
            for some in values_of(job, ordered=True):
                values += some
        else:
            for record in job.ordered():
                values += values_or_errors(job.served, record)
    return values  # type: ignore[return-value]  # the function's
