"""Wires the parts of a master, and starts and ends them in order."""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING

from dq._support import platform
from dq._support.forking import await_imports
from dq._support.naming import setting
from dq._support.tags import tags
from dq.dispatch.dispatcher import Dispatcher
from dq.errors import Stopped, UsageError
from dq.functions import loading
from dq.functions.job_specs import JobSpecs
from dq.functions.reference import Function
from dq.functions.task_check import refuse_gevent
from dq.functions.task_options import TaskOptions
from dq.manager.server_options import ServerOptions
from dq.master.announcer import Announcer, beside_bar
from dq.master.jobs import Jobs
from dq.master.lifetime import Lifetime
from dq.master.local_workers import LocalWorkers
from dq.master.serving import Serving
from dq.security import keys
from dq.security.tls_options import TlsOptions
from dq.worker.process_options import ProcessOptions

if TYPE_CHECKING:
    from dq.master.in_process import InProcessWorker
    from dq.service.calls import CallService
    from dq.service.endpoint import JobsEndpoint
    from dq.service.jobs import JobService

MAINTENANCE_INTERVAL_S = 0.05  # between two checks of slow sources and old leases
SHUTDOWN_TIMEOUT_S = 5.0  # for workers to leave when the master has finished
HURRIED_SHUTDOWN_TIMEOUT_S = 0.5  # the same after an error
PLAIN_SHUTDOWN_TIMEOUT_S = 0.5  # for plain clients, which need not leave at all
WAIT_SLICE_S = 1.0  # on Windows nothing interrupts a wait

log = logging.getLogger("dq")


class Runtime:
    """Wires a master's parts, starts them, and ends them.

    Args:
        task: the function for what plain clients put on the task queue.
        authkey: the shared key; None to look for it, or to make one where there is no port.
        tasks: options of each job's tasks.
        processes: options of the workers to start here.
        server: where it listens, and how clients are treated.
        tls: how connections to a port are encrypted.
        report: called with each line that people should see, and with who joins and leaves; None
            for the log, at levels WARNING and INFO.
        in_process: run the tasks in this process, in the threads that read their records. Nothing
            is served then.

    Raises:
        BadTask: the task or initializer cannot be loaded.
        BadKey: there is no key, or an empty one.
        UsageError: the files of `tls` cannot be used, options need worker processes, or no worker
            can ever have the tags that the tasks need.
    """

    def __init__(
        self,
        task: str | Function | None = None,
        *,
        authkey: bytes | str | None = None,
        tasks: TaskOptions,
        processes: ProcessOptions,
        server: ServerOptions,
        tls: TlsOptions,
        report: Callable[[str], None] | None = None,
        in_process: bool = False,
    ) -> None:
        if in_process:
            _check_in_process(tasks, processes)
        elif server.port is None:
            _check_needs(tasks, processes)
        warn = report or beside_bar(log.warning)
        has_workers = processes.count > 0 or in_process
        key_hint = keys.hint(authkey)
        specs = JobSpecs(tasks, has_workers=has_workers, report=warn)
        self.lifetime = Lifetime()
        self.serving = Serving(server, tls, authkey, warn)
        default = specs.plain_spec(task) if task is not None else None
        self.dispatcher = server.dispatcher(
            warn, default, tasks.rules if default is not None else None
        )
        self.workers = LocalWorkers(processes, self.dispatcher, warn)
        self.in_process = _worker_here(self.dispatcher) if in_process else None
        self.jobs = Jobs(specs, self.dispatcher, self.workers, self.lifetime, warn, self.in_process)
        self.announcer = Announcer(
            self.dispatcher,
            self.serving,
            self.lifetime,
            report=report,
            key_hint=key_hint,
            has_workers=has_workers,
        )
        self.dispatcher.presence.on_notes = self.announcer.announce
        self.service: JobService | None = None
        self._remote_calls: CallService | None = None
        self._endpoint: JobsEndpoint | None = None
        self._warn = warn
        _runtimes.add(self)

    def keep_jobs(self, journal: str | None) -> None:
        """Let clients submit jobs; called before `start`.

        Args:
            journal: the file that keeps them; None for as long as this master lives.

        Raises:
            BadJournal: it is damaged, in use, or something else.
            OutputError: it cannot be written.
        """
        from dq.service.calls import CallService
        from dq.service.endpoint import JobsEndpoint
        from dq.service.jobs import JobService  # SQLite, which few masters need

        self.service = JobService(self.dispatcher, journal, self._warn)
        self._remote_calls = CallService(self.dispatcher)
        self._endpoint = JobsEndpoint(
            self.service, self._remote_calls, self.dispatcher, self.lifetime.ask_to_end
        )
        self.dispatcher.output.on_lines = self.service.add_lines
        self.dispatcher.other_versions.on_other = self.service.note_other_version
        self.workers.output = "both"

    def __enter__(self) -> Runtime:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        self.close(now=kind is not None)

    def start(self) -> None:
        """Listen, and start the local workers.

        Raises:
            ConnectError: the port cannot be had.
        """
        loading.refuse_while_importing()
        refuse_gevent()
        self.lifetime.check_process()
        if self.in_process is not None:
            self.lifetime.begin()
            return
        platform.raise_descriptor_limit()
        try:
            if self.service is not None:
                self.service.start()
            self.serving.open(self.dispatcher, self._endpoint)
        except BaseException:
            if self.service is not None:
                self.service.close()
            raise
        self.lifetime.begin()
        threading.Thread(target=self._maintain, name="dq-maintenance", daemon=True).start()
        self.workers.start(self.serving)

    def _maintain(self) -> None:
        while not self.lifetime.wait(MAINTENANCE_INTERVAL_S):
            self.dispatcher.run_maintenance()
            self.announcer.announce()
            self.jobs.check_calls()
            if self.service is not None:
                self.service.tick()
            if self._remote_calls is not None:
                self._remote_calls.tick()

    def check(self) -> None:
        """Raise the error that stops this master, if there is one."""
        self.workers.check()
        if self.service is not None and self.service.error is not None:
            raise self.service.error

    def wait(self) -> None:
        """Serve until `close` is called, in another thread or a signal's handler, or until a client
        has this master end."""
        self.dispatcher.presence.only_plain = self.service is None
        self.lifetime.check_process()
        while not self.lifetime.wait_until_asked(WAIT_SLICE_S):
            self.check()
        self.dispatcher.drain()
        while self.dispatcher.busy and not self.lifetime.is_urgent:
            self.lifetime.wait(MAINTENANCE_INTERVAL_S)

    def close(self, *, now: bool = False) -> None:
        """Tell workers that this is the end, and stop serving.

        Args:
            now: end the local workers, rather than let them leave.
        """
        if not self.lifetime.end():
            return
        self.dispatcher.stop()
        if self.in_process is not None:
            self.in_process.close()
        if now:
            self.workers.quit()
        self.workers.join()
        if self.serving.has_port:
            # Wait even after an error, so that idle workers learn of the end at once. They would
            # otherwise look for a master that does not come back.
            self.dispatcher.connections.wait_until_no_workers(
                HURRIED_SHUTDOWN_TIMEOUT_S if now else SHUTDOWN_TIMEOUT_S
            )
            if not now:
                self.dispatcher.connections.wait_until_none(PLAIN_SHUTDOWN_TIMEOUT_S)
        self.serving.close()
        self.dispatcher.jobs.close_journals()
        if self.service is not None:
            self.service.close()
        self.jobs.fail_calls(Stopped("the master was closed"))

    def after_fork(self) -> None:
        """In a fork of the master's process: release what the original process still uses."""
        self.serving.after_fork()
        self.workers.after_fork()
        if self.in_process is not None:
            self.in_process.after_fork()


def _check_in_process(tasks: TaskOptions, processes: ProcessOptions) -> None:
    from dq.master.in_process import check_in_process  # here, since few runs need it

    check_in_process(tasks, processes)


def _check_needs(tasks: TaskOptions, processes: ProcessOptions) -> None:
    """Refuse tasks that would wait for ever, since nobody can join a master without a port.

    Raises:
        UsageError: the workers here lack a tag that tasks need.
    """
    missing = tasks.rules.needs - tags(tags=processes.tags)
    if missing:
        named = ",".join(sorted(missing))
        raise UsageError(
            f"no worker here has {named}, which {setting('needs')} asks for: give"
            f" {setting('tags', named)}, or {setting('port')} so that workers elsewhere can join"
        )


def _worker_here(dispatcher: Dispatcher) -> InProcessWorker:
    from dq.master.in_process import InProcessWorker

    return InProcessWorker(dispatcher)


def _before_fork() -> None:
    if _runtimes:
        await_imports()


def _after_fork() -> None:
    for runtime in list(_runtimes):
        runtime.after_fork()


# The runtimes of this process; in a fork, also those of its parents.
_runtimes: weakref.WeakSet[Runtime] = weakref.WeakSet()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_child=_after_fork)
