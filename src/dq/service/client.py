"""`dq.connect`: the jobs of a serving master, from Python."""

from __future__ import annotations

import contextlib
import os
import pickle
import time
from collections.abc import (
    AsyncIterator,
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from dataclasses import replace
from typing import TYPE_CHECKING, Generic, TypedDict, TypeVar

from dq._support import quantities
from dq._support.frozen import cast
from dq.core.records import Failure, Loads, Reading, Result, printable
from dq.data import exceptions
from dq.data.pieces import BadValue
from dq.dispatch.worker_status import WorkerStatus
from dq.errors import Stopped, TaskError, UsageError
from dq.functions import loading
from dq.functions.constants import with_constants
from dq.functions.job_specs import JobSpecs
from dq.functions.reference import Function
from dq.functions.spec import JobSpec
from dq.functions.task_options import TaskOptions
from dq.security import keys
from dq.security.tls_options import TlsOptions
from dq.service import submission
from dq.service.connection import JobsConnection
from dq.service.endpoint_names import PROTOCOL
from dq.service.groups import grouped
from dq.service.options import JobOptions
from dq.service.results import Row, decoded, opened, reading_from, results_of
from dq.service.selectors import selector_of
from dq.service.specs import OUTPUT, PICKLED, from_client, to_client
from dq.service.status import FailureGroup, JobStatus, read_worker
from dq.transport.server_address import server_address

if TYPE_CHECKING:
    from typing_extensions import Unpack

WAIT_S = 20.0  # for one answer of the master
PAUSE_S = 0.05  # between two questions whether a job has ended: each outcome is news

T = TypeVar("T")


class SubmitOptions(TypedDict, total=False):
    """The options of a submitted job's tasks."""

    retries: int
    retry_delay: float
    timeout: float | None
    max_deaths: int
    max_failures: int | None
    batch: int | None
    rate: float | str | None
    needs: str | Collection[str]
    speculate: bool
    unpack: bool
    initializer: str | Function | None
    strict_code: bool


def connect(
    server: str = "127.0.0.1",
    port: int | None = None,
    *,
    authkey: bytes | str | None = None,
    patience: float = 60.0,
    tls: str = "auto",
    tls_cert: str | os.PathLike[str] | None = None,
    tls_key: str | os.PathLike[str] | None = None,
    tls_ca: str | os.PathLike[str] | None = None,
) -> Client:
    """Connect to a master that keeps jobs: `dq master` without inputs, or `run_master` without.

    Args:
        server: its host, or ``host:port``.
        port: its TCP port; None for the one in `server`, else 5000.
        authkey: the shared key; None to look where ``dq`` does.
        patience: seconds to look for a master that was lost, later on.
        tls, tls_cert, tls_key, tls_ca: how the connection is encrypted, as for `run_worker`.

    Raises:
        ConnectError: no master there, or another key, or one that keeps no jobs.
    """
    quantities.text(server=server)
    quantities.whole(1, 65535, **quantities.given(port=port))
    quantities.seconds(patience=patience)
    encryption = TlsOptions(tls=tls, tls_cert=tls_cert, tls_key=tls_key, tls_ca=tls_ca)
    connection = JobsConnection(
        server_address(server, port), keys.find(authkey), encryption.settings(), patience
    )
    return Client(connection.open())


class Client:
    """A connection to a master that keeps jobs; what `connect` returns. A context manager."""

    def __init__(self, connection: JobsConnection) -> None:
        self._connection = connection

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection. The jobs go on."""
        self._connection.close()

    def submit(
        self,
        task: str | Callable[..., T],
        inputs: Iterable[object],
        *,
        name: str = "",
        priority: int = 0,
        after: Iterable[SubmittedJob[object] | int | str] = (),
        constants: Mapping[str, object] | None = None,
        **options: Unpack[SubmitOptions],
    ) -> SubmittedJob[T]:
        """Submit a job, and return once all of it is on the master's disk.

        Args:
            task: import path or function.
            inputs: any iterable. Each input is pickled by itself.
            name: what people may call the job, besides its number.
            priority: a job with a higher one goes first.
            after: jobs that have to succeed first.
            constants: keyword arguments of all tasks.
            options: as for `dq.Master`.

        Raises:
            BadTask: the task cannot be called with one input, or cannot be sent.
            ConnectError: the master was lost, and did not come back in time.
        """
        loading.refuse_while_importing()
        task = with_constants(task, constants)
        tasks = TaskOptions(**options)
        spec = _spec(task, tasks)
        wanted = JobOptions(name=name, priority=priority, tasks=tasks)
        if isinstance(after, (SubmittedJob, int, str)):
            raise UsageError(f"after is a list of jobs, such as [{after!r}]")
        selectors = [_selector(job) for job in after]
        return cast(
            "SubmittedJob[T]", self.send(spec, submission.pickled(inputs), wanted, selectors)
        )

    def send(
        self,
        spec: JobSpec,
        records: Iterable[bytes],
        options: JobOptions,
        after: Sequence[str] = (),
        notify: Callable[[int], object] | None = None,
    ) -> SubmittedJob[object]:
        """Submit a job whose inputs are encoded already, as its spec says.

        Args:
            spec: what its workers need to know.
            records: its inputs.
            options: what it asks for.
            after: selectors of the jobs that have to succeed first.
            notify: called with the number of inputs that were sent, at intervals.
        """
        given = {**options.to_wire(), "after": list(after)}
        number, id = submission.submit(self._connection, spec, records, given, notify)
        return SubmittedJob(self._connection, number, id)

    def probe(
        self,
        task: str | Function,
        *,
        timeout: float = 10.0,
        unpack: bool = False,
    ) -> list[dict[str, str]]:
        """Ask each worker whether it could call a task, which imports the task's module there.

        Args:
            task: import path or function.
            timeout: seconds to wait for the answers.
            unpack: as for `submit`.

        Returns:
            For each worker a dict with its name as "worker". If it had a slot free in time, there
            are also "error" ("" if the task was found), the "file" with the task and its "digest",
            and its versions of "dq" and "python".
        """
        return self.ask_workers(_spec(task, TaskOptions(unpack=unpack)), timeout)

    def ask_workers(self, spec: JobSpec, timeout: float) -> list[dict[str, str]]:
        """The same for a job's spec."""
        wire, functions = to_client(spec)
        answer = self._connection.call("probe", wire, functions, timeout)
        return cast("list[dict[str, str]]", answer)

    def job(self, selector: int | str) -> SubmittedJob[object]:
        """A job by its number or name; ``"last"`` for the newest.

        Raises:
            UsageError: there is none.
        """
        return self.known(self._status(str(selector)))

    def known(self, status: JobStatus) -> SubmittedJob[object]:
        """The job that has these figures."""
        return SubmittedJob(self._connection, status.number, status.id)

    def _status(self, selector: str) -> JobStatus:
        return JobStatus.from_wire(self._connection.call("status", selector))

    def jobs(self, *selectors: int | str) -> list[JobStatus]:
        """The figures of these jobs, or of all."""
        wanted = [str(one) for one in selectors] or ["all"]
        answer = cast("list[object]", self._connection.call("jobs", wanted))
        return [JobStatus.from_wire(one) for one in answer]

    def workers(self) -> list[WorkerStatus]:
        """The workers that are connected to the master; in what they run, `job` is the number of a
        job, or "" for tasks that belong to none."""
        return [read_worker(one) for one in cast("list[object]", self._connection.call("workers"))]

    def drain(self, worker: str, *, now: bool = False) -> bool:
        """Have a worker finish what it runs, and leave. Returns whether there is one of this name;
        the master's own cannot be drained.

        Args:
            worker: its name, as `workers` has it.
            now: have it leave at once. Its tasks run elsewhere.
        """
        return bool(self._connection.call("drain", worker, now))

    def cancel(self, *selectors: int | str) -> list[int]:
        """End jobs: nothing more of them is run, and running tasks are ended. Returns the numbers
        of those that had not ended."""
        answer = self._connection.call("cancel", [str(one) for one in selectors])
        return cast("list[int]", answer)

    def stop(self, *, now: bool = False) -> None:
        """Have the master end, once the running tasks have ended, or now. Its jobs go on when it is
        started again with the same journal."""
        self._connection.call("stop", now)

    def wait_for_end(self) -> None:
        """Wait until the master has gone, after `stop`.

        Raises:
            ConnectError: always: that is how it shows.
        """
        while True:
            self._connection.call("hello", PROTOCOL)
            time.sleep(PAUSE_S)


def _spec(task: str | Function, tasks: TaskOptions) -> JobSpec:
    """The spec of a job whose inputs are pickled one by one."""
    specs = JobSpecs(tasks, has_workers=False, report=lambda line: None)
    specs.check(task)
    return specs.spec(*specs.refer(task), output=OUTPUT, reading=PICKLED)


def _selector(job: SubmittedJob[object] | int | str) -> str:
    return job._selector if isinstance(job, SubmittedJob) else str(job)


class SubmittedJob(Generic[T]):
    """A job on a master. Any client can have one, on any machine, at any time.

    Attributes:
        number: what people call it.
    """

    def __init__(self, connection: JobsConnection, number: int, id: str) -> None:
        self._connection = connection
        self.number = number
        self._id = id

    def __repr__(self) -> str:
        return f"<SubmittedJob {self.number}>"

    @property
    def _selector(self) -> str:
        # Not the number: a master that was started again without its file may have given that to
        # another job.
        return selector_of(self._id)

    def status(self) -> JobStatus:
        """Its figures, and why it does not run."""
        return JobStatus.from_wire(self._connection.call("status", self._selector))

    @contextlib.contextmanager
    def apart(self) -> Iterator[SubmittedJob[T]]:
        """The same job through a connection of its own, which tells nobody when the master is lost;
        for the command line, where another one does."""
        connection = self._connection.another(reports=False)
        try:
            yield SubmittedJob(connection, self.number, self._id)
        finally:
            connection.close()

    def why_not(self, id: int) -> tuple[str, ...]:
        """Where one of its tasks is, and why that does not run.

        Args:
            id: of the task, as results have it.

        Raises:
            UsageError: there is no such task.
        """
        place = cast("str", self._connection.call("whereabouts", self._selector, id))
        return (*([place] if place else []), *self.status().why_not)

    def wait(self, timeout: float | None = None) -> JobStatus:
        """Wait until it has ended.

        Args:
            timeout: seconds.

        Raises:
            TimeoutError: it has not ended by then.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        version = -1
        while True:
            left = WAIT_S if deadline is None else min(WAIT_S, deadline - time.monotonic())
            status = self.changed_since(version, max(left, 0.0))
            if status.has_ended:
                return status
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(f"job {self.number} has not ended in {timeout:g} s")
            version = status.version
            time.sleep(PAUSE_S)

    def changed_since(self, version: int, seconds: float) -> JobStatus:
        """Its figures, once they are others than those with this version, or after some seconds."""
        answer = self._connection.call("wait", self._selector, version, seconds)
        return JobStatus.from_wire(answer)

    def results(
        self, *, ordered: bool = True, follow: bool = True, inputs: bool = True
    ) -> Iterator[Result[T]]:
        """Its results, as `dq.Master.stream` has them. They can be read as often as wanted.

        Args:
            ordered: in the order of the inputs, rather than as they came.
            follow: wait for those that are not there yet, until the job has ended.
            inputs: fetch the inputs as well.
        """
        reading = self.reading()
        for row in self.rows(ordered=ordered, follow=follow, inputs=inputs):
            for result in results_of(row, reading, pickle.loads):
                yield cast("Result[T]", opened(result, pickle.loads))

    def reading(self) -> Reading:
        """How to make values of its inputs; for the command line."""
        answer = cast("dict[str, object]", self._connection.call("status", self._selector))
        return reading_from(answer["reading"])

    def rows(self, *, ordered: bool, follow: bool, inputs: bool) -> Iterator[Row]:
        """The same as the master sends them; for the command line. Those of failed tasks have their
        inputs in any case."""
        connection = self._connection.another() if follow else self._connection
        cursor = 0
        try:
            while True:
                wait = WAIT_S if follow else 0.0
                answer = cast(
                    "dict[str, object]",
                    connection.call("results", self._selector, cursor, ordered, inputs, wait),
                )
                found, cursor = cast("list[Row]", answer["rows"]), cast("int", answer["cursor"])
                yield from found
                if answer["over"] or (not found and not follow):
                    return
        finally:
            if connection is not self._connection:
                connection.close()

    def values(self) -> Iterator[T]:
        """What its tasks return, in the order of the inputs.

        Raises:
            Exception: a task failed; raised in the place of its value: what the task raised, with
                the worker's traceback as its cause.
            TaskError: the same, if that cannot be raised here.
            Stopped: the job was cancelled, or stopped, before all of its tasks had an outcome.
        """
        reading = self.reading()
        for row in self.rows(ordered=True, follow=True, inputs=False):
            for result in results_of(row, reading, pickle.loads):
                result = opened(result, pickle.loads)
                if result.error is not None:
                    raise self._error_of(row, result)
                yield cast("T", result.value)
        status = self.status()
        if status.done + status.failed < status.total:
            raise Stopped(f"job {self.number} was {status.state}: {status.reason}")

    def _error_of(self, row: Row, result: Result[object]) -> Exception:
        """What to raise for a failed task: what it raised, if that can be had here."""
        error = None if row[5] is None else exceptions.load(row[5][3])
        if error is not None and row[5] is not None:
            note = f"dq: task {result.id} of job {self.number}, attempt {result.attempts}"
            if exceptions.annotate(error, row[5][2], f"{note}, on {printable(result.worker)}"):
                return error
        return TaskError(result)

    async def __aiter__(self) -> AsyncIterator[Result[T]]:
        """Its results in the order of the inputs, for ``async for``."""
        import asyncio  # here, since it takes longer than all the rest of a command

        loop = asyncio.get_running_loop()
        found = self.results()
        end = object()
        while (result := await loop.run_in_executor(None, next, found, end)) is not end:
            yield cast("Result[T]", result)

    def failures(self) -> list[FailureGroup]:
        """Its failed tasks, grouped by the exception's type and the last place in the user's own
        code; the largest group first."""
        found = self.failure_groups(pickle.loads)
        return [
            replace(group, input=None) if isinstance(group.input, BadValue) else group
            for group in found
        ]

    def failure_groups(self, loads: Loads) -> list[FailureGroup]:
        """The same; for the command line.

        Args:
            loads: unpickles inputs. One that it cannot unpickle is a `BadValue`.
        """
        reading = self.reading()

        def value_of(items: list[bytes]) -> object:
            return next(iter(decoded(items, reading, loads)))

        rows = self.failed_rows()
        found = ((row[0], Failure(*row[5][:3]), row[7] or []) for row in rows if row[5] is not None)
        return grouped(found, value_of)

    def failed_rows(self) -> Iterator[Row]:
        """The rows of failed tasks; for the command line."""
        cursor = 0
        while True:
            answer = cast(
                "dict[str, object]", self._connection.call("failures", self._selector, cursor)
            )
            yield from cast("list[Row]", answer["rows"])
            cursor = cast("int", answer["cursor"])
            if answer["over"]:
                return

    def spec(self) -> JobSpec:
        """What workers know of it."""
        wire, functions = cast(
            "tuple[object, object]", self._connection.call("spec", self._selector)
        )
        return from_client(wire, functions)

    def retry(self, ids: Iterable[int] | None = None) -> int:
        """Run failed tasks again: these, or all. Returns how many they are. If the job was stopped
        or cancelled, it goes on with what it had left, too."""
        given = None if ids is None else list(ids)
        return cast("int", self._connection.call("retry", self._selector, given))

    def lines(self, *, follow: bool = False) -> Iterator[str]:
        """What its tasks have printed, line by line; the last 10,000 are kept.

        Args:
            follow: wait for more until the job has ended. What the tasks of one that has ended have
                printed last is waited for in any case.
        """
        cursor, waits = 0, follow
        connection = self._connection.another() if follow else self._connection
        try:
            while True:
                wait = WAIT_S if waits else 0.0
                answer = cast(
                    "dict[str, object]", connection.call("lines", self._selector, cursor, wait)
                )
                found, cursor = cast("list[str]", answer["lines"]), cast("int", answer["cursor"])
                yield from found
                waits = follow or bool(answer["ended"])
                if answer["over"] or not (found or waits):
                    return
        finally:
            if connection is not self._connection:
                connection.close()

    def cancel(self) -> bool:
        """End it: nothing more of it is run, and running tasks are ended. Returns False if it had
        ended already."""
        return bool(self._connection.call("cancel", [self._selector]))

    def forget(self) -> None:
        """Remove it and its results from the master.

        Raises:
            UsageError: it has not ended, or another one that has not ended is to follow it.
        """
        self._connection.call("forget", [self._selector])
