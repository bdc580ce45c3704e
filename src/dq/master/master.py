"""The master: board, queues and server in one process, and the workers that it starts itself.

Who holds a task, in which process, behind which lock, and where it is on disk:

    ┌──────────── master, behind Dispatcher.lock ────────────┐
    │ Source        Board             Board                  │      ┌── worker ──┐
    │ an input ───▶ a batch ────────▶ a lease, which ────────┼─────▶│ a slot     │
    │ read ahead    that waits ◀───── one connection has     │      │ runs the   │
    │                    requeued when that closes           │      │ task       │
    │                                                        │      └─────┬──────┘
    │ ServedJob.records               Board                  │            │
    │ until they are read ◀────────── recorded ◀─────────────┼────────────┘
    └──────┬──────────▲───────────────────┬──────────────────┘
           ▼          │ once written      ▼ only with a journal
      map, stream,    └────────────── SQLite file, written by
      futures, the command             the journal's thread

Threads of the master: one that accepts connections and one for each; one for each source that has
to be waited for; one for each journal; one for maintenance; the supervisor's, where the master
starts workers itself. `dq.master.runtime` holds the order in which all of this starts and ends.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar, cast

from dq.core.records import Result
from dq.functions.reference import Function
from dq.functions.task_options import TaskOptions
from dq.manager.server_options import ServerOptions
from dq.master.options import StrPath
from dq.master.progress import Report
from dq.master.runtime import Runtime
from dq.master.values import Batches, chained, results, values_of
from dq.security.tls_options import TlsOptions
from dq.transport.addresses import Address
from dq.transport.limits import KEEPALIVE_S, MAX_MESSAGE_BYTES
from dq.worker.process_options import GRACE_S, ProcessOptions

T = TypeVar("T")


class Master:
    """Serves tasks and results on one port, to any mix of local and remote workers.

    Args:
        task: the function for what plain clients put on the task queue.
        host: address to listen on; '' for all of this machine's, of IPv4 and IPv6.
        port: TCP port, 0 for a free one; None to serve only the workers started here, over a
            Unix socket.
        authkey: the shared key; None to look for it where ``dq`` does, or to make a random one if
            there is no port.
        workers: task processes to start here.
        threads: task slots in each of them.
        retries: further attempts after an exception or time-out.
        retry_delay: seconds before each of them.
        timeout: seconds that a task may run.
        max_deaths: worker processes that may die in a task before it fails.
        max_failures: failed tasks after which a job stops.
        max_tasks: tasks after which a process started here is replaced.
        max_memory: bytes beyond which a process started here is ended.
        preload: modules that are imported once, for all processes started here, which then share
            their memory.
        grace: seconds that a process started here has to leave at its end, for threads that tasks
            have left, what is registered with atexit, and files to be flushed.
        initializer: called once in each worker process first; one that goes by value, as that of a
            script does, once for each `map` or `Executor`, whose globals it sets.
        unpack: call ``f(*list)`` or ``f(**mapping)``.
        strict_code: have a process do nothing whose file of the task's module is not the one that
            the run began with; else it works, and one line says so.
        batch: tasks that a worker is sent at a time; None to adapt.
        rate: tasks that may be started in a second, on all workers together and including retries,
            or text such as "10/s", "300/m" or "2/h".
        needs: tags that a worker must have to get a task, as a list or with commas.
        speculate: run a task that takes three times as long as 95 of 100 others a second time, on
            another worker, once nothing else is left to be started. The first to end counts.
        tags: what the processes started here have, for jobs that need it.
        maxsize: how many tasks plain clients may have waiting; 0 for any number. Results are not
            bounded.
        redeliver: requeue what a plain client got if its connection ends.
        pickle: "safe" for standard data types only, "any" to unpickle everything that plain clients
            put.
        max_message: bytes of the largest input or result.
        keepalive: seconds, at least 5, after which the connection of a machine that does not
            respond is closed, here and by workers.
        tls: how connections to a port are encrypted. "auto": with certificates if they are given,
            else from the key if both ends have Python 3.13 or newer, else not at all. "require":
            the same, but never without encryption. "psk": from the key. "certs": with certificates.
            "off": not at all.
        tls_cert, tls_key, tls_ca: PEM files: this end's certificate, its key, and the CA that
            signed the workers' certificates.
        report: called with each line that people should see, and with who joins and leaves; None
            for the log, at levels WARNING and INFO.

    Raises:
        BadTask: the task or initializer cannot be loaded.
        BadKey: there is no key, or an empty one.
        ConnectError: the port cannot be had.

    >>> import math
    >>> with Master(workers=1) as master:
    ...     list(master.map(math.sqrt, [1, 4, 9]))
    [1.0, 2.0, 3.0]
    """

    def __init__(
        self,
        task: str | Function | None = None,
        *,
        host: str = "",
        port: int | None = None,
        authkey: bytes | str | None = None,
        workers: int = 0,
        threads: int = 1,
        retries: int = 0,
        retry_delay: float = 0.0,
        timeout: float | None = None,
        max_deaths: int = 3,
        max_failures: int | None = None,
        max_tasks: int | None = None,
        max_memory: int | None = None,
        grace: float = GRACE_S,
        preload: Sequence[str] = (),
        initializer: str | Function | None = None,
        unpack: bool = False,
        strict_code: bool = False,
        batch: int | None = None,
        rate: float | str | None = None,
        needs: str | Collection[str] = (),
        speculate: bool = False,
        tags: str | Collection[str] = (),
        maxsize: int = 0,
        redeliver: bool = True,
        pickle: str = "safe",
        max_message: int = MAX_MESSAGE_BYTES,
        keepalive: int = KEEPALIVE_S,
        tls: str = "auto",
        tls_cert: str | os.PathLike[str] | None = None,
        tls_key: str | os.PathLike[str] | None = None,
        tls_ca: str | os.PathLike[str] | None = None,
        report: Callable[[str], None] | None = None,
    ) -> None:
        self.runtime = Runtime(  # public only to other modules of dq
            task,
            authkey=authkey,
            processes=ProcessOptions(
                count=workers,
                threads=threads,
                max_tasks=max_tasks,
                max_memory=max_memory,
                grace=grace,
                preload=preload,
                tags=tags,
            ),
            tasks=TaskOptions(
                retries=retries,
                retry_delay=retry_delay,
                timeout=timeout,
                max_deaths=max_deaths,
                max_failures=max_failures,
                batch=batch,
                rate=rate,
                needs=needs,
                speculate=speculate,
                unpack=unpack,
                initializer=initializer,
                strict_code=strict_code,
            ),
            server=ServerOptions(
                host=host,
                port=port,
                max_message=max_message,
                keepalive=keepalive,
                maxsize=maxsize,
                redeliver=redeliver,
                pickle=pickle,
            ),
            tls=TlsOptions(tls=tls, tls_cert=tls_cert, tls_key=tls_key, tls_ca=tls_ca),
            report=report,
        )

    def __enter__(self) -> Master:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        self.close(now=kind is not None)

    @property
    def address(self) -> Address:
        """Host and port that it serves on, or the path of its Unix socket. The host 0.0.0.0 stands
        for all addresses of this machine, those of IPv6 included."""
        self.runtime.lifetime.check_process()
        return self.runtime.serving.address

    def start(self) -> None:
        """Listen, and start the local workers. ``with`` does it."""
        self.runtime.start()

    def wait(self) -> None:
        """Serve until `close` is called, in another thread or a signal's handler."""
        self.runtime.wait()

    @property
    def closed(self) -> bool:
        """Whether it has stopped serving, or is about to."""
        return self.runtime.lifetime.closed

    def close(self, *, now: bool = False) -> None:
        """Tell workers that this is the end, and stop serving.

        Args:
            now: end the local workers, rather than let them leave.
        """
        self.runtime.close(now=now)

    def map(
        self,
        task: str | Callable[..., T],
        inputs: Iterable[object],
        *,
        ordered: bool = True,
        journal: StrPath | None = None,
        retry_failed: bool = False,
        progress: bool | Report = False,
        constants: Mapping[str, object] | None = None,
    ) -> Iterator[T]:
        """Call a function with each input; the values come in the inputs' order, or as soon as
        they are there.

        Lazy: inputs are read, and values kept, only as far ahead as a window of some megabytes.

        Args:
            task: import path or function.
            inputs: any iterable, read ahead, so do not change an input later. Inputs that refer to
                the same object may share it in the worker, as in a chunk of `multiprocessing.Pool`.
            ordered: whether in the inputs' order.
            journal: a file that each outcome is written to before you see it; the same call again
                continues where this one stopped.
            retry_failed: run the tasks again that have failed in the journal.
            progress: True shows a bar, in a terminal or a notebook, else a line now and then; a
                function is called with how many tasks are done, how many inputs there are (None
                while that is not known) and how many tasks have failed, as outcomes come.
            constants: keyword arguments of all tasks, such as a large table. They go to each
                process once.

        Raises:
            Exception: a task failed; what it raised, instead of its value, with the worker's
                traceback as its cause and a note that says which task it was.
            TaskError: a task failed, and that cannot be raised here.
            BadTask: workers could not load the function.
            BadJournal: damaged, in use, of another call.
            InputChanged: an input is not what it was when the journal was written.
            OutputError: the journal cannot be written.
        """
        job = self.runtime.jobs.open_call(
            task,
            inputs,
            output="values",
            journal=journal,
            retry_failed=retry_failed,
            progress=progress,
            constants=constants,
        )
        return chained(job, cast("Batches[T]", lambda: values_of(job, ordered)))

    def stream(
        self,
        task: str | Callable[..., T],
        inputs: Iterable[object],
        *,
        journal: StrPath | None = None,
        retry_failed: bool = False,
        progress: bool | Report = False,
        constants: Mapping[str, object] | None = None,
    ) -> Iterator[Result[T]]:
        """Call a function with each input; a `Result` for each comes as soon as it is there, or
        on disk in the journal. Arguments and errors as for `map`, except that failures are not
        raised.
        (A record takes the master half a microsecond, a value by `map` a tenth.)"""
        job = self.runtime.jobs.open_call(
            task,
            inputs,
            output="results",
            journal=journal,
            retry_failed=retry_failed,
            progress=progress,
            constants=constants,
        )
        return chained(job, cast("Batches[Result[T]]", lambda: results(job)))
