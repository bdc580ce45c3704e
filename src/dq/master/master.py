"""The master: board, queues and server in one process, and the workers that it starts itself.

Who holds a task, in which process, behind which lock:

    inputs ──▶ Source ──▶ Board ──▶ lease ──▶ slot ──▶ Board ──▶ Line.records ──▶ whoever reads
             (feeder      (waiting)  (a connection   (recorded)                   (map, stream,
              thread)                 has it)                                      the command)
    └─────────── master, behind Queues._lock ──┘  └ worker ┘  └────────── master ────────────┘

With a journal, a record waits in its queue until it is on disk, and only then comes to
Line.records.

Threads of the master: one that accepts, one for each connection, one for each source that has to
be waited for, one for each journal, one that keeps house; and the supervisor's, where it starts
workers of its own.
"""

from __future__ import annotations

import contextlib
import contextvars
import itertools
import logging
import os
import sys
import tempfile
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import replace
from typing import TYPE_CHECKING, TypedDict, TypeVar, cast

from dq._support import platform
from dq._support.naming import setting
from dq._support.screen import screen
from dq.core.records import Failed, Reading, Recorded, Result
from dq.data import inputs
from dq.dispatch.served_job import ServedJob, results_of
from dq.errors import (
    BadInput,
    BadTask,
    ConnectError,
    InputChanged,
    MissingModule,
    Stopped,
    TaskError,
    UsageError,
)
from dq.functions import tasks, versions
from dq.functions.import_check import checks
from dq.functions.task_options import TaskOptions
from dq.functions.tasks import Function, JobSpec, TaskRef
from dq.functions.versions import version_of
from dq.manager.options import ServerOptions
from dq.manager.queue_manager import Registry, Server
from dq.master.progress import Progress, Report, check_progress
from dq.security import keys
from dq.security.tls import PLAIN
from dq.security.tls_options import TlsOptions
from dq.transport import transport
from dq.transport.transport import KEEPALIVE, MAX_MESSAGE, Address
from dq.worker.config import ProcessOptions
from dq.worker.processes import GRACE, Child
from dq.worker.supervisor import Plan, Supervisor

if TYPE_CHECKING:
    from dq.journal.replay import Replay
    from dq.journal.writer import Journal

T = TypeVar("T")
StrPath = str | os.PathLike[str]
Batches = Callable[[], Iterator[Iterable[T]]]  # what starts an iterator over a job's batches

KEEP_HOUSE = 0.05  # seconds between two looks at slow sources and old leases
FAREWELL = 5.0  # seconds that workers have to leave when the master has finished
BRIEFLY = 0.5  # the same, when it is in haste

VALUES = Reading()

log = logging.getLogger("dq")


class Options(TypedDict, total=False):
    """Keyword arguments of `Master` that others hand on."""

    threads: int
    retries: int
    retry_delay: float
    timeout: float | None
    max_deaths: int
    max_failures: int | None
    max_tasks: int | None
    max_memory: int | None
    grace: float
    initializer: str | Function | None
    unpack: bool
    strict_code: bool
    batch: int | None
    max_message: int
    keepalive: int
    tls: str
    tls_cert: str | os.PathLike[str] | None
    tls_key: str | os.PathLike[str] | None
    tls_ca: str | os.PathLike[str] | None
    report: Callable[[str], None] | None


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
        grace: seconds that a process started here has to leave at its end, for threads that tasks
            have left, what is registered with atexit, and files to be flushed.
        initializer: called once in each worker process first; one that goes by value, as that of a
            script does, once for each `map` or function of an `Executor`, whose globals it sets.
        unpack: call ``f(*list)`` or ``f(**mapping)``.
        strict_code: have a process do nothing whose file of the task's module is not the one that
            the run began with; else it works, and one line says so.
        batch: tasks that a worker is sent at a time; None to adapt.
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
        grace: float = GRACE,
        initializer: str | Function | None = None,
        unpack: bool = False,
        strict_code: bool = False,
        batch: int | None = None,
        maxsize: int = 0,
        redeliver: bool = True,
        pickle: str = "safe",
        max_message: int = MAX_MESSAGE,
        keepalive: int = KEEPALIVE,
        tls: str = "auto",
        tls_cert: str | os.PathLike[str] | None = None,
        tls_key: str | os.PathLike[str] | None = None,
        tls_ca: str | os.PathLike[str] | None = None,
        report: Callable[[str], None] | None = None,
    ) -> None:
        self._processes = ProcessOptions(
            count=workers,
            threads=threads,
            max_tasks=max_tasks,
            max_memory=max_memory,
            grace=grace,
        )
        self._tasks = TaskOptions(
            retries=retries,
            retry_delay=retry_delay,
            timeout=timeout,
            max_deaths=max_deaths,
            max_failures=max_failures,
            batch=batch,
            unpack=unpack,
            initializer=initializer,
            strict_code=strict_code,
        )
        self._options = ServerOptions(
            host=host,
            port=port,
            max_message=max_message,
            keepalive=keepalive,
            maxsize=maxsize,
            redeliver=redeliver,
            pickle=pickle,
        )
        encryption = TlsOptions(tls=tls, tls_cert=tls_cert, tls_key=tls_key, tls_ca=tls_ca)
        self._report = report or _beside_bar(log.warning)
        self.note = report or _beside_bar(log.info)  # told what people need not know
        self.key_hint = keys.hint(authkey)  # where who starts a worker has the key from
        self._missing: set[str] = set()  # libraries, in words
        if initializer is not None:
            with self._libraries_elsewhere():
                initial(initializer)
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._authkey = self._find_key(authkey, port)
        self._listens = port is not None
        # What only this user's processes can reach needs none.
        self._tls = encryption.settings() if self._listens else PLAIN
        default = self._default_spec(task) if task is not None else None
        self.dispatcher = self._options.dispatcher(self._report, default)
        self.dispatcher.presence.on_news = self._tell_who_is_there
        self._server: Server | None = None
        self._supervisor: Supervisor | None = None
        self.ahead: list[Child] | None = None  # task processes that were started before it was
        self.sharing = workers  # how many the machine's CPUs are for
        self.stderr: Callable[[], int] | None = None  # see `Plan`
        self._supervising: threading.Thread | None = None
        self._broken: BaseException | None = None
        self._calls: dict[str, tuple[ServedJob, Callable[[BaseException], None]]] = {}
        self._closed = threading.Event()
        self._process = os.getpid()
        _masters.add(self)

    @staticmethod
    def _find_key(authkey: bytes | str | None, port: int | None) -> bytes:
        if authkey is None and port is None:
            return keys.generate()
        return keys.find(authkey)

    # Serving

    def __enter__(self) -> Master:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        self.close(now=kind is not None)

    def check_process(self) -> None:
        """See that this is the process that made it.

        Raises:
            UsageError: it is a fork of that one.
        """
        if os.getpid() != self._process:
            raise UsageError(
                f"this Master belongs to process {self._process}, from which this one was forked;"
                " make another one here"
            )

    def let_go(self) -> None:
        """In a process that was forked from this one: disturb nothing of it."""
        if self._folder is not None:
            self._folder._finalizer.detach()  # type: ignore[attr-defined]  # it would remove it
        if self._server is not None:
            self._server.let_go()
        if self._supervisor is not None:
            self._supervisor.let_go()

    @property
    def address(self) -> Address:
        """Host and port that it serves on, or the path of its Unix socket. The host 0.0.0.0 stands
        for all addresses of this machine, those of IPv6 included."""
        return self._started.address

    @property
    def serves_on(self) -> str:
        """The same, for people."""
        return str(self._started.listener)  # type: ignore[attr-defined]  # undocumented

    @property
    def _started(self) -> Server:
        self.check_process()
        if self._server is None:
            raise UsageError("the master has not started; use it in a with statement")
        return self._server

    def start(self) -> None:
        """Listen, and start the local workers. ``with`` does it."""
        tasks.refuse_while_importing()
        _refuse_patched()
        self.check_process()
        platform.raise_descriptor_limit()
        self._server = self._bind(self._options.address or self._private())
        self._server.serve(self.dispatcher, self._options.loads)
        self._server.encrypt(self._tls, self._report)
        self._server.start()
        threading.Thread(target=self._keep_house, name="dq-housekeeper", daemon=True).start()
        if self._processes.count:
            self._start_workers()

    def _private(self) -> Address:
        """Where only this user's processes find it, or only those that have the key can use it."""
        if not platform.unix_sockets():
            return ("127.0.0.1", 0)
        try:
            self._folder = tempfile.TemporaryDirectory(prefix="dq-")
        except OSError:  # a file system that is read-only, or full
            return ("127.0.0.1", 0)
        path = os.path.join(self._folder.name, "master")
        return path if len(path) < 100 else ("127.0.0.1", 0)  # sun_path has 108 bytes, 104 on macOS

    def _bind(self, address: Address) -> Server:
        try:
            return Server(Registry(), address, self._authkey, transport.SERIALIZER)
        except (OSError, UnicodeError) as error:  # the latter for a host that is no name
            raise ConnectError(transport.explain_bind(address, error)) from None

    def _start_workers(self) -> None:
        plan = Plan(
            address=self._reachable(),
            authkey=self._authkey,
            processes=self._processes,
            inherit=True,
            sharing=self.sharing,
            # They connect to where this process listens, which its certificate need not name.
            tls=replace(self._tls, check_name=False),
            stderr=self.stderr,
        )
        self._supervisor = Supervisor(plan, self._report, self.ahead)
        self.dispatcher.presence.local = self._supervisor.group
        if not self._listens:
            self.dispatcher.own = self._supervisor.group
        self._supervising = threading.Thread(
            target=self._supervise, args=(self._supervisor,), name="dq-supervisor", daemon=True
        )
        self._supervising.start()

    def _reachable(self) -> Address:
        """Where processes on this machine find it."""
        if isinstance(self.address, str):
            return self.address
        return transport.reachable(*self.address)

    def _supervise(self, supervisor: Supervisor) -> None:
        try:
            supervisor.connect(0.0)
            supervisor.run()
        except BaseException as error:
            self._broken = error
            self.dispatcher.wake_readers()

    def _keep_house(self) -> None:
        while not self._closed.wait(KEEP_HOUSE):
            self.dispatcher.sync()
            self._tell_who_is_there()
            for served, fail in list(self._calls.values()):
                try:
                    self.check_workers(served)
                except BaseException as error:
                    fail(error)

    def _tell_who_is_there(self) -> None:
        with self.dispatcher.lock:
            notes = self.dispatcher.presence.notes()
            nobody = self.dispatcher.presence.nobody()
        for note in notes:
            (self._report if note.warning else self.note)(note.line)
        if nobody and self._listens and not self._processes.count and not self.closed:
            self._report(f"{nobody}. Start one: {self._how_to_join()} (with {self.key_hint})")

    def _how_to_join(self) -> str:
        """The command that starts a worker elsewhere, but for the key."""
        address = self.address
        assert not isinstance(address, str)
        command = f"dq worker --server {transport.show(transport.outside(*address))}"
        if self.dispatcher.presence.needs_task():
            command += " --task TASK"
        if self._tls.mode == "certs":
            command += " --tls-cert FILE --tls-key FILE --tls-ca FILE"
        return command

    def wait(self) -> None:
        """Serve until `close` is called, in another thread or a signal's handler."""
        self.dispatcher.presence.only_plain = True
        self.check_process()
        while not self._closed.wait(1.0):  # in slices: on Windows nothing interrupts a wait
            self.check_workers()

    @property
    def closed(self) -> bool:
        """Whether it has stopped serving, or is about to."""
        return self._closed.is_set()

    def close(self, *, now: bool = False) -> None:
        """Tell workers that this is the end, and stop serving.

        Args:
            now: end the local workers, rather than let them leave.
        """
        if self._closed.is_set() or os.getpid() != self._process:
            return
        self._closed.set()
        self.dispatcher.stop()
        if self._supervisor is not None and now:
            self._supervisor.quit()
        if self._supervising is not None:
            self._supervising.join(FAREWELL)
            while self._supervising.is_alive() and self._is_only_leaving():
                self._supervising.join(KEEP_HOUSE)
            if self._supervising.is_alive() and self._supervisor is not None:
                self._supervisor.quit()
                self._supervising.join()
        if self._listens:
            # Also in haste: who is idle hears of the end at once, rather than look for a master
            # that is not coming back.
            self.dispatcher.wait_empty(BRIEFLY if now else FAREWELL)
        if self._server is not None:
            self._server.close()
        self.dispatcher.close_journals()
        if self._folder is not None:
            self._folder.cleanup()
        for _, fail in list(self._calls.values()):
            fail(Stopped("the master was closed"))

    def _is_only_leaving(self) -> bool:
        """Whether the local workers have no more to do but to end, which takes `grace` at most."""
        return self._supervisor is not None and self._supervisor.only_leaving

    def end_workers(self) -> None:
        """End the local workers now, from another thread than the one that closes the master."""
        if self._supervisor is not None:
            self._supervisor.quit()

    # Jobs

    def map(
        self,
        task: str | Callable[..., T],
        inputs: Iterable[object],
        *,
        ordered: bool = True,
        journal: StrPath | None = None,
        retry_failed: bool = False,
        progress: bool | Report = False,
    ) -> Iterator[T]:
        """Call a function with each input; the values come in the inputs' order, or as soon as
        they are there.

        Lazy: inputs are read, and values kept, only as far ahead as a window of some megabytes.

        Args:
            task: import path or function.
            inputs: any iterable.
            ordered: whether in the inputs' order.
            journal: a file that each outcome is written to before you see it; the same call again
                continues where this one stopped.
            retry_failed: run the tasks again that have failed in the journal.
            progress: True shows a bar, in a terminal or a notebook, else a line now and then; a
                function is called with how many tasks are done, how many inputs there are (None
                while that is not known) and how many tasks have failed, as outcomes come.

        Raises:
            TaskError: a task failed; raised instead of its value.
            BadTask: workers could not load the function.
            BadJournal: damaged, in use, of another call.
            InputChanged: an input is not what it was when the journal was written.
            OutputError: the journal cannot be written.
        """
        job = self.open_call(task, inputs, "values", journal, retry_failed, progress=progress)
        return _chained(job, cast("Batches[T]", lambda: values_of(job, ordered)))

    def stream(
        self,
        task: str | Callable[..., T],
        inputs: Iterable[object],
        *,
        journal: StrPath | None = None,
        retry_failed: bool = False,
        progress: bool | Report = False,
    ) -> Iterator[Result[T]]:
        """Call a function with each input; a `Result` for each comes as soon as it is there, or
        on disk in the journal. Arguments and errors as for `map`, except that failures are not
        raised.
        (A record takes the master half a microsecond, a value by `map` a tenth.)"""
        job = self.open_call(task, inputs, "results", journal, retry_failed, progress=progress)
        return _chained(job, cast("Batches[Result[T]]", lambda: _results(job)))

    def open_call(
        self,
        task: str | Function,
        source: Iterable[object],
        output: str,
        journal: StrPath | None,
        retry_failed: bool,
        *,
        reader_feeds: bool = False,
        progress: bool | Report = False,
    ) -> JobReader:
        """Start a job with values for inputs; arguments as for `map` and `open`."""
        self.check_process()
        check_progress(progress)
        self._check(task)
        ref, init = self.refer(task)
        opened = self.open_journal(
            journal, ref, output=output, retry_failed=retry_failed, function=task
        )
        try:
            job = self.open(
                ref, source, init=init, output=output, journal=opened, reader_feeds=reader_feeds
            )
            job.show_progress(progress, len(source) if isinstance(source, Sized) else None)
            return job
        except BaseException:
            if opened is not None:
                opened.close()
            raise

    def open_journal(
        self,
        path: StrPath | None,
        ref: TaskRef,
        *,
        reading: Reading = VALUES,
        output: str,
        retry_failed: bool = False,
        function: str | Function = "",
        origin: str = "",
    ) -> Journal | None:
        """Open what a job with these arguments is to be continued from; None without a path. A
        `function` that goes by value is known there by what it does."""
        if path is None:
            if retry_failed:
                raise UsageError(f"{setting('retry_failed')} goes with {setting('journal')}")
            return None
        from dq.journal.facts import facts
        from dq.journal.writer import Journal  # SQLite, which few runs need

        self.dispatcher.close_abandoned()  # it may be that of an iterator that nobody keeps
        code = self._code_of(function, ref)
        version = version_of(ref)
        about = facts(
            ref, code, reading=reading, output=output, unpack=self._tasks.unpack, origin=origin,
            version=version.digest,
        )  # fmt: skip
        opened = Journal(os.fspath(path), about, retry_failed=retry_failed, log=self._report)
        if opened.left and opened.version not in ("", version.digest):
            self._report(
                f"{version.file} is not what it was when the journal {path} was begun: the results"
                f" in it stay as they are; another {setting('journal')} has all of them made again"
            )
        return opened

    def _code_of(self, function: str | Function, ref: TaskRef) -> str:
        """A digest of what goes by value of a task and the initializer; "" where nothing does."""
        init = self._tasks.initializer
        init_goes = init is not None and tasks.refer(init).kind == "value"
        if ref.kind != "value" and not init_goes:
            return ""
        from dq.functions.digests import digest_of_function  # here, since few runs need it

        parts = [function] if ref.kind == "value" else []
        return digest_of_function(str(ref), *parts, *([init] if init_goes else []))

    def open(
        self,
        ref: TaskRef,
        source: Iterable[object],
        *,
        init: TaskRef | None = None,
        output: str,
        reading: Reading = VALUES,
        journal: Journal | None = None,
        reader_feeds: bool = False,
    ) -> JobReader:
        """Start a job; what `map`, `stream` and the command line are made of.

        Args:
            ref: the function.
            source: the inputs: values, or lines of bytes.
            init: the initializer, where it was referred to together with the function.
            output: what results become: "values", "results", "text" or "jsonl".
            reading: how workers make values of the inputs.
            journal: what to continue from, and to write to; closed with the job or the master.
            reader_feeds: have the thread that reads the job's records read its inputs too, rather
                than a thread of their own.
        """
        self.address  # noqa: B018  # raises where it has not started
        spec = self._spec(ref, init, output=output, reading=reading)
        reader = inputs.Source(source)
        replay = None if journal is None else _replay(journal)
        reader_feeds = reader_feeds and reader.length is None
        served = self.dispatcher.open(
            spec, self._tasks.rules, reader, replay, reader_feeds=reader_feeds
        )
        job = JobReader(self, served, feeds=reader_feeds)
        if reader.length is None and not reader_feeds:
            context = contextvars.copy_context()  # what the inputs' code may look at
            threading.Thread(
                target=context.run, args=(job.feed,), name="dq-feeder", daemon=True
            ).start()
        return job

    def refer(self, task: str | Function) -> tuple[TaskRef, TaskRef | None]:
        """Where workers find a task, and the initializer, as they are now."""
        return tasks.refer_both(task, self._tasks.initializer)

    def open_calls(
        self,
        refs: tuple[TaskRef, TaskRef | None],
        sink: Callable[[Recorded], None],
        fail: Callable[[BaseException], None],
    ) -> ServedJob:
        """Start a job whose inputs are pairs of positional and keyword arguments, pushed one by
        one.

        Args:
            refs: what to call, as `refer` has it.
            sink: given its records, by the threads that took them in.
            fail: told why there are no more to come.
        """
        spec = replace(self._spec(*refs), unpack="call")
        served = self.dispatcher.open(spec, self._tasks.rules, inputs.Source(iter(())))
        served.sink = sink
        self._calls[spec.id] = served, fail
        return served

    def close_calls(self, served: ServedJob) -> None:
        """End such a job."""
        self._calls.pop(served.spec.id, None)
        self.dispatcher.close(served)

    def _default_spec(self, task: str | Function) -> JobSpec:
        self._check(task)
        return self._spec(*self.refer(task), id="plain")

    def _check(self, task: str | Function) -> None:
        """Refuse a task that workers could not call. What the libraries of others are missing for
        is theirs to say: a master opens neither inputs nor results."""
        with self._libraries_elsewhere():
            check(task, unpack=self._tasks.unpack)

    @contextlib.contextmanager
    def _libraries_elsewhere(self) -> Iterator[None]:
        """Let a library be missing here, said once, where all the workers are elsewhere."""
        try:
            yield
        except MissingModule as error:
            if self._processes.count:
                raise
            if str(error) not in self._missing:
                self._missing.add(str(error))
                self._report(f"{error}; serving anyway, since only workers need it")

    def _spec(
        self,
        ref: TaskRef,
        init: TaskRef | None = None,
        *,
        id: str | None = None,
        output: str = "values",
        reading: Reading = VALUES,
    ) -> JobSpec:
        return JobSpec(
            id=id or os.urandom(8).hex(),
            ref=ref,
            reading=reading,
            unpack="items" if self._tasks.unpack else "",
            output=output,
            timeout=self._tasks.timeout,
            init=init or self._refer_initializer(),
            digest=version_of(ref).digest,
            strict=self._tasks.strict_code,
        )

    def _refer_initializer(self) -> TaskRef | None:
        initializer = self._tasks.initializer
        return tasks.refer(initializer) if initializer is not None else None

    def check_workers(self, served: ServedJob | None = None) -> None:
        """Raise what keeps local workers from working, where nobody else could."""
        if self._broken is not None:
            raise self._broken
        if served is None or self._listens or self._supervisor is None:
            return
        reason = served.job.refused.get(self._supervisor.group)
        if reason is not None:
            raise BadTask(reason)


def _beside_bar(write: Callable[[str], None]) -> Callable[[str], None]:
    """The same function, which has a bar make room for what it may write to a terminal."""

    def tell(line: str) -> None:
        with screen.room():
            write(line)

    return tell


def _let_go_of_all() -> None:
    for master in list(_masters):
        master.let_go()


# Those of this process and, in a fork of it, of its parents.
_masters: weakref.WeakSet[Master] = weakref.WeakSet()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go_of_all)


class JobReader:
    """A job on the board, from the side of who reads its records."""

    def __init__(self, master: Master, served: ServedJob, *, feeds: bool = False) -> None:
        self._master = master
        self.served = served
        self._feeds = feeds  # whether who reads the records reads the inputs
        self._error: BaseException | None = None  # what the inputs raised
        self._aborted: Exception | None = None
        self._halted = False
        self._come: deque[Recorded] = deque()  # read, and not passed on yet
        self._early: dict[int, Recorded] = {}  # those that wait for an earlier one, by their start
        self.on_records: Callable[[list[Recorded]], None] | None = None  # told of those that came
        self._progress: Progress | None = None

    @property
    def input_error(self) -> BaseException | None:
        """What the inputs raised, if anything: `records` raises it again."""
        return self._error

    def feed(self) -> None:
        """Read the inputs; what their iterator raises is raised again by `records`."""
        try:
            self._master.dispatcher.feed(self.served)
        except InputChanged as error:
            self._fail(error)
        except BadInput as error:  # of a file that is damaged from there on: run what came before
            self._error = error
            self._master.dispatcher.end_inputs(self.served)
        except BaseException as error:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        self._error = error
        self.halt("its inputs failed")

    def records(self, timeout: float = 1.0) -> list[Recorded] | None:
        """Records as they come; None at the end, [] when there were none for `timeout` seconds.

        Raises:
            Stopped: there are too many failures, or the master is closed.
        """
        self._master.check_process()
        if self._feeds and self._master.dispatcher.needs_refill(self.served):
            self._master.dispatcher.read_ahead(self.served)
            timeout = 0.0
        records = self._master.dispatcher.read(self.served, timeout)
        if records and self.on_records is not None:
            self.on_records(records)
        if self._aborted is not None:
            self._come.extend(records or ())
            raise self._aborted
        if records:
            return records
        if self._error is not None and (self._halted or records is None):
            raise self._error
        self._master.check_workers(self.served)
        if records is not None and self._master.closed:
            raise Stopped("stopped before the end: the master is closed")
        if records is None:
            self._check_stopped()
        return records

    def _check_stopped(self) -> None:
        """Raise why not every task has an outcome, of a job that has ended."""
        job = self.served.job
        if job.stopped is None:
            return
        # The last outcomes may have come since it was told to stop, and the end with them.
        if job.ended and not (job.unbatched or job.out or self.served.unwritten or self._error):
            return
        if self._halted:
            raise Stopped(f"stopped before the end: {job.stopped}")
        raise Stopped(f"stopped before the end: {job.counts.failed} task(s) failed")

    def consumed(self, records: list[Recorded]) -> None:
        """Records have been passed on; as much more may come."""
        self._master.dispatcher.consumed(self.served, records)

    def abort(self, error: Exception) -> None:
        """Let who reads the records have this at once, from another thread. (Raised by a signal's
        handler it could come in the middle of a condition's wait, which then breaks its lock.)"""
        self._aborted = error
        self._master.dispatcher.wake_readers()

    def halt(self, reason: str) -> None:
        """Give out no more; what is running may finish."""
        self._halted = True
        self._master.dispatcher.halt(self.served, reason)

    def close(self) -> None:
        """Forget the job; what is running is not waited for."""
        self._master.dispatcher.close(self.served)

    def abandon(self) -> None:
        """Have the job forgotten soon, from wherever the garbage collector runs."""
        self._master.dispatcher.abandon(self.served)
        if self._progress is not None:
            self._progress.abandon()

    def show_progress(self, wanted: bool | Report, size: int | None) -> None:
        """Show how far it is, or tell a function, until `shown_to_the_end` or `abandon`.

        Args:
            wanted: a function, or whether to show it.
            size: how many inputs there are, where that is known.
        """
        if wanted is False:
            return
        job, replay = self.served.job, self.served.replay
        progress = self._progress = Progress(
            lambda: job.next + job.unbatched if job.ended else size,
            report=None if wanted is True else wanted,
            asked=True,
            known=replay.left if replay is not None else 0,
        )
        self.on_records = progress.take
        progress.start()

    @contextlib.contextmanager
    def shown_to_the_end(self) -> Iterator[None]:
        """See to it that progress ends with what is done within, unless nobody wants that any
        more."""
        try:
            yield
        except GeneratorExit:
            raise
        except BaseException:
            if self._progress is not None:
                self._progress.stop()
            raise
        if self._progress is not None:
            self._progress.finish(self.served.job.counts.dropped)

    def ordered(self) -> Iterator[Recorded]:
        """Records in the inputs' order."""
        early = self._early
        expected = 0
        while (records := self.records()) is not None:
            for record in records:
                early[record.batch.start] = record
            while expected in early:
                record = early.pop(expected)
                expected = record.batch.stop
                yield record
                self.consumed([record])

    def unordered(self) -> Iterator[Recorded]:
        """Records as they come."""
        while (records := self.records()) is not None:
            self._come.extend(records)
            while self._come:
                yield self._come.popleft()
            self.consumed(records)

    def left(self) -> list[Recorded]:
        """What came and was not passed on, in the inputs' order, of a run that ends early."""
        unread = self._master.dispatcher.unread(self.served)
        if unread and self.on_records is not None:
            self.on_records(unread)
        records = [*self._come, *self._early.values(), *unread]
        self._come.clear()
        self._early.clear()
        return sorted(records, key=lambda record: record.batch.start)


def _replay(journal: Journal) -> Replay:
    from dq.journal.replay import Replay  # SQLite, which few runs need

    return Replay(journal)


def _chained(job: JobReader, batches: Batches[T]) -> Iterator[T]:
    """One iterator over a job's batches, which takes the job off the board at its end, or when
    nobody keeps it any more. (A generator that yields each value would cost 100 ns for each: more
    than everything else that the master does for a short task.)"""

    def run() -> Iterator[Iterable[T]]:
        try:
            yield ()  # from here on `finally` is sure to run
            with job.shown_to_the_end():
                yield from batches()
        finally:
            job.abandon()

    started = run()
    next(started)
    return itertools.chain.from_iterable(started)


def _results(job: JobReader) -> Iterator[Iterator[Result[object]]]:
    return (results_of(job.served, record) for record in job.unordered())


def values_of(job: JobReader, ordered: bool) -> Iterator[list[object]]:
    """The values of each batch, up to the first task that failed."""
    for record in job.ordered() if ordered else job.unordered():
        values, bad = _values_or_errors(job.served, record)
        if not bad:
            yield values
            continue
        for value in values:
            if isinstance(value, TaskError):
                raise value
            yield [value]


def values_or_errors(served: ServedJob, record: Recorded) -> list[object]:
    """The values of a record, a `TaskError` in the place of one that failed."""
    return _values_or_errors(served, record)[0]


def _values_or_errors(served: ServedJob, record: Recorded) -> tuple[list[object], bool]:
    """The same, and whether one of them failed."""
    if isinstance(record.outcome, Failed):
        return [TaskError(result) for result in results_of(served, record)], True
    values, bad = inputs.load_checked(record.outcome.blob)
    if not bad:
        return values, False
    items = served.values(record.batch)
    return [
        TaskError(_bad_result(record, place, items[place], value))
        if type(value) is inputs.Bad
        else value
        for place, value in enumerate(values)
    ], True


def _bad_result(record: Recorded, place: int, item: object, bad: inputs.Bad) -> Result[object]:
    """The record of a task whose value cannot be unpickled here."""
    index = record.batch.start + place
    return Result(index, item, None, bad.failure, record.attempts, 0.0, record.worker)


def checked(task: str | Function, *, unpack: bool = False) -> TaskRef:
    """Where workers find a task, once it has been found here.

    Raises:
        BadTask: it cannot be loaded, called or sent.
    """
    check(task, unpack=unpack)
    return tasks.refer(task)


def check(task: str | Function, *, unpack: bool = False) -> None:
    """Refuse a task that cannot be found here, or not be called with one input.

    Raises:
        BadTask: it cannot be loaded, or called.
    """
    if isinstance(task, str):
        versions.note(tasks.parse(task), str(checks(task, _check_path, task, unpack)))
        _refuse_patched()
    else:
        tasks.check_call(task, tasks.label_of(task), unpack=unpack)


def _refuse_patched() -> None:
    """Refuse to work without threads, which gevent's patches take away: this would hang.

    Raises:
        UsageError: it has patched this process.
    """
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None and monkey.is_module_patched("threading"):
        raise UsageError(
            "gevent has patched this process, and a master needs threads as they are: patch with"
            " thread=False, or have the master in a process that does not import what patches"
        )


def _check_path(task: str, unpack: bool) -> str:
    ref = tasks.parse(task)
    tasks.check_call(tasks.load(ref), str(ref), unpack=unpack)
    return versions.file_of(ref)


def initial(task: str | Function) -> TaskRef:
    """Where workers find an initializer, once it has been found here.

    Raises:
        BadTask: it cannot be loaded, called without arguments or sent.
    """
    ref = tasks.refer(task)
    if isinstance(task, str):
        checks(str(ref), _check_initial_path, ref)
    else:
        tasks.check_init(task, ref)
    return ref


def _check_initial_path(ref: TaskRef) -> None:
    tasks.check_init(tasks.load(ref), ref)
