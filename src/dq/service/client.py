"""`dq.connect`: the jobs of a serving master, from Python."""

from __future__ import annotations

import os
import time
from collections.abc import (
    Callable,
    Collection,
    Iterable,
    Mapping,
    Sequence,
)
from typing import TYPE_CHECKING, TypedDict, TypeVar

from dq._support import quantities
from dq._support.frozen import cast
from dq.dispatch.worker_status import ProcessStacks, WorkerStatus
from dq.errors import UsageError
from dq.functions import loading
from dq.functions.constants import with_constants
from dq.functions.job_specs import JobSpecs
from dq.functions.module_versions import version_of
from dq.functions.reference import Function
from dq.functions.spec import JobSpec
from dq.functions.task_options import TaskOptions
from dq.security import keys
from dq.security.tls_options import TlsOptions
from dq.service import submission
from dq.service.connection import JobsConnection
from dq.service.endpoint_names import PROTOCOL
from dq.service.options import JobOptions
from dq.service.specs import OUTPUT, PICKLED, to_client
from dq.service.status import JobStatus, read_running
from dq.service.submitted_job import PAUSE_S, SubmittedJob
from dq.transport.server_address import server_address

if TYPE_CHECKING:
    from typing_extensions import Unpack

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
        for name in options.keys() - SubmitOptions.__optional_keys__:
            raise TypeError(f"Client.submit() got an unexpected keyword argument {name!r}")
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
        answer = cast("list[object]", self._connection.call("workers"))
        return [read_running(WorkerStatus, one) for one in answer]

    def stacks(self, *workers: str, timeout: float = 5.0) -> list[ProcessStacks]:
        """Where the threads of task processes are, to see what a task waits for.

        Args:
            workers: their names, as `workers` has them; none for all.
            timeout: seconds to wait for their answers.

        Raises:
            UsageError: there is no such worker.
        """
        for name in workers:
            quantities.text(worker=name)
        quantities.seconds(timeout=timeout)
        answer = cast("list[object]", self._connection.call("stacks", [*workers], timeout))
        return [read_running(ProcessStacks, one) for one in answer]

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
    ref, init = specs.refer(task)
    version = version_of(ref, task)
    return specs.spec(ref, init, output=OUTPUT, reading=PICKLED, version=version)


def _selector(job: SubmittedJob[object] | int | str) -> str:
    return job.selector if isinstance(job, SubmittedJob) else str(job)
